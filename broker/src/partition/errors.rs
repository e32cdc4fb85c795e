//! What a partition's and a log's errors mean to a Kafka client.

use ottla_protocol::batch::BatchError;
use ottla_protocol::error::ErrorCode;
use ottla_storage::log::{AppendError, InvalidRecord, LogError, ProducerError, ReadError};

use super::PartitionError;
use crate::errors::ToErrorCode;

impl ToErrorCode for PartitionError {
    fn error_code(&self) -> ErrorCode {
        match self {
            PartitionError::Offline | PartitionError::Hangs => ErrorCode::KAFKA_STORAGE_ERROR,
            PartitionError::NoRoom(error) => error.error_code(),
            PartitionError::NotHosted | PartitionError::Moving => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            PartitionError::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            PartitionError::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
            PartitionError::Append(error) => error.error_code(),
            PartitionError::Read(error) => error.error_code(),
            PartitionError::Log(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for AppendError {
    fn error_code(&self) -> ErrorCode {
        match self {
            AppendError::MessageTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            AppendError::RecordListTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            AppendError::RecompressedTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            AppendError::Recompression { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            AppendError::InvalidRecord(error) => error.error_code(),
            AppendError::BadRecords(bad) if bad.timestamps => ErrorCode::INVALID_TIMESTAMP,
            AppendError::BadRecords(_) => ErrorCode::INVALID_RECORD,
            AppendError::InvalidTimestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
            AppendError::UnsupportedCompression => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            AppendError::Producer(error) => error.error_code(),
            AppendError::LeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            AppendError::OffsetNotDense { .. } | AppendError::OffsetsExhausted => {
                ErrorCode::UNKNOWN_SERVER_ERROR
            }
            AppendError::Log(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for InvalidRecord {
    fn error_code(&self) -> ErrorCode {
        match self {
            InvalidRecord::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
            InvalidRecord::Codec => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            InvalidRecord::BaseOffset
            | InvalidRecord::Count
            | InvalidRecord::Control
            | InvalidRecord::ControlRecords
            | InvalidRecord::Sequence
            | InvalidRecord::Record { .. } => ErrorCode::INVALID_RECORD,
        }
    }
}

impl ToErrorCode for ProducerError {
    fn error_code(&self) -> ErrorCode {
        match self {
            ProducerError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            ProducerError::InvalidEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            ProducerError::InvalidTransactionState => ErrorCode::INVALID_TXN_STATE,
            ProducerError::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        }
    }
}

impl ToErrorCode for LogError {
    fn error_code(&self) -> ErrorCode {
        match self {
            LogError::Io { .. } | LogError::Poisoned | LogError::SegmentTooLarge { .. } => {
                ErrorCode::KAFKA_STORAGE_ERROR
            }
            LogError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            LogError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        }
    }
}

impl ToErrorCode for ReadError {
    fn error_code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            ReadError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
            ReadError::Io { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

impl ToErrorCode for BatchError {
    fn error_code(&self) -> ErrorCode {
        match self {
            // As Kafka: Produce 3 and later know one format only.
            BatchError::Magic { .. } => ErrorCode::INVALID_RECORD,
            BatchError::Truncated { .. } | BatchError::Length { .. } => ErrorCode::CORRUPT_MESSAGE,
            BatchError::Codec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::Trailing { .. } => ErrorCode::INVALID_RECORD,
            BatchError::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
            // Only building a batch can fail so, which this broker never does to clients' data.
            BatchError::Compress { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}
