//! What clients get while a start is under way.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::{
    DeleteRecordsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, ListGroupsRequest,
    ListOffsetsRequest, OffsetCommitRequest, StrBytes, TopicName,
};
use ottla_protocol::types::LeaderEpoch;
use ottla_storage::checkpoint::{LOG_START_OFFSETS, read_offsets};
use ottla_storage::disk::memory::Crash;

use super::*;
use crate::handlers::testing::TestBroker;
use crate::partition::{Isolation, ReadFrom};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Error code and end of a partition.
fn end(test: &TestBroker, topic: &str, index: i32) -> (i16, i64) {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(index)
        .with_timestamp(-1);
    let asked = ListOffsetsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let response = test.call(7, ListOffsetsRequest::default().with_topics(vec![asked]));
    let told = &response.topics[0].partitions[0];
    (told.error_code, told.offset)
}

fn delete_before(test: &TestBroker, index: i32, offset: i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(index)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1_000);
    let response = test.call(2, request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// Log starts of the partitions of `t` on the disk.
fn starts(test: &TestBroker) -> Vec<i64> {
    let written = read_offsets(&*test.disk, LOG_START_OFFSETS)
        .unwrap()
        .unwrap();
    let of = |index| written.get(&TopicPartition::new("t", index)).copied();
    (0..3)
        .map(|index| of(index).unwrap_or(Offset::ZERO).0)
        .collect()
}

/// Three partitions of five records, and then a crash and a start.
fn starting() -> (TestBroker, Recovery) {
    let test = TestBroker::new();
    test.create_topic("t", 3);
    for index in 0..3 {
        for _ in 0..5 {
            test.append("t", index, &[b"kept"]);
        }
        test.sync("t", index);
    }
    delete_before(&test, 1, 2);
    delete_before(&test, 2, 3);
    let (disks, image) = (test.disks.clone(), test.image());
    drop(test);
    disks[0].crash(Crash::PowerLossOfAllUnsynced);
    TestBroker::starting(&disks, image)
}

#[test]
fn a_partition_is_served_when_its_log_is_open_whatever_the_others_do() {
    let (test, recovery) = starting();
    for index in 0..3 {
        assert_eq!(end(&test, "t", index).0, NOT_LEADER_OR_FOLLOWER);
    }
    assert!(!recovery.publish(), "nothing is open");
    assert!(recovery.open_next());
    assert!(recovery.publish());
    assert_eq!(end(&test, "t", 0), (0, 5));
    test.append("t", 0, &[b"while others are opened"]);
    test.sync("t", 0);
    assert_eq!(end(&test, "t", 0), (0, 6));
    assert_eq!(end(&test, "t", 1).0, NOT_LEADER_OR_FOLLOWER);
    while recovery.open_next() {}
    recovery.finish();
    for (index, wanted) in [6, 5, 5].into_iter().enumerate() {
        assert_eq!(end(&test, "t", index as i32), (0, wanted));
    }
    assert!(!test.broker.opening.load(Ordering::Relaxed));
}

#[test]
fn log_starts_of_logs_that_are_not_open_yet_stay_in_their_file() {
    let (test, recovery) = starting();
    assert!(recovery.open_next());
    recovery.publish();
    delete_before(&test, 0, 4);
    assert_eq!(starts(&test), [4, 2, 3]);
    while recovery.open_next() {}
    recovery.finish();
    delete_before(&test, 0, 5);
    assert_eq!(starts(&test), [5, 2, 3]);
}

#[test]
fn who_read_an_end_that_a_power_cut_took_is_told_where_the_log_ended() {
    let test = TestBroker::new();
    test.create_topic("t", 1);
    test.set_config(2, "t", "ottla.durability", "memory");
    for count in [2, 3] {
        for _ in 0..count {
            test.append("t", 0, &[b"x"]);
        }
        if count == 2 {
            let partition = test.broker.partitions.get("t", 0).unwrap();
            test.broker.flush.run(Job::Checkpoint(partition));
        }
    }
    assert_eq!(
        end(&test, "t", 0),
        (0, 5),
        "class memory shows them at once"
    );
    // What a registration does to the metadata.
    test.bump_leader_epochs();
    let (disks, image) = (test.disks.clone(), test.image());
    drop(test);
    disks[0].crash(Crash::PowerLossOfAllUnsynced);
    let test = TestBroker::recovered(&disks, image);
    test.append("t", 0, &[b"another record in the place of a lost one"]);
    test.append("t", 0, &[b"and more"]);
    let partition = test.broker.partitions.get("t", 0).unwrap();
    let read = partition.read(&ReadFrom {
        offset: Offset(4),
        max_bytes: 1_000,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch(0),
    });
    assert_eq!(read.unwrap().diverging, Some((LeaderEpoch(0), Offset(2))));
}

#[test]
fn groups_wait_for_their_log_and_the_logs_of_groups_come_first() {
    let test = TestBroker::with_config(&[("offsets.topic.num.partitions", "1")]);
    test.create_topic("TOPIC", 1);
    test.append("TOPIC", 0, &[b"its name sorts before the other one"]);
    test.sync("TOPIC", 0);
    test.call(3, FindCoordinatorRequest::default().with_key(text("g")));
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("TOPIC")))
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let committed = test.call(8, commit.clone());
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let (disks, image) = (test.disks.clone(), test.image());
    drop(test);
    disks[0].crash(Crash::PowerLossOfAllUnsynced);

    let (test, recovery) = TestBroker::starting(&disks, image);
    let told =
        |commit: OffsetCommitRequest| test.call(8, commit).topics[0].partitions[0].error_code;
    assert_eq!(told(commit.clone()), COORDINATOR_LOAD_IN_PROGRESS);
    let beat = HeartbeatRequest::default().with_group_id(GroupId(text("g")));
    assert_eq!(test.call(4, beat).error_code, 0, "as Kafka");
    let listed = test.call(4, ListGroupsRequest::default());
    assert_eq!(listed.error_code, COORDINATOR_LOAD_IN_PROGRESS);
    assert!(recovery.open_next());
    assert_eq!(told(commit), 0);
    assert_eq!(end(&test, "TOPIC", 0).0, NOT_LEADER_OR_FOLLOWER);
    while recovery.open_next() {}
    recovery.finish();
    assert_eq!(end(&test, "TOPIC", 0), (0, 1));
    let listed = test.call(4, ListGroupsRequest::default());
    assert_eq!((listed.error_code, listed.groups.len()), (0, 1));
}
