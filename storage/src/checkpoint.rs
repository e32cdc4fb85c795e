//! Kafka's text checkpoints: offsets of all partitions of a log directory, and the leader epochs
//! of one partition.
//!
//! ```text
//! 0                 version
//! 2                 how many entries follow
//! orders 0 1234     topic, partition, offset         (leader epochs: epoch, start offset)
//! orders 1 1200
//! ```
//!
//! A file is replaced as a whole or not at all. A damaged one is an error that names the line; all
//! of them can be rebuilt or done without, which is for the caller to decide and to log.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use ottla_protocol::topic_name;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicPartition};

use crate::disk::{Disk, read_file, write_file_atomically};

#[cfg(test)]
mod tests;

/// Up to where the log is flushed: recovery starts there.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// The first offset of logs whose beginning was deleted by request, not by segment.
pub const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// Up to where compacted logs are compacted.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// In the partition's own directory.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

const VERSION: &str = "0";
/// 100,000 partitions with the longest topic names take 28 MB.
const FILE_SIZE_BYTES_MAX: u64 = 64 << 20;

/// Where a leader epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{file}: line {line}: {problem}")]
    Malformed {
        file: String,
        line: u32,
        problem: Problem,
    },
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not text")]
    NotText,
    #[error("version 0 was expected")]
    Version,
    #[error("the number of entries was expected")]
    Count,
    #[error("there are fewer entries than the file says")]
    Missing,
    #[error("there are more entries than the file says")]
    Surplus,
    #[error("not an entry")]
    Entry,
    #[error("this partition appears twice")]
    Duplicate,
    #[error("epochs and their start offsets must increase")]
    Order,
}

pub type PartitionOffsets = BTreeMap<TopicPartition, Offset>;

/// `None` when the file does not exist or is empty.
pub fn read_offsets(
    disk: &dyn Disk,
    path: &str,
) -> Result<Option<PartitionOffsets>, CheckpointError> {
    read(disk, path, parse_offsets)
}

pub fn write_offsets(
    disk: &dyn Disk,
    path: &str,
    offsets: &PartitionOffsets,
) -> Result<(), CheckpointError> {
    write(disk, path, &format_offsets(offsets))
}

/// `None` when the file does not exist or is empty. `path`: of the file in the partition's
/// directory.
pub fn read_leader_epochs(
    disk: &dyn Disk,
    path: &str,
) -> Result<Option<Vec<EpochEntry>>, CheckpointError> {
    read(disk, path, parse_leader_epochs)
}

pub fn write_leader_epochs(
    disk: &dyn Disk,
    path: &str,
    entries: &[EpochEntry],
) -> Result<(), CheckpointError> {
    write(disk, path, &format_leader_epochs(entries))
}

/// Fails with the line and what is wrong there.
pub fn parse_offsets(content: &[u8]) -> Result<PartitionOffsets, (u32, Problem)> {
    let mut offsets = PartitionOffsets::new();
    for_each_entry(content, |fields| {
        let &[topic, partition, offset] = fields else {
            return Err(Problem::Entry);
        };
        topic_name::validate(topic).map_err(|_| Problem::Entry)?;
        let partition = TopicPartition::new(topic, number(partition)?);
        match offsets.insert(partition, Offset(number(offset)?)) {
            Some(_) => Err(Problem::Duplicate),
            None => Ok(()),
        }
    })?;
    Ok(offsets)
}

pub fn format_offsets(offsets: &PartitionOffsets) -> String {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    text
}

/// Fails with the line and what is wrong there.
pub fn parse_leader_epochs(content: &[u8]) -> Result<Vec<EpochEntry>, (u32, Problem)> {
    let mut entries: Vec<EpochEntry> = Vec::new();
    for_each_entry(content, |fields| {
        let &[epoch, start_offset] = fields else {
            return Err(Problem::Entry);
        };
        let (epoch, start_offset) = (LeaderEpoch(number(epoch)?), Offset(number(start_offset)?));
        let increases = |last: &EpochEntry| last.epoch < epoch && last.start_offset < start_offset;
        if !entries.last().is_none_or(increases) {
            return Err(Problem::Order);
        }
        entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        Ok(())
    })?;
    Ok(entries)
}

pub fn format_leader_epochs(entries: &[EpochEntry]) -> String {
    let mut text = format!("{VERSION}\n{}\n", entries.len());
    for EpochEntry {
        epoch,
        start_offset,
    } in entries
    {
        let _ = writeln!(text, "{epoch} {start_offset}");
    }
    text
}

fn read<T>(
    disk: &dyn Disk,
    path: &str,
    parse: impl Fn(&[u8]) -> Result<T, (u32, Problem)>,
) -> Result<Option<T>, CheckpointError> {
    let content = match read_file(disk, path, FILE_SIZE_BYTES_MAX) {
        // Kafka makes its files empty, and leaves them so until there is something to say.
        Ok(content) if content.is_empty() => return Ok(None),
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CheckpointError::Io {
                file: path.to_owned(),
                source,
            });
        }
    };
    match parse(&content) {
        Ok(parsed) => Ok(Some(parsed)),
        Err((line, problem)) => Err(CheckpointError::Malformed {
            file: path.to_owned(),
            line,
            problem,
        }),
    }
}

fn write(disk: &dyn Disk, path: &str, text: &str) -> Result<(), CheckpointError> {
    write_file_atomically(disk, path, text.as_bytes()).map_err(|source| CheckpointError::Io {
        file: path.to_owned(),
        source,
    })
}

/// Walks the frame that all checkpoints share; memory grows with the entries, not with the count.
fn for_each_entry(
    content: &[u8],
    mut entry: impl FnMut(&[&str]) -> Result<(), Problem>,
) -> Result<(), (u32, Problem)> {
    let text = std::str::from_utf8(content).map_err(|_| (1, Problem::NotText))?;
    let mut lines = (1..).zip(text.lines());
    if lines.next().is_none_or(|(_, line)| line != VERSION) {
        return Err((1, Problem::Version));
    }
    let count = lines.next().and_then(|(_, line)| line.parse::<u32>().ok());
    let count = count.ok_or((2, Problem::Count))?;
    let mut seen = 0;
    for (number, line) in lines {
        if seen == count {
            return Err((number, Problem::Surplus));
        }
        let mut fields = [""; 4];
        let mut len = 0;
        for field in line.split_ascii_whitespace() {
            *fields.get_mut(len).ok_or((number, Problem::Entry))? = field;
            len += 1;
        }
        entry(&fields[..len]).map_err(|problem| (number, problem))?;
        seen += 1;
    }
    match seen == count {
        true => Ok(()),
        false => Err((seen + 3, Problem::Missing)),
    }
}

/// A number that is not negative, of whatever width.
fn number<T: TryFrom<i64>>(text: &str) -> Result<T, Problem> {
    let number: i64 = text.parse().map_err(|_| Problem::Entry)?;
    if number < 0 {
        return Err(Problem::Entry);
    }
    T::try_from(number).map_err(|_| Problem::Entry)
}
