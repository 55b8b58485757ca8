//! One process at a time.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use super::{failure::of_io, open::beside};
use crate::store::StoreError;

/// A lock on a file beside the store. The kernel lets go of it when the process dies, however it dies.
///
/// The file is left behind at the end: removing it would let two processes hold two locks of one name.
pub(super) struct Lock(File);

impl Lock {
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside(path, ".lock"))
            .map_err(|error| of_io(&error, path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(of_io(&error, path)),
        }
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a child process that is just being started shares it until it execs, and would
    /// hold the lock for that long.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
