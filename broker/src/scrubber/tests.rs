//! The scrub on a whole broker: when a pass is due, how fast it reads, and that damage is told
//! once.
#![allow(clippy::unwrap_used)]

use ottla_protocol::batch::BatchBuilder;
use ottla_storage::disk::Disk;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::LeaderEpoch;

use super::*;
use crate::errors::ToErrorCode;
use crate::flusher::Job;
use crate::handlers::testing::TestBroker;
use crate::partition::{Isolation, ReadFrom};

/// Some sealed segments, checkpointed.
fn filled(settings: &[(&str, &str)]) -> (TestBroker, Arc<Partition>) {
    let test = TestBroker::with_config(settings);
    test.create_topic("t", 1);
    let partition = test.broker.partitions.get("t", 0).unwrap();
    let now = test.broker.clock.now();
    for step in 0..6u32 {
        let mut batch = BatchBuilder::new();
        batch.append(1, Some(&step.to_be_bytes()), Some(&[7; 5_000]), &[]);
        partition
            .append(batch.build().unwrap(), 9, (now, 1), None)
            .unwrap();
        partition.seal_active_segment(1).unwrap();
        test.broker
            .flush
            .run(Job::Checkpoint(Arc::clone(&partition)));
    }
    while test.broker.flush.run_one() {}
    (test, partition)
}

/// A run so long after the first one; what it waited in all.
fn run(test: &TestBroker, began: Instant, after: Duration) -> Duration {
    let mut waited = Duration::ZERO;
    let mut pause = |wait| {
        waited += wait;
        true
    };
    test.broker
        .scrubber
        .run(&test.broker, &Scope::All, began + after, &mut pause);
    waited
}

const DAYS: Duration = Duration::from_secs(8 * 24 * 3_600);

#[test]
fn a_pass_is_due_after_a_while_and_then_once_in_each_interval() {
    let (test, _) = filled(&[("ottla.scrub.interval.ms", "600000")]);
    let began = test.broker.clock.now();
    run(&test, began, Duration::ZERO);
    assert_eq!(test.broker.scrubber.sample(), ScrubSample::default());
    run(&test, began, FIRST_PASS_AFTER);
    let sample = test.broker.scrubber.sample();
    assert!(sample.passes == 1 && sample.bytes > 5 * 5_000, "{sample:?}");
    run(&test, began, FIRST_PASS_AFTER * 2);
    assert_eq!(
        test.broker.scrubber.sample(),
        sample,
        "the next one is due later"
    );
    run(&test, began, FIRST_PASS_AFTER + Duration::from_secs(600));
    assert_eq!(test.broker.scrubber.sample().passes, 2);
    assert_eq!(test.broker.scrubber.sample().errors, 0);
}

#[test]
fn it_reads_no_faster_than_it_may_and_not_at_all_when_switched_off() {
    let settings = [("ottla.scrub.max.bytes.per.second", "1000")];
    let (test, _) = filled(&settings);
    let began = test.broker.clock.now();
    run(&test, began, Duration::ZERO);
    let waited = run(&test, began, FIRST_PASS_AFTER);
    assert!(waited >= Duration::from_secs(20), "{waited:?}");
    let (off, _) = filled(&[("ottla.scrub.interval.ms", "-1")]);
    run(&off, began, Duration::ZERO);
    run(&off, began, DAYS);
    assert_eq!(off.broker.scrubber.sample().bytes, 0);
}

#[test]
fn a_pass_that_is_ended_is_begun_again() {
    let (test, _) = filled(&[("ottla.scrub.max.bytes.per.second", "1000")]);
    let began = test.broker.clock.now();
    run(&test, began, Duration::ZERO);
    let due = began + FIRST_PASS_AFTER;
    test.broker
        .scrubber
        .run(&test.broker, &Scope::All, due, &mut |_| false);
    assert_eq!(test.broker.scrubber.sample().passes, 0);
    run(&test, began, FIRST_PASS_AFTER);
    assert_eq!(test.broker.scrubber.sample().passes, 1);
}

#[test]
fn damage_is_counted_once_and_shown_until_it_is_gone() {
    let (test, partition) = filled(&[]);
    let path = "t-0/00000000000000000002.log";
    test.disk.corrupt(path, 200, b"??").unwrap();
    assert!(test.disk.exists(path).unwrap());
    let began = test.broker.clock.now();
    run(&test, began, Duration::ZERO);
    for pass in 1..=2 {
        run(&test, began, DAYS * pass);
        let sample = test.broker.scrubber.sample();
        assert_eq!((sample.errors, sample.damaged), (1, 1));
    }
    let worries = test.broker.scrubber.worries();
    assert!(
        worries.len() == 1 && worries[0].contains(path),
        "{worries:?}"
    );
    partition
        .with_log(|log| log.truncate_to(Offset(1)).unwrap())
        .unwrap();
    run(&test, began, DAYS * 3);
    assert_eq!(test.broker.scrubber.sample().damaged, 0);
}

#[test]
fn damage_that_a_client_meets_is_measured_and_then_read_around() {
    let (test, partition) = filled(&[("ottla.scrub.interval.ms", "-1")]);
    let from = |offset| ReadFrom {
        offset: Offset(offset),
        max_bytes: 100_000,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: LeaderEpoch(-1),
        last_fetched_epoch: LeaderEpoch(-1),
    };
    partition.with_log(|log| log.release_caches()).unwrap();
    let path = "t-0/00000000000000000002.log";
    test.disk.corrupt(path, 8, &[0x7f; 4]).unwrap();
    let refused = partition.read(&from(2)).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::CORRUPT_MESSAGE);
    run(&test, test.broker.clock.now(), Duration::ZERO);
    let sample = test.broker.scrubber.sample();
    assert_eq!((sample.passes, sample.damaged), (0, 1));
    assert!(partition.read(&from(2)).is_err());
    let read = partition.read(&from(3)).unwrap();
    assert!(read.next_offset > Offset(3));
    assert!(!partition.take_suspicion());
}
