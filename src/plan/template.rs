//! Which part of a key is the order's id.

use super::{Glob, glob::literal_prefix};

/// The payload's own fields, which no name may take.
const RESERVED: [&str; 6] = ["key", "keyBase64", "database", "deadline", "evidence", "listener"];

/// What a value that is not UTF-8 has behind its name in the payload.
const BINARY_SUFFIX: &str = "Base64";

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
    /// Reads `order:pay:{orderId}`; `{{` and `}}` stand for a brace of the key.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let parts = split(template)?;
        check_names(&parts)?;
        Ok(Self::Parts(parts))
    }

    /// The names and what each stands for in `key`. `FirstStar` names it `id`. Empty if the key is not of the template's
    /// form: the payload then has the key alone.
    ///
    /// A name takes the shortest text up to the literal behind it; the last one takes the rest.
    pub fn read<'t>(&self, pattern: &Glob, key: &'t [u8]) -> Vec<(String, &'t [u8])> {
        match self {
            Self::FirstStar => vec![("id".to_owned(), pattern.first_star(key).unwrap_or(key))],
            Self::Parts(parts) => read_parts(parts, key).unwrap_or_default(),
        }
    }

    /// Whether a key of the pattern may be of its form, as far as what both begin with tells.
    pub fn fits(&self, pattern: &Glob) -> bool {
        let Self::Parts(parts) = self else { return true };
        let Some(Part::Literal(literal)) = parts.first() else { return true };
        let prefix = literal_prefix(pattern.as_bytes());
        prefix.starts_with(literal) || literal.starts_with(&prefix)
    }
}

fn read_parts<'t>(parts: &[Part], key: &'t [u8]) -> Option<Vec<(String, &'t [u8])>> {
    let mut rest = key;
    let mut found = Vec::new();
    let mut parts = parts.iter().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Part::Literal(literal) => {
                rest = rest.strip_prefix(literal.as_slice())?;
                continue;
            }
            Part::Name(name) => name,
        };
        let Some(Part::Literal(literal)) = parts.next() else {
            found.push((name.clone(), rest));
            rest = &[];
            continue;
        };
        let length = if parts.peek().is_some() {
            rest.windows(literal.len()).position(|window| window == literal)?
        } else {
            rest.strip_suffix(literal.as_slice())?.len()
        };
        found.push((name.clone(), &rest[..length]));
        rest = &rest[length + literal.len()..];
    }
    rest.is_empty().then_some(found)
}

fn split(template: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        literal.push_str(&rest[..brace]);
        rest = &rest[brace..];
        if let Some(behind) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            literal.push_str(&rest[..1]);
            rest = behind;
            continue;
        }
        let Some((name, behind)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return invalid(format!("has an unmatched {:?}: write it twice to mean the character", &rest[..1]));
        };
        if !is_name(name) {
            return invalid(format!("has the name {name:?}: names are letters, digits and _, and begin with no digit"));
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into_bytes()));
        } else if !parts.is_empty() {
            return invalid(format!("has nothing between {{{name}}} and the name before it: put literal text there"));
        }
        parts.push(Part::Name(name.to_owned()));
        rest = behind;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into_bytes()));
    }
    Ok(parts)
}

fn check_names(parts: &[Part]) -> Result<(), TemplateError> {
    let mut names: Vec<&str> = Vec::new();
    for part in parts {
        let Part::Name(name) = part else { continue };
        if RESERVED.contains(&name.as_str()) {
            return invalid(format!("has the name {name:?}, which is a field of the payload: take another"));
        }
        if names.contains(&name.as_str()) {
            return invalid(format!("has the name {name:?} twice: give one of them another"));
        }
        names.push(name);
    }
    if names.is_empty() {
        return invalid("has no name: write the part of the key that is the id as {orderId}".to_owned());
    }
    let clash = names.iter().find(|name| name.strip_suffix(BINARY_SUFFIX).is_some_and(|short| names.contains(&short)));
    match clash {
        Some(name) => {
            invalid(format!("has the name {name:?}, which another gets when its value is not UTF-8: take another"))
        }
        None => Ok(()),
    }
}

