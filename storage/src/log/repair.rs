//! Mends a log that nobody has open, as its check says: what is derived is written anew; what is
//! damaged is taken out only when the caller says how.
//!
//! Nothing is dropped: every byte that leaves the log is first in the folder `quarantine` of the
//! partition, durably. Two ways out of damage are sound, because both keep offsets dense:
//! - [`OnDamage::Truncate`]: the log ends before the first damage, all behind it is set aside.
//! - [`OnDamage::Skip`]: an empty batch takes the damaged batches' offsets, as compaction leaves
//!   one. Clients step over it; whoever had those offsets committed is not moved.
//!
//! A crash on the way leaves a log that can be checked and repaired again: segments are replaced by
//! a rename, and cut from the end.
//! Deliberately absent: the lock and the directory's checkpoints, but for [`clamp_checkpoints`].

use std::collections::BTreeSet;
use std::io;

use ottla_protocol::types::{LeaderEpoch, Offset, TopicPartition};
use thiserror::Error;

use super::checkpoint::open_or_create;
use super::error::LogError;
use super::index::{self, SegmentIndex};
use super::inspect::walk::{Derived, Walk};
use super::inspect::{Expected, Finding, PartitionCheck, Severity, Subject};
use super::producers::snapshot;
use super::segment::{INDEX_FILES, path};
use crate::checkpoint::{self, CheckpointError, EpochEntry, LEADER_EPOCHS};
use crate::disk::Disk;
use crate::layout::SegmentFile;

mod records;
#[cfg(test)]
mod tests;

use records::Edit;

/// Where a partition's removed bytes are kept.
pub const QUARANTINE: &str = "quarantine";

/// What becomes of damaged records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Nothing is done about a log that has any.
    #[default]
    Refuse,
    Truncate,
    Skip,
}

#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    pub on_damage: OnDamage,
    /// Between entries of indexes that are written anew.
    pub index_interval_bytes: u32,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Also make durable, and describe to its end, what a crash left: the next start then has
    /// nothing to recover. Indexes of an older Kafka are written anew as well.
    pub seal: bool,
}

/// One thing that was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub path: String,
    pub what: String,
    /// Where the removed bytes are.
    pub kept: Option<String>,
}

#[derive(Debug, Error)]
pub enum RepairError {
    #[error("{0} has damaged records; say what is to become of them")]
    Choice(Box<Finding>),
    #[error("{0} cannot be repaired in this way")]
    Impossible(Box<Finding>),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What became of a partition.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    pub steps: Vec<Step>,
    /// The new log end; as before in a dry run.
    pub end_offset: Offset,
}

/// Mends one partition. `check` must be of the files as they are now.
pub fn repair(
    disk: &dyn Disk,
    dir: &str,
    expected: Expected,
    check: &PartitionCheck,
    options: RepairOptions,
) -> Result<Repaired, RepairError> {
    let edits = records::plan(check, options.on_damage)?;
    let mut repair = Repair {
        disk,
        dir,
        options,
        epochs: &check.epochs,
        steps: Vec::new(),
        rewrite: BTreeSet::new(),
        wrong: BTreeSet::new(),
    };
    repair.note_wrong(check);
    if options.seal {
        repair.cut_zeros(check)?;
    }
    let idle = edits.is_empty() && repair.wrong.is_empty() && repair.rewrite.is_empty();
    let mut end_offset = check.end_offset;
    if !idle || options.seal {
        repair.edit(&edits)?;
        repair.set_wrong_aside()?;
        if !options.dry_run {
            end_offset = repair.derive(expected, !edits.is_empty())?;
        }
    }
    Ok(Repaired {
        steps: repair.steps,
        end_offset,
    })
}

struct Repair<'a> {
    disk: &'a dyn Disk,
    dir: &'a str,
    options: RepairOptions,
    epochs: &'a [EpochEntry],
    steps: Vec<Step>,
    /// Segments whose indexes are written anew.
    rewrite: BTreeSet<Offset>,
    /// Snapshots and other derived files that are wrong.
    wrong: BTreeSet<String>,
}

