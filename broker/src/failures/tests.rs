//! Disks that fail, run full or become read-only under a broker of several directories.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest, StrBytes, TopicName,
};
use ottla_protocol::types::Offset;
use ottla_storage::disk::Disk;
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};

use crate::errors::ToErrorCode;
use crate::flusher::Job;
use crate::handlers::testing::TestBroker;
use crate::housekeeper::Housekeeper;
use crate::log_dirs::Room;
use crate::partition::{Isolation, PartitionError, ReadFrom};

const KAFKA_STORAGE_ERROR: i16 = 56;
const TOPIC: i8 = 2;

fn settle(test: &TestBroker) {
    while test.broker.flush.run_one() {}
}

/// Another second passes.
fn keep_house(test: &TestBroker) {
    let now = test.broker.clock.now();
    Housekeeper::new(&test.broker, now).run(&test.broker, now);
    settle(test);
}

fn offline(test: &TestBroker, topic: &str) -> Vec<bool> {
    let hosted = test.broker.partitions.topic(topic).unwrap();
    let partitions = hosted.partitions.iter().flatten();
    partitions.map(|partition| partition.is_offline()).collect()
}

fn readable(test: &TestBroker, topic: &str, partition: i32) -> Result<u64, PartitionError> {
    let partition = test.broker.partitions.get(topic, partition).unwrap();
    let from = ReadFrom {
        offset: Offset::ZERO,
        max_bytes: 1 << 20,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: ottla_protocol::types::LeaderEpoch::NONE,
        last_fetched_epoch: ottla_protocol::types::LeaderEpoch::NONE,
    };
    Ok(partition.read(&from)?.size_bytes)
}

fn create(test: &TestBroker, name: &'static str) -> (i16, String) {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(name)))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1_000);
    let response = test.call(5, request);
    let result = &response.topics[0];
    let message = result.error_message.as_ref();
    (
        result.error_code,
        message.map(|text| text.to_string()).unwrap_or_default(),
    )
}

/// Four partitions over two directories, with something in each.
fn two_disks() -> TestBroker {
    let test = TestBroker::with_disks(2, &[]);
    test.create_topic("t", 4);
    for partition in 0..4 {
        test.append("t", partition, &[b"kept"]);
        test.sync("t", partition);
    }
    test
}

#[test]
fn a_failed_sync_takes_the_directory_offline_and_no_other() {
    let test = two_disks();
    let sync = Injection::always(Operation::Sync, InjectedError::Io);
    test.disks[1].inject(sync);
    test.append("t", 1, &[b"lost"]);
    test.sync("t", 1);
    assert_eq!(offline(&test, "t"), [false, true, false, true]);
    assert!(test.broker.ended().is_none());
    test.append("t", 0, &[b"more"]);
    let refused = test.try_append("t", 3, &[b"no"]).unwrap_err();
    assert_eq!(refused.error_code().0, KAFKA_STORAGE_ERROR);
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let told = test.call(4, request);
    let codes: Vec<_> = told.results.iter().map(|dir| dir.error_code).collect();
    assert_eq!(codes, [0, KAFKA_STORAGE_ERROR]);
    // New partitions go to what is left, and old ones can be deleted.
    test.create_topic("new", 2);
    test.append("new", 1, &[b"x"]);
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(StrBytes::from_static_str("t"))]);
    assert_eq!(test.call(5, request).responses[0].error_code, 0);
    settle(&test);
    assert!(!test.disks[0].exists("t-0").unwrap());
}

#[test]
fn a_failed_write_does_so_too_and_a_failed_read_only_when_the_directory_does_not_work() {
    let test = two_disks();
    let read = Injection::always(Operation::Read, InjectedError::Io).on("t-1/");
    test.disks[1].inject(read);
    let partition = test.broker.partitions.get("t", 1).unwrap();
    let now_ms = test.broker.clock.wall_ms();
    partition.release_if_idle(now_ms);
    partition.release_if_idle(now_ms);
    assert!(readable(&test, "t", 1).is_err());
    settle(&test);
    assert_eq!(offline(&test, "t"), [false; 4], "one file cannot be read");
    assert!(readable(&test, "t", 3).unwrap() > 0);
    let write = Injection::always(Operation::Write, InjectedError::Io);
    test.disks[1].inject(write);
    let refused = test.try_append("t", 3, &[b"no"]).unwrap_err();
    assert_eq!(refused.error_code().0, KAFKA_STORAGE_ERROR);
    settle(&test);
    assert_eq!(offline(&test, "t"), [false, true, false, true]);
    let other = two_disks();
    let read = Injection::always(Operation::Read, InjectedError::Io).on("t-1/");
    other.disks[1].inject(read);
    other.disks[1].inject(Injection::always(Operation::Create, InjectedError::Io));
    let partition = other.broker.partitions.get("t", 1).unwrap();
    partition.release_if_idle(now_ms);
    partition.release_if_idle(now_ms);
    assert!(readable(&other, "t", 1).is_err());
    settle(&other);
    assert_eq!(offline(&other, "t"), [false, true, false, true]);
}

