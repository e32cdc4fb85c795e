//! What every error of the crates below means to a Kafka client: one exhaustive mapping per error
//! enum.
//!
//! A new variant does not compile until it has a code here, and the table test does not pass until
//! it has a row. Codes are chosen by what the client can do: the ones it retries by itself only
//! where a retry helps.

use std::error::Error;

use ottla_controller::command::{
    AllocateProducerIdsError, AlterConfigsError, AssignmentError, BrokerNotRegistered,
    CreatePartitionsError, CreateTopicError, DeleteTopicError, LimitExceeded, Refusal,
    RegisterBrokerError, UpdateFeaturesError,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::StrBytes;
use ottla_protocol::topic_name::TopicNameError;

use crate::config::alter::AlterError;
use crate::context::TimedOut;
use crate::log_dirs::NoRoom;
use crate::logging::LevelError;

/// An error that has an answer in Kafka's protocol.
pub trait ToErrorCode: Error {
    fn error_code(&self) -> ErrorCode;
}

/// What the client is told about one thing that it asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    pub message: StrBytes,
}

impl Failure {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: StrBytes::from_string(message.into()),
        }
    }

    /// The controller said nothing about something it was asked: a defect of ours.
    pub fn unanswered() -> Failure {
        Failure::new(
            ErrorCode::UNKNOWN_SERVER_ERROR,
            "the controller gave no answer",
        )
    }
}

impl<E: ToErrorCode> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error.error_code(), error.to_string())
    }
}

impl ToErrorCode for TimedOut {
    fn error_code(&self) -> ErrorCode {
        ErrorCode::REQUEST_TIMED_OUT
    }
}

