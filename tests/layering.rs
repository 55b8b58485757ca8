//! DESIGN section 8: which module may name which. Reads `src/**` and fails on a forbidden path.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const STAGES: [&str; 6] = ["topology", "nodes", "deployment", "ledger", "store", "delivery"];
const HTTP: [&str; 3] = ["reqwest", "hyper", "hyper_util"];

fn all(lists: &[&[&'static str]]) -> Vec<&'static str> {
    lists.concat()
}

/// Each module, and the modules and crates that it must never name.
fn forbidden(module: &str) -> Vec<&'static str> {
    let kubernetes = ["kube", "k8s_openapi", "crate::controller", "crate::api", "crate::commands"];
    let mut never: Vec<&str> = match module {
        "model" | "meters" | "tls" => all(&[&STAGES, &["plan", "listener", "dial", "tokio", "redis"], &HTTP]),
        "servers" => all(&[&STAGES, &["plan", "listener"], &HTTP]),
        "plan" => all(&[&STAGES, &["listener", "dial", "tokio", "redis"], &HTTP]),
        "dial" => all(&[&STAGES, &["plan", "listener"]]),
        "topology" => vec!["nodes", "deployment", "ledger", "store", "delivery", "listener"],
        "nodes" | "deployment" => vec!["ledger", "store", "delivery", "listener"],
        "ledger" => all(&[&["topology", "nodes", "delivery", "listener", "dial", "redis"], &HTTP]),
        "store" => all(&[&["topology", "nodes", "deployment", "ledger", "delivery", "listener"], &HTTP]),
        "delivery" => vec!["topology", "nodes", "deployment", "ledger", "listener", "redis"],
        "listener" => all(&[&["redis"], &HTTP]),
        "api" => all(&[&STAGES, &["listener", "dial", "commands", "tokio", "redis"], &HTTP]),
        // What a listener says of its stages comes through the listener.
        "controller" => all(&[&STAGES, &["commands", "telemetry", "redis", "axum"], &HTTP]),
        _ => return Vec::new(),
    };
    // Whatever counts, counts in `meters`; telemetry shows it.
    never.push("telemetry");
    if !matches!(module, "api" | "controller") {
        never.extend(kubernetes);
    }
    never
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether `code` names `what`: `crate::what` or `super::what` for a module of ours, `what::` for a crate.
fn names(code: &str, what: &str) -> bool {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(what).exists()
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{what}.rs")).exists();
    let word = |needle: &str| {
        code.match_indices(needle).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            let after = code[at + needle.len()..].chars().next();
            let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !part(before) && before != Some(':') && !part(after)
        })
    };
    if what.starts_with("crate::") {
        return word(what);
    }
    if ours {
        // `use crate::{ledger::X, store}` has the name after a brace or a comma.
        let grouped = code.split("crate::{").skip(1).any(|rest| {
            let mut depth = 1;
            let mut top = String::new();
            for c in rest.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 {
                    top.push(c);
                }
            }
            top.split(',').any(|item| item.trim().split("::").next() == Some(what))
        });
        grouped || word(&format!("crate::{what}"))
    } else {
        word(&format!("{what}::"))
            || code
                .match_indices(&format!("{what}::"))
                .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
    }
}

#[test]
fn no_module_names_what_it_must_not_know() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "src was not found");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let text = fs::read_to_string(&file).unwrap();
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for what in forbidden(module) {
            if names(&code, what) {
                wrong.push(format!("src/{} names {what}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden by DESIGN section 8:\n{}", wrong.join("\n"));
}

#[test]
fn the_test_sees_each_way_of_naming_a_module() {
    assert!(names("use crate::ledger::Book;", "ledger"));
    assert!(names("use crate::{\n    model::Key,\n    ledger::{Book, Look},\n};", "ledger"));
    assert!(names("let x = redis::cmd(\"PING\");", "redis"));
    assert!(!names("use crate::model::{Key, ledger};", "ledger"));
    assert!(!names("let x = fred_redis::cmd();", "redis"));
}
