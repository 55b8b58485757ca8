//! Child processes that do not outlive this one, however it ends.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

/// A process group that dies with us.
///
/// Its leader is a shell that waits for the end of a pipe whose other end only we hold. The pipe ends when the
/// watchdog is dropped and also when we are killed, by whatever signal; then the shell kills its own group.
///
/// `PR_SET_PDEATHSIG` (or `setpriv --pdeathsig`) was considered: it fires when the *thread* that spawned the child
/// ends, and a runtime's threads come and go.
///
/// Being a group of its own also keeps a terminal's Ctrl-C, which goes to the foreground group, from the children: who
/// started them decides when they stop.
pub struct Watchdog {
    shell: Child,
}

/// `rm` first: after `kill 0` there is nobody left to do it. What the children still write lies in unlinked files.
const SCRIPT: &str = r#"trap "" INT TERM HUP; read -r _; [ -z "$1" ] || rm -rf -- "$1"; kill -s KILL 0"#;

impl Watchdog {
    /// `directory` is removed at the end: pass a temporary one.
    pub fn start(directory: Option<&Path>) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .args(directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the shell that ends child processes with this one")?;
        Ok(Self { shell })
    }

    /// Makes the command a member of the group before it runs: there is no moment at which it could be orphaned.
    pub fn enlist<'a>(&self, command: &'a mut Command) -> anyhow::Result<&'a mut Command> {
        use std::os::unix::process::CommandExt as _;
        let group = i32::try_from(self.shell.id()).context("a process id beyond 31 bits")?;
        Ok(command.process_group(group))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It kills itself too, so this ends at once; there is nothing to do about an error.
        let _ = self.shell.wait();
    }
}