#[test]
fn a_start_that_finds_no_descriptor_for_a_log_tries_it_again_after_the_others() {
    let test = TestBroker::new();
    test.create_topic("t", 3);
    for partition in 0..3 {
        test.append("t", partition, &[b"value"]);
        let partition = test.broker.partitions.get("t", partition);
        partition.unwrap().close().unwrap();
    }
    let (disks, image) = (test.disks.clone(), test.image());
    drop(test);
    disks[0].crash(Crash::Process);
    let scarce = Injection::once(Operation::Open, InjectedError::TooManyOpenFiles);
    disks[0].inject(scarce.on("t-1/"));
    let test = TestBroker::recovered(&disks, image);
    assert_eq!(offline(&test, "t"), [false; 3]);
    assert!(readable(&test, "t", 1).unwrap() > 0);
}

#[test]
fn the_broker_ends_with_its_last_directory_or_the_one_of_the_metadata() {
    let test = two_disks();
    let sync = Injection::always(Operation::Sync, InjectedError::Io);
    test.disks[0].inject(sync.clone());
    test.append("t", 0, &[b"lost"]);
    test.sync("t", 0);
    let why = test.broker.ended().unwrap();
    assert!(why.contains("/data") && why.contains("metadata"), "{why}");
    let single = TestBroker::new();
    single.create_topic("t", 1);
    single.disk.inject(sync);
    single.append("t", 0, &[b"lost"]);
    single.sync("t", 0);
    assert!(single.broker.ended().is_some());
}

#[test]
fn on_a_full_disk_only_new_records_and_topics_are_refused_until_there_is_room() {
    let test = TestBroker::with_config(&[
        ("ottla.disk.reject.free.bytes", "10000"),
        ("ottla.disk.warning.free.bytes", "50000"),
    ]);
    test.create_topic("t", 1);
    test.create_topic("u", 1);
    // The records of these tests are very old.
    test.set_config(TOPIC, "t", "retention.ms", "-1");
    test.disk.set_capacity_bytes(Some(100_000));
    keep_house(&test);
    let dir = test.broker.log_dirs.iter().next().unwrap();
    assert_eq!(dir.space.room(), Room::Ample);
    let value = [7u8; 5_000];
    let mut accepted = 0;
    // Without another look: what was appended counts.
    while test.try_append("t", 0, &[&value]).is_ok() {
        accepted += 1;
        assert!(accepted < 100);
    }
    test.sync("t", 0);
    assert!((15..=18).contains(&accepted), "{accepted}");
    keep_house(&test);
    assert_eq!(dir.space.room(), Room::Low, "the last one was not taken");
    test.disk.set_capacity_bytes(Some(94_000));
    keep_house(&test);
    assert_eq!(dir.space.room(), Room::Full);
    let refused = test.try_append("t", 0, &[b"x"]).unwrap_err();
    assert_eq!(refused.error_code().0, KAFKA_STORAGE_ERROR);
    assert!(refused.to_string().contains("/data is full"), "{refused}");
    let (code, message) = create(&test, "new");
    assert_eq!(code, KAFKA_STORAGE_ERROR);
    assert!(message.contains("/data is full"), "{message}");
    // The broker's own records, reads and deletions go on.
    assert!(readable(&test, "t", 0).unwrap() > 0);
    let partition = test.broker.partitions.get("u", 0).unwrap();
    let mut own = ottla_protocol::batch::BatchBuilder::new();
    own.append(1, None, Some(b"own"), &[]);
    let now = test.broker.clock.now();
    partition
        .append_own(own.build().unwrap(), (now, 1))
        .unwrap();
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(StrBytes::from_static_str("t"))]);
    assert_eq!(test.call(5, request).responses[0].error_code, 0);
    settle(&test);
    keep_house(&test);
    assert_eq!(dir.space.room(), Room::Ample);
    test.append("u", 0, &[b"taken again"]);
    assert_eq!(create(&test, "new").0, 0);
}

