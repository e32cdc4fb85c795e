//! Retention on a whole broker: policies and their changes, the order of file and log, the delay.
#![allow(clippy::unwrap_used)]

use ottla_protocol::types::{Offset, TopicPartition};
use ottla_storage::checkpoint::{LOG_START_OFFSETS, read_offsets};
use ottla_storage::disk::Disk;
use ottla_storage::disk::memory::{InjectedError, Injection, Operation};

use super::*;
use crate::handlers::testing::TestBroker;

const TOPIC: i8 = 2;

struct World {
    test: TestBroker,
    keeper: Keeper,
    now: Instant,
}

/// A topic `t` of one partition with ten records, which carry a time long ago.
fn world() -> World {
    let test = TestBroker::with_config(&[("log.segment.delete.delay.ms", "5000")]);
    test.create_topic("t", 1);
    for _ in 0..10 {
        test.append("t", 0, &[b"value"]);
    }
    let now = test.broker.clock.now();
    let keeper = Keeper::new(&test.broker, Scope::All, now);
    let world = World { test, keeper, now };
    // Everything is committed and checkpointed.
    let checkpoint = Job::Checkpoint(world.partition());
    world.test.broker.flush.run(checkpoint);
    world
}

impl World {
    fn flush(&self) {
        while self.test.broker.flush.run_one() {}
    }

    fn partition(&self) -> Arc<Partition> {
        self.test.broker.partitions.get("t", 0).unwrap()
    }

    fn log_start(&self) -> i64 {
        self.partition().marks().unwrap().log_start_offset.0
    }

    fn saved_start(&self) -> Option<Offset> {
        let saved = read_offsets(&*self.test.disk, LOG_START_OFFSETS).unwrap();
        saved?.get(&TopicPartition::new("t", 0)).copied()
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.keeper.run(&self.test.broker, self.now);
        self.flush();
    }

    fn names(&self) -> Vec<String> {
        let entries = self.test.disk.list("t-0").unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

#[test]
fn what_is_too_old_leaves_the_log_at_the_next_check_and_the_disk_after_the_delay() {
    let mut world = world();
    world.pass(29_000);
    assert_eq!(world.log_start(), 0);
    world.pass(1_000);
    assert_eq!(
        (world.log_start(), world.saved_start()),
        (10, Some(Offset(10)))
    );
    assert_eq!(world.partition().size_bytes(), 0);
    let deleted = |world: &World| world.names().iter().any(|name| name.ends_with(".deleted"));
    assert!(deleted(&world));
    world.pass(4_999);
    assert!(deleted(&world));
    world.pass(1);
    assert!(!deleted(&world), "{:?}", world.names());
    let text = crate::metrics::render(
        &world.test.broker.metrics.snapshot(),
        &crate::observe::observe(&world.test.broker),
        None,
        crate::metrics::Detail::Partition,
    );
    assert!(
        text.contains("ottla_retention_segments_total{reason=\"age\"} 1"),
        "{text}"
    );
}

#[test]
fn a_changed_policy_takes_effect_with_the_next_check() {
    let mut world = world();
    world.test.set_config(TOPIC, "t", "retention.ms", "-1");
    world.pass(30_000);
    assert_eq!(world.log_start(), 0);
    world.test.set_config(TOPIC, "t", "retention.bytes", "0");
    world
        .test
        .set_config(TOPIC, "t", "cleanup.policy", "compact");
    world.pass(300_000);
    assert_eq!(world.log_start(), 0, "compaction alone keeps everything");
    world
        .test
        .set_config(TOPIC, "t", "cleanup.policy", "compact,delete");
    world.pass(300_000);
    assert_eq!(world.log_start(), 10);
}

#[test]
fn segments_that_deleted_records_left_behind_go_with_the_next_check() {
    let mut world = world();
    world.test.set_config(TOPIC, "t", "retention.ms", "-1");
    let partition = world.partition();
    partition.seal_active_segment(1).unwrap();
    world
        .test
        .broker
        .flush
        .run(Job::Checkpoint(Arc::clone(&partition)));
    assert_eq!(partition.delete_records(None).unwrap(), Offset(10));
    assert!(partition.size_bytes() > 0);
    world.pass(30_000);
    assert_eq!(
        (partition.size_bytes(), world.saved_start()),
        (0, Some(Offset(10)))
    );
}

#[test]
fn without_the_checkpoint_file_nothing_is_deleted_and_it_is_tried_again() {
    let mut world = world();
    let refuse = Injection::always(Operation::Create, InjectedError::NoSpace);
    world.test.disk.inject(refuse.on(LOG_START_OFFSETS));
    world.pass(30_000);
    world.pass(2_000);
    assert_eq!((world.log_start(), world.saved_start()), (0, None));
    assert!(world.partition().size_bytes() > 0);
    world.test.disk.clear_injections();
    world.pass(2_000);
    assert_eq!(
        (world.log_start(), world.saved_start()),
        (10, Some(Offset(10)))
    );
}
