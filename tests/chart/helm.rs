//! Runs helm, and finds things in what it renders.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use serde_json::Value;

/// The release's name, so that what is named after it is `demo-redis-expiry-operator`.
pub const RELEASE: &str = "demo";
/// The namespace of the release.
pub const NAMESPACE: &str = "operators";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart() -> PathBuf {
    root().join("charts/redis-expiry-operator")
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Where `make kube-tools` puts it, else on the PATH.
pub fn helm() -> Command {
    let ours = env::var_os("KUBE_TOOLS").map_or_else(|| root().join("target/kube/bin"), PathBuf::from).join("helm");
    Command::new(if ours.exists() { ours.into_os_string() } else { "helm".into() })
}

/// Stdout, or what helm complains of.
pub fn run(arguments: &[String]) -> Result<String, String> {
    let output = helm().args(arguments).output().unwrap_or_else(|error| {
        panic!("helm cannot be run ({error}): run `make kube-tools`, or set KUBE_TOOLS to the folder that has it")
    });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// `helm template` of the chart with more arguments.
pub fn template(more: &[&str]) -> Result<String, String> {
    let mut arguments = vec!["template".to_owned(), RELEASE.to_owned(), chart().display().to_string()];
    arguments.extend(["--namespace", NAMESPACE, "--kube-version", "1.33.0"].map(str::to_owned));
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    run(&arguments)
}

/// The documents of a YAML file; empty ones are passed over.
pub fn documents(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

/// What a render came to.
pub struct Objects(pub Vec<Value>);

impl Objects {
    pub fn render(more: &[&str]) -> Self {
        Self(documents(&template(more).unwrap_or_else(|error| panic!("helm template {more:?}: {error}"))))
    }

    /// The chart with a file of `ci/`.
    pub fn with_values(name: &str) -> Self {
        Self::render(&["--values", &chart().join(format!("ci/{name}-values.yaml")).display().to_string()])
    }

    /// `Kind`, or `Kind/name` where there are several.
    pub fn find(&self, what: &str) -> Option<&Value> {
        let (kind, name) = what.split_once('/').map_or((what, None), |(kind, name)| (kind, Some(name)));
        self.0.iter().find(|object| {
            object["kind"] == kind && name.is_none_or(|name| object["metadata"]["name"].as_str() == Some(name))
        })
    }

    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The pod of each Pod and Deployment.
    pub fn pods(&self) -> Vec<&Value> {
        let pod = |object: &'static str, pointer: &'static str| {
            self.of_kind(object).into_iter().map(move |object| object.pointer(pointer).unwrap())
        };
        pod("Pod", "/spec").chain(pod("Deployment", "/spec/template/spec")).collect()
    }
}
