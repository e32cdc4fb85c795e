//! What is deleted is gone for readers at once and after a crash, and nothing else is.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::{
    DeleteRecordsRequest, DeleteTopicsRequest, ListOffsetsRequest, StrBytes, TopicName,
};
use ottla_protocol::types::{Offset, TopicPartition};
use ottla_storage::checkpoint::{LOG_START_OFFSETS, PartitionOffsets, read_offsets};
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};

use crate::handlers::testing::TestBroker;
use crate::housekeeper;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn request(topic: &str, offsets: &[(i32, i64)]) -> DeleteRecordsRequest {
    let partitions = offsets.iter().map(|(index, offset)| {
        DeleteRecordsPartition::default()
            .with_partition_index(*index)
            .with_offset(*offset)
    });
    let topic = DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(partitions.collect());
    DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1_000)
}

/// Error code and low watermark of each partition.
fn told(broker: &TestBroker, version: i16, topic: &str, offsets: &[(i32, i64)]) -> Vec<(i16, i64)> {
    let response = broker.call(version, request(topic, offsets));
    let results = response.topics.iter().flat_map(|topic| &topic.partitions);
    results.map(|r| (r.error_code, r.low_watermark)).collect()
}

fn earliest(broker: &TestBroker, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-2);
    let asked = ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    let response = broker.call(7, ListOffsetsRequest::default().with_topics(vec![asked]));
    response.topics[0].partitions[0].offset
}

fn with_five_records() -> TestBroker {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    for _ in 0..5 {
        broker.append("a", 0, &[b"x"]);
    }
    broker.sync("a", 0);
    broker
}

fn on_disk(broker: &TestBroker) -> PartitionOffsets {
    read_offsets(&*broker.disk, LOG_START_OFFSETS)
        .unwrap()
        .unwrap_or_default()
}

#[test]
fn the_log_start_rises_to_what_is_asked_and_never_falls() {
    for version in 0..=2 {
        let broker = with_five_records();
        assert_eq!(told(&broker, version, "a", &[(0, 2)]), [(0, 2)]);
        assert_eq!(earliest(&broker, "a"), 2);
        assert_eq!(
            told(&broker, version, "a", &[(0, 1), (0, 0)]),
            [(0, 2), (0, 2)]
        );
        assert_eq!(
            told(&broker, version, "a", &[(0, -1), (1, -1)]),
            [(0, 5), (0, 0)]
        );
        assert_eq!(earliest(&broker, "a"), 5);
    }
}

#[test]
fn what_cannot_be_deleted_is_refused_with_kafkas_codes() {
    let broker = with_five_records();
    broker.create_topic("kept", 1);
    broker.set_config(2, "kept", "cleanup.policy", "compact");
    broker.create_topic("__consumer_offsets", 1);
    for version in 0..=2 {
        let beyond = [(0, 6), (0, -2), (7, 0)];
        assert_eq!(
            told(&broker, version, "a", &beyond),
            [(1, -1), (1, -1), (3, -1)]
        );
        assert_eq!(told(&broker, version, "none", &[(0, 0)]), [(3, -1)]);
        assert_eq!(told(&broker, version, "kept", &[(0, 0)]), [(44, -1)]);
        assert_eq!(
            told(&broker, version, "__consumer_offsets", &[(0, 0)]),
            [(17, -1)]
        );
    }
    let nothing = DeleteRecordsRequest::default();
    assert!(broker.call(2, nothing).topics.is_empty());
    assert_eq!(earliest(&broker, "a"), 0);
}

#[test]
fn an_answer_leaves_when_a_crash_cannot_bring_the_records_back() {
    let broker = with_five_records();
    assert_eq!(told(&broker, 2, "a", &[(0, 3)]), [(0, 3)]);
    broker.disk.crash(Crash::PowerLossOfAllUnsynced);
    let expected = PartitionOffsets::from([(TopicPartition::new("a", 0), Offset(3))]);
    assert_eq!(on_disk(&broker), expected);
}

#[test]
fn nobody_is_told_of_a_deletion_that_the_disk_did_not_take() {
    let broker = with_five_records();
    let full = Injection::always(Operation::Write, InjectedError::NoSpace).on(LOG_START_OFFSETS);
    broker.disk.inject(full);
    assert_eq!(
        told(&broker, 2, "a", &[(0, 3), (0, 9)]),
        [(56, -1), (1, -1)]
    );
    broker.disk.clear_injections();
    assert_eq!(told(&broker, 2, "a", &[(0, 3)]), [(0, 3)]);
}

#[test]
fn a_disk_that_does_not_answer_is_a_timeout() {
    let broker = with_five_records();
    let response = broker.call_until_timeout(2, request("a", &[(0, 3)]));
    let result = &response.topics[0].partitions[0];
    assert_eq!((result.error_code, result.low_watermark), (7, -1));
}

#[test]
fn a_new_topic_of_the_name_does_not_inherit_the_log_start() {
    let broker = with_five_records();
    assert_eq!(told(&broker, 2, "a", &[(0, 3)]), [(0, 3)]);
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![name("a")])
        .with_timeout_ms(1_000);
    broker.call(5, delete);
    broker.create_topic("a", 1);
    assert!(
        on_disk(&broker).is_empty(),
        "the next start would cut the new log"
    );
    assert_eq!(earliest(&broker, "a"), 0);
}

#[test]
fn an_offline_partition_keeps_its_log_start() {
    let broker = with_five_records();
    assert_eq!(told(&broker, 2, "a", &[(0, 3)]), [(0, 3)]);
    let failing = Injection::always(Operation::Sync, InjectedError::Io).on("a-0");
    broker.disk.inject(failing);
    broker.append("a", 0, &[b"x"]);
    broker.sync("a", 0);
    assert!(broker.broker.partitions.get("a", 0).unwrap().is_offline());
    housekeeper::write_files(&broker.broker).unwrap();
    assert_eq!(on_disk(&broker).len(), 1);
}
