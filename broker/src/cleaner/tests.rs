//! Compaction on a whole broker: which logs it picks, what an administrator gets, what is marked,
//! and that coordinators come to the same state from a compacted `__consumer_offsets`.
#![allow(clippy::unwrap_used)]

use ottla_protocol::batch::{BatchBuilder, RecordBatchView};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::*;
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{Offset, TopicPartition};
use ottla_storage::checkpoint::{CLEANER_OFFSETS, read_offsets};
use ottla_storage::disk::{Disk, RecordData};
use ottla_storage::log::compact::LogAccess;

use super::*;
use crate::handlers::testing::TestBroker;
use crate::housekeeper::write_files;

const TOPIC: i8 = 2;

fn compacted(name: &str) -> TestBroker {
    let test = TestBroker::with_config(&[("log.segment.delete.delay.ms", "0")]);
    test.create_topic(name, 1);
    test.set_config(TOPIC, name, "cleanup.policy", "compact");
    test
}

fn partition(test: &TestBroker, topic: &str) -> Arc<Partition> {
    test.broker.partitions.get(topic, 0).unwrap()
}

fn flush(test: &TestBroker) {
    while test.broker.flush.run_one() {}
}

/// Appends so many records over so many keys, and seals and checkpoints what is there.
fn fill(test: &TestBroker, topic: &str, records: u32, keys: u32) {
    let partition = partition(test, topic);
    let now = test.broker.clock.now();
    for n in 0..records {
        let mut batch = BatchBuilder::new();
        let key = (n % keys).to_be_bytes();
        batch.append(1, Some(&key), Some(&n.to_be_bytes()), &[]);
        partition
            .append(batch.build().unwrap(), 9, (now, 1), None)
            .unwrap();
    }
    flush(test);
    seal(&test.broker, &partition).unwrap();
}

fn run(test: &TestBroker) {
    test.broker
        .cleaner
        .run(&test.broker, &Scope::All, &mut |_| true);
    flush(test);
}

/// The values of a log, in order.
fn values(test: &TestBroker, topic: &str) -> Vec<Vec<u8>> {
    let read = partition(test, topic).with_log(|log| {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        log.read(start, u32::MAX, end, true).unwrap()
    });
    let pieces = read.unwrap().data.into_iter().map(|data| match data {
        RecordData::Bytes(bytes) => bytes,
        RecordData::File(range) => range.read().unwrap(),
    });
    let bytes = pieces.collect::<Vec<_>>().concat();
    let mut rest = &bytes[..];
    let mut values = Vec::new();
    while !rest.is_empty() {
        let view = RecordBatchView::parse(rest).unwrap();
        let records = Records::open(view, RecordLimits::default()).unwrap();
        values.extend(records.map(|record| record.unwrap().value.unwrap().to_vec()));
        rest = &rest[view.size_bytes()..];
    }
    values
}

/// Nobody really waits here, so the last wait is the time for all that was read and written.
#[test]
fn a_round_is_held_to_the_rate_that_is_configured() {
    let test = TestBroker::with_config(&[("log.cleaner.io.max.bytes.per.second", "100")]);
    test.create_topic("t", 1);
    test.set_config(TOPIC, "t", "cleanup.policy", "compact");
    fill(&test, "t", 200, 10);
    let mut waited = Duration::ZERO;
    test.broker
        .cleaner
        .run(&test.broker, &Scope::All, &mut |wait| {
            waited = wait;
            true
        });
    let sample = test.broker.cleaner.sample();
    assert_eq!(sample.rounds, 1);
    let bytes = sample.read_bytes + sample.written_bytes;
    let wanted = Duration::from_secs(bytes / 100);
    let (least, most) = (wanted.mul_f64(0.8), wanted.mul_f64(1.2));
    assert!((least..most).contains(&waited), "{waited:?}, {bytes} bytes");
}

