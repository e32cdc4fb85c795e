//! Looks at the files of a log that nobody has open: what is in them, and whether they agree.
//!
//! [`check_partition`] reads every batch of one partition once, computes every CRC, and holds the
//! derived files (indexes, producer snapshots, leader epochs) against what it read. It writes
//! nothing and decides nothing: each [`Finding`] says where something is wrong, what that costs,
//! and what can still be read behind it. [`dump`] tells what is in a single file.
//! Deliberately absent: the lock of the directory (the caller's) and output.

mod compare;
pub mod dump;
mod indexes;
pub(super) mod walk;

use std::fmt;

use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicPartition};

use super::error::LogError;
use crate::checkpoint::{self, CheckpointError, EpochEntry, PartitionOffsets};
use crate::disk::Disk;
use crate::layout::{self, DirName};

/// What the directory's checkpoints say about one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Below, everything was durable once: what is missing there is lost, not unfinished.
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    /// Below, offsets may be missing: compaction has been there.
    pub compacted_to: Offset,
}

/// How bad a finding is; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Note,
    /// What an interrupted write leaves at the end of a log. The next start cuts it off; nothing
    /// that was acknowledged as durable is in it.
    TornTail,
    /// A derived file is missing or wrong; the records are not concerned.
    Derived,
    /// Records are lost or contradict each other.
    Damage,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::TornTail => "torn-tail",
            Severity::Derived => "derived",
            Severity::Damage => "damage",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Records,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    ProducerSnapshot,
    LeaderEpochs,
    Checkpoint,
    Metadata,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the log directory.
    pub path: String,
    pub severity: Severity,
    pub subject: Subject,
    /// The bytes concerned, from and until, where the finding has a place.
    pub bytes: Option<(u64, u64)>,
    /// The offsets that cannot be read, from and until (exclusive); an end of `None` is unknown.
    pub offsets: Option<(Offset, Option<Offset>)>,
    /// How many sound batches follow in the partition.
    pub readable_after: Option<u64>,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)?;
        if let Some((from, until)) = self.bytes {
            write!(f, " at {from}..{until}")?;
        }
        match self.offsets {
            Some((from, Some(until))) => write!(f, ", offsets {from}..{until}")?,
            Some((from, None)) => write!(f, ", offsets from {from} on")?,
            None => {}
        }
        match self.readable_after {
            Some(count) => write!(f, ", {count} sound batches follow"),
            None => Ok(()),
        }
    }
}

/// A transaction without its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
}

/// One partition, looked at.
#[derive(Clone, Debug, Default)]
pub struct PartitionCheck {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    /// Of the segments' files.
    pub bytes: u64,
    pub start_offset: Offset,
    pub end_offset: Offset,
    pub latest_epoch: Option<LeaderEpoch>,
    /// Where each leader epoch starts, by the batches.
    pub epochs: Vec<EpochEntry>,
    /// Base offset and size of each segment.
    pub bases: Vec<(Offset, u64)>,
    pub producers: usize,
    pub open_transactions: Vec<OpenTransaction>,
    pub findings: Vec<Finding>,
}

impl PartitionCheck {
    /// The worst of the findings.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// The checkpoints of a log directory. One that cannot be read is a finding, and counts as empty.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pub recovery_points: PartitionOffsets,
    pub log_starts: PartitionOffsets,
    pub compacted: PartitionOffsets,
    pub findings: Vec<Finding>,
}

impl Checkpoints {
    pub fn read(disk: &dyn Disk) -> Checkpoints {
        let mut findings = Vec::new();
        let mut read = |path| match checkpoint::read_offsets(disk, path) {
            Ok(offsets) => offsets.unwrap_or_default(),
            Err(error) => {
                findings.push(unreadable(path, &error));
                PartitionOffsets::new()
            }
        };
        let recovery_points = read(checkpoint::RECOVERY_POINTS);
        let log_starts = read(checkpoint::LOG_START_OFFSETS);
        let compacted = read(checkpoint::CLEANER_OFFSETS);
        read(checkpoint::HIGH_WATERMARKS);
        Checkpoints {
            recovery_points,
            log_starts,
            compacted,
            findings,
        }
    }

    pub fn expected(&self, partition: &TopicPartition) -> Expected {
        let of = |offsets: &PartitionOffsets| offsets.get(partition).copied().unwrap_or_default();
        Expected {
            recovery_point: of(&self.recovery_points),
            log_start_offset: of(&self.log_starts),
            compacted_to: of(&self.compacted),
        }
    }
}

fn unreadable(path: &str, error: &CheckpointError) -> Finding {
    Finding {
        path: path.to_owned(),
        severity: Severity::Derived,
        subject: Subject::Checkpoint,
        bytes: None,
        offsets: None,
        readable_after: None,
        what: error.to_string(),
    }
}

/// The partitions that have a directory, in the order of their names.
pub fn partitions(disk: &dyn Disk) -> Result<Vec<TopicPartition>, LogError> {
    let entries = disk.list("").map_err(|error| LogError::io(".", error))?;
    let mut found: Vec<TopicPartition> = entries
        .into_iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| match layout::parse_dir(&entry.name) {
            DirName::Partition(partition) => Some(partition),
            _ => None,
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Reads everything in a partition's directory and says what is wrong there. `progress` is told
/// of every few hundred kilobytes that were read. Fails only when the disk does.
pub fn check_partition(
    disk: &dyn Disk,
    dir: &str,
    expected: Expected,
    progress: &mut dyn FnMut(u64),
) -> Result<PartitionCheck, LogError> {
    walk::Walk::new(disk, dir, expected, progress)?.run()
}

#[cfg(test)]
mod tests;
