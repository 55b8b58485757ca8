//! The words of a status: that docs/status.md explains each, and that there is one for whatever a store may say.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails, fails its test")]

use std::{collections::BTreeSet, fs, path::Path};

use redis_expiry_operator::api::{self, condition, reason, status};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The rows of the table below a heading of docs/status.md, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = file("docs/status.md");
    let (_, below) = text.split_once(&format!("## {heading}\n")).expect("the heading");
    let rows = below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    // A pipe inside a cell is written `\|`.
    rows.map(|row| {
        let row = row.replace(r"\|", "\u{0}");
        row.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    })
    .collect()
}

fn word(cell: &str) -> &str {
    cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).expect("a word in backquotes")
}

#[test]
fn every_condition_is_explained_and_no_other() {
    let table = table("Conditions");
    let explained: Vec<&str> = table.iter().map(|row| word(&row[0])).collect();
    assert_eq!(explained, condition::ALL);
    assert!(table.iter().all(|row| row.len() == 2 && !row[1].is_empty()));
}

#[test]
fn every_reason_is_explained_with_what_to_do_and_no_other() {
    let table = table("Reasons");
    let explained: Vec<&str> = table.iter().map(|row| word(&row[0])).collect();
    assert_eq!(explained, reason::ALL);
    for row in &table {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let of_known = row[1] == "any" || row[1].split(", ").all(|kind| condition::ALL.contains(&word(kind)));
        assert!(of_known, "{row:?}");
    }
}

#[test]
fn words_are_such_as_kubernetes_takes_and_each_is_there_once() {
    for words in [condition::ALL, reason::ALL] {
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        for word in words {
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        }
    }
}

#[test]
fn whatever_a_store_refuses_for_has_a_reason() {
    let source = file("src/store/error.rs");
    let (_, body) = source.split_once("fn category(").expect("the function");
    let (body, _) = body.split_once("\n    }").expect("its end");
    let categories: Vec<&str> =
        body.lines().filter_map(|line| line.split_once("=> \"")?.1.split_once('"')).map(|(word, _)| word).collect();
    assert!(categories.len() >= 13, "{categories:?}");
    for category in categories {
        // A login that is refused has one reason, whatever of Redis it was refused by.
        let wanted =
            if category == "Authentication" { "AuthenticationFailed".into() } else { format!("Store{category}") };
        assert!(reason::ALL.contains(&wanted.as_str()), "there is no reason {wanted}");
    }
}

#[test]
fn the_schema_has_the_bounds_that_the_writer_keeps_to() {
    let crd = serde_json::to_value(api::crd()).unwrap();
    let properties = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    assert_eq!(properties["nodes"]["maxItems"], status::MOST_NODES);
    assert_eq!(properties["nodes"]["items"]["properties"]["lastError"]["maxLength"], status::LONGEST_ERROR);
    assert_eq!(properties["webhook"]["maxLength"], status::LONGEST_WEBHOOK);
    let condition = &properties["conditions"]["items"]["properties"];
    assert_eq!(condition["message"]["maxLength"], status::LONGEST_MESSAGE);
    assert!(properties["conditions"]["maxItems"].as_u64().unwrap() >= condition::ALL.len() as u64);
}
