//! Groups from the wire to the log and back: what a client was told survives the coordinator.
#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::*;
use uuid::Uuid;

use super::{Coordinators, OFFSETS_TOPIC};
use crate::reply::Reply;

mod consumer;
use crate::handlers::testing::TestBroker;

const NOW: &[(&str, &str)] = &[
    ("offsets.topic.num.partitions", "2"),
    ("group.initial.rebalance.delay.ms", "0"),
];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn broker() -> TestBroker {
    let broker = TestBroker::with_config(NOW);
    broker.create_topic("orders", 2);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("g")));
    broker
}

fn join(member_id: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\0"));
    JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(member_id.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// A stable group of one member.
fn stable(broker: &TestBroker) -> (StrBytes, i32) {
    let told = broker.call(9, join(&text("")));
    assert_eq!(told.error_code, 79, "a new member is told its id first");
    let joined = broker.call(9, join(&told.member_id));
    assert_eq!((joined.error_code, &joined.leader), (0, &told.member_id));
    assert_eq!(joined.members.len(), 1);
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(told.member_id.clone())
        .with_assignment(Bytes::from_static(b"yours"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(joined.generation_id)
        .with_member_id(told.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(vec![assignment]);
    let synced = broker.call(5, sync);
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"yours"[..])
    );
    (told.member_id, joined.generation_id)
}

/// The shards of "f" and "g" lie in different directories.
#[test]
#[allow(clippy::disallowed_methods)] // somebody must hang
fn the_timers_of_a_group_do_not_wait_for_the_disk_of_another() {
    let broker = TestBroker::with_disks(2, NOW);
    broker.create_topic("orders", 2);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("g")));
    stable(&broker);
    let in_f = |member: &StrBytes| join(member).with_group_id(group("f"));
    let told = broker.call(9, in_f(&text("")));
    assert_eq!(broker.call(9, in_f(&told.member_id)).error_code, 0);
    let offsets = |index| broker.broker.partitions.get(OFFSETS_TOPIC, index).unwrap();
    let (of_f, of_g) = (offsets(0), offsets(1));
    assert!(!of_f.is_in(&of_g.log_dir()));
    let state = || {
        let asked = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
        broker.call(5, asked).groups[0].group_state.to_string()
    };
    assert_eq!(state(), "Stable");
    let later = broker.broker.clock.now() + Duration::from_secs(60);
    let (held, over) = (Barrier::new(2), AtomicBool::new(false));
    let hang = || {
        held.wait();
        (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            over.load(Ordering::SeqCst)
        })
    };
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| of_f.with_lock(hang));
        held.wait();
        broker.broker.coordinators.tick(&broker.broker, later);
        let lines = broker.broker.log_dirs.number_of(&of_g.log_dir());
        while broker.broker.flush.run_one_of(lines.unwrap()) {}
        assert_eq!(state(), "Empty");
        over.store(true, Ordering::SeqCst);
        assert!(hanging.join().unwrap(), "the timers waited for the disk");
    });
}

