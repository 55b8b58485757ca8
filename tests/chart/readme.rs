//! README.md: from `helm install` to the first webhook. tests/e2e runs the commands; here is read whether they fit what lies here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::helm::{documents, read, root, run};

/// The commands of the block, a line each.
fn commands() -> Vec<Vec<String>> {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("<!-- from `helm install` to the first webhook").expect("README.md has the mark");
    let (_, rest) = rest.split_once("-->\n```sh\n").expect("a block follows the mark");
    let (block, _) = rest.split_once("\n```\n").unwrap();
    block.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn listener() -> Value {
    serde_norway::from_str(&read("manifests/examples/quickstart.yaml")).unwrap()
}

#[test]
fn five_commands_lead_to_the_first_webhook() {
    let commands = commands();
    assert!(commands.len() <= 5, "{commands:#?}");
    assert_eq!(commands[0][..2], ["helm", "install"]);
    for command in &commands {
        assert!(["helm", "kubectl"].contains(&command[0].as_str()), "{command:?}");
        // One command a line is one command.
        let joins = [";", "|", "&", "\\", "`", "$("];
        assert!(!joins.iter().any(|join| command.iter().any(|word| word.contains(join))), "{command:?}");
    }
    let mut install = commands[0].clone();
    install[1] = "template".to_owned();
    assert!(run(&install[1..]).unwrap().contains("kind: Deployment"));
    let files = commands.iter().flatten().filter(|word| word.starts_with("manifests/") || word.starts_with("charts/"));
    let files: Vec<&String> = files.collect();
    assert_eq!(files, ["charts/redis-expiry-operator", "manifests/examples/quickstart.yaml"]);
    assert!(files.iter().all(|file| root().join(file).exists()));
}

#[test]
fn the_commands_are_about_the_listener_that_they_apply() {
    let (listener, commands) = (listener(), commands());
    let (name, namespace) = (listener["metadata"]["name"].as_str().unwrap(), &listener["metadata"]["namespace"]);
    assert!(commands.iter().flatten().any(|word| *word == format!("rel/{name}")));
    for command in commands.iter().filter(|command| command[1] == "-n") {
        assert_eq!(command[2], namespace.as_str().unwrap(), "{command:?}");
    }
    let create = commands.iter().find(|command| command.iter().any(|word| word == "secret")).unwrap();
    let made: BTreeSet<&str> = create
        .iter()
        .filter_map(|word| word.strip_prefix("--from-literal=")?.split_once('='))
        .map(|(key, _)| key)
        .collect();
    let mut named = BTreeSet::new();
    references(&listener["spec"], &mut named);
    assert_eq!(named, made.into_iter().map(|key| (create[6].as_str(), key)).collect());
    let pattern = listener["spec"]["keyPattern"].as_str().unwrap().strip_suffix('*').unwrap();
    assert!(commands.last().unwrap().iter().any(|word| word.starts_with(pattern)), "no key falls under {pattern}*");
}

/// Name and key of each Secret.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<(&'a str, &'a str)>) {
    if let (Some(name), Some(key)) = (value["name"].as_str(), value["key"].as_str()) {
        found.insert((name, key));
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|inner| references(inner, found)),
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[test]
fn what_it_shows_has_the_columns_of_the_resource() {
    let crd = &documents(&read("manifests/crd.yaml"))[0];
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().iter();
    let shown: Vec<String> = columns
        .filter(|column| column.get("priority").is_none_or(|priority| priority == 0))
        .map(|column| column["name"].as_str().unwrap().to_uppercase())
        .collect();
    let readme = read("README.md");
    let header = readme.lines().find(|line| line.starts_with("NAME ")).unwrap();
    let words: Vec<&str> = header.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(words[1..], shown);
    let image = format!("docker.io/library/redis-expiry-operator:{} make image", env!("CARGO_PKG_VERSION"));
    assert!(readme.contains(&image), "README.md does not build the image of the chart's version");
}
