//! What was read, to be told from what is there now without making anything of it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Files, secrets, text};

/// A file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Absent,
    Hash([u8; 32]),
    Unreadable(String),
}

impl Content {
    pub fn of(read: Result<Option<impl AsRef<[u8]>>, impl Display>) -> Self {
        match read {
            Ok(None) => Self::Absent,
            Ok(Some(bytes)) => Self::Hash(Sha256::digest(bytes).into()),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// Everything that a load has read; the environment does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The files of listeners, in their order, and what was wrong with the places where they lie.
    pub(super) files: Vec<(PathBuf, Content)>,
    pub(super) problems: Vec<String>,
    /// Where secrets were looked for.
    pub(super) secrets: BTreeMap<PathBuf, Content>,
}

impl Seen {
    /// Whether a load would read the same again. Blocks.
    pub fn is_still_there(&self, files: &Files) -> bool {
        let mut problems = Vec::new();
        let now = files.files(&mut problems);
        let same =
            |now: &Path, before: &(PathBuf, Content)| now == before.0 && Content::of(text(now).map(Some)) == before.1;
        problems == self.problems
            && now.len() == self.files.len()
            && now.iter().zip(&self.files).all(|(now, before)| same(now, before))
            && self.secrets.iter().all(|(path, before)| Content::of(secrets::file(path)) == *before)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::Platform;

    const LISTENER: &str = "apiVersion: redisexpiry.io/v1alpha1
kind: RedisExpiryListener
metadata: {name: orders, namespace: shop}
spec:
  redis: {addresses: [\"127.0.0.1:7000\"], passwordSecretRef: {name: redis-auth, key: password}}
  keyPattern: \"order:pay:*\"
  webhook: {url: \"http://127.0.0.1:8080/\", payload: {type: order.timeout.expired}}
  store: {type: Local}
";

    #[test]
    fn whatever_a_load_would_read_otherwise_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (listeners, secrets) = (folder.path().join("listeners"), folder.path().join("secrets"));
        let (nested, flat) = (secrets.join("shop/redis-auth"), secrets.join("redis-auth"));
        fs::create_dir_all(&listeners).unwrap();
        fs::create_dir_all(&nested).unwrap();
        fs::write(listeners.join("a.yaml"), LISTENER).unwrap();
        let files = Files {
            filenames: vec![listeners.clone()],
            secrets_dir: Some(secrets.clone()),
            state_dir: folder.path().join("state"),
        };
        let changes: [&dyn Fn(); 8] = [
            &|| fs::write(nested.join("password"), "one").unwrap(),
            &|| fs::write(nested.join("password"), "two").unwrap(),
            // It is looked for there first.
            &|| fs::create_dir(&flat).and_then(|()| fs::write(flat.join("password"), "three")).unwrap(),
            &|| fs::remove_dir_all(&flat).unwrap(),
            &|| fs::write(listeners.join("a.yaml"), LISTENER.replace("order:pay", "cart")).unwrap(),
            &|| fs::write(listeners.join("b.yml"), LISTENER.replace("orders", "others")).unwrap(),
            &|| fs::remove_file(listeners.join("a.yaml")).unwrap(),
            &|| fs::remove_dir_all(&listeners).unwrap(),
        ];
        let (mut before, mut seen) = files.load_and_see(Platform::Process);
        for (number, change) in changes.iter().enumerate() {
            assert!(seen.is_still_there(&files), "before change {number}");
            change();
            assert!(!seen.is_still_there(&files), "change {number}");
            let read = files.load_and_see(Platform::Process);
            assert_ne!(read.0, before, "change {number}");
            (before, seen) = read;
        }
    }
}