fn commit(member: &StrBytes, generation: i32, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

fn committed(broker: &TestBroker, commit: OffsetCommitRequest) -> i16 {
    let told: Vec<i16> = (2..=9)
        .map(|version| {
            let response = broker.call(version, commit.clone());
            response.topics[0].partitions[0].error_code
        })
        .collect();
    assert!(told.iter().all(|code| *code == told[0]), "{told:?}");
    told[0]
}

/// Everything the group has committed, in every version that can ask for all of it.
fn fetched(broker: &TestBroker) -> Vec<(String, i32, i64)> {
    let mut told = Vec::new();
    for version in 2..=9 {
        let mut all = Vec::new();
        if version < 8 {
            let request = OffsetFetchRequest::default()
                .with_group_id(group("g"))
                .with_topics(None);
            let response = broker.call(version, request);
            assert_eq!(response.error_code, 0);
            for topic in response.topics {
                for p in topic.partitions {
                    all.push((
                        topic.name.to_string(),
                        p.partition_index,
                        p.committed_offset,
                    ));
                }
            }
        } else {
            let asked = OffsetFetchRequestGroup::default()
                .with_group_id(group("g"))
                .with_topics(None);
            let request = OffsetFetchRequest::default().with_groups(vec![asked]);
            let response = broker.call(version, request);
            assert_eq!(response.groups[0].error_code, 0);
            for topic in &response.groups[0].topics {
                for p in &topic.partitions {
                    all.push((
                        topic.name.to_string(),
                        p.partition_index,
                        p.committed_offset,
                    ));
                }
            }
        }
        told.push(all);
    }
    assert!(told.iter().all(|all| *all == told[0]), "{told:?}");
    told.remove(0)
}

/// The coordinators are lost and loaded again from the logs.
fn reload(broker: &TestBroker) {
    broker.broker.coordinators.shards.write().clear();
    let topic = broker
        .broker
        .partitions
        .topic(super::OFFSETS_TOPIC)
        .unwrap();
    broker.broker.coordinators.host(&broker.broker, &topic);
}

#[test]
fn a_member_joins_commits_and_its_offset_survives_the_coordinator() {
    let broker = broker();
    let (member, generation) = stable(&broker);
    assert_eq!(
        committed(&broker, commit(&member, generation, "orders", 42)),
        0
    );
    assert_eq!(
        committed(&broker, commit(&member, generation + 1, "orders", 43)),
        22
    );
    assert_eq!(
        committed(&broker, commit(&text("who"), generation, "orders", 43)),
        25
    );
    assert_eq!(committed(&broker, commit(&text(""), -1, "orders", 43)), 25);
    assert_eq!(
        committed(&broker, commit(&member, generation, "nothing", 43)),
        3
    );
    let expected = vec![("orders".to_owned(), 1, 42)];
    assert_eq!(fetched(&broker), expected);
    reload(&broker);
    assert_eq!(fetched(&broker), expected);
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(generation)
        .with_member_id(member.clone());
    for version in 0..=4 {
        let response = broker.call(version, heartbeat.clone());
        assert_eq!(response.error_code, 0, "the member is still known");
    }
}

#[test]
fn groups_are_listed_described_left_and_deleted() {
    let broker = broker();
    let (member, generation) = stable(&broker);
    assert_eq!(
        committed(&broker, commit(&member, generation, "orders", 7)),
        0
    );
    let listed = broker.call(5, ListGroupsRequest::default());
    let listed: Vec<_> = listed
        .groups
        .iter()
        .map(|g| (&**g.group_id, &*g.group_state, &*g.group_type))
        .collect();
    assert_eq!(listed, [("g", "Stable", "classic")]);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group("g"), group("no")]);
    for version in 0..=6 {
        let described = broker.call(version, describe.clone()).groups;
        assert_eq!(&*described[0].group_state, "Stable");
        assert_eq!(&described[0].members[0].member_assignment[..], b"yours");
        assert_eq!(&*described[0].members[0].client_host, "/127.0.0.1");
        let unknown = (&*described[1].group_state, described[1].error_code);
        assert_eq!(unknown, ("Dead", if version < 6 { 0 } else { 69 }));
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("no")]);
    let told = |broker: &TestBroker| -> Vec<i16> {
        let response = broker.call(2, delete.clone());
        response.results.iter().map(|r| r.error_code).collect()
    };
    assert_eq!(told(&broker), [68, 69]);
    let leaving = MemberIdentity::default().with_member_id(member);
    let stranger = MemberIdentity::default().with_member_id(text("who"));
    let leave = LeaveGroupRequest::default()
        .with_group_id(group("g"))
        .with_members(vec![leaving, stranger]);
    let left = broker.call(5, leave);
    let codes: Vec<i16> = left.members.iter().map(|m| m.error_code).collect();
    assert_eq!((left.error_code, codes), (0, vec![0, 25]));
    assert_eq!(told(&broker), [0, 69]);
    assert!(fetched(&broker).is_empty());
    reload(&broker);
    assert!(fetched(&broker).is_empty() && told(&broker) == [69, 69]);
}

#[test]
fn offsets_are_deleted_one_by_one_and_with_their_topic() {
    let broker = broker();
    broker.create_topic("payments", 2);
    for topic in ["orders", "payments"] {
        assert_eq!(committed(&broker, commit(&text(""), -1, topic, 5)), 0);
    }
    let partitions =
        [1, 9].map(|i| OffsetDeleteRequestPartition::default().with_partition_index(i));
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(partitions.to_vec());
    let delete = OffsetDeleteRequest::default()
        .with_group_id(group("g"))
        .with_topics(vec![topic]);
    let response = broker.call(0, delete);
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!((response.error_code, codes), (0, vec![0, 3]));
    assert_eq!(fetched(&broker), [("payments".to_owned(), 1, 5)]);
    let gone = DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(text("payments"))])
        .with_timeout_ms(1_000);
    broker.call(5, gone);
    assert!(fetched(&broker).is_empty());
    reload(&broker);
    assert!(fetched(&broker).is_empty());
}

