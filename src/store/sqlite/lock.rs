//! One process at a time.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{failure::of_io, open::beside};
use crate::store::StoreError;

/// A lock on a file beside the store. The kernel lets go of it when the process dies, however it dies.
///
/// The file is left behind at the end, unless the store is removed: whoever had opened it meanwhile finds that it is no
/// longer the one of that name, and tries again.
pub(super) struct Lock(File);

impl Lock {
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let name = beside(path, ".lock");
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&name)
                .map_err(|error| of_io(&error, path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_path_buf() }),
                Err(TryLockError::Error(error)) => return Err(of_io(&error, path)),
            }
            let locked = file.metadata().map_err(|error| of_io(&error, path))?;
            if fs::metadata(&name).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self(file));
            }
        }
    }

    /// Whether a process holds the one of the store at `path`. Makes no file.
    ///
    /// It takes a share of the lock for a moment: who takes the lock just then is refused, and tries again.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::open(beside(path, ".lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Lets go of it, and leaves nothing behind.
    pub fn remove(self, path: &Path) -> Result<(), StoreError> {
        let removed = fs::remove_file(beside(path, ".lock")).map_err(|error| of_io(&error, path));
        drop(self);
        removed
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a child process that is just being started shares it until it execs, and would
    /// hold the lock for that long.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
