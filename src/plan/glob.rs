//! Redis's glob, as Redis matches it.

use std::fmt;

/// A key pattern: `*`, `?`, `[abc]`, `[^a]`, `[a-z]`, and `\` to take the next character as it is.
///
/// Matching is that of `stringmatchlen` in Redis's util.c, byte by byte, its quirks included: an unclosed class ends
/// with the pattern, a range may be the wrong way round.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob(Vec<u8>);

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("is empty: give a Redis glob such as \"order:pay:*\"")]
    Empty,
    #[error("is {0} bytes long: at most 512 are allowed")]
    TooLong(usize),
}

impl Glob {
    pub fn new(pattern: &[u8]) -> Result<Self, GlobError> {
        match pattern.len() {
            0 => Err(GlobError::Empty),
            length if length > 512 => Err(GlobError::TooLong(length)),
            _ => Ok(Self(pattern.to_vec())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        let _ = text;
        todo!()
    }

    /// What the first `*` of the pattern matched in `text`; `None` if there is no `*` or no match.
    pub fn first_star<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let _ = text;
        todo!()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}
impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
