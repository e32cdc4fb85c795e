//! The table of errors: every variant, what it is told as, and that its text is fit to be told.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, TopicId};

use super::*;
use crate::config::ValueError;

fn rows() -> Vec<(Box<dyn ToErrorCode>, ErrorCode)> {
    let name: Arc<str> = Arc::from("t");
    let (broker, partition) = (BrokerId(1), 0);
    let key = || "k".to_owned();
    let mut rows: Vec<(Box<dyn ToErrorCode>, ErrorCode)> = Vec::new();
    macro_rules! rows {
        ($($error:expr => $code:ident;)*) => {
            $(rows.push((Box::new($error), ErrorCode::$code));)*
        };
    }
    rows! {
        TimedOut => REQUEST_TIMED_OUT;
        TopicNameError::Empty => INVALID_TOPIC_EXCEPTION;
        TopicNameError::Dots => INVALID_TOPIC_EXCEPTION;
        TopicNameError::TooLong => INVALID_TOPIC_EXCEPTION;
        TopicNameError::Character { found: '/' } => INVALID_TOPIC_EXCEPTION;
        Refusal::NotLeader { leader: None } => NOT_CONTROLLER;
        Refusal::LeadershipLost { leader: None } => REQUEST_TIMED_OUT;
        Refusal::Overloaded => THROTTLING_QUOTA_EXCEEDED;
        Refusal::TooLarge { size_bytes: 2, size_bytes_max: 1 } => POLICY_VIOLATION;
        AssignmentError::NotConsecutive => INVALID_REPLICA_ASSIGNMENT;
        AssignmentError::NoReplica { partition } => INVALID_REPLICA_ASSIGNMENT;
        AssignmentError::DuplicateReplica { partition, broker } => INVALID_REPLICA_ASSIGNMENT;
        AssignmentError::UnknownBroker { partition, broker } => INVALID_REPLICA_ASSIGNMENT;
        AssignmentError::UnevenReplicas { partition, replicas: 1, expected: 2 }
            => INVALID_REPLICA_ASSIGNMENT;
        AssignmentError::WrongCount { assigned: 1, added: 2 } => INVALID_REPLICA_ASSIGNMENT;
        LimitExceeded::PartitionsPerRequest { max: 1 } => POLICY_VIOLATION;
        LimitExceeded::PartitionsTotal { max: 1 } => POLICY_VIOLATION;
        LimitExceeded::ConfigValueSize { max: 1 } => INVALID_CONFIG;
        LimitExceeded::ConfigKeys { max: 1 } => INVALID_CONFIG;
        CreateTopicError::InvalidName(TopicNameError::Empty) => INVALID_TOPIC_EXCEPTION;
        CreateTopicError::NameCollision { name: name.clone(), existing: name.clone() }
            => INVALID_TOPIC_EXCEPTION;
        CreateTopicError::AlreadyExists { name: name.clone() } => TOPIC_ALREADY_EXISTS;
        CreateTopicError::DuplicateInRequest { name: name.clone() } => INVALID_REQUEST;
        CreateTopicError::InvalidPartitions { requested: 0 } => INVALID_PARTITIONS;
        CreateTopicError::InvalidReplicationFactor { requested: 0 } => INVALID_REPLICATION_FACTOR;
        CreateTopicError::NotEnoughBrokers { requested: 2, alive: 1 } => INVALID_REPLICATION_FACTOR;
        CreateTopicError::CountsWithAssignment => INVALID_REQUEST;
        CreateTopicError::InvalidAssignment(AssignmentError::NotConsecutive)
            => INVALID_REPLICA_ASSIGNMENT;
        CreateTopicError::LimitExceeded(LimitExceeded::PartitionsTotal { max: 1 })
            => POLICY_VIOLATION;
        DeleteTopicError::UnknownName { name: name.clone() } => UNKNOWN_TOPIC_OR_PARTITION;
        DeleteTopicError::UnknownId { id: TopicId::ZERO } => UNKNOWN_TOPIC_ID;
        DeleteTopicError::DuplicateInRequest => INVALID_REQUEST;
        CreatePartitionsError::UnknownTopic { name: name.clone() } => UNKNOWN_TOPIC_OR_PARTITION;
        CreatePartitionsError::DuplicateInRequest { name: name.clone() } => INVALID_REQUEST;
        CreatePartitionsError::NotAnIncrease { name: name.clone(), current: 2, requested: 1 }
            => INVALID_PARTITIONS;
        CreatePartitionsError::NotEnoughBrokers { needed: 2, alive: 1 }
            => INVALID_REPLICATION_FACTOR;
        CreatePartitionsError::InvalidAssignment(AssignmentError::NotConsecutive)
            => INVALID_REPLICA_ASSIGNMENT;
        CreatePartitionsError::LimitExceeded(LimitExceeded::PartitionsTotal { max: 1 })
            => POLICY_VIOLATION;
        BrokerNotRegistered(broker) => BROKER_ID_NOT_REGISTERED;
        AlterConfigsError::UnknownTopic { name: name.clone() } => UNKNOWN_TOPIC_OR_PARTITION;
        AlterConfigsError::UnknownBroker(BrokerNotRegistered(broker)) => INVALID_REQUEST;
        AlterConfigsError::EmptyGroupName => INVALID_REQUEST;
        AlterConfigsError::DuplicateResource => INVALID_REQUEST;
        AlterConfigsError::DuplicateKey { name: name.clone() } => INVALID_REQUEST;
        AlterConfigsError::LimitExceeded(LimitExceeded::ConfigKeys { max: 1 }) => INVALID_CONFIG;
        AlterError::UnknownKey { key: key(), suggestion: Some("retention.ms") } => INVALID_CONFIG;
        AlterError::RemovedKey { key: key(), why: "it was dropped" } => INVALID_CONFIG;
        AlterError::InvalidValue { key: key(), problem: ValueError::Empty } => INVALID_CONFIG;
        AlterError::NotAList { key: key() } => INVALID_CONFIG;
        AlterError::CompactionLag { min_ms: 2, max_ms: 1 } => INVALID_CONFIG;
        AlterError::ReadOnly { key: key() } => INVALID_REQUEST;
        AlterError::NotADefault { key: key() } => INVALID_REQUEST;
        AlterError::NullValue { key: key() } => INVALID_REQUEST;
        AlterError::DuplicateKey { key: key() } => INVALID_REQUEST;
        RegisterBrokerError::InconsistentClusterId { actual: name.clone() }
            => INCONSISTENT_CLUSTER_ID;
        RegisterBrokerError::InvalidBrokerId => INVALID_REGISTRATION;
        RegisterBrokerError::InvalidEndpoints => INVALID_REGISTRATION;
        RegisterBrokerError::TooLarge { max: 1 } => INVALID_REGISTRATION;
        RegisterBrokerError::UnsupportedFeature { name: name.clone(), level: 1 }
            => UNSUPPORTED_VERSION;
        AllocateProducerIdsError::UnknownBroker(BrokerNotRegistered(broker))
            => BROKER_ID_NOT_REGISTERED;
        AllocateProducerIdsError::StaleBrokerEpoch => STALE_BROKER_EPOCH;
        AllocateProducerIdsError::Exhausted => UNKNOWN_SERVER_ERROR;
        UpdateFeaturesError::UnknownFeature { name: name.clone() } => INVALID_UPDATE_VERSION;
        UpdateFeaturesError::DuplicateInRequest { name: name.clone() } => INVALID_REQUEST;
        UpdateFeaturesError::UnsupportedLevel { name: name.clone(), level: 2, min: 0, max: 1 }
            => INVALID_UPDATE_VERSION;
        UpdateFeaturesError::UnsupportedByBroker { name: name.clone(), level: 1, broker }
            => INVALID_UPDATE_VERSION;
        UpdateFeaturesError::DowngradeNotAllowed { name: name.clone(), current: 1 }
            => INVALID_UPDATE_VERSION;
        UpdateFeaturesError::NotADowngrade { name: name.clone(), current: 1, requested: 1 }
            => INVALID_UPDATE_VERSION;
    }
    rows
}

#[test]
fn every_error_is_told_as_the_code_of_its_row() {
    for (error, code) in rows() {
        assert_eq!(error.error_code(), code, "{error}");
    }
}

#[test]
fn every_message_is_one_short_line() {
    let mut codes = BTreeSet::new();
    for (error, code) in rows() {
        let message = error.to_string();
        assert!(
            !message.is_empty() && message.len() < 200 && !message.contains('\n'),
            "{message}"
        );
        codes.insert(code);
    }
    assert!(
        codes
            .iter()
            .all(|code| !code.is_ok() && code.name() != "UNKNOWN")
    );
}
