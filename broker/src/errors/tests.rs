//! The table of errors: every variant, what it is told as, and that its text is fit to be told. The
//! page `docs/reference/errors.md` is made from it; `UPDATE=1 cargo test -p ottla-broker errors`
//! rewrites it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::batch::{BatchError, Compression};
use ottla_protocol::types::{BrokerId, LeaderEpoch, Offset, TopicId};
use ottla_storage::log::{
    AppendError, BadRecords, Fault, InvalidRecord, LogError, ProducerError, ReadError,
};

use super::*;
use crate::config::ValueError;
use crate::config::cordon::CordonError;
use crate::config::group::GroupConfigError;
use crate::partition::PartitionError;

fn bad_records(timestamps: bool) -> Box<BadRecords> {
    Box::new(BadRecords {
        total: 1,
        listed: Vec::new(),
        timestamps,
    })
}

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
        NoRoom::Full { path: "/d".into(), free_bytes: 1, reject_bytes: 2 } => KAFKA_STORAGE_ERROR;
        NoRoom::ReadOnly { path: "/d".into() } => KAFKA_STORAGE_ERROR;
        NoRoom::Cordoned => INVALID_REPLICATION_FACTOR;
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
        AlterError::Group(GroupConfigError::TooSmall { key: "a", bound: "b" }) => INVALID_CONFIG;
        AlterError::ReadOnly { key: key() } => INVALID_REQUEST;
        AlterError::NotADefault { key: key() } => INVALID_REQUEST;
        AlterError::NullValue { key: key() } => INVALID_REQUEST;
        AlterError::DuplicateKey { key: key() } => INVALID_REQUEST;
        AlterError::Cordon(CordonError::AllAndMore) => INVALID_REQUEST;
        LevelError::Level { level: "LOUD".to_owned() } => INVALID_CONFIG;
        LevelError::Levels { levels: "LOUD".to_owned() } => INVALID_CONFIG;
        LevelError::Logger { logger: "elsewhere".to_owned() } => INVALID_CONFIG;
        LevelError::RootIsNeeded => INVALID_REQUEST;
        LevelError::TooMany => POLICY_VIOLATION;
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
    record_rows(&mut rows);
    rows
}

