//! What a batch must satisfy before it is appended, in the order in which a client sees the errors.
//!
//! Pure functions over the batch, the configuration and `now`. The CRC is not checked here: the
//! caller did it before taking the partition's lock. Records stay closed unless the topic is
//! compacted (every record needs a key) or asks for strict validation; those of clients are opened
//! before the lock is taken, too (`records.rs`).

use ottla_protocol::batch::{BatchError, BatchHeader, Compression, RecordBatch, TimestampType};
use ottla_protocol::record::{RecordHead, RewriteError, inspect};

use super::error::{AppendError, BadRecord, BadRecords, InvalidRecord, RecordRule};
use super::{AppendAt, LogConfig, Origin};

/// No timestamp given: always allowed.
const NO_TIMESTAMP: i64 = -1;
/// So many bad records of a batch are told apart; the answer is as large as this allows.
const BAD_RECORDS_LISTED: usize = 1_000;
/// The first Produce version that knows zstd.
const ZSTD_PRODUCE_VERSION: i16 = 7;

/// What the walk over the records found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The true maximum timestamp, when the records were walked.
    pub(crate) max_timestamp: Option<i64>,
}

/// Checks a batch that a leader is about to append.
pub(crate) fn check(
    batch: &RecordBatch,
    config: &LogConfig,
    at: &AppendAt,
) -> Result<Checked, AppendError> {
    check_batch(batch, config, at)?;
    if batch.header().is_control() {
        return Ok(Checked::default());
    }
    if let Origin::ClientOpened { .. } = at.origin {
        return Ok(Checked::default());
    }
    let checked = match config.checks_records() {
        true => {
            let mut rules = Rules::new(batch.header(), config, at.now_ms);
            let passed = inspect(batch.view(), config.record_limits, |head| rules.see(head));
            rules.verdict(passed)?
        }
        false => Checked::default(),
    };
    check_timestamps(batch.header(), config, at.now_ms)?;
    Ok(checked)
}

/// Everything but the records and the range of their timestamps.
pub(crate) fn check_batch(
    batch: &RecordBatch,
    config: &LogConfig,
    at: &AppendAt,
) -> Result<(), AppendError> {
    let header = batch.header();
    let produce_version = match at.origin {
        Origin::Client { produce_version } | Origin::ClientOpened { produce_version } => {
            Some(produce_version)
        }
        Origin::Coordinator | Origin::Replica => None,
    };
    let codec = header
        .compression()
        .map_err(|_| invalid(InvalidRecord::Codec))?;
    // A topic may be stored in zstd whatever its producers know.
    let sent = matches!(at.origin, Origin::Client { .. });
    if sent
        && codec == Compression::Zstd
        && produce_version.is_some_and(|v| v < ZSTD_PRODUCE_VERSION)
    {
        return Err(AppendError::UnsupportedCompression);
    }
    if produce_version.is_some() && header.base_offset.0 != 0 {
        return Err(invalid(InvalidRecord::BaseOffset));
    }
    check_size(batch.size_bytes(), config)?;
    check_header(header, produce_version.is_some())
}

fn check_size(size_bytes: usize, config: &LogConfig) -> Result<(), AppendError> {
    if size_bytes > config.max_message_bytes as usize {
        let max_bytes = config.max_message_bytes;
        return Err(AppendError::MessageTooLarge {
            size_bytes,
            max_bytes,
        });
    }
    if size_bytes > config.segment_size_bytes as usize {
        let max_bytes = config.segment_size_bytes;
        return Err(AppendError::RecordListTooLarge {
            size_bytes,
            max_bytes,
        });
    }
    Ok(())
}

fn check_header(header: &BatchHeader, from_client: bool) -> Result<(), AppendError> {
    let dense = i64::from(header.last_offset_delta) + 1 == i64::from(header.record_count);
    if header.last_offset_delta < 0 || header.record_count <= 0 || !dense {
        return Err(invalid(InvalidRecord::Count));
    }
    if header.is_control() {
        if from_client {
            return Err(invalid(InvalidRecord::Control));
        }
        let plain = header.compression() == Ok(Compression::None);
        if header.record_count != 1 || !plain {
            return Err(invalid(InvalidRecord::ControlRecords));
        }
    }
    let sequenced = header.base_sequence >= 0 && header.producer_epoch >= 0;
    if from_client && header.producer_id.is_some() && !sequenced {
        return Err(invalid(InvalidRecord::Sequence));
    }
    Ok(())
}