impl ToErrorCode for TopicNameError {
    fn error_code(&self) -> ErrorCode {
        match self {
            TopicNameError::Empty
            | TopicNameError::Dots
            | TopicNameError::TooLong
            | TopicNameError::Character { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        }
    }
}

impl ToErrorCode for NoRoom {
    fn error_code(&self) -> ErrorCode {
        match self {
            NoRoom::Full { .. } | NoRoom::ReadOnly { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
            NoRoom::Cordoned => ErrorCode::INVALID_REPLICATION_FACTOR,
        }
    }
}

impl ToErrorCode for Refusal {
    fn error_code(&self) -> ErrorCode {
        match self {
            Refusal::NotLeader { .. } => ErrorCode::NOT_CONTROLLER,
            // It may have happened: the client must look before it asks again.
            Refusal::LeadershipLost { .. } => ErrorCode::REQUEST_TIMED_OUT,
            Refusal::Overloaded => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
            Refusal::TooLarge { .. } => ErrorCode::POLICY_VIOLATION,
        }
    }
}

impl ToErrorCode for AssignmentError {
    fn error_code(&self) -> ErrorCode {
        match self {
            AssignmentError::NotConsecutive
            | AssignmentError::NoReplica { .. }
            | AssignmentError::DuplicateReplica { .. }
            | AssignmentError::UnknownBroker { .. }
            | AssignmentError::UnevenReplicas { .. }
            | AssignmentError::WrongCount { .. } => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        }
    }
}

impl ToErrorCode for LimitExceeded {
    fn error_code(&self) -> ErrorCode {
        match self {
            LimitExceeded::PartitionsPerRequest { .. } | LimitExceeded::PartitionsTotal { .. } => {
                ErrorCode::POLICY_VIOLATION
            }
            LimitExceeded::ConfigValueSize { .. } | LimitExceeded::ConfigKeys { .. } => {
                ErrorCode::INVALID_CONFIG
            }
        }
    }
}

impl ToErrorCode for CreateTopicError {
    fn error_code(&self) -> ErrorCode {
        match self {
            CreateTopicError::InvalidName(error) => error.error_code(),
            CreateTopicError::NameCollision { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
            CreateTopicError::AlreadyExists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
            CreateTopicError::DuplicateInRequest { .. } => ErrorCode::INVALID_REQUEST,
            CreateTopicError::InvalidPartitions { .. } => ErrorCode::INVALID_PARTITIONS,
            CreateTopicError::InvalidReplicationFactor { .. }
            | CreateTopicError::NotEnoughBrokers { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
            CreateTopicError::CountsWithAssignment => ErrorCode::INVALID_REQUEST,
            CreateTopicError::InvalidAssignment(error) => error.error_code(),
            CreateTopicError::LimitExceeded(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for DeleteTopicError {
    fn error_code(&self) -> ErrorCode {
        match self {
            DeleteTopicError::UnknownName { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            DeleteTopicError::UnknownId { .. } => ErrorCode::UNKNOWN_TOPIC_ID,
            DeleteTopicError::DuplicateInRequest => ErrorCode::INVALID_REQUEST,
        }
    }
}

impl ToErrorCode for CreatePartitionsError {
    fn error_code(&self) -> ErrorCode {
        match self {
            CreatePartitionsError::UnknownTopic { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            CreatePartitionsError::DuplicateInRequest { .. } => ErrorCode::INVALID_REQUEST,
            CreatePartitionsError::NotAnIncrease { .. } => ErrorCode::INVALID_PARTITIONS,
            CreatePartitionsError::NotEnoughBrokers { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
            CreatePartitionsError::InvalidAssignment(error) => error.error_code(),
            CreatePartitionsError::LimitExceeded(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for BrokerNotRegistered {
    fn error_code(&self) -> ErrorCode {
        ErrorCode::BROKER_ID_NOT_REGISTERED
    }
}

impl ToErrorCode for AlterConfigsError {
    fn error_code(&self) -> ErrorCode {
        match self {
            AlterConfigsError::UnknownTopic { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            // Tools know this one from asking the wrong broker.
            AlterConfigsError::UnknownBroker(_) => ErrorCode::INVALID_REQUEST,
            AlterConfigsError::EmptyGroupName
            | AlterConfigsError::DuplicateResource
            | AlterConfigsError::DuplicateKey { .. } => ErrorCode::INVALID_REQUEST,
            AlterConfigsError::LimitExceeded(error) => error.error_code(),
        }
    }
}

impl ToErrorCode for AlterError {
    fn error_code(&self) -> ErrorCode {
        match self {
            AlterError::UnknownKey { .. }
            | AlterError::RemovedKey { .. }
            | AlterError::InvalidValue { .. }
            | AlterError::NotAList { .. }
            | AlterError::CompactionLag { .. }
            | AlterError::Group(_) => ErrorCode::INVALID_CONFIG,
            AlterError::ReadOnly { .. }
            | AlterError::NotADefault { .. }
            | AlterError::NullValue { .. }
            | AlterError::DuplicateKey { .. }
            | AlterError::Cordon(_) => ErrorCode::INVALID_REQUEST,
        }
    }
}

impl ToErrorCode for LevelError {
    fn error_code(&self) -> ErrorCode {
        match self {
            LevelError::Level { .. } | LevelError::Levels { .. } | LevelError::Logger { .. } => {
                ErrorCode::INVALID_CONFIG
            }
            LevelError::RootIsNeeded => ErrorCode::INVALID_REQUEST,
            LevelError::TooMany => ErrorCode::POLICY_VIOLATION,
        }
    }
}

impl ToErrorCode for RegisterBrokerError {
    fn error_code(&self) -> ErrorCode {
        match self {
            RegisterBrokerError::InconsistentClusterId { .. } => ErrorCode::INCONSISTENT_CLUSTER_ID,
            RegisterBrokerError::InvalidBrokerId
            | RegisterBrokerError::InvalidEndpoints
            | RegisterBrokerError::TooLarge { .. } => ErrorCode::INVALID_REGISTRATION,
            RegisterBrokerError::UnsupportedFeature { .. } => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}

impl ToErrorCode for AllocateProducerIdsError {
    fn error_code(&self) -> ErrorCode {
        match self {
            AllocateProducerIdsError::UnknownBroker(error) => error.error_code(),
            AllocateProducerIdsError::StaleBrokerEpoch => ErrorCode::STALE_BROKER_EPOCH,
            AllocateProducerIdsError::Exhausted => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}

impl ToErrorCode for UpdateFeaturesError {
    fn error_code(&self) -> ErrorCode {
        match self {
            UpdateFeaturesError::DuplicateInRequest { .. } => ErrorCode::INVALID_REQUEST,
            UpdateFeaturesError::UnknownFeature { .. }
            | UpdateFeaturesError::UnsupportedLevel { .. }
            | UpdateFeaturesError::UnsupportedByBroker { .. }
            | UpdateFeaturesError::DowngradeNotAllowed { .. }
            | UpdateFeaturesError::NotADowngrade { .. } => ErrorCode::INVALID_UPDATE_VERSION,
        }
    }
}

#[cfg(test)]
mod tests;
