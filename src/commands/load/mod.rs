//! From files to plans: what `run` and `check` are given.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use seen::Content;

use crate::{
    api::{Platform, Surroundings, document, resolve::resolve},
    model::ListenerId,
    plan::Plan,
};

mod secrets;
mod seen;

pub use secrets::FileSecrets;
pub use seen::Seen;

/// What is longer is not a file of ours.
const LONGEST: u64 = 16 << 20;

/// Where to look.
#[derive(Clone, Debug, clap::Args)]
pub struct Files {
    /// A YAML file, or a directory of *.yaml and *.yml files. May be given several times.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE_OR_DIR")]
    pub filenames: Vec<PathBuf>,
    #[expect(clippy::doc_markdown, reason = "it is shown as it stands, by --help")]
    /// Secrets as Kubernetes mounts them: DIR/<secret name>/<key>. What is not there is looked for in the environment,
    /// as REDIS_EXPIRY_SECRET_<NAME>_<KEY>.
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Where ledgers and outboxes lie, and the admin socket.
    #[arg(long, value_name = "DIR", default_value = "./redis-expiry-state")]
    pub state_dir: PathBuf,
}

/// A listener and where it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub plan: Plan,
    /// `listener.yaml: document 2`.
    pub place: String,
}

/// Everything that is wrong with the files, each line with its file, document and field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    pub problems: Vec<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl Files {
    /// Reads everything anew: all listeners, or everything that is wrong. Blocks.
    pub fn load(&self, platform: Platform) -> Result<Vec<Declared>, LoadError> {
        self.load_and_see(platform).0
    }

    /// The same, and what it was made of.
    pub fn load_and_see(&self, platform: Platform) -> (Result<Vec<Declared>, LoadError>, Seen) {
        let secrets = FileSecrets::new(self.secrets_dir.clone());
        let mut seen = Seen::default();
        let around = Surroundings { secrets: &secrets, platform, state_dir: &self.state_dir };
        let mut problems = Vec::new();
        let mut found: BTreeMap<ListenerId, Declared> = BTreeMap::new();
        let files = self.files(&mut problems);
        seen.problems.clone_from(&problems);
        for file in files {
            let text = text(&file);
            let content = Content::of(text.as_ref().map(Some));
            match text {
                Ok(text) => read(&file, &text, around, &mut found, &mut problems),
                Err(error) => problems.push(format!("{}: {error}", file.display())),
            }
            seen.files.push((file, content));
        }
        seen.secrets = secrets.seen();
        let read = if problems.is_empty() { Ok(found.into_values().collect()) } else { Err(LoadError { problems }) };
        (read, seen)
    }

    fn files(&self, problems: &mut Vec<String>) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for name in &self.filenames {
            if !name.is_dir() {
                files.push(name.clone());
                continue;
            }
            match directory(name) {
                Ok(found) if found.is_empty() => {
                    problems.push(format!("{}: has no *.yaml and no *.yml file", name.display()));
                }
                Ok(found) => files.extend(found),
                Err(error) => problems.push(format!("{}: {error}", name.display())),
            }
        }
        files
    }
}

fn text(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > LONGEST {
        return Err(io::Error::other(format!("is {length} bytes long: at most {LONGEST} are read")));
    }
    fs::read_to_string(path)
}

/// The YAML files of a directory by name. Hidden ones are passed over: a mounted `ConfigMap` has its real files there.
fn directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(
    file: &Path,
    text: &str,
    around: Surroundings<'_>,
    found: &mut BTreeMap<ListenerId, Declared>,
    problems: &mut Vec<String>,
) {
    let file = file.display();
    let (listeners, errors) = document::parse(text);
    if listeners.is_empty() && errors.is_empty() {
        problems.push(format!(
            "{file}: has no document: put a RedisExpiryListener into it (to stop all listeners, stop `run`)"
        ));
    }
    problems.extend(errors.into_iter().map(|error| format!("{file}: {error}")));
    for (number, listener) in listeners {
        let place = format!("{file}: document {number}");
        let id = listener.id();
        if let Some(other) = found.get(&id) {
            problems.push(format!("{place}: metadata.name {id} is declared already, in {}", other.place));
            continue;
        }
        match resolve(&listener, around) {
            Ok(plan) => {
                found.insert(id, Declared { plan, place });
            }
            Err(wrong) => problems.extend(wrong.iter().map(|problem| format!("{place}: {problem}"))),
        }
    }
}
