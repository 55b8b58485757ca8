//! What SQLite says went wrong, in the store's words.

use std::{io, path::Path};

use rusqlite::ErrorCode;

use crate::store::{Epoch, StoreError};

/// Why a step of the store's thread failed, before the file is named.
#[derive(Debug)]
pub(super) enum Failure {
    Sql(rusqlite::Error),
    /// Said before anything was written.
    Fenced {
        mine: Epoch,
        newest: Epoch,
    },
    Damaged(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    pub fn named(self, path: &Path) -> StoreError {
        let path = path.to_path_buf();
        let error = match self {
            Self::Fenced { mine, newest } => return StoreError::Fenced { mine, newest },
            Self::Damaged(detail) => return StoreError::Corrupt { path, detail },
            Self::Sql(error) => error,
        };
        let detail = error.to_string();
        let Some(code) = error.sqlite_error_code() else {
            // All our SQL is constant: what does not convert was not written by us.
            return StoreError::Corrupt { path, detail };
        };
        match code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Locked { path },
            ErrorCode::DiskFull => StoreError::Full { path, detail },
            // A file whose write-ahead log cannot be created beside it does not open.
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
                StoreError::ReadOnly { path, detail }
            }
            // `Unknown` is SQLITE_ERROR: constant SQL fails with it only where a table is not as we made it.
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::Unknown
            | ErrorCode::TypeMismatch
            | ErrorCode::ConstraintViolation => StoreError::Corrupt { path, detail },
            _ => StoreError::Unavailable(format!("{}: {detail}", path.display())),
        }
    }
}

/// A failure to reach the files at all.
pub(super) fn of_io(error: &io::Error, path: &Path) -> StoreError {
    let path = path.to_path_buf();
    let detail = error.to_string();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path, detail },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path, detail },
        _ => StoreError::Unavailable(format!("{}: {detail}", path.display())),
    }
}
