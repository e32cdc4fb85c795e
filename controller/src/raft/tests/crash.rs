//! A crash at every operation of the disk: bootstrap, proposals, snapshots, compaction, restarts.
//! What was acknowledged is there afterwards; what was handed out is never handed out again.

use std::collections::BTreeMap;

use ottla_protocol::types::TopicId;
use ottla_storage::disk::memory::Crash;

use super::*;

/// What the outside was told.
#[derive(Default)]
struct Promised {
    cluster_id: Option<Arc<str>>,
    topics: BTreeMap<String, TopicId>,
    deleted: Vec<String>,
    producer_ids: Vec<i64>,
    broker_epoch: i64,
    leader_epochs: BTreeMap<String, i32>,
}

/// Three starts with enough changes for several snapshots. Ends early where the disk does.
fn story(disk: &MemoryDisk, promised: &mut Promised) -> Result<(), ControllerError> {
    for start in 0..3 {
        session(disk, start, promised)?;
    }
    Ok(())
}

fn session(disk: &MemoryDisk, start: u128, promised: &mut Promised) -> Result<(), ControllerError> {
    let mut alone = Alone::open(disk, start as u64)?;
    check(&mut alone, promised);
    alone.register(start + 1)?;
    promised.broker_epoch = alone.broker_epoch.0;
    for i in 0..5 {
        let name = format!("topic-{start}-{i}");
        match alone.create(&name)? {
            CommandReply::TopicsCreated(results) => {
                let created = results[0].1.as_ref().unwrap();
                promised.topics.insert(name, created.topic_id);
            }
            other => panic!("{other:?}"),
        }
    }
    promised.producer_ids.push(alone.producer_ids()?);
    let name = format!("topic-{start}-0");
    let topics = vec![TopicRef::Name(Arc::from(name.as_str()))];
    // Until it is acknowledged, the topic may be there or not.
    promised.topics.remove(&name);
    alone.run(Command::DeleteTopics { topics })?;
    promised.deleted.push(name);
    let image = alone.controller.image();
    for topic in image.topics.iter() {
        promised
            .leader_epochs
            .insert(topic.name.to_string(), topic.partitions[0].leader_epoch.0);
    }
    Ok(())
}

/// Everything promised before is there in what was opened now.
fn check(alone: &mut Alone, promised: &mut Promised) {
    let image = alone.controller.image();
    image.check_invariants();
    let cluster_id = promised
        .cluster_id
        .get_or_insert_with(|| image.cluster_id.clone());
    assert!(*cluster_id == image.cluster_id && !cluster_id.is_empty());
    for (name, id) in &promised.topics {
        let topic = image
            .topics
            .by_name(name)
            .unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!((topic.id, topic.partitions.len()), (*id, 2));
    }
    for name in &promised.deleted {
        assert!(image.topics.by_name(name).is_none(), "{name} is back");
    }
    let broker = image.brokers.get(BrokerId(0));
    assert!(broker.map_or(0, |broker| broker.epoch.0) >= promised.broker_epoch);
    let borders = promised.producer_ids.iter().map(|first| first + 1000);
    assert!(borders.max().unwrap_or(0) <= image.next_producer_id.0);
    for (name, epoch) in &promised.leader_epochs {
        if let Some(now) = leader_epoch(&image, name) {
            assert!(now.0 >= *epoch);
        }
    }
}

/// After the crash: everything is there, and the node works.
fn aftermath(disk: &MemoryDisk, promised: &mut Promised) {
    let mut alone = Alone::open(disk, 99).unwrap();
    check(&mut alone, promised);
    alone.register(99).unwrap();
    assert!(alone.broker_epoch.0 > promised.broker_epoch);
    let image = alone.controller.image();
    for (name, epoch) in &promised.leader_epochs {
        if let Some(now) = leader_epoch(&image, name) {
            assert!(now.0 > *epoch, "{name} has leader epoch {now} again");
        }
    }
    let first = alone.producer_ids().unwrap();
    assert!(
        promised
            .producer_ids
            .iter()
            .all(|earlier| first >= earlier + 1000)
    );
    alone.create("afterwards").unwrap();
    drop(alone);
    let alone = Alone::open(disk, 100).unwrap();
    assert!(
        alone
            .controller
            .image()
            .topics
            .by_name("afterwards")
            .is_some()
    );
}

fn crash_everywhere(crash: impl Fn(u64) -> Crash) {
    let disk = MemoryDisk::new();
    story(&disk, &mut Promised::default()).unwrap();
    let operations = disk.operations();
    assert!(operations > 100, "the story is too short: {operations}");
    for point in 0..operations {
        let disk = MemoryDisk::new();
        let mut promised = Promised::default();
        disk.halt_after(point);
        assert!(
            story(&disk, &mut promised).is_err(),
            "nobody noticed the crash at {point}"
        );
        disk.crash(crash(point));
        aftermath(&disk, &mut promised);
    }
}

#[test]
fn a_kill_at_every_operation_loses_nothing_that_was_acknowledged() {
    crash_everywhere(|_| Crash::Process);
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_that_was_acknowledged() {
    crash_everywhere(|_| Crash::PowerLossOfAllUnsynced);
}

#[test]
fn a_power_cut_that_tears_and_keeps_at_random_loses_nothing_that_was_acknowledged() {
    for round in 0..3 {
        crash_everywhere(|point| Crash::PowerLoss {
            seed: point * 31 + round,
        });
    }
}

#[test]
fn a_second_power_cut_during_every_operation_of_the_recovery_changes_nothing() {
    let fresh = |point| {
        let disk = MemoryDisk::new();
        let mut promised = Promised::default();
        disk.halt_after(point);
        assert!(story(&disk, &mut promised).is_err());
        disk.crash(Crash::PowerLoss { seed: point });
        (disk, promised)
    };
    let disk = MemoryDisk::new();
    story(&disk, &mut Promised::default()).unwrap();
    for point in (0..disk.operations()).step_by(13) {
        let (disk, _) = fresh(point);
        let before = disk.operations();
        drop(Alone::open(&disk, 5));
        for second in 0..disk.operations() - before {
            let (disk, mut promised) = fresh(point);
            disk.halt_after(second);
            drop(Alone::open(&disk, 5));
            disk.crash(Crash::PowerLoss { seed: second });
            aftermath(&disk, &mut promised);
        }
    }
}
