//! The matcher of key patterns against another one: of every element of the pattern it keeps all the places in the text that
//! are reached, and gives none of them up. Input: the pattern, a line break, the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_expiry_operator::plan::{Glob, glob};

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (pattern, text) = (&input[..end], &input[end + 1..]);
    let Ok(glob) = Glob::new(pattern) else {
        assert!(pattern.is_empty() || pattern.len() > 512);
        return;
    };
    // Longer ones tell nothing more.
    if pattern.len() > 128 || text.len() > 64 {
        return;
    }
    let elements = elements(pattern);
    let matched = matches(&elements, text);
    assert_eq!(glob.matches(text), matched);
    assert!(!matched || text.starts_with(&glob::literal_prefix(pattern)));
    assert_eq!(glob.first_star(text), if matched { first_star(&elements, text) } else { None });
});

enum Element {
    Star,
    Any,
    Literal(u8),
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Element {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Literal(literal) => *literal == byte,
            Self::Class { negated, ranges } => {
                // `char` is signed where Redis runs.
                let byte = byte as i8;
                let within = |(first, last): &(u8, u8)| {
                    let (first, last) = (*first as i8, *last as i8);
                    first.min(last) <= byte && byte <= first.max(last)
                };
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// As `stringmatchlen` of Redis's util.c goes through a pattern.
fn elements(mut rest: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        elements.push(match first {
            b'*' => Element::Star,
            b'?' => Element::Any,
            b'[' => {
                let negated = rest.first() == Some(&b'^');
                rest = &rest[usize::from(negated)..];
                let mut ranges = Vec::new();
                loop {
                    if rest.len() >= 2 && rest[0] == b'\\' {
                        ranges.push((rest[1], rest[1]));
                        rest = &rest[2..];
                    } else if rest.is_empty() {
                        break;
                    } else if rest[0] == b']' {
                        rest = &rest[1..];
                        break;
                    } else if rest.len() >= 3 && rest[1] == b'-' {
                        ranges.push((rest[0], rest[2]));
                        rest = &rest[3..];
                    } else {
                        ranges.push((rest[0], rest[0]));
                        rest = &rest[1..];
                    }
                }
                Element::Class { negated, ranges }
            }
            b'\\' if !rest.is_empty() => {
                let literal = rest[0];
                rest = &rest[1..];
                Element::Literal(literal)
            }
            literal => Element::Literal(*literal),
        });
    }
    elements
}

fn matches(elements: &[Element], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in elements {
        if let Element::Star = element {
            let first = reached.iter().position(|here| *here).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for at in (0..text.len()).rev() {
                reached[at + 1] = reached[at] && element.takes(text[at]);
            }
            reached[0] = false;
        }
    }
    reached[text.len()]
}

/// What the first run of stars takes at the least.
fn first_star<'t>(elements: &[Element], text: &'t [u8]) -> Option<&'t [u8]> {
    let star = |element: &Element| matches!(element, Element::Star);
    let before = elements.iter().position(star)?;
    let behind = before + elements[before..].iter().take_while(|element| star(element)).count();
    let rest = &text[before..];
    (0..=rest.len()).find(|taken| matches(&elements[behind..], &rest[*taken..])).map(|taken| &rest[..taken])
}
