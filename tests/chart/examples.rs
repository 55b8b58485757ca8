//! manifests/examples: what a user copies must work as it stands.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use redis_expiry_operator::{api::Platform, commands::load::Files};
use serde_json::Value;

use super::{
    certificates::{Authority, Certificate},
    helm::{documents, read},
};

/// A value of a Secret or `ConfigMap` for each `{name, key}` and each certificate below `value`, laid out as Kubernetes mounts them.
fn mount(value: &Value, folder: &Path) {
    let put = |name: &str, key: &str, content: &str| {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join(key), content).unwrap();
    };
    match value {
        Value::Object(fields) => {
            if let (Some(name), Some(key)) = (fields.get("name"), fields.get("key")) {
                let (name, key) = (name.as_str().unwrap(), key.as_str().unwrap());
                let content = match key {
                    "url" => "https://orders.example/x".to_owned(),
                    "ca.crt" => Authority::new().pem,
                    _ => "0123456789abcdefghijklmnop".to_owned(),
                };
                put(name, key, &content);
            }
            if let Some(own) = fields.get("clientCertSecretRef") {
                let Certificate { certificate, key } = Authority::new().vouch_for("operator");
                let name = own["name"].as_str().unwrap();
                put(name, "tls.crt", &certificate);
                put(name, "tls.key", &key);
            }
            fields.values().for_each(|inner| mount(inner, folder));
        }
        Value::Array(items) => items.iter().for_each(|inner| mount(inner, folder)),
        _ => {}
    }
}

/// Everything that the operator has against it, and `run`, for which `spec.store` is taken away: there it is a file.
fn problems(mut listener: Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    mount(&listener["spec"], &secrets);
    let file = folder.path().join("listener.yaml");
    let state_dir = folder.path().join("state");
    let files = Files { filenames: vec![file.clone()], secrets_dir: Some(secrets), state_dir };
    let against = |listener: &Value, platform| {
        fs::write(&file, listener.to_string()).unwrap();
        files.load(platform).err().map(|error| error.problems).unwrap_or_default()
    };
    let mut problems = against(&listener, Platform::Kubernetes);
    listener["spec"].as_object_mut().unwrap().remove("store");
    problems.extend(against(&listener, Platform::Process));
    problems
}

#[test]
fn listeners_are_valid() {
    let mut listeners = documents(&read("manifests/examples/minimal.yaml"));
    listeners.extend(documents(&read("manifests/examples/full.yaml")));
    listeners.extend(documents(&read("manifests/examples/quickstart.yaml")));
    for object in documents(&read("manifests/examples/sidecar.yaml")) {
        if object["kind"] == "ConfigMap" {
            listeners.extend(documents(object["data"]["listener.yaml"].as_str().unwrap()));
        }
    }
    assert_eq!(listeners.len(), 4);
    for listener in listeners {
        let problems = problems(listener.clone());
        assert!(problems.is_empty(), "{listener:#}\n{problems:#?}");
    }
}

/// Every row of docs/resource.md's table of fields.
#[test]
fn the_full_example_has_every_field_that_is_enforced() {
    let full: Value = serde_norway::from_str(&read("manifests/examples/full.yaml")).unwrap();
    let text = read("docs/resource.md");
    let (_, rest) = text.split_once("\n## spec\n").unwrap();
    let (spec, _) = rest.split_once("\n## ").unwrap();
    let fields: Vec<&str> =
        spec.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(field, _)| field).collect();
    assert!(fields.len() > 25, "{fields:?}");
    for field in fields {
        // One of it, of serviceRef and of urlSecretRef, which is there.
        // And a cluster has no sentinels.
        let other = ["webhook.serviceRef.", "redis.sentinel."].iter().any(|prefix| field.starts_with(prefix));
        if field == "webhook.url" || other {
            continue;
        }
        let pointer = format!("/spec/{}", field.replace('.', "/"));
        assert!(full.pointer(&pointer).is_some(), "full.yaml has no {field}");
    }
}

fn users() -> String {
    let objects = documents(&read("manifests/examples/acl.yaml"));
    objects[0]["stringData"]["users.acl"].as_str().unwrap().to_owned()
}

fn user(name: &str) -> Vec<String> {
    let text = users();
    let line = text.lines().find(|line| line.starts_with(&format!("user {name} "))).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn users_may_what_the_program_says_they_must() {
    let error = read("src/store/error.rs");
    let (_, rest) = error
        .split_once("grant the user of spec.store.redis, else of spec.redis, ")
        .expect("src/store/error.rs names the store's rights");
    let (store, _) = rest.split_once('"').unwrap();
    let check = read("tests/check/setup.rs");
    let (_, rest) = check.split_once("\"+auth\",").expect("tests/check/setup.rs lists the rights of a watcher");
    let (watch, _) = rest.split_once("];").unwrap();
    let watch: Vec<&str> = watch.split('"').filter(|word| word.starts_with(['+', '%'])).collect();
    assert!(watch.len() > 12, "{watch:?}");
    for (name, rights) in [
        ("rx-store", store.split(' ').collect::<Vec<_>>()),
        ("rx", store.split(' ').collect()),
        ("rx-watch", watch.clone()),
        ("rx", watch),
    ] {
        let has = user(name);
        for right in rights {
            assert!(has.iter().any(|word| word == right), "{name} lacks {right}");
        }
        assert!(!has.iter().any(|word| word.contains("@all") && word != "-@all"), "{name} may everything");
    }
}

#[test]
fn redis_takes_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    fs::write(&file, users()).unwrap();
    let mut server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(folder.path().join("socket"))
        .arg("--aclfile")
        .arg(&file)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server cannot be run: run `make redis`");
    // It ends by itself where it does not understand the file.
    let mut said = Vec::new();
    for line in BufReader::new(server.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let ready = line.contains("is now ready to accept connections") || line.contains("Ready to accept connections");
        said.push(line);
        if ready {
            server.kill().unwrap();
            server.wait().unwrap();
            return;
        }
    }
    server.wait().unwrap();
    panic!("redis-server does not take users.acl:\n{}", said.join("\n"));
}
