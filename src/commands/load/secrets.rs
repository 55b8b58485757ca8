//! Secrets without Kubernetes: files laid out as it mounts them, else the environment.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    env, fs, io,
    path::{Path, PathBuf},
};

use super::seen::Content;
use crate::api::{KeyRef, NoValue, RefKind, Secrets, reason};

/// Reads `DIR/<name>/<key>`, else `DIR/<namespace>/<name>/<key>`, else an environment variable.
pub struct FileSecrets {
    directory: Option<PathBuf>,
    environment: HashMap<String, Vec<u8>>,
    /// All that was looked for.
    seen: RefCell<BTreeMap<PathBuf, Content>>,
}

/// A Secret is at most 1 MiB in Kubernetes; what is longer is another file.
const LONGEST: u64 = 1 << 20;

impl FileSecrets {
    pub fn new(directory: Option<PathBuf>) -> Self {
        let environment = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_encoded_bytes())))
            .filter(|(name, _)| name.starts_with("REDIS_EXPIRY_"))
            .collect();
        Self { directory, environment, seen: RefCell::default() }
    }

    /// Where values were looked for, and what was found there.
    pub(super) fn seen(self) -> BTreeMap<PathBuf, Content> {
        self.seen.into_inner()
    }

    fn file(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let found = file(path);
        self.seen.borrow_mut().insert(path.to_path_buf(), Content::of(found.as_ref().map(Option::as_ref)));
        found
    }
}

impl Secrets for FileSecrets {
    fn read(&self, kind: RefKind, namespace: &str, reference: &KeyRef) -> Result<Vec<u8>, NoValue> {
        let KeyRef { name, key } = reference;
        let what = kind.as_str();
        if let Some(directory) = &self.directory {
            for path in [directory.join(name).join(key), directory.join(namespace).join(name).join(key)] {
                match self.file(&path) {
                    Ok(None) => {}
                    Ok(Some(value)) => return Ok(value),
                    Err(error) => {
                        let path = path.display();
                        let why = format!("refers to key {key} of {what} {name}, and {path} cannot be read: {error}");
                        return Err(NoValue { reason: reason::REFERENCE_UNREADABLE, why });
                    }
                }
            }
        }
        let variable = variable(kind, reference);
        if let Some(value) = self.environment.get(&variable) {
            return Ok(value.clone());
        }
        let files = match &self.directory {
            Some(directory) => format!("neither in {}", directory.join(name).join(key).display()),
            None => "neither in a file (no --secrets-dir is given)".to_owned(),
        };
        let why =
            format!("refers to key {key} of {what} {name}, which is {files} nor in the environment as {variable}");
        Err(NoValue { reason: kind.key_missing(), why })
    }
}

/// `REDIS_EXPIRY_SECRET_REDIS_AUTH_PASSWORD` for key `password` of Secret `redis-auth`.
fn variable(kind: RefKind, reference: &KeyRef) -> String {
    let kind = match kind {
        RefKind::Secret => "SECRET",
        RefKind::ConfigMap => "CONFIGMAP",
    };
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("REDIS_EXPIRY_{kind}_{}_{}", plain(&reference.name), plain(&reference.key))
}

/// `None`: there is no such file.
pub(super) fn file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() > LONGEST {
        return Err(io::Error::other(format!("it is {} bytes long, more than a Secret can be", metadata.len())));
    }
    fs::read(path).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, key: &str) -> KeyRef {
        KeyRef { name: name.to_owned(), key: key.to_owned() }
    }

    fn secrets(directory: Option<&Path>, environment: &[(&str, &str)]) -> FileSecrets {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        FileSecrets { directory: directory.map(Path::to_path_buf), environment, seen: RefCell::default() }
    }

    #[test]
    fn a_file_wins_over_one_under_the_namespace_and_that_over_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let reference = reference("redis-auth", "password");
        let secrets =
            secrets(Some(folder.path()), &[("REDIS_EXPIRY_SECRET_REDIS_AUTH_PASSWORD", "from the environment")]);
        let read = || secrets.read(RefKind::Secret, "shop", &reference);
        assert_eq!(read(), Ok(b"from the environment".to_vec()));
        fs::create_dir_all(folder.path().join("shop/redis-auth")).unwrap();
        fs::write(folder.path().join("shop/redis-auth/password"), "from the namespace").unwrap();
        assert_eq!(read(), Ok(b"from the namespace".to_vec()));
        fs::create_dir(folder.path().join("redis-auth")).unwrap();
        fs::write(folder.path().join("redis-auth/password"), "from the file\n").unwrap();
        assert_eq!(read(), Ok(b"from the file\n".to_vec()));
    }

    #[test]
    fn what_is_nowhere_is_said_to_be_in_neither_place() {
        let folder = tempfile::tempdir().unwrap();
        let reference = reference("redis.auth-1", "pass.word");
        let error = secrets(Some(folder.path()), &[]).read(RefKind::Secret, "shop", &reference).unwrap_err().why;
        assert!(error.contains("redis.auth-1/pass.word"), "{error}");
        assert!(error.contains("REDIS_EXPIRY_SECRET_REDIS_AUTH_1_PASS_WORD"), "{error}");
        let error = secrets(None, &[]).read(RefKind::ConfigMap, "shop", &reference).unwrap_err().why;
        assert!(error.contains("no --secrets-dir") && error.contains("REDIS_EXPIRY_CONFIGMAP_"), "{error}");
    }
}
