//! A real server, a listener that watches it, and what `check` says of it.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use redis::cmd;
use redis_expiry_operator::commands::demo::cluster::{Cluster, Options};
use serde_json::Value;

use super::certificates::Authority;

pub const CHANNEL: &str = "&__keyspace@0__:order:pay:*";
/// All that a listener needs of the Redis that it watches, as facts/redis.md section 5 has it.
pub const RULES: [&str; 22] = [
    "+hello",
    "+auth",
    "+ping",
    "+info",
    "+time",
    "+client|setname",
    "+client|tracking",
    "+cluster|shards",
    "+cluster|slots",
    "+cluster|nodes",
    "+cluster|info",
    "+cluster|myid",
    "+config|get",
    "+psubscribe",
    "+punsubscribe",
    "+ssubscribe",
    "+sunsubscribe",
    "+scan",
    "+pexpiretime",
    "%R~order:pay:*",
    CHANNEL,
    "&rx:*",
];

/// One server that owns every slot, and a webhook's port that is listened at.
pub struct Fixture {
    pub cluster: Cluster,
    pub webhook: TcpListener,
    pub folder: tempfile::TempDir,
}

impl Fixture {
    pub async fn start(notify_keyspace_events: &str) -> Self {
        Self::with(notify_keyspace_events, None).await
    }

    /// Its servers speak TLS too, and want a certificate: those of Secret `tls` will do.
    pub async fn secured() -> Self {
        Self::with("Kgxe$", Some(&Authority::new())).await
    }

    async fn with(notify_keyspace_events: &str, authority: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            tls: authority.map(|authority| authority.files(folder.path(), "127.0.0.1")),
            masters: 1,
            replicas: 0,
            notify_keyspace_events: notify_keyspace_events.to_owned(),
            // A server that has met nobody does not know its own address.
            directives: vec![("cluster-announce-ip".to_owned(), "127.0.0.1".to_owned())],
            ..Options::default()
        };
        let own = authority.map(|authority| authority.vouch_for("redis-expiry-operator"));
        let pem = |text: Option<&String>| text.cloned().unwrap_or_default();
        for (name, value) in [
            ("auth/username", "rx".to_owned()),
            ("auth/password", "sesame\n".to_owned()),
            ("auth/wrong", "open barley".to_owned()),
            ("key/secret", "abcdefghijklmnopqrstuvwxyz".to_owned()),
            ("tls/ca.crt", pem(authority.map(|authority| &authority.pem))),
            ("tls/tls.crt", pem(own.as_ref().map(|own| &own.certificate))),
            ("tls/tls.key", pem(own.as_ref().map(|own| &own.key))),
        ] {
            let path = folder.path().join("secrets").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let cluster = Cluster::start(options).await.unwrap();
        Self { cluster, webhook: TcpListener::bind("127.0.0.1:0").unwrap(), folder }
    }

    /// Makes `rx` a user with these rules and no others.
    pub async fn grant(&self, rules: &[&str]) {
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg("rx").arg("reset").arg("on").arg(">sesame").arg(rules);
        let () = self.cluster.nodes()[0].query(&command).await.unwrap();
    }

    /// Not there until somebody makes it.
    pub fn state_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    pub fn document(&self) -> String {
        format!(
            "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {{name: orders, namespace: shop}}
spec:
  redis:
    addresses: [\"{}\"]
    usernameSecretRef: {{name: auth, key: username}}
    passwordSecretRef: {{name: auth, key: password}}
  keyPattern: \"order:pay:*\"
  webhook:
    url: \"http://{}/hook?token=hidden\"
    signing: {{secretKeyRefs: [{{name: key, key: secret}}]}}
",
            self.cluster.nodes()[0].address(),
            self.webhook.local_addr().unwrap()
        )
    }

    pub async fn check(&self, document: &str) -> Checked {
        self.check_for("run", document).await
    }

    pub async fn check_for(&self, whom: &str, document: &str) -> Checked {
        self.check_dialling(whom, "127.0.0.0/8", document).await
    }

    /// All of a test is at loopback addresses.
    pub async fn check_dialling(&self, whom: &str, allowed: &str, document: &str) -> Checked {
        let (whom, allow) = (whom.to_owned(), format!("--allow-egress={allowed}"));
        let state = self.state_dir().display().to_string();
        let file = self.folder.path().join("listener.yaml");
        fs::write(&file, document).unwrap();
        let (file, secrets) = (file.clone(), self.folder.path().join("secrets"));
        let output = tokio::task::spawn_blocking(move || {
            run(&file, &secrets, &["--output", "json", "--for", &whom, "--state-dir", &state, &allow], &[])
        })
        .await
        .unwrap();
        Checked::new(&output)
    }
}

pub fn run(file: &Path, secrets: &Path, more: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"))
        .args(["check", "-f"])
        .arg(file)
        .arg("--secrets-dir")
        .arg(secrets)
        .args(more)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

pub struct Checked {
    pub code: i32,
    pub findings: Vec<Value>,
}

impl Checked {
    pub fn new(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let findings = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { code: output.status.code().unwrap(), findings }
    }

    /// `what -> fix` of each finding of a level.
    pub fn of(&self, level: &str) -> Vec<String> {
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        self.findings
            .iter()
            .filter(|finding| finding["level"] == level)
            .map(|finding| format!("{} -> {}", text(finding, "what"), text(finding, "fix")))
            .collect()
    }

    /// `what -> fix` of each finding about the store, by its level.
    pub fn store(&self) -> Vec<(String, String)> {
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let ours = self.findings.iter().filter(|finding| finding["subject"] == "store");
        ours.map(|finding| {
            let said = format!("{} -> {}", text(finding, "what"), text(finding, "fix"));
            (text(finding, "level"), said)
        })
        .collect()
    }

    /// Exactly one finding fails, with this in it.
    pub fn fails_with(&self, needle: &str) {
        let failed = self.of("fail");
        assert!(failed.len() == 1 && failed[0].contains(needle), "wanted {needle}, found {:#?}", self.findings);
        assert_eq!(self.code, 1);
    }
}
