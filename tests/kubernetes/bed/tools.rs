//! The programs of Kubernetes: where they are, how they are run, what they said.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, process::Command};

/// The program, from `$KUBEBUILDER_ASSETS`, `$KUBE_TOOLS` or where `make kube-tools` puts it.
pub fn tool(name: &str) -> PathBuf {
    let given = ["KUBEBUILDER_ASSETS", "KUBE_TOOLS"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let folders: Vec<PathBuf> = given.chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kube/bin")]).collect();
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is in none of {folders:?}: run `make kube-tools` (builds it once, or links it)")
    })
}

/// How long a program may take. Helm compiles the schemas of what it installs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program said when it was over.
#[derive(Clone, Debug)]
pub struct Said {
    command: String,
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What it printed; it has to have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.ok, "{self}");
        self.stdout
    }

    /// What it complained of; it has to have failed.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.ok, "it should have failed: {self}");
        self.stderr
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.ok { "succeeded" } else { "failed" };
        write!(f, "{} {how}\n{}{}", self.command, self.stdout, self.stderr)
    }
}

/// Runs the command to its end, with `stdin`.
pub async fn run(command: &mut Command, stdin: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut input = child.stdin.take().expect("it is piped");
    let text = stdin.to_owned();
    let output = async {
        // What does not read its input may be over before it is written.
        let ((), output) = tokio::join!(
            async move {
                let _ = input.write_all(text.as_bytes()).await;
            },
            child.wait_with_output()
        );
        output.unwrap()
    };
    let output = tokio::time::timeout(PATIENCE, output).await;
    let output = output.unwrap_or_else(|_| panic!("{:?} is not over within {PATIENCE:?}", command.as_std()));
    let words = command.as_std();
    let name = words.get_program().to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let arguments = words.get_args().map(|word| word.to_string_lossy().into_owned());
    Said {
        command: std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" "),
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