/// Errors of partitions, logs and batches.
fn record_rows(rows: &mut Vec<(Box<dyn ToErrorCode>, ErrorCode)>) {
    let (asked, current) = (LeaderEpoch(1), LeaderEpoch(2));
    let [offset, log_start_offset, log_end_offset] = [9, 0, 5].map(Offset);
    let path = || "t-0/00000000000000000000.log".to_owned();
    let source = || std::io::Error::other("no space left on device");
    let fault = Fault::Crc;
    macro_rules! rows {
        ($($error:expr => $code:ident;)*) => {
            $(rows.push((Box::new($error), ErrorCode::$code));)*
        };
    }
    rows! {
        PartitionError::Offline => KAFKA_STORAGE_ERROR;
        PartitionError::Moving => NOT_LEADER_OR_FOLLOWER;
        PartitionError::NotHosted => NOT_LEADER_OR_FOLLOWER;
        PartitionError::FencedLeaderEpoch { asked, current } => FENCED_LEADER_EPOCH;
        PartitionError::UnknownLeaderEpoch { asked: current, current: asked }
            => UNKNOWN_LEADER_EPOCH;
        AppendError::MessageTooLarge { size_bytes: 2, max_bytes: 1 } => MESSAGE_TOO_LARGE;
        AppendError::RecordListTooLarge { size_bytes: 2, max_bytes: 1 } => RECORD_LIST_TOO_LARGE;
        AppendError::InvalidTimestamp { timestamp: 1 } => INVALID_TIMESTAMP;
        AppendError::UnsupportedCompression => UNSUPPORTED_COMPRESSION_TYPE;
        AppendError::LeaderEpoch { got: asked, current } => FENCED_LEADER_EPOCH;
        AppendError::OffsetNotDense { got: offset, log_end_offset } => UNKNOWN_SERVER_ERROR;
        AppendError::OffsetsExhausted => UNKNOWN_SERVER_ERROR;
        AppendError::InvalidRecord(InvalidRecord::BaseOffset) => INVALID_RECORD;
        AppendError::InvalidRecord(InvalidRecord::Count) => INVALID_RECORD;
        AppendError::InvalidRecord(InvalidRecord::Control) => INVALID_RECORD;
        AppendError::InvalidRecord(InvalidRecord::ControlRecords) => INVALID_RECORD;
        AppendError::InvalidRecord(InvalidRecord::Sequence) => INVALID_RECORD;
        AppendError::RecompressedTooLarge { max_bytes: 1 } => MESSAGE_TOO_LARGE;
        AppendError::Recompression { codec: Compression::Gzip } => UNKNOWN_SERVER_ERROR;
        AppendError::BadRecords(bad_records(false)) => INVALID_RECORD;
        AppendError::BadRecords(bad_records(true)) => INVALID_TIMESTAMP;
        AppendError::InvalidRecord(InvalidRecord::LogAppendTime) => INVALID_TIMESTAMP;
        AppendError::InvalidRecord(InvalidRecord::Codec) => UNSUPPORTED_COMPRESSION_TYPE;
        AppendError::Producer(ProducerError::OutOfOrderSequence { got: 5, last: 3 })
            => OUT_OF_ORDER_SEQUENCE_NUMBER;
        AppendError::Producer(ProducerError::InvalidEpoch { got: 1, current: 2 })
            => INVALID_PRODUCER_EPOCH;
        AppendError::Producer(ProducerError::InvalidTransactionState) => INVALID_TXN_STATE;
        AppendError::Producer(ProducerError::CoordinatorFenced { got: 1, current: 2 })
            => TRANSACTION_COORDINATOR_FENCED;
        AppendError::Log(LogError::Poisoned) => KAFKA_STORAGE_ERROR;
        LogError::Io { path: path(), source: source() } => KAFKA_STORAGE_ERROR;
        LogError::SegmentTooLarge { path: path(), size_bytes: 1 << 31 } => KAFKA_STORAGE_ERROR;
        LogError::Corrupt { path: path(), position: 7, fault } => CORRUPT_MESSAGE;
        LogError::OffsetOutOfRange { offset, log_start_offset, log_end_offset }
            => OFFSET_OUT_OF_RANGE;
        ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset }
            => OFFSET_OUT_OF_RANGE;
        ReadError::Corrupt { path: path(), position: 7, fault } => CORRUPT_MESSAGE;
        ReadError::Io { path: path(), source: source() } => KAFKA_STORAGE_ERROR;
        BatchError::Truncated { needed: 61, available: 9 } => CORRUPT_MESSAGE;
        BatchError::Length { batch_length: 5 } => CORRUPT_MESSAGE;
        BatchError::Magic { magic: 1 } => INVALID_RECORD;
        BatchError::Trailing { trailing: 4 } => INVALID_RECORD;
        BatchError::Codec { codec: 7 } => UNSUPPORTED_COMPRESSION_TYPE;
        BatchError::TooLarge => MESSAGE_TOO_LARGE;
        BatchError::Compress { codec: Compression::Zstd } => UNKNOWN_SERVER_ERROR;
    }
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

const INTRODUCTION: &str = "\
# Errors

What this broker tells clients, by Kafka's error code. *Retried* says whether clients send the same
request again by themselves. The texts are examples: they reach the client where the answer has room
for one, and name what was asked for.

This page is generated from the table in `broker/src/errors/tests.rs`, which holds one example of
every error below the protocol. Errors of the protocol itself (a bad acks value, an unknown resource
type) are told by the handlers and explained in their answers.

| code | name | retried | told when, for example |
|--:|---|---|---|
";

fn page() -> String {
    let mut by_code = BTreeMap::<ErrorCode, BTreeSet<String>>::new();
    for (error, code) in rows() {
        by_code.entry(code).or_default().insert(error.to_string());
    }
    let mut page = INTRODUCTION.to_owned();
    for (code, messages) in by_code {
        let retried = if code.retriable() { "yes" } else { "no" };
        let messages: Vec<String> = messages
            .iter()
            .map(|text| text.replace('|', "\\|"))
            .collect();
        let _ = writeln!(
            page,
            "| {} | {} | {retried} | {} |",
            code.0,
            code.name(),
            messages.join("<br>")
        );
    }
    page
}

#[test]
fn the_page_of_the_errors_equals_their_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/errors.md");
    let generated = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "errors.md is not what its table generates; run UPDATE=1 cargo test -p ottla-broker errors"
    );
}