fn check_timestamps(
    header: &BatchHeader,
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), AppendError> {
    // A client that claims the broker's timestamp type is wrong on every topic.
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(AppendError::InvalidTimestamp {
            timestamp: header.max_timestamp,
        });
    }
    if config.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    check_timestamp(header.base_timestamp, config, now_ms)?;
    check_timestamp(header.max_timestamp, config, now_ms)
}

fn check_timestamp(timestamp: i64, config: &LogConfig, now_ms: i64) -> Result<(), AppendError> {
    let (oldest, youngest) = bounds(config, now_ms);
    match timestamp == NO_TIMESTAMP || (oldest..=youngest).contains(&timestamp) {
        true => Ok(()),
        false => Err(AppendError::InvalidTimestamp { timestamp }),
    }
}

fn bounds(config: &LogConfig, now_ms: i64) -> (i64, i64) {
    let oldest = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let youngest = now_ms.saturating_add(config.timestamp_after_max_ms);
    (oldest, youngest)
}

/// The rules for single records, and who broke them.
pub(crate) struct Rules {
    compacted: bool,
    /// The batch claims the broker's timestamp type, so every record does.
    claimed: bool,
    /// `None` where the broker gives the time.
    timestamps: Option<(i64, i64)>,
    max_timestamp: i64,
    bad: BadRecords,
}

impl Rules {
    pub(crate) fn new(header: &BatchHeader, config: &LogConfig, now_ms: i64) -> Rules {
        let create_time = config.timestamp_type == TimestampType::CreateTime;
        Rules {
            compacted: config.compacted,
            claimed: header.timestamp_type() == TimestampType::LogAppendTime,
            timestamps: create_time.then(|| bounds(config, now_ms)),
            max_timestamp: NO_TIMESTAMP,
            bad: BadRecords {
                total: 0,
                listed: Vec::new(),
                timestamps: false,
            },
        }
    }

    pub(crate) fn see(&mut self, head: &RecordHead) {
        self.max_timestamp = self.max_timestamp.max(head.timestamp);
        let Some(rule) = self.broken(head) else {
            return;
        };
        self.bad.total += 1;
        self.bad.timestamps |=
            matches!(rule, RecordRule::Timestamp { .. } | RecordRule::AppendTime);
        if self.bad.listed.len() < BAD_RECORDS_LISTED {
            let index = head.index;
            self.bad.listed.push(BadRecord { index, rule });
        }
    }

    fn broken(&self, head: &RecordHead) -> Option<RecordRule> {
        let (delta, timestamp) = (head.offset_delta, head.timestamp);
        if i64::from(delta) != i64::from(head.index) {
            return Some(RecordRule::OffsetDelta { delta });
        }
        if self.compacted && !head.has_key {
            return Some(RecordRule::KeyMissing);
        }
        if self.claimed {
            return Some(RecordRule::AppendTime);
        }
        let (oldest, youngest) = self.timestamps?;
        let fine = timestamp == NO_TIMESTAMP || (oldest..=youngest).contains(&timestamp);
        (!fine).then_some(RecordRule::Timestamp {
            timestamp,
            oldest,
            youngest,
        })
    }

    /// What is to be told, once the records were read as far as they could be.
    pub(crate) fn verdict(self, passed: Result<(), RewriteError>) -> Result<Checked, AppendError> {
        match passed {
            // The batch cannot be read to its end, so nobody knows what is in it.
            Err(RewriteError::Record { index, error }) => {
                Err(invalid(InvalidRecord::Record { index, error }))
            }
            _ if self.bad.total > 0 => Err(AppendError::BadRecords(Box::new(self.bad))),
            Err(RewriteError::TooLarge { max_bytes }) => {
                Err(AppendError::RecompressedTooLarge { max_bytes })
            }
            Err(RewriteError::Batch(BatchError::Compress { codec })) => {
                Err(AppendError::Recompression { codec })
            }
            Err(RewriteError::Batch(_)) => Err(invalid(InvalidRecord::Codec)),
            Ok(()) => Ok(Checked {
                max_timestamp: Some(self.max_timestamp),
            }),
        }
    }
}

fn invalid(rule: InvalidRecord) -> AppendError {
    AppendError::InvalidRecord(rule)
}