#[test]
fn marks_can_be_changed_while_the_broker_runs() {
    let test = TestBroker::new();
    test.create_topic("t", 1);
    test.disk.set_capacity_bytes(Some(1_000_000));
    keep_house(&test);
    test.append("t", 0, &[b"x"]);
    test.set_config(4, "1", "ottla.disk.reject.free.bytes", "2000000");
    keep_house(&test);
    assert!(test.try_append("t", 0, &[b"x"]).is_err());
    test.set_config(4, "", "ottla.disk.reject.free.bytes", "1");
    test.set_config(4, "1", "ottla.disk.reject.free.bytes", "0");
    keep_house(&test);
    test.append("t", 0, &[b"x"]);
}

#[test]
fn retention_does_not_wait_when_the_disk_runs_full() {
    let test = TestBroker::with_config(&[("ottla.disk.warning.free.bytes", "100000")]);
    test.create_topic("t", 1);
    test.set_config(TOPIC, "t", "segment.bytes", "1048576");
    test.set_config(TOPIC, "t", "retention.bytes", "1");
    let value = vec![7u8; 600_000];
    for _ in 0..4 {
        test.append("t", 0, &[&value]);
        test.sync("t", 0);
    }
    let first = "t-0/00000000000000000000.log";
    let now = test.broker.clock.now();
    let mut housekeeper = Housekeeper::new(&test.broker, now);
    housekeeper.run(&test.broker, now);
    settle(&test);
    assert!(test.disk.exists(first).unwrap(), "the first check is later");
    let later = |seconds| now + std::time::Duration::from_secs(seconds);
    let run = |housekeeper: &mut Housekeeper, now: Instant| {
        housekeeper.run(&test.broker, now);
        settle(&test);
    };
    test.disk.set_capacity_bytes(Some(2_450_000));
    for seconds in 1..6 {
        run(&mut housekeeper, later(seconds));
    }
    let deleted = format!("{first}.deleted");
    assert!(!test.disk.exists(first).unwrap());
    assert!(!test.disk.exists(&deleted).unwrap(), "without a delay");
}

#[test]
fn a_disk_that_is_read_only_for_a_while_loses_nothing_and_is_used_again() {
    let test = two_disks();
    test.disks[1].set_read_only(true);
    for _ in 0..3 {
        let refused = test.try_append("t", 1, &[b"no"]).unwrap_err();
        assert_eq!(refused.error_code().0, KAFKA_STORAGE_ERROR);
        settle(&test);
        keep_house(&test);
    }
    assert_eq!(offline(&test, "t"), [false; 4]);
    assert!(readable(&test, "t", 1).unwrap() > 0);
    test.append("t", 0, &[b"the other disk"]);
    test.disks[1].set_read_only(false);
    keep_house(&test);
    test.append("t", 1, &[b"again"]);
    test.sync("t", 1);
    assert_eq!(offline(&test, "t"), [false; 4]);
}

#[test]
fn errors_of_limits_refuse_a_batch_and_nothing_more() {
    let test = two_disks();
    for error in [InjectedError::NoSpace, InjectedError::TooManyOpenFiles] {
        test.disks[1].inject(Injection::once(Operation::Write, error));
        let large = vec![1u8; 100_000];
        let refused = test.try_append("t", 1, &[&large]).unwrap_err();
        assert_eq!(refused.error_code().0, KAFKA_STORAGE_ERROR, "{error:?}");
        settle(&test);
        test.append("t", 1, &[b"goes on"]);
        test.sync("t", 1);
    }
    // Space is reserved ahead; where that is too much, what is needed will do.
    let ahead = Injection::once(Operation::Preallocate, InjectedError::NoSpace);
    test.disks[1].inject(ahead);
    test.append("t", 1, &[&vec![1u8; 100_000]]);
    assert_eq!(offline(&test, "t"), [false; 4]);
}

#[test]
fn a_disk_that_hung_for_a_moment_is_not_refused_until_its_queue_is_empty() {
    let test = two_disks();
    let dir = test.broker.log_dirs.iter().nth(1).unwrap();
    dir.hang.bound(1, Duration::from_millis(20));
    for number in 0..3 {
        test.broker.flush.push(Job::RemoveDir {
            disk: Arc::clone(&dir.disk),
            path: format!("gone-{number}"),
        });
    }
    let inside = dir.enter().unwrap();
    assert!(dir.enter().is_none(), "whoever is inside does not come out");
    drop(inside);
    assert!(dir.enter().is_none(), "it is known to hang");
    assert!(test.broker.flush.run_one_of(1));
    assert!(dir.enter().is_some());
    assert!(!test.broker.flush.is_empty());
}