fn is_name(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(part) && text.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

fn invalid<T>(why: String) -> Result<T, TemplateError> {
    Err(TemplateError::Invalid(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(template: &str, key: &str) -> Vec<(String, String)> {
        let pattern = Glob::new(b"*").unwrap();
        let fields = IdTemplate::parse(template).unwrap().read(&pattern, key.as_bytes());
        fields.into_iter().map(|(name, value)| (name, String::from_utf8(value.to_vec()).unwrap())).collect()
    }

    #[test]
    fn a_template_fits_a_pattern_that_begins_alike() {
        for (template, pattern, fits) in [
            ("order:pay:{orderId}", "order:pay:*", true),
            ("order:{id}", "order:pay:*", true),
            ("order:pay:x:{id}", "order:*", true),
            ("{id}", "order:*", true),
            ("order:payment:{id}", "order:pay:*", false),
        ] {
            let pattern = Glob::new(pattern.as_bytes()).unwrap();
            assert_eq!(IdTemplate::parse(template).unwrap().fits(&pattern), fits, "{template}");
        }
        assert!(IdTemplate::FirstStar.fits(&Glob::new(b"order:*").unwrap()));
    }

    #[test]
    fn names_stand_for_the_text_between_the_literals() {
        #[expect(clippy::type_complexity, reason = "a table")]
        let cases: [(&str, &str, &[(&str, &str)]); 9] = [
            ("order:pay:{orderId}", "order:pay:42", &[("orderId", "42")]),
            ("order:pay:{orderId}", "order:pay:42:7", &[("orderId", "42:7")]),
            ("order:pay:{orderId}", "order:pay:", &[("orderId", "")]),
            ("{shop}:{order}", "7:8:9", &[("shop", "7"), ("order", "8:9")]),
            ("{shop}:{order}:pay", "7:8:pay:pay", &[("shop", "7"), ("order", "8:pay")]),
            ("{{tag}}:{id}", "{tag}:1", &[("id", "1")]),
            ("{whole}", "anything", &[("whole", "anything")]),
            ("order:pay:{orderId}", "order:paid:42", &[]),
            ("{shop}:{order}:pay", "7:8", &[]),
        ];
        for (template, key, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(read(template, key), expected, "{template} on {key}");
        }
    }

    #[test]
    fn the_first_star_is_called_id_and_without_a_star_the_whole_key_is() {
        let star = Glob::new(b"order:*:x*").unwrap();
        assert_eq!(IdTemplate::FirstStar.read(&star, b"order:42:xy"), vec![("id".to_owned(), b"42".as_slice())]);
        let fixed = Glob::new(b"order").unwrap();
        assert_eq!(IdTemplate::FirstStar.read(&fixed, b"order"), vec![("id".to_owned(), b"order".as_slice())]);
    }

    #[test]
    fn a_template_that_cannot_be_read_one_way_only_is_refused() {
        for (template, why) in [
            ("", "has no name"),
            ("order:pay", "has no name"),
            ("{{id}}", "has no name"),
            ("{a}{b}", "nothing between"),
            ("{a}:{a}", "twice"),
            ("{}", "the name \"\""),
            ("{1a}", "the name \"1a\""),
            ("{a b}", "the name \"a b\""),
            ("{a", "unmatched \"{\""),
            ("a}{b}", "unmatched \"}\""),
            ("{key}", "a field of the payload"),
            ("{listener}", "a field of the payload"),
            ("{id}:{idBase64}", "not UTF-8"),
        ] {
            let error = IdTemplate::parse(template).unwrap_err().to_string();
            assert!(error.contains(why), "{template}: {error}");
        }
    }
}
