//! Gathered commits: one batch, in order, told when it is durable, and no commit lost on the way.
#![allow(clippy::unwrap_used)]

use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::*;
use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::{RecordData, read_exact_at};

use crate::coordinators::OFFSETS_TOPIC;
use crate::handlers::testing::TestBroker;
use crate::partition::{Isolation, ReadFrom};
use crate::reply::{Answer, Parked, Reply};

const SETTINGS: &[(&str, &str)] = &[("offsets.topic.num.partitions", "1")];
const VERSION: i16 = 8;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn broker() -> TestBroker {
    let broker = TestBroker::with_config(SETTINGS);
    broker.create_topic("orders", 3);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("a")));
    broker
}

fn request(group: &str, partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let asked = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![asked]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// A commit that waits.
fn begin(broker: &TestBroker, request: &OffsetCommitRequest) -> Box<dyn Parked<Answer>> {
    match broker.begin(VERSION, request) {
        Reply::Parked(parked) => parked,
        _ => panic!("it is answered before it is durable"),
    }
}

fn code(broker: &TestBroker, parked: &mut dyn Parked<Answer>) -> Option<i16> {
    let response = broker.resume::<OffsetCommitRequest>(VERSION, parked)?;
    Some(response.topics[0].partitions[0].error_code)
}

fn fetched(broker: &TestBroker, group: &str, partition: i32) -> i64 {
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partition_indexes(vec![partition]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topic]));
    let response = broker.call(5, request);
    response.topics[0].partitions[0].committed_offset
}

/// The number of records in each batch of the log.
fn batches(broker: &TestBroker) -> Vec<i32> {
    let log = broker.broker.partitions.get(OFFSETS_TOPIC, 0).unwrap();
    let read = log.read(&ReadFrom {
        offset: Offset(0),
        max_bytes: 1 << 20,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    });
    let mut counts = Vec::new();
    for data in read.unwrap().data {
        let bytes = match data {
            RecordData::Bytes(bytes) => bytes,
            RecordData::File(range) => {
                let end = range.position + u64::from(range.len_bytes);
                read_exact_at(&*range.file, range.position..end).unwrap()
            }
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let view = RecordBatchView::parse(rest).unwrap();
            counts.push(view.header().record_count);
            rest = &rest[view.size_bytes()..];
        }
    }
    counts
}

fn flush(broker: &TestBroker) {
    while broker.broker.flush.run_one() {}
}

#[test]
fn commits_that_come_while_the_disk_works_share_the_next_batch() {
    let broker = broker();
    let mut all = vec![begin(&broker, &request("a", 0, 1, ""))];
    for (group, partition, offset) in [("b", 0, 2), ("a", 1, 3), ("a", 0, 4)] {
        all.push(begin(&broker, &request(group, partition, offset, "")));
    }
    for parked in &mut all {
        assert_eq!(code(&broker, &mut **parked), None, "nothing is durable yet");
    }
    flush(&broker);
    for parked in &mut all {
        assert_eq!(code(&broker, &mut **parked), Some(0));
    }
    assert_eq!(batches(&broker), [1, 3]);
    assert_eq!(fetched(&broker, "a", 0), 4);
    assert_eq!((fetched(&broker, "b", 0), fetched(&broker, "a", 1)), (2, 3));
    // Nothing is left behind: the next one is alone again.
    let mut last = begin(&broker, &request("a", 0, 5, ""));
    flush(&broker);
    assert_eq!(code(&broker, &mut *last), Some(0));
    assert_eq!(batches(&broker), [1, 3, 1]);
}

#[test]
fn whoever_comes_after_a_gathered_commit_finds_it_done() {
    let broker = broker();
    let mut first = begin(&broker, &request("a", 0, 1, ""));
    let mut second = begin(&broker, &request("a", 0, 2, ""));
    assert_eq!(
        fetched(&broker, "a", 0),
        2,
        "a fetch behind a commit sees it"
    );
    assert_eq!(code(&broker, &mut *first), Some(0));
    assert_eq!(code(&broker, &mut *second), Some(0));
    let mut third = begin(&broker, &request("a", 0, 3, ""));
    let mut fourth = begin(&broker, &request("a", 0, 4, ""));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("a"))]);
    assert_eq!(broker.call(2, delete).results[0].error_code, 0);
    assert_eq!(code(&broker, &mut *third), Some(0));
    assert_eq!(code(&broker, &mut *fourth), Some(0));
    assert_eq!(fetched(&broker, "a", 0), -1, "deleted after the commits");
}

#[test]
fn each_gathered_commit_has_a_result_of_its_own() {
    let broker = broker();
    let _first = begin(&broker, &request("a", 0, 1, ""));
    let too_much = "x".repeat(5_000);
    let mut refused = begin(&broker, &request("a", 1, 2, &too_much));
    let fenced = request("a", 1, 3, "").with_generation_id_or_member_epoch(7);
    let mut fenced = begin(&broker, &fenced);
    let mut good = begin(&broker, &request("a", 2, 4, ""));
    flush(&broker);
    assert_eq!(code(&broker, &mut *refused), Some(12));
    assert_eq!(code(&broker, &mut *fenced), Some(25));
    assert_eq!(code(&broker, &mut *good), Some(0));
    assert_eq!(fetched(&broker, "a", 1), -1);
}

#[test]
fn a_batch_of_gathered_commits_is_bounded() {
    let broker = broker();
    let metadata = "x".repeat(4_000);
    let commits = (0..200).map(|n| begin(&broker, &request("a", 0, n, &metadata)));
    let mut commits: Vec<_> = commits.collect();
    flush(&broker);
    for parked in &mut commits {
        assert_eq!(code(&broker, &mut **parked), Some(0));
    }
    let counts = batches(&broker);
    assert!(
        counts.len() > 4 && counts.iter().all(|count| *count < 40),
        "{counts:?}"
    );
    assert_eq!(fetched(&broker, "a", 0), 199);
}

#[test]
fn what_was_gathered_is_refused_when_the_coordinator_goes_away() {
    for close in [false, true] {
        let broker = broker();
        let mut all = vec![begin(&broker, &request("a", 0, 1, ""))];
        all.push(begin(&broker, &request("b", 0, 2, "")));
        all.push(begin(&broker, &request("c", 0, 3, "")));
        if close {
            let log = broker.broker.partitions.get(OFFSETS_TOPIC, 0).unwrap();
            log.close().unwrap();
        } else {
            let gone = DeleteTopicsRequest::default()
                .with_topic_names(vec![TopicName(text(OFFSETS_TOPIC))])
                .with_timeout_ms(1_000);
            broker.call(5, gone);
        }
        flush(&broker);
        for parked in &mut all {
            assert_eq!(code(&broker, &mut **parked), Some(16));
        }
    }
}
