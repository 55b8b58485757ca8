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

    /// As base64, for where text is kept.
    pub fn encoded(&self) -> String {
        data_encoding::BASE64.encode(&self.0)
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        matches(&self.0, text)
    }

    /// What the first `*` of the pattern matched in `text`, the shortest that lets the rest match; `None` if there is no
    /// `*` or no match. Stars that follow one another are one.
    pub fn first_star<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let (start, end) = run(&self.0, text)??;
        text.get(start..end)
    }
}

/// Whether Redis's glob `pattern` matches the whole of `text`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text).is_some()
}

/// What every text begins with that `pattern` matches: all that comes before its first wildcard.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        rest = match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
                prefix.push(*literal);
                rest
            }
        };
    }
}

/// `None`: no match. Otherwise where the first star's text begins and ends, if there is a star.
///
/// Redis calls itself at each star and, since 6.2, gives up on earlier stars once a later one found nothing
/// (`skipLongerMatches`). That is this loop: only the latest star is ever lengthened, so the time is at most
/// pattern times text. The one difference is the empty text, which Redis's loop never looks at: here it matches any
/// number of stars, as it does behind the prefix of a channel, and not just the lone star of SCAN.
#[expect(clippy::option_option, reason = "no match, no star and a star are three answers")]
fn run(pattern: &[u8], text: &[u8]) -> Option<Option<(usize, usize)>> {
    let (mut at, mut read) = (0, 0);
    // Behind the latest star: the rest of the pattern, and where the text was taken up again.
    let mut latest: Option<(usize, usize)> = None;
    let mut first: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if pattern.get(at) == Some(&b'*') {
            while pattern.get(at) == Some(&b'*') {
                at += 1;
            }
            stars += 1;
            let end = if at == pattern.len() { text.len() } else { read };
            first = first.or(Some((read, end)));
            if at == pattern.len() {
                return Some(first);
            }
            latest = Some((at, read));
            continue;
        }
        match text.get(read) {
            None if at == pattern.len() => return Some(first),
            // A longer star would only leave less text.
            None => return None,
            Some(byte) => {
                if let Some(length) = element(&pattern[at..], *byte) {
                    at += length;
                    read += 1;
                    continue;
                }
            }
        }
        let (behind, taken_up) = latest?;
        latest = Some((behind, taken_up + 1));
        (at, read) = (behind, taken_up + 1);
        if stars == 1 {
            first = first.map(|(start, _)| (start, read));
        }
    }
}

