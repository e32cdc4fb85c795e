//! What can go wrong in a log, named after what the caller can do about it.

use std::io;

use ottla_protocol::batch::{BatchError, Compression};
use ottla_protocol::record::RecordError;
use ottla_protocol::types::{LeaderEpoch, Offset};
use thiserror::Error;

use super::producers::ProducerError;
use crate::disk::is_out_of_descriptors;

/// A log cannot be opened, flushed, truncated or closed.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    /// An earlier sync or clean-up failed; what is in the files is known only after a restart.
    #[error("the log is poisoned by an earlier disk error; reopen it")]
    Poisoned,
    #[error(
        "{path} is {size_bytes} bytes long, a segment has at most {}",
        i32::MAX
    )]
    SegmentTooLarge { path: String, size_bytes: u64 },
    #[error("{path}: no batch can be read at {position}: {fault}")]
    Corrupt {
        path: String,
        position: u64,
        fault: Fault,
    },
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        offset: Offset,
        log_start_offset: Offset,
        log_end_offset: Offset,
    },
}

impl LogError {
    /// No descriptor was left for it, and nothing is different: it may be tried again.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if is_out_of_descriptors(source))
    }

    pub(crate) fn io(path: impl Into<String>, source: io::Error) -> LogError {
        LogError::Io {
            path: path.into(),
            source,
        }
    }
}

/// What is wrong with the bytes at a position of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the batch goes on beyond the end of the file")]
    CutOff,
    #[error("the checksum does not match")]
    Crc,
    #[error("the offsets go back, leave the segment or overflow")]
    Offsets,
    #[error("the leader epoch goes back")]
    Epoch,
}

/// A batch was not appended; the log is as it was.
#[derive(Debug, Error)]
pub enum AppendError {
    #[error("the batch has {size_bytes} bytes, at most {max_bytes} are allowed")]
    MessageTooLarge { size_bytes: usize, max_bytes: u32 },
    #[error("the batch has {size_bytes} bytes, a segment holds at most {max_bytes}")]
    RecordListTooLarge { size_bytes: usize, max_bytes: u32 },
    #[error("in its topic's codec the batch would have more than {max_bytes} bytes")]
    RecompressedTooLarge { max_bytes: usize },
    #[error("the batch cannot be written in its topic's codec, {}", codec.name())]
    Recompression { codec: Compression },
    #[error("invalid record batch: {0}")]
    InvalidRecord(InvalidRecord),
    #[error(transparent)]
    BadRecords(Box<BadRecords>),
    #[error("timestamp {timestamp} is outside the allowed range around the broker's time")]
    InvalidTimestamp { timestamp: i64 },
    #[error("zstd needs Produce version 7 or later")]
    UnsupportedCompression,
    #[error(transparent)]
    Producer(#[from] ProducerError),
    #[error("leader epoch {got} is older than {current} in the log")]
    LeaderEpoch {
        got: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("offset {got} does not follow the log end {log_end_offset}")]
    OffsetNotDense { got: Offset, log_end_offset: Offset },
    #[error("the log cannot grow beyond the largest offset")]
    OffsetsExhausted,
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The rule that a batch from a client breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidRecord {
    #[error("the base offset must be 0")]
    BaseOffset,
    #[error("the record count does not match the offsets")]
    Count,
    #[error("clients must not write control batches")]
    Control,
    #[error("a control batch must have exactly one record, uncompressed")]
    ControlRecords,
    #[error("a batch with a producer id needs an epoch and a sequence")]
    Sequence,
    #[error("only the broker may set log append time")]
    LogAppendTime,
    #[error("unknown compression codec")]
    Codec,
    #[error("record {index}: {error}")]
    Record { index: u32, error: RecordError },
}

impl InvalidRecord {
    /// The record to blame, for `record_errors` of the Produce response.
    pub fn record_index(&self) -> Option<u32> {
        match self {
            InvalidRecord::Record { index, .. } => Some(*index),
            _ => None,
        }
    }
}

/// Records of a batch that is well formed, each of which breaks a rule: one refuses the batch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{total} records of the batch are refused, among them {}",
    listed.iter().take(3).map(|bad| format!("record {}: {}", bad.index, bad.rule))
        .collect::<Vec<_>>().join("; ")
)]
pub struct BadRecords {
    pub total: u32,
    /// The first of them; a bounded number.
    pub listed: Vec<BadRecord>,
    /// Among all of them is one whose timestamp is the reason.
    pub timestamps: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its place in the batch.
    pub index: u32,
    pub rule: RecordRule,
}

/// The rule that a single record breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordRule {
    #[error("a compacted topic cannot accept a record without a key")]
    KeyMissing,
    #[error("only the broker may set log append time")]
    AppendTime,
    #[error("the offset delta is {delta}")]
    OffsetDelta { delta: i32 },
    #[error("timestamp {timestamp} is outside [{oldest}, {youngest}]")]
    Timestamp {
        timestamp: i64,
        oldest: i64,
        youngest: i64,
    },
}

/// A read cannot be answered.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        offset: Offset,
        log_start_offset: Offset,
        log_end_offset: Offset,
    },
    #[error("{path}: damaged at {position}: {fault}")]
    Corrupt {
        path: String,
        position: u64,
        fault: Fault,
    },
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl From<LogError> for ReadError {
    fn from(error: LogError) -> ReadError {
        match error {
            LogError::Io { path, source } => ReadError::Io { path, source },
            LogError::Corrupt {
                path,
                position,
                fault,
            } => ReadError::Corrupt {
                path,
                position,
                fault,
            },
            LogError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            } => ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            },
            other @ (LogError::Poisoned | LogError::SegmentTooLarge { .. }) => ReadError::Io {
                path: String::new(),
                source: io::Error::other(other),
            },
        }
    }
}
