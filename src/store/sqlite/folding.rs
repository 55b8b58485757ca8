//! The thread that folds the log into the file, on a connection of its own: it may take long, and holds up nobody.
//!
//! SQLite starts the log anew when all of it is folded and a write begins just then. Under a load that never pauses that
//! may not happen; then the store's own connection folds the rest when the log is large (`wal_autocheckpoint`).

use std::{io, sync::mpsc, thread::JoinHandle};

use rusqlite::Connection;

pub(super) struct Folding {
    /// `None` only when it is over.
    wanted: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Folding {
    pub fn start(connection: Connection) -> io::Result<Self> {
        let (wanted, asked) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("store-fold".to_owned()).spawn(move || {
            for () in asked {
                // What could not be folded stays in the log, and is as safe there.
                let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
        })?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// Whether it will: not if it is asked to already.
    pub fn fold(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.try_send(()).is_ok())
    }

    /// Returns when its connection is closed.
    pub fn end(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        self.end();
    }
}