/// Each directory has a cleaner of its own: none may touch, or wait for, another's logs.
#[test]
fn compaction_looks_at_one_directory_and_no_other() {
    let test = TestBroker::with_disks(2, &[("log.segment.delete.delay.ms", "0")]);
    let dirs: Vec<_> = test.broker.log_dirs.iter().cloned().collect();
    for topic in ["a", "b"] {
        test.create_topic(topic, 1);
        test.set_config(TOPIC, topic, "cleanup.policy", "compact");
        fill(&test, topic, 100, 10);
    }
    assert!(partition(&test, "a").is_in(&dirs[0]) && partition(&test, "b").is_in(&dirs[1]));
    let of = |n: usize| {
        let scope = Scope::One(Arc::clone(&dirs[n]));
        let cleaner = &test.broker.cleaner;
        cleaner.run(&test.broker, &scope, &mut |_| true);
        cleaner.sample().rounds
    };
    // Whoever looked at the other directory's log would wait here for ever.
    let held = Arc::clone(&partition(&test, "b"));
    held.with_log(|_| assert_eq!(of(0), 1));
    assert_eq!(values(&test, "a").len(), 10);
    assert_eq!(of(0), 1, "what is left to do is elsewhere");
    test.broker
        .cleaner
        .compact_topic(&test.broker, "b")
        .unwrap();
    assert_eq!(of(0), 1, "and so is what was asked for");
    assert_eq!(of(1), 2);
    assert_eq!(values(&test, "b").len(), 10);
}

#[test]
fn a_dirty_log_is_compacted_and_a_clean_one_is_left_alone() {
    let test = compacted("t");
    fill(&test, "t", 100, 10);
    run(&test);
    let wanted: Vec<_> = (90u32..100).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(values(&test, "t"), wanted);
    let sample = test.broker.cleaner.sample();
    assert_eq!((sample.rounds, sample.records_kept), (1, 10));
    run(&test);
    assert_eq!(test.broker.cleaner.sample().rounds, 1, "nothing is dirty");
    // A little dirt is not worth a round.
    fill(&test, "t", 3, 3);
    run(&test);
    assert_eq!(test.broker.cleaner.sample().rounds, 1);
    assert!((1..50).contains(&test.broker.cleaner.sample().max_dirty_percent));
    test.set_config(TOPIC, "t", "min.cleanable.dirty.ratio", "0.01");
    run(&test);
    assert_eq!(test.broker.cleaner.sample().rounds, 2);
    assert_eq!(values(&test, "t").len(), 10);
}

#[test]
fn topics_without_the_policy_and_brokers_without_the_cleaner_are_not_compacted() {
    let test = compacted("t");
    test.set_config(TOPIC, "t", "cleanup.policy", "delete");
    fill(&test, "t", 20, 2);
    run(&test);
    assert_eq!(values(&test, "t").len(), 20);
    let refused = test.broker.cleaner.compact_topic(&test.broker, "t");
    assert_eq!(refused, Err(CompactRefused::NotCompacted));
    let refused = test.broker.cleaner.compact_topic(&test.broker, "nope");
    assert_eq!(refused, Err(CompactRefused::UnknownTopic));
    let off = TestBroker::with_config(&[("log.cleaner.enable", "false")]);
    off.create_topic("t", 1);
    off.set_config(TOPIC, "t", "cleanup.policy", "compact");
    fill(&off, "t", 20, 2);
    run(&off);
    assert_eq!(values(&off, "t").len(), 20);
    let refused = off.broker.cleaner.compact_topic(&off.broker, "t");
    assert_eq!(refused, Err(CompactRefused::Disabled));
}

#[test]
fn who_asks_gets_everything_compacted_that_is_committed_however_clean_the_log_is() {
    let test = compacted("t");
    test.set_config(TOPIC, "t", "min.cleanable.dirty.ratio", "1");
    let partition = partition(&test, "t");
    let now = test.broker.clock.now();
    for n in 0..30u8 {
        let mut batch = BatchBuilder::new();
        batch.append(1, Some(b"key"), Some(&[n]), &[]);
        partition
            .append(batch.build().unwrap(), 9, (now, 1), None)
            .unwrap();
    }
    flush(&test);
    assert_eq!(test.broker.cleaner.compact_topic(&test.broker, "t"), Ok(1));
    run(&test);
    assert_eq!(values(&test, "t"), [[29]]);
    // Where the next round begins is in Kafka's file.
    write_files(&test.broker).unwrap();
    let saved = read_offsets(&*test.disk, CLEANER_OFFSETS).unwrap().unwrap();
    assert_eq!(saved[&TopicPartition::new("t", 0)], Offset(30));
}

