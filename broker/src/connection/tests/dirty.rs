//! Producers in classes that do not wait for the disk, while that disk's budget is spent.

use super::*;
use crate::flusher::Job;

/// Every byte is too much.
fn wire_without_budget(durability: &str) -> Wire {
    wire_with(&[
        ("ottla.durability", durability),
        ("ottla.dirty.max.bytes", "0"),
    ])
}

fn used(wire: &Wire) -> u64 {
    let dirs = &wire.world.broker.log_dirs;
    dirs.iter().map(|dir| dir.dirty.used_bytes()).sum()
}

#[test]
fn a_batch_beyond_the_budget_is_answered_when_it_is_on_the_disk() {
    for class in ["memory", "interval"] {
        let mut wire = wire_without_budget(class);
        let id = wire.send(9, &produce(-1, 0, &batch(&["a"])));
        assert!(wire.frame().is_none(), "{class}");
        assert!(used(&wire) > 0);
        // Readers see it at once: its class promises no more.
        let partition = wire.world.broker.partitions.get("t", 0).unwrap();
        assert_eq!(partition.marks().unwrap().high_watermark, Offset(1));
        wire.flush();
        let response: ProduceResponse = wire.answer(id, 9);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(used(&wire), 0);
    }
}

#[test]
fn its_connection_begins_nothing_more_and_others_go_on() {
    let mut wire = wire_without_budget("memory");
    let first = wire.send(9, &produce(1, 0, &batch(&["a"])));
    let second = wire.send(9, &produce(1, 1, &batch(&["b"])));
    assert!(!wire.connection.wants_read());
    let partition = wire.world.broker.partitions.get("t", 1).unwrap();
    let end = partition.marks().unwrap().log_end_offset;
    assert_eq!(end, Offset(0), "the second has not begun");
    let mut other = Wire {
        connection: connect(&wire.world),
        now: wire.now,
        next_id: 0,
        received: Vec::new(),
        world: wire.world,
    };
    other.call(0, &ApiVersionsRequest::default());
    wire.world = other.world;
    wire.flush();
    let _: ProduceResponse = wire.answer(first, 9);
    wire.flush();
    let _: ProduceResponse = wire.answer(second, 9);
    assert!(wire.connection.wants_read());
}

#[test]
fn without_acks_the_connection_is_slowed_as_well() {
    let mut wire = wire_without_budget("memory");
    wire.send(9, &produce(0, 0, &batch(&["a"])));
    assert!(!wire.connection.wants_read());
    wire.flush();
    assert!(wire.connection.wants_read());
    assert!(wire.frame().is_none(), "no answer is expected");
    assert_eq!(wire.closed(), None);
}

#[test]
fn a_disk_that_is_too_slow_ends_the_wait_with_what_the_class_promises() {
    let mut wire = wire_without_budget("memory");
    let id = wire.send(9, &produce(-1, 0, &batch(&["a"])));
    wire.sleep(TIMEOUT_MS as u64 - 1);
    assert!(wire.frame().is_none());
    wire.sleep(1);
    let response: ProduceResponse = wire.answer(id, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert!(wire.connection.wants_read());
}

#[test]
fn a_sync_that_fails_meanwhile_is_told() {
    let mut wire = wire_without_budget("memory");
    let id = wire.send(9, &produce(-1, 0, &batch(&["a"])));
    let failing = Injection::once(Operation::Sync, InjectedError::Io);
    wire.world.disk.inject(failing);
    wire.flush();
    let response: ProduceResponse = wire.answer(id, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 56);
}

#[test]
fn within_the_budget_nobody_waits_and_what_is_synced_does_not_count() {
    let mut wire = wire("memory");
    for n in 0..5 {
        let response = wire.call(9, &produce(-1, 0, &batch(&["a"])));
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, n));
    }
    assert!(used(&wire) > 0);
    let partition = wire.world.broker.partitions.get("t", 0).unwrap();
    wire.world.broker.flush.push(Job::Checkpoint(partition));
    wire.flush();
    assert_eq!(used(&wire), 0);
    wire.call(9, &produce(-1, 1, &batch(&["a"])));
    assert!(used(&wire) > 0);
    wire.world.broker.partitions.get("t", 1).unwrap().forget();
    assert_eq!(used(&wire), 0, "a deleted log waits for nothing");
}
