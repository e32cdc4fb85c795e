//! A data directory that nobody else uses while a command looks at it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::types::TopicPartition;
use ottla_storage::disk::{Budget, DirectoryLock, Disk, LockError, RealDisk};
use ottla_storage::log::inspect;

use crate::commands::scope::{self, Scope};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::say;

/// Told after so many bytes, so that a large directory is not silent for long.
const PROGRESS_STEP_BYTES: u64 = 1 << 30;

/// Locked until it is dropped.
pub(super) struct Directory {
    pub(super) disk: Arc<RealDisk>,
    _lock: DirectoryLock,
}

impl Directory {
    pub(super) fn lock(path: &Path) -> Outcome<Directory> {
        let disk = open(path)?;
        let lock = DirectoryLock::acquire(path).map_err(|error| match error {
            LockError::Held { .. } => {
                let what = format!("{} is {error}", path.display());
                Fault::new("E1502", Exit::Conflict, what).hint("stop the broker first")
            }
            LockError::Io(error) => failed(path, &error),
        })?;
        Ok(Directory { disk, _lock: lock })
    }

    /// The partitions that are meant, in the order of their names.
    pub(super) fn partitions(&self, topics: &[String]) -> Outcome<Vec<TopicPartition>> {
        let scope = scope::parse(topics)?;
        let all = inspect::partitions(&*self.disk).map_err(|error| disk_fault(&error))?;
        for topic in scope.keys() {
            if !all.iter().any(|one| *one.topic == **topic) {
                let what = format!("there is no partition of \"{topic}\" in this directory");
                return Err(Fault::new("E1501", Exit::NotFound, what));
            }
        }
        Ok(all.into_iter().filter(|one| meant(&scope, one)).collect())
    }
}

fn meant(scope: &Scope, one: &TopicPartition) -> bool {
    if scope.is_empty() {
        return true;
    }
    let chosen = scope.get(&*one.topic);
    chosen.is_some_and(|some| {
        some.as_ref()
            .is_none_or(|some| some.contains(&one.partition))
    })
}

/// An existing directory, not locked.
pub(super) fn open(path: &Path) -> Outcome<Arc<RealDisk>> {
    if !path.is_dir() {
        let what = format!("there is no directory {}", path.display());
        return Err(Fault::new("E1501", Exit::NotFound, what));
    }
    let disk = RealDisk::open(path, &Budget::for_process());
    disk.map(Arc::new).map_err(|error| failed(path, &error))
}

pub(super) fn failed(path: &Path, error: &io::Error) -> Fault {
    let what = format!("{} cannot be used", path.display());
    Fault::new("E1503", Exit::Failed, what).why(error.to_string())
}

pub(super) fn disk_fault(error: &dyn std::error::Error) -> Fault {
    Fault::new("E1503", Exit::Failed, "the disk failed").why(error.to_string())
}

/// Says on standard error how far a long read has come.
#[derive(Default)]
pub(super) struct Progress {
    total: u64,
    done: u64,
    told: u64,
}

impl Progress {
    pub(super) fn new(disk: &dyn Disk, partitions: &[TopicPartition]) -> Outcome<Progress> {
        let mut progress = Progress::default();
        progress.expect(disk, partitions)?;
        Ok(progress)
    }

    /// These will be read as well.
    pub(super) fn expect(&mut self, disk: &dyn Disk, partitions: &[TopicPartition]) -> Outcome {
        for partition in partitions {
            let dir = ottla_storage::layout::partition_dir(partition);
            let entries = disk.list(&dir).map_err(|error| disk_fault(&error))?;
            let logs = entries.iter().filter(|entry| entry.name.ends_with(".log"));
            self.total += logs.map(|entry| entry.len_bytes).sum::<u64>();
        }
        Ok(())
    }

    pub(super) fn add(&mut self, bytes: u64, what: &str) {
        self.done += bytes;
        if self.done - self.told >= PROGRESS_STEP_BYTES {
            self.told = self.done;
            let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
            say(&format!(
                "{:.1} of {:.1} GiB read, at {what}",
                gib(self.done),
                gib(self.total)
            ));
        }
    }
}