/// Whether the first element of `pattern`, which is not a star, takes `byte`; if so, how long the element is.
fn element(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => class_element(class, byte).map(|length| length + 1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the class whose `[` was just read takes `byte`; if so, its length up to and with the `]`, or the pattern's end.
fn class_element(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                // Redis compares C's `char`, which is signed on x86-64: there, bytes from 0x80 lie before all others.
                let (start, end, byte) = (start.cast_signed(), end.cast_signed(), byte.cast_signed());
                found |= (start.min(end)..=start.max(end)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `stringmatchlen` as Redis 5 had it, written down as it reads: it calls itself at each star and gives nothing up.
    /// Answers with what the first star took.
    #[expect(clippy::option_option, reason = "no match, a match without a star, a match with one")]
    fn reference(pattern: &[u8], text: &[u8]) -> Option<Option<usize>> {
        match pattern {
            [] => text.is_empty().then_some(None),
            [b'*', rest @ ..] if rest.first() == Some(&b'*') => reference(rest, text),
            [b'*'] => Some(Some(text.len())),
            [b'*', rest @ ..] => (0..=text.len()).find(|taken| reference(rest, &text[*taken..]).is_some()).map(Some),
            _ => {
                let (first, rest) = text.split_first()?;
                reference(&pattern[element(pattern, *first)?..], rest)
            }
        }
    }

    #[test]
    fn what_comes_before_the_first_wildcard_is_taken_literally() {
        for (pattern, prefix) in [
            (&b"order:pay:*"[..], &b"order:pay:"[..]),
            (b"order:[ab]*", b"order:"),
            (b"a\\*b?", b"a*b"),
            (b"order:1", b"order:1"),
            (b"*", b""),
            (b"a\\", b"a\\"),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{}", pattern.escape_ascii());
        }
    }

    fn glob(pattern: &str) -> Glob {
        Glob::new(pattern.as_bytes()).unwrap()
    }

    #[test]
    fn each_feature_matches_what_redis_says_it_does() {
        for (pattern, yes, no) in [
            ("order:pay:*", vec!["order:pay:42", "order:pay:"], vec!["order:pay", "order:paid:42"]),
            ("h?llo", vec!["hello", "h*llo"], vec!["hllo", "heello"]),
            ("h[ae]llo", vec!["hallo", "hello"], vec!["hillo", "hllo"]),
            ("h[^e]llo", vec!["hallo", "h^llo"], vec!["hello", "hllo"]),
            ("h[a-c]llo", vec!["hallo", "hbllo", "hcllo"], vec!["hdllo", "h-llo"]),
            ("h[c-a]llo", vec!["hallo", "hbllo", "hcllo"], vec!["hdllo"]),
            (r"h\?llo", vec!["h?llo"], vec!["hello", r"h\?llo"]),
            (r"h[\]x]", vec!["h]", "hx"], vec![r"h\", "h"]),
            (r"h[\", vec![r"h\"], vec!["h", "h["]),
            (r"h\", vec![r"h\"], vec!["h"]),
            ("h[ab", vec!["ha", "hb"], vec!["h", "hab", "h["]),
            ("h[", vec![], vec!["h", "h[", "hx"]),
            ("h[^", vec!["hx", "h^"], vec!["h", "hxx"]),
            ("h[]x", vec![], vec!["h]", "hx", "h]x"]),
            ("[a-]x", vec!["a", "]", "x"], vec!["-x", "ax"]),
            ("**", vec!["", "x"], vec![]),
            ("*a*b", vec!["ab", "xaxb", "aab", "abab"], vec!["aba", "b"]),
        ] {
            for text in yes {
                assert!(glob(pattern).matches(text.as_bytes()), "{pattern} should match {text:?}");
            }
            for text in no {
                assert!(!glob(pattern).matches(text.as_bytes()), "{pattern} should not match {text:?}");
            }
        }
    }

    #[test]
    fn the_first_star_took_the_shortest_that_lets_the_rest_match() {
        for (pattern, text, taken) in [
            ("order:pay:*", "order:pay:42", Some("42")),
            ("order:pay:*", "order:pay:", Some("")),
            ("shop:*:pay:*", "shop:7:pay:8:pay:9", Some("7")),
            ("*:end", "a:end:end", Some("a:end")),
            ("a**b", "axxb", Some("xx")),
            (r"\*[*]*", "**x", Some("x")),
            ("order", "order", None),
            ("order:*", "other", None),
        ] {
            assert_eq!(glob(pattern).first_star(text.as_bytes()), taken.map(str::as_bytes), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = "a*".repeat(250) + "b";
        let text = "a".repeat(5_000);
        assert!(!glob(&pattern).matches(text.as_bytes()));
    }

    #[test]
    fn an_empty_and_an_overlong_pattern_are_refused() {
        assert_eq!(Glob::new(b""), Err(GlobError::Empty));
        assert_eq!(Glob::new(&[b'a'; 513]), Err(GlobError::TooLong(513)));
        assert!(Glob::new(&[b'a'; 512]).is_ok());
    }

    fn bytes(from: &'static [u8], length: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(from), 0..length)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn matching_agrees_with_the_naive_recursion(
            pattern in bytes(b"**?[]^-\\abc\xff", 10), text in bytes(b"abc]-^*\\\xff", 9),
        ) {
            prop_assume!(!pattern.is_empty());
            let found = run(&pattern, &text);
            let taken = found.map(|first| first.map(|(start, end)| end - start));
            match reference(&pattern, &text) {
                // The reference says what the first star took only when the pattern begins with one.
                Some(Some(length)) => prop_assert_eq!(taken, Some(Some(length))),
                Some(None) => prop_assert!(taken.is_some()),
                None => prop_assert_eq!(taken, None),
            }
            prop_assert!(taken.is_none() || text.starts_with(&literal_prefix(&pattern)));
        }
    }
}
