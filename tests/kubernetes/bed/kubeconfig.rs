//! Writes kubeconfig files.

use std::{fs, net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::pki::Pair;

/// How somebody proves who they are.
pub enum User<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

/// `ca` is PEM.
pub fn write(path: &Path, server: SocketAddr, ca: &str, user: &User<'_>, namespace: &str) {
    let user = match user {
        User::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.certificate),
            "client-key-data": STANDARD.encode(&pair.key),
        }),
        User::Token(token) => json!({ "token": token }),
    };
    let cluster = json!({"server": format!("https://{server}"), "certificate-authority-data": STANDARD.encode(ca)});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        "current-context": "tests",
    });
    // JSON is YAML.
    fs::write(path, config.to_string()).unwrap();
}