impl Repair<'_> {
    fn note_wrong(&mut self, check: &PartitionCheck) {
        for finding in &check.findings {
            let inexact = finding.severity == Severity::Note && self.options.seal;
            let index = matches!(
                finding.subject,
                Subject::OffsetIndex | Subject::TimeIndex | Subject::TransactionIndex
            );
            match segment_base(&finding.path) {
                Some(base) if index && (finding.severity == Severity::Derived || inexact) => {
                    self.rewrite.insert(base);
                }
                _ if finding.severity == Severity::Derived => {
                    self.wrong.insert(finding.path.clone());
                }
                _ => {}
            }
        }
    }

    /// A start after this trusts the ends of all segments but the last.
    fn cut_zeros(&mut self, check: &PartitionCheck) -> Result<(), LogError> {
        let notes = check.findings.iter().filter(|finding| {
            finding.severity == Severity::Note && finding.subject == Subject::Records
        });
        for finding in notes {
            let Some((from, until)) = finding.bytes.filter(|(from, until)| from < until) else {
                continue;
            };
            if !self.options.dry_run {
                let cut = self.disk.open(&finding.path).and_then(|file| {
                    file.truncate(from)?;
                    file.sync_data()
                });
                cut.map_err(|error| LogError::io(&*finding.path, error))?;
            }
            let what = format!("{} zeros behind the records are cut off", until - from);
            self.step(&finding.path, &what, None);
        }
        Ok(())
    }

    fn step(&mut self, path: &str, what: &str, kept: Option<String>) {
        self.steps.push(Step {
            path: path.to_owned(),
            what: what.to_owned(),
            kept,
        });
    }

    fn set_wrong_aside(&mut self) -> Result<(), LogError> {
        let there = |path: &str| {
            let exists = self.disk.exists(path);
            exists.map_err(|error| LogError::io(path, error))
        };
        let mut files = Vec::new();
        for base in &self.rewrite {
            let indexes = INDEX_FILES.map(|kind| path(self.dir, *base, kind));
            files.extend(indexes);
        }
        files.extend(self.wrong.iter().cloned());
        for file in files {
            if there(&file)? {
                self.set_aside(&file, "is written anew from the log")?;
            } else if !file.ends_with(SegmentFile::TransactionIndex.suffix()) {
                self.step(&file, "is written from the log", None);
            }
        }
        Ok(())
    }

    /// Moves a file into the quarantine.
    fn set_aside(&mut self, file: &str, what: &str) -> Result<(), LogError> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let kept = self.place_for(name)?;
        if !self.options.dry_run {
            let moved = self.disk.rename(file, &kept).and_then(|()| {
                self.disk.sync_dir(&format!("{}/{QUARANTINE}", self.dir))?;
                self.disk.sync_dir(self.dir)
            });
            moved.map_err(|error| LogError::io(file, error))?;
        }
        self.step(file, what, Some(kept));
        Ok(())
    }

    /// A free name in the quarantine.
    fn place_for(&self, name: &str) -> Result<String, LogError> {
        let folder = format!("{}/{QUARANTINE}", self.dir);
        let place = || -> io::Result<String> {
            if !self.options.dry_run {
                self.disk.create_dir(&folder)?;
                self.disk.sync_dir(self.dir)?;
            }
            let mut free = format!("{folder}/{name}");
            let mut count = 1;
            while self.disk.exists(&free)? {
                count += 1;
                free = format!("{folder}/{name}.{count}");
            }
            Ok(free)
        };
        place().map_err(|error| LogError::io(&*folder, error))
    }

    fn edit(&mut self, edits: &[Edit]) -> Result<(), LogError> {
        // From the end: a log that is half done is still a log.
        for edit in edits.iter().rev() {
            match edit {
                Edit::Cut { base, position } => self.cut(*base, *position)?,
                Edit::Replace { base, holes } => self.replace(*base, holes)?,
            }
        }
        Ok(())
    }

    /// Writes what the log says into the derived files that are wrong or gone.
    fn derive(&self, expected: Expected, edited: bool) -> Result<Offset, LogError> {
        let (disk, dir, seal) = (self.disk, self.dir, self.options.seal);
        let epochs = format!("{dir}/{LEADER_EPOCHS}");
        let epochs_wanted = edited || seal || self.wrong.contains(&epochs);
        let mut newest = None;
        let mut sink = |derived: Derived<'_>| -> Result<(), LogError> {
            match derived {
                Derived::Indexes(base, index) if self.rewrite.contains(&base) => {
                    write_indexes(disk, dir, base, index)
                        .map_err(|error| LogError::io(path(dir, base, SegmentFile::Log), error))
                }
                Derived::Producers(offset, producers) => {
                    let file = path(dir, offset, SegmentFile::ProducerSnapshot);
                    let bytes = snapshot::encode(producers);
                    if self.wrong.contains(&file) {
                        write(disk, &file, &bytes).map_err(|error| LogError::io(&*file, error))?;
                    }
                    newest = Some((file, bytes));
                    Ok(())
                }
                Derived::Epochs(entries) if epochs_wanted => {
                    checkpoint::write_leader_epochs(disk, &epochs, entries)
                        .map_err(|error| checkpoint_error(&epochs, error))
                }
                Derived::Indexes(..) | Derived::Epochs(_) => Ok(()),
            }
        };
        let mut quiet = |_| {};
        let walk = Walk::new(disk, dir, expected, &mut quiet)?;
        let after = walk
            .derive(&mut sink, self.options.index_interval_bytes)
            .run()?;
        if let Some((file, bytes)) = newest.filter(|_| edited || seal || !self.wrong.is_empty()) {
            let there = disk
                .exists(&file)
                .map_err(|error| LogError::io(&*file, error))?;
            if !there {
                write(disk, &file, &bytes).map_err(|error| LogError::io(&*file, error))?;
            }
        }
        if seal {
            self.sync_segments()?;
        }
        disk.sync_dir(dir)
            .map_err(|error| LogError::io(dir, error))?;
        Ok(after.end_offset)
    }

    fn sync_segments(&self) -> Result<(), LogError> {
        let sync = || -> io::Result<()> {
            for entry in self.disk.list(self.dir)? {
                if let Some((_, SegmentFile::Log)) = SegmentFile::parse(&entry.name) {
                    self.disk
                        .open(&format!("{}/{}", self.dir, entry.name))?
                        .sync_data()?;
                }
            }
            Ok(())
        };
        sync().map_err(|error| LogError::io(self.dir, error))
    }

    /// The leader epoch that an offset belongs to.
    fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self
            .epochs
            .partition_point(|entry| entry.start_offset <= offset);
        let at = after.saturating_sub(1);
        self.epochs
            .get(at)
            .map_or(LeaderEpoch(0), |entry| entry.epoch)
    }
}

