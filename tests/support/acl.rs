//! The users of manifests/examples/acl.yaml, as a Redis and a listener are given them.

use std::process::Command;

use redis_expiry_operator::commands::demo::cluster::{Cluster, Node};
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    scenario::address,
    wire::{Reply, ask},
};

const EXAMPLE: &str = include_str!("../../manifests/examples/acl.yaml");

/// Who the listener is.
pub struct Login {
    pub username: String,
    pub password: String,
}

/// What the example's Secret of that name holds under that key.
fn value(secret: &str, key: &str) -> String {
    let mut objects =
        serde_norway::Deserializer::from_str(EXAMPLE).map(|document| Value::deserialize(document).unwrap());
    let object = objects.find(|object| object["metadata"]["name"] == secret).expect("the example has the Secret");
    object["stringData"][key].as_str().expect("the Secret has the key").to_owned()
}

/// A file for Redis' `aclfile`.
pub fn users() -> String {
    value("redis-users", "users.acl")
}

/// Whether the servers know such rights, which are of 7.0.
pub fn known() -> bool {
    let asked = Command::new("redis-server").arg("--version").output().expect("redis-server is on PATH");
    let version = String::from_utf8_lossy(&asked.stdout).into_owned();
    let known = !version.contains(" v=6.");
    if !known {
        println!("not with the rights of acl.yaml, which this server does not know: {version}");
    }
    known
}

/// The user that a listener with its store in the watched Redis is to be.
pub fn login() -> Login {
    Login { username: value("redis-auth", "username"), password: value("redis-auth", "password") }
}

/// Every server that is up has a connection of that user, and has refused nothing to anybody, by its own account.
pub async fn nothing_was_refused(cluster: &Cluster, username: &str) {
    for node in cluster.nodes().into_iter().filter(Node::up) {
        let clients = ask(&address(&node), &["CLIENT", "LIST"]).await.unwrap().text();
        assert!(clients.contains(&format!(" user={username} ")), "{username} is not connected to {node}:\n{clients}");
        let log = ask(&address(&node), &["ACL", "LOG"]).await.unwrap();
        assert!(matches!(log, Reply::Array(_)), "{node} does not tell what it has refused: {log:?}");
        let words = |entry: &Reply| entry.array().iter().map(Reply::text).collect::<Vec<_>>().join(" ");
        let mut refused: Vec<String> = log.array().iter().map(words).collect();
        // The client library asks for it by itself wherever it connects, and does without; before 7.2 there is none.
        refused.retain(|entry| !entry.contains("client|setinfo"));
        assert!(refused.is_empty(), "{node} has refused {refused:#?}");
    }
}