#[test]
fn the_newest_versions_commit_and_fetch_by_topic_id() {
    let broker = broker();
    let (id, nobody) = (broker.topic_id("orders"), Uuid::from_u128(9));
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(5)
    };
    let topic = |id| {
        OffsetCommitRequestTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![partition(1), partition(7)])
    };
    let commit = OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_topics(vec![topic(id), topic(nobody), topic(Uuid::nil())]);
    let response = broker.call(10, commit);
    let told: Vec<_> = response
        .topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, p.error_code)))
        .collect();
    let nil = Uuid::nil();
    let unknown = [(nobody, 100), (nobody, 100), (nil, 100), (nil, 100)];
    assert_eq!(told[..2], [(id, 0), (id, 3)]);
    assert_eq!(told[2..], unknown);
    let asked = [nobody, id].map(|id| {
        OffsetFetchRequestTopics::default()
            .with_topic_id(id)
            .with_partition_indexes(vec![1, 0])
    });
    let fetch = |topics: Option<Vec<OffsetFetchRequestTopics>>| {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_topics(topics);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let response = broker.call(10, request);
        assert_eq!(response.groups[0].error_code, 0);
        let topics = response.groups[0].topics.iter().flat_map(|topic| {
            assert!(topic.name.is_empty());
            let id = topic.topic_id;
            let partitions = topic.partitions.iter();
            partitions.map(move |p| (id, p.partition_index, p.committed_offset, p.error_code))
        });
        topics.collect::<Vec<_>>()
    };
    let expected = [
        (id, 1, 5, 0),
        (id, 0, -1, 0),
        (nobody, 1, -1, 100),
        (nobody, 0, -1, 100),
    ];
    assert_eq!(fetch(Some(asked.to_vec())), expected);
    assert_eq!(fetch(None), [(id, 1, 5, 0)]);
}

#[test]
fn what_cannot_be_made_durable_is_not_acknowledged() {
    let broker = broker();
    for partition in broker.broker.partitions.all() {
        if &*partition.topic == super::OFFSETS_TOPIC {
            partition.close().unwrap();
        }
    }
    assert_eq!(committed(&broker, commit(&text(""), -1, "orders", 5)), 16);
}

/// Whatever class all topics have, and whatever somebody sets on this one.
#[test]
fn a_committed_offset_is_on_the_disk_whatever_class_is_configured() {
    let classes = [&[("ottla.durability", "memory")][..], &[]];
    for all in classes {
        let broker = TestBroker::with_config(&[NOW, all].concat());
        broker.create_topic("orders", 2);
        broker.call(3, FindCoordinatorRequest::default().with_key(text("g")));
        broker.set_config(2, super::OFFSETS_TOPIC, "ottla.durability", "interval");
        let commit = commit(&text(""), -1, "orders", 5);
        let Reply::Parked(mut parked) = broker.begin(9, &commit) else {
            panic!("answered before it was on the disk");
        };
        assert!(!parked.waiter().fired());
        while broker.broker.flush.run_one() {}
        let told = broker
            .resume::<OffsetCommitRequest>(9, &mut *parked)
            .unwrap();
        assert_eq!(told.topics[0].partitions[0].error_code, 0);
    }
}

#[test]
fn without_its_topic_no_group_has_a_coordinator() {
    let broker = TestBroker::with_config(NOW);
    let coordinators: &Coordinators = &broker.broker.coordinators;
    assert!(!coordinators.exist() && coordinators.of("g").is_err());
    let response = broker.call(4, HeartbeatRequest::default().with_group_id(group("g")));
    assert_eq!(response.error_code, 16);
    assert_eq!(broker.call(9, join(&text(""))).error_code, 16);
    let fetch = OffsetFetchRequest::default().with_group_id(group("g"));
    assert_eq!(broker.call(2, fetch).error_code, 16);
}
