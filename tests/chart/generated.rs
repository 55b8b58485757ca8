//! Files that are made from others are committed, and never differ from what they are made from.

use std::{env, fmt::Write, fs};

use super::{
    helm::{chart, read, root, run},
    values::{Leaf, leaves},
};

/// Fails when `path` is not `wanted`; with `UPDATE=1`, writes it.
fn same(path: &str, wanted: &str) {
    if env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(root().join(path), wanted).unwrap();
    }
    let found = fs::read_to_string(root().join(path)).unwrap_or_default();
    if let Some((line, (found, wanted))) = found
        .lines()
        .chain([""])
        .zip(wanted.lines().chain([""]))
        .enumerate()
        .find(|(_, (found, wanted))| found != wanted)
    {
        let line = line + 1;
        panic!("{path} is old: line {line} is {found:?}, should be {wanted:?}; run UPDATE=1 cargo test --test chart");
    }
    assert_eq!(found, wanted, "{path} is old; run UPDATE=1 cargo test --test chart");
}

#[test]
fn the_charts_crd_is_that_of_the_manifests() {
    crd();
}

fn crd() {
    same("charts/redis-expiry-operator/files/crd.yaml", &read("manifests/crd.yaml"));
}

#[test]
fn the_readme_of_the_chart_has_its_values() {
    const BEGIN: &str = "<!-- values: from values.yaml, by UPDATE=1 cargo test --test chart -->\n";
    const END: &str = "<!-- end of values -->\n";
    let path = "charts/redis-expiry-operator/README.md";
    let readme = read(path);
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has no mark where values begin");
    let (_, after) = rest.split_once(END).expect("README.md has no mark where values end");
    same(path, &format!("{before}{BEGIN}{}{END}{after}", table(&leaves())));
}

fn table(leaves: &[Leaf]) -> String {
    let mut text = String::new();
    let mut section = "";
    for leaf in leaves {
        if leaf.section != section {
            section = &leaf.section;
            write!(text, "\n### {section}\n\n| value | default | |\n|---|---|---|\n").unwrap();
        }
        let default = serde_json::to_string(&leaf.default).unwrap();
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(text, "| `{}` | `{}` | {} |", leaf.path, cell(&default), cell(&leaf.comment)).unwrap();
    }
    text.push('\n');
    text
}

#[test]
fn the_install_manifest_is_the_chart_rendered() {
    // It is in there.
    crd();
    let header = "# Made by UPDATE=1 cargo test --test chart, which runs\n\
        #   helm template redis-expiry-operator charts/redis-expiry-operator --namespace redis-expiry \\\n\
        #     --values manifests/install-values.yaml --skip-tests\n\
        # Install: kubectl apply --server-side -f manifests/install.yaml\n";
    let values = root().join("manifests/install-values.yaml").display().to_string();
    let chart = chart().display().to_string();
    let arguments = [
        "template",
        "redis-expiry-operator",
        &chart,
        "--namespace",
        "redis-expiry",
        "--values",
        &values,
        "--skip-tests",
        // The monitors' kinds are not asked of any cluster, whatever helm was built with.
        "--kube-version",
        "1.33.0",
    ];
    let rendered = run(&arguments.map(str::to_owned)).unwrap();
    same("manifests/install.yaml", &format!("{header}{rendered}"));
}

#[test]
fn chart_and_program_have_one_version() {
    let chart: serde_json::Value = serde_norway::from_str(&read("charts/redis-expiry-operator/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let image = format!("redis-expiry-operator:{}", env!("CARGO_PKG_VERSION"));
    assert!(read("manifests/examples/sidecar.yaml").contains(&image), "sidecar.yaml does not run {image}");
}

#[test]
fn the_example_on_artifact_hub_is_the_least_one() {
    let chart: serde_json::Value = serde_norway::from_str(&read("charts/redis-expiry-operator/Chart.yaml")).unwrap();
    let text = chart["annotations"]["artifacthub.io/crdsExamples"].as_str().unwrap();
    let examples: Vec<serde_json::Value> = serde_norway::from_str(text).unwrap();
    let least: serde_json::Value = serde_norway::from_str(&read("manifests/examples/minimal.yaml")).unwrap();
    assert_eq!(examples, [least]);
}
