//! Which logs are checkpointed so that a start after a crash has little to check.

use std::sync::Arc;

use crate::broker::Broker;
use crate::handlers::testing::TestBroker;

use super::*;

fn append(test: &TestBroker, partition: &Arc<Partition>, value_bytes: usize) {
    let mut batch = ottla_protocol::BatchBuilder::new();
    batch.append(1, None, Some(&vec![7; value_bytes]), &[]);
    let times = (test.broker.clock.now(), 1);
    let batch = batch.build().unwrap();
    partition.append(batch, 9, times, None).unwrap();
}

fn unchecked(broker: &Broker) -> Vec<bool> {
    let partitions = broker.partitions.all();
    let mut found: Vec<_> = partitions
        .iter()
        .map(|partition| (partition.index, partition.unchecked_bytes() > 0))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, grown)| grown).collect()
}

#[test]
fn what_no_checkpoint_covers_is_bounded_over_all_logs() {
    let test = TestBroker::with_config(&[("ottla.durability", "memory")]);
    test.create_topic("t", 4);
    let began = test.broker.clock.now();
    let mut housekeeper = Housekeeper::new(&test.broker, began);
    housekeeper.growth.unchecked = Unchecked {
        max_bytes: 40_000,
        least_bytes: 2_000,
    };
    let mut look = |after_ms: u64| {
        housekeeper.run(&test.broker, began + Duration::from_millis(after_ms));
        while test.broker.flush.run_one() {}
        unchecked(&test.broker)
    };
    let partition = |index| test.broker.partitions.get("t", index).unwrap();
    append(&test, &partition(0), 4_000);
    append(&test, &partition(1), 8_000);
    append(&test, &partition(2), 1_000);
    assert_eq!(look(1), [true, true, true, false], "less than half of it");
    append(&test, &partition(3), 16_000);
    let after = look(1_100);
    assert_eq!(after, [true, true, true, false], "the largest is enough");
    append(&test, &partition(3), 26_000);
    append(&test, &partition(1), 20_000);
    let after = look(2_200);
    assert_eq!(
        after,
        [true, false, true, false],
        "until half of it is left"
    );
}

#[test]
fn growth_is_looked_at_often_only_while_much_is_written() {
    let test = TestBroker::with_config(&[("ottla.durability", "memory")]);
    test.create_topic("t", 1);
    let partition = test.broker.partitions.get("t", 0).unwrap();
    let began = test.broker.clock.now();
    let mut housekeeper = Housekeeper::new(&test.broker, began);
    let mut look = |after_ms: u64| {
        let now = began + Duration::from_millis(after_ms);
        housekeeper.run(&test.broker, now).duration_since(now)
    };
    assert!(look(1) > Duration::from_millis(900), "idle");
    for _ in 0..8 {
        append(&test, &partition, 1_000_000);
    }
    assert_eq!(look(1_200), BUSY_EVERY);
    assert!(look(1_400) > Duration::from_millis(500), "idle again");
}
