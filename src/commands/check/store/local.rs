//! A file: whether it can be made where it will lie, whether there is room, and whether somebody has it open.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::SUBJECT;
use crate::{commands::check::finding::Finding, store::sqlite};

/// Below this nothing can be kept for long: a million keys take about 100 MB.
const LITTLE: u64 = 256 << 20;
/// Below this nothing can be kept at all.
const NOTHING: u64 = 16 << 20;

pub(super) fn check(path: &Path) -> Vec<Finding> {
    // `run` makes the folders that lead to it.
    let folder = existing(path);
    let mut findings = vec![writable(path, &folder)];
    findings.extend(room(&folder));
    findings.extend(used(path));
    findings
}

/// The nearest folder above the file that is there.
fn existing(path: &Path) -> PathBuf {
    let there = path.ancestors().skip(1).find(|folder| folder.exists());
    // A path without any such folder is relative to where we are.
    there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")).to_path_buf()
}

fn writable(path: &Path, folder: &Path) -> Finding {
    let fix = "make it writable for this user, or give another --state-dir (spec.store.type is Local)";
    if !folder.is_dir() {
        let what = format!("{} is not a directory", folder.display());
        return Finding::fail(SUBJECT, what, "give another --state-dir (spec.store.type is Local)");
    }
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Finding::fail(SUBJECT, format!("{} cannot be written: {error}", folder.display()), fix);
    }
    // The write-ahead log and the lock come and go with it, or are made by whoever may write to the folder.
    if path.exists()
        && let Err(error) = access(path, Access::READ_OK | Access::WRITE_OK)
    {
        return Finding::fail(SUBJECT, format!("{} cannot be written: {error}", path.display()), fix);
    }
    let made = if path.exists() { "is there and can be written" } else { "is not there yet and can be made" };
    Finding::ok(SUBJECT, format!("{} {made}", path.display()))
}

/// `None` where the file system does not say.
fn room(folder: &Path) -> Option<Finding> {
    let about = statvfs(folder).ok()?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let what = format!("{} MiB are free at {}", free >> 20, folder.display());
    let fix = "free space there, or give another --state-dir";
    Some(match free {
        ..NOTHING => Finding::fail(SUBJECT, what, fix),
        NOTHING..LITTLE => Finding::warn(SUBJECT, what, fix),
        _ => Finding::ok(SUBJECT, what),
    })
}

fn used(path: &Path) -> Option<Finding> {
    let what = match sqlite::in_use(path) {
        Ok(false) => return None,
        Ok(true) => format!("another process has {} open", path.display()),
        Err(error) => format!("whether another process has {} open cannot be told: {error}", path.display()),
    };
    Some(Finding::warn(
        SUBJECT,
        what,
        "nothing, if it is the one that runs this listener; else give each process a --state-dir of its own",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::finding::Level;

    #[test]
    fn a_file_lies_in_the_nearest_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(existing(&folder.path().join("a/b/c.db")), folder.path());
        assert_eq!(existing(Path::new("no-such-folder/c.db")), Path::new("."));
        assert_eq!(existing(Path::new("c.db")), Path::new("."));
    }

    #[test]
    fn a_file_where_a_folder_should_be_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        std::fs::write(&file, "").unwrap();
        let found = writable(&file.join("shop.orders.db"), &existing(&file.join("shop.orders.db")));
        assert_eq!(found.level, Level::Fail, "{found:?}");
        assert!(found.what.contains("is not a directory") && found.fix.contains("--state-dir"), "{found:?}");
    }

    #[test]
    fn where_the_kernel_says_that_nothing_can_be_written_nothing_can() {
        // Root may write anywhere but there.
        let found = writable(Path::new("/proc/self/shop.orders.db"), Path::new("/proc/self"));
        assert_eq!(found.level, Level::Fail, "{found:?}");
        assert!(found.what.contains("cannot be written") && found.fix.contains("--state-dir"), "{found:?}");
    }
}