fn segment_base(file: &str) -> Option<Offset> {
    let name = file.rsplit('/').next()?;
    SegmentFile::parse(name).map(|(base, _)| base)
}

/// The offset index last, as everywhere: where it is, the others are whole.
fn write_indexes(disk: &dyn Disk, dir: &str, base: Offset, index: &SegmentIndex) -> io::Result<()> {
    let put = |kind, bytes: Vec<u8>| write(disk, &path(dir, base, kind), &bytes);
    put(SegmentFile::TimeIndex, index::encode_times(&index.times))?;
    if !index.aborted.is_empty() {
        put(
            SegmentFile::TransactionIndex,
            index::encode_aborted(&index.aborted),
        )?;
    }
    disk.sync_dir(dir)?;
    put(
        SegmentFile::OffsetIndex,
        index::encode_offsets(&index.offsets),
    )
}

fn write(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = open_or_create(disk, path)?;
    file.truncate(0)?;
    file.write_at(0, &[io::IoSlice::new(bytes)])?;
    file.sync_data()
}

fn checkpoint_error(path: &str, error: CheckpointError) -> LogError {
    match error {
        CheckpointError::Io { source, .. } => LogError::io(path, source),
        malformed => LogError::io(path, io::Error::other(malformed)),
    }
}

/// Lets the directory's checkpoints promise nothing behind a log's new end. A checkpoint that
/// cannot be read is left to the next start, which does without.
pub fn clamp_checkpoints(
    disk: &dyn Disk,
    partition: &TopicPartition,
    end: Offset,
) -> Result<(), CheckpointError> {
    let files = [
        checkpoint::RECOVERY_POINTS,
        checkpoint::HIGH_WATERMARKS,
        checkpoint::CLEANER_OFFSETS,
    ];
    for file in files {
        let Ok(Some(mut offsets)) = checkpoint::read_offsets(disk, file) else {
            continue;
        };
        if let Some(offset) = offsets.get_mut(partition).filter(|offset| **offset > end) {
            *offset = end;
            checkpoint::write_offsets(disk, file, &offsets)?;
        }
    }
    Ok(())
}
