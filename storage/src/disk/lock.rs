//! One process per log directory: a lock file that names its holder.
//!
//! Two kernel locks are taken on it. `flock` belongs to the open file, so it also keeps a second
//! opener in the same process out; the record lock is the one Kafka takes, so neither a broker of
//! ours nor one of Kafka's starts on a directory the other is using. Both end with the process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Kafka's name for it.
const LOCK_FILE: &str = ".lock";
const PID_SIZE_BYTES_MAX: usize = 20;

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("in use by {}", describe(*.holder_pid))]
    Held { holder_pid: Option<u32> },
    #[error("cannot be locked: {0}")]
    Io(#[source] io::Error),
}

fn describe(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl DirectoryLock {
    /// Locks an existing directory, or says who holds it.
    pub fn acquire(root: &Path) -> Result<DirectoryLock, LockError> {
        let path = root.join(LOCK_FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let result = rustix::fs::openat(CWD, &path, flags, mode).and_then(|file| {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Err(holder(&file))),
                Err(error) => return Err(error),
            }
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::ACCESS) => return Ok(Err(holder(&file))),
                Err(error) => return Err(error),
            }
            rustix::fs::ftruncate(&file, 0)?;
            // On a full disk the lock holds all the same, it only cannot say whose it is.
            match rustix::io::pwrite(&file, std::process::id().to_string().as_bytes(), 0) {
                Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => {}
                Err(error) => return Err(error),
            }
            Ok(Ok(DirectoryLock { _file: file }))
        });
        match result {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(holder_pid)) => Err(LockError::Held { holder_pid }),
            Err(error) => Err(LockError::Io(error.into())),
        }
    }
}

/// What the holder wrote; nothing when it was no broker of ours.
fn holder(file: &OwnedFd) -> Option<u32> {
    let mut text = [0; PID_SIZE_BYTES_MAX];
    let len = rustix::io::pread(file, &mut text, 0).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_learns_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(dir.path()).unwrap();
        let error = DirectoryLock::acquire(dir.path()).unwrap_err();
        assert!(
            matches!(&error, LockError::Held { holder_pid: Some(pid), .. }
            if *pid == std::process::id())
        );
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id()))
        );
        drop(lock);
        DirectoryLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_names_nobody_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(LOCK_FILE),
            "not a pid, and rather a long text",
        )
        .unwrap();
        drop(DirectoryLock::acquire(dir.path()).unwrap());
    }
}
