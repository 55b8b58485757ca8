//! values.yaml as a list of its leaves, with their comments.

use serde_norway::{Mapping, Value};

use super::helm::read;

/// A value that a user sets: not a map, or a map that is empty by default.
#[derive(Debug)]
pub struct Leaf {
    /// `image.tag`
    pub path: String,
    pub default: Value,
    /// The comment above it, on one line.
    pub comment: String,
    /// The `## Section` that it is in.
    pub section: String,
}

pub fn leaves() -> Vec<Leaf> {
    let text = read("charts/redis-expiry-operator/values.yaml");
    let values: Mapping = serde_norway::from_str(&text).unwrap();
    let mut found = Vec::new();
    collect("", &values, &mut found);
    let written = comments(&text, &values);
    for leaf in &mut found {
        if let Some((_, section, comment)) = written.iter().find(|(path, ..)| *path == leaf.path) {
            (leaf.section, leaf.comment) = (section.clone(), comment.clone());
        }
    }
    found
}

fn collect(above: &str, values: &Mapping, found: &mut Vec<Leaf>) {
    for (key, value) in values {
        let path = format!("{above}{}", key.as_str().unwrap());
        match value {
            Value::Mapping(inner) if !inner.is_empty() => collect(&format!("{path}."), inner, found),
            _ => found.push(Leaf { path, default: value.clone(), comment: String::new(), section: String::new() }),
        }
    }
}

/// Path, section and comment of each key. Lines inside of lists are not keys of ours: their paths lead nowhere.
fn comments(text: &str, values: &Mapping) -> Vec<(String, String, String)> {
    let (mut above, mut section, mut comment) = (Vec::<(usize, String)>::new(), String::new(), Vec::new());
    let mut found = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let content = line.trim_start();
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        } else if let Some(more) = content.strip_prefix("# ") {
            comment.push(more);
            continue;
        } else if let Some((key, _)) = content.split_once(':').filter(|(key, _)| key.chars().all(char::is_alphanumeric))
        {
            above.retain(|(outer, _)| *outer < indent);
            above.push((indent, key.to_owned()));
            let path: Vec<&str> = above.iter().map(|(_, key)| key.as_str()).collect();
            if leads_somewhere(&path, values) {
                found.push((path.join("."), section.clone(), comment.join(" ")));
            }
        }
        comment.clear();
    }
    found
}

fn leads_somewhere(path: &[&str], values: &Mapping) -> bool {
    match (path, path.first().and_then(|key| values.get(*key))) {
        ([_], Some(_)) => true,
        ([_, rest @ ..], Some(Value::Mapping(inner))) => leads_somewhere(rest, inner),
        _ => false,
    }
}

#[test]
fn every_value_has_a_comment_and_a_section() {
    let leaves = leaves();
    assert!(leaves.len() > 100, "values.yaml was not understood: {} values", leaves.len());
    for Leaf { path, comment, section, .. } in leaves {
        assert!(!comment.is_empty(), "values.yaml: {path} has no comment");
        assert!(comment.ends_with('.'), "values.yaml: the comment of {path} is not a sentence: {comment}");
        assert!(!section.is_empty(), "values.yaml: {path} is in no section");
    }
}
