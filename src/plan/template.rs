//! Which part of a key is the order's id.

use super::Glob;

/// How an id is read out of a key: by a template such as `order:pay:{orderId}`, or by the pattern's first `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdTemplate {
    /// What the first `*` of the pattern matched; without one, the whole key.
    FirstStar,
    /// Literal text around one or more names.
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(Vec<u8>),
    /// A field of the payload's `data`.
    Name(String),
}

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{0}")]
    Invalid(String),
}

impl IdTemplate {
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let _ = template;
        todo!()
    }

    /// The names and what each stands for in `key`. `FirstStar` names it `id`. Empty if the key is not of the template's
    /// form: the payload then has the key alone.
    pub fn read<'t>(&self, pattern: &Glob, key: &'t [u8]) -> Vec<(String, &'t [u8])> {
        let _ = (pattern, key);
        todo!()
    }
}
