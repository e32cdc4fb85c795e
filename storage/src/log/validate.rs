//! What a batch must satisfy before it is appended, in the order in which a client sees the errors.
//!
//! Pure functions over the batch, the configuration and `now`. The CRC is not checked here: the
//! caller did it before taking the partition's lock. Records stay closed unless the topic is
//! compacted (every record needs a key) or asks for strict validation.

use ottla_protocol::batch::{BatchHeader, Compression, RecordBatch, TimestampType};
use ottla_protocol::record::{RecordLimits, Records};

use super::error::{AppendError, InvalidRecord};
use super::{AppendAt, LogConfig, Origin, Validation};

/// No timestamp given: always allowed.
const NO_TIMESTAMP: i64 = -1;
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
    let header = batch.header();
    let produce_version = match at.origin {
        Origin::Client { produce_version } => Some(produce_version),
        Origin::Coordinator | Origin::Replica => None,
    };
    let codec = header
        .compression()
        .map_err(|_| invalid(InvalidRecord::Codec))?;
    if codec == Compression::Zstd && produce_version.is_some_and(|v| v < ZSTD_PRODUCE_VERSION) {
        return Err(AppendError::UnsupportedCompression);
    }
    if produce_version.is_some() && header.base_offset.0 != 0 {
        return Err(invalid(InvalidRecord::BaseOffset));
    }
    check_size(batch.size_bytes(), config)?;
    check_header(header, produce_version.is_some())?;
    if header.is_control() {
        return Ok(Checked::default());
    }
    let checked = match config.compacted || config.validation == Validation::Strict {
        true => check_records(batch, config, at.now_ms)?,
        false => Checked::default(),
    };
    check_timestamps(header, config, at.now_ms)?;
    Ok(checked)
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
    let oldest = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let youngest = now_ms.saturating_add(config.timestamp_after_max_ms);
    match timestamp == NO_TIMESTAMP || (oldest..=youngest).contains(&timestamp) {
        true => Ok(()),
        false => Err(AppendError::InvalidTimestamp { timestamp }),
    }
}

fn check_records(
    batch: &RecordBatch,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Checked, AppendError> {
    let at = |index, error| invalid(InvalidRecord::Record { index, error });
    let mut records =
        Records::open(batch.view(), RecordLimits::default()).map_err(|error| at(0, error))?;
    let mut max_timestamp = NO_TIMESTAMP;
    let mut index = 0u32;
    while let Some(record) = records.next_ref() {
        let record = record.map_err(|error| at(index, error))?;
        let delta = record.offset_delta;
        if i64::from(delta) != i64::from(index) {
            return Err(invalid(InvalidRecord::OffsetDelta { index, delta }));
        }
        if config.compacted && record.key().is_none() {
            return Err(invalid(InvalidRecord::KeyMissing { index }));
        }
        if config.timestamp_type == TimestampType::CreateTime {
            check_timestamp(record.timestamp, config, now_ms)?;
        }
        max_timestamp = max_timestamp.max(record.timestamp);
        index += 1;
    }
    Ok(Checked {
        max_timestamp: Some(max_timestamp),
    })
}

fn invalid(rule: InvalidRecord) -> AppendError {
    AppendError::InvalidRecord(rule)
}