#[test]
fn a_damaged_log_is_marked_and_not_tried_again_until_somebody_asks() {
    let test = compacted("t");
    fill(&test, "t", 20, 2);
    test.disk
        .corrupt("t-0/00000000000000000000.log", 70, &[0xff, 0xfe])
        .unwrap();
    run(&test);
    run(&test);
    let sample = test.broker.cleaner.sample();
    assert_eq!((sample.failures, sample.uncleanable), (1, 1));
    let marked = test.broker.cleaner.uncleanable();
    let reason = marked.values().next().unwrap();
    assert!(reason.contains("t-0/00000000000000000000.log"), "{reason}");
    assert!(!partition(&test, "t").is_offline());
    assert_eq!(test.broker.cleaner.compact_topic(&test.broker, "t"), Ok(1));
    run(&test);
    assert_eq!(test.broker.cleaner.sample().failures, 2);
}

#[test]
fn a_round_ends_when_the_broker_stops() {
    let test = compacted("t");
    fill(&test, "t", 20, 2);
    test.broker.cleaner.stop();
    run(&test);
    assert_eq!(values(&test, "t").len(), 20);
    assert_eq!(test.broker.cleaner.sample().failures, 0);
}

#[test]
fn a_small_table_of_keys_needs_several_rounds_and_comes_to_the_same_end() {
    let test = TestBroker::with_config(&[("log.cleaner.dedupe.buffer.size", "480")]);
    test.create_topic("t", 1);
    test.set_config(TOPIC, "t", "cleanup.policy", "compact");
    fill(&test, "t", 400, 100);
    run(&test);
    assert!(test.broker.cleaner.sample().rounds > 3);
    let wanted: Vec<_> = (300u32..400).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(values(&test, "t"), wanted);
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn commit(test: &TestBroker, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(vec![topic]);
    let answer = test.call(8, request);
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

fn committed(test: &TestBroker, group: &str) -> i64 {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(None);
    let answer = test.call(8, OffsetFetchRequest::default().with_groups(vec![group]));
    answer.groups[0].topics[0].partitions[0].committed_offset
}

#[test]
fn many_commits_shrink_and_a_coordinator_loads_the_same_offsets_from_what_is_left() {
    const GROUPS: [&str; 3] = ["a", "b", "c"];
    let test = TestBroker::with_config(&[
        ("offsets.topic.num.partitions", "1"),
        ("log.segment.delete.delay.ms", "0"),
    ]);
    test.create_topic("orders", 1);
    test.call(3, FindCoordinatorRequest::default().with_key(text("a")));
    for offset in 0..200 {
        for group in GROUPS {
            commit(&test, group, offset);
        }
    }
    flush(&test);
    let offsets = partition(&test, "__consumer_offsets");
    assert!(offsets.config().cleanup_policy.compact);
    let before = offsets.size_bytes();
    let asked = test
        .broker
        .cleaner
        .compact_topic(&test.broker, "__consumer_offsets");
    assert_eq!(asked, Ok(1));
    run(&test);
    let after = offsets.size_bytes();
    assert!(after * 50 < before, "{before} bytes became {after}");
    assert_eq!(values(&test, "__consumer_offsets").len(), GROUPS.len());
    // A new leadership loads the coordinator from the log.
    test.bump_leader_epochs();
    flush(&test);
    for group in GROUPS {
        assert_eq!(committed(&test, group), 199);
    }
    // And goes on from there.
    commit(&test, "a", 7);
    assert_eq!(committed(&test, "a"), 7);
    let names = test.disk.list("__consumer_offsets-0").unwrap();
    assert!(!names.iter().any(|entry| entry.name.ends_with(".cleaned")));
}
