//! A partition on the memory disk: what is acknowledged when, and what a failing disk does to it.

use ottla_protocol::batch::BatchBuilder;
use ottla_storage::disk::memory::{InjectedError, Injection, Operation};
use ottla_storage::disk::{Disk, MemoryDisk};
use ottla_storage::layout::DirectoryId;
use ottla_storage::log::{AppendAt, Origin};

use std::time::Instant;

use ottla_protocol::batch::RecordBatch;

use super::state::FlushDue;
use super::*;
use crate::config::{Config, Durability};
use crate::purgatory::ConnectionSignal;
use crate::purgatory::{FetchWait, LazyWait};

struct World {
    disk: Arc<MemoryDisk>,
    partition: Arc<Partition>,
    now: Instant,
    signal: Arc<ConnectionSignal>,
}

fn world(durability: Durability) -> World {
    let disk = Arc::new(MemoryDisk::new());
    let dyn_disk: Arc<dyn Disk> = disk.clone();
    let config = Config::from_pairs([("node.id", "1")]).unwrap();
    let topic = Arc::new(TopicConfig {
        durability,
        ..config.topic_defaults.clone()
    });
    let log = Log::create(dyn_disk, "t-0", TopicId::ZERO, LogConfig::default()).unwrap();
    let policy = flush_policy(&topic, &config);
    let id = DirectoryId(TopicId::ZERO.0);
    let seat = Arc::new(LogDir::new(Arc::from("/data"), id, disk.clone())).seat();
    let name = (Arc::from("t"), TopicId::ZERO, 0);
    let partition = Partition::lead(name, (log, seat), LeaderEpoch(3), topic, policy);
    World {
        disk,
        partition: Arc::new(partition),
        now: Instant::now(),
        signal: ConnectionSignal::new(|| {}),
    }
}

fn batch(records: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for n in 0..records {
        builder.append(1_000 + n as i64, Some(b"key"), Some(b"value"), &[]);
    }
    builder.build().unwrap()
}

impl World {
    fn append(&self, records: usize) -> Result<Appended, PartitionError> {
        self.partition
            .append(batch(records), 9, (self.now, 1_000), None)
    }

    fn flush(&self) -> bool {
        let flush = self.partition.begin_flush().unwrap();
        let result = flush.run();
        self.partition.finish_flush(flush, result, self.now) == FlushDue::Now
    }

    fn read(&self, offset: i64) -> Result<PartitionRead, PartitionError> {
        self.partition.read(&from(offset))
    }
}

fn from(offset: i64) -> ReadFrom {
    ReadFrom {
        offset: Offset(offset),
        max_bytes: 1 << 20,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    }
}

#[test]
fn class_commit_acknowledges_and_shows_a_batch_only_after_its_sync() {
    let world = world(Durability::Commit);
    let mut wait = LazyWait::new(&world.signal);
    let done = world
        .partition
        .append(batch(3), 9, (world.now, 0), Some(&mut wait))
        .unwrap();
    let wait = wait.finish().expect("the batch is not committed yet");
    assert_eq!((done.base_offset, done.end_offset), (Offset(0), Offset(3)));
    assert!(!done.committed && done.flush == FlushDue::Now);
    assert!(!wait.waiter().fired() && !world.partition.is_committed(Offset(3)).unwrap());
    assert_eq!(
        world.read(0).unwrap().size_bytes,
        0,
        "nobody may read what could be lost"
    );
    assert!(!world.flush());
    assert!(wait.waiter().fired() && world.partition.is_committed(Offset(3)).unwrap());
    assert!(world.read(0).unwrap().size_bytes > 0);
}

#[test]
fn class_memory_is_committed_at_once_and_pays_for_no_wait() {
    let world = world(Durability::Memory);
    let mut wait = LazyWait::new(&world.signal);
    let done = world
        .partition
        .append(batch(1), 9, (world.now, 0), Some(&mut wait))
        .unwrap();
    assert!(done.committed && done.flush == FlushDue::No);
    assert!(wait.finish().is_none());
    assert!(world.read(0).unwrap().size_bytes > 0);
}

#[test]
fn appends_during_a_sync_share_the_next_one() {
    let world = world(Durability::Commit);
    assert_eq!(world.append(1).unwrap().flush, FlushDue::Now);
    let flush = world.partition.begin_flush().unwrap();
    assert_eq!(world.append(1).unwrap().flush, FlushDue::No);
    assert_eq!(world.append(1).unwrap().flush, FlushDue::No);
    let result = flush.run();
    assert_eq!(
        world.partition.finish_flush(flush, result, world.now),
        FlushDue::Now,
        "two batches wait for one more sync"
    );
    assert_eq!(world.partition.marks().unwrap().high_watermark, Offset(1));
    assert!(!world.flush());
    assert_eq!(world.partition.marks().unwrap().high_watermark, Offset(3));
}

/// A first flush, in which the operation number `skip` of this kind finds no descriptor.
fn flush_without_descriptor(operation: Operation, skip: u64) -> (World, FlushDue) {
    let world = world(Durability::Commit);
    world.append(1).unwrap();
    let injection = Injection::once(operation, InjectedError::TooManyOpenFiles);
    world.disk.inject(injection.skip(skip));
    let flush = world.partition.begin_flush().unwrap();
    let result = flush.run();
    let due = world.partition.finish_flush(flush, result, world.now);
    world.disk.clear_injections();
    (world, due)
}

#[test]
fn a_flush_that_finds_no_descriptor_is_tried_again_and_acknowledges_nothing_before() {
    let mut met = Vec::new();
    for operation in [Operation::Sync, Operation::SyncDir] {
        for skip in 0..8 {
            let (world, due) = flush_without_descriptor(operation, skip);
            if due == FlushDue::No {
                break;
            }
            met.push((operation, skip));
            assert!(matches!(due, FlushDue::At(at) if at > world.now), "{due:?}");
            assert!(!world.partition.is_offline());
            assert!(!world.partition.is_committed(Offset(1)).unwrap());
            assert!(world.partition.flush_timer_rang());
            assert!(!world.flush());
            assert!(world.partition.is_committed(Offset(1)).unwrap());
        }
    }
    let sync = (Operation::Sync, 0);
    assert!(
        met.contains(&sync) && met.contains(&(Operation::SyncDir, 1)),
        "{met:?}"
    );
}

#[test]
fn a_checkpoint_that_finds_no_descriptor_is_due_again() {
    let world = world(Durability::Memory);
    world.append(1).unwrap();
    let once = Injection::once(Operation::Sync, InjectedError::TooManyOpenFiles);
    world.disk.inject(once);
    let checkpoint = world.partition.begin_checkpoint().unwrap();
    assert!(world.partition.unchecked_bytes() == 0);
    let result = checkpoint.run();
    assert!(result.is_err());
    world.partition.finish_flush(checkpoint, result, world.now);
    assert!(!world.partition.is_offline() && world.partition.unchecked_bytes() > 0);
}

#[test]
fn a_failed_sync_takes_the_partition_offline_and_acknowledges_nothing() {
    let world = world(Durability::Commit);
    let mut wait = LazyWait::new(&world.signal);
    world
        .partition
        .append(batch(1), 9, (world.now, 0), Some(&mut wait))
        .unwrap();
    let wait = wait.finish().unwrap();
    world
        .disk
        .inject(Injection::once(Operation::Sync, InjectedError::Io));
    assert!(!world.flush());
    assert!(wait.waiter().fired(), "whoever waits is told");
    assert!(matches!(
        world.partition.is_committed(Offset(1)),
        Err(PartitionError::Offline)
    ));
    assert!(matches!(world.append(1), Err(PartitionError::Offline)));
    assert!(matches!(world.read(0), Err(PartitionError::Offline)));
    assert!(world.partition.checkpoint_marks().is_none());
    assert!(
        world.partition.close().is_err(),
        "a shutdown is not clean when what the disk holds is unknown"
    );
}

#[test]
fn a_fetch_registered_after_something_happened_is_fired_at_once() {
    let world = world(Durability::Memory);
    let seen = world.partition.changes();
    world.append(1).unwrap();
    let wait = FetchWait::new(Waiter::new(&world.signal), 1 << 20);
    let key = world.partition.watch(&wait, seen);
    assert!(wait.waiter().fired());
    wait.waiter().rearm();
    world.append(1).unwrap();
    assert!(!wait.waiter().fired(), "not enough bytes yet");
    wait.expect(1);
    world.append(1).unwrap();
    assert!(wait.waiter().fired());
    wait.waiter().rearm();
    world.partition.unwatch(key);
    world.append(1).unwrap();
    assert!(!wait.waiter().fired());
}

#[test]
fn readers_with_another_idea_of_the_leadership_are_refused() {
    let world = world(Durability::Memory);
    world.append(1).unwrap();
    let at = |epoch| ReadFrom {
        current_leader_epoch: LeaderEpoch(epoch),
        ..from(0)
    };
    assert!(world.partition.read(&at(3)).is_ok());
    let old = world.partition.read(&at(2)).unwrap_err();
    assert!(matches!(old, PartitionError::FencedLeaderEpoch { .. }));
    let new = world.partition.read(&at(4)).unwrap_err();
    assert!(matches!(new, PartitionError::UnknownLeaderEpoch { .. }));
}

#[test]
fn a_new_leadership_starts_at_the_log_end_and_wakes_readers() {
    let world = world(Durability::Memory);
    world.append(2).unwrap();
    let wait = FetchWait::new(Waiter::new(&world.signal), 1);
    world.partition.watch(&wait, world.partition.changes());
    world.partition.new_leader_epoch(LeaderEpoch(5));
    assert!(wait.waiter().fired());
    world.append(1).unwrap();
    let end = world
        .partition
        .end_offset_for_epoch(LeaderEpoch::NONE, LeaderEpoch(3))
        .unwrap();
    assert_eq!(end, Some((LeaderEpoch(3), Offset(2))));
    let end = world
        .partition
        .end_offset_for_epoch(LeaderEpoch::NONE, LeaderEpoch(5))
        .unwrap();
    assert_eq!(end, Some((LeaderEpoch(5), Offset(3))));
    let diverged = ReadFrom {
        last_fetched_epoch: LeaderEpoch(3),
        ..from(3)
    };
    let read = world.partition.read(&diverged).unwrap();
    assert_eq!(read.diverging, Some((LeaderEpoch(3), Offset(2))));
}

#[test]
fn offsets_between_high_watermark_and_log_end_are_empty_and_beyond_is_an_error() {
    let world = world(Durability::Commit);
    world.append(2).unwrap();
    assert_eq!(world.read(1).unwrap().size_bytes, 0);
    assert_eq!(world.read(2).unwrap().size_bytes, 0);
    let beyond = world.read(3).unwrap_err();
    assert!(matches!(
        beyond,
        PartitionError::Read(ReadError::OffsetOutOfRange { .. })
    ));
}

#[test]
fn a_closed_partition_says_what_the_checkpoints_need() {
    let world = world(Durability::Commit);
    world.append(4).unwrap();
    world.partition.close().unwrap();
    assert!(matches!(world.append(1), Err(PartitionError::NotHosted)));
    let marks = world.partition.checkpoint_marks().unwrap();
    assert_eq!(marks.recovery_point, Offset(4));
    assert_eq!(marks.high_watermark, Offset(4));
    world.partition.forget();
    assert!(!world.partition.is_hosted());
}

impl World {
    /// A read while nothing is in memory.
    fn cold(&self, offset: i64) -> ColdPart {
        self.partition.with(|inner, _| {
            inner.log_mut().unwrap().release_caches();
        });
        self.disk.set_resident(false);
        let read = self.partition.read_resident(&from(offset), None).unwrap();
        self.disk.set_resident(true);
        match read {
            Reading::Cold(cold) => cold,
            Reading::Found(found) => panic!("{found:?} was found in memory"),
        }
    }

    /// What it finds then by waiting.
    fn warmed(&self, offset: i64) -> Warmed {
        self.partition.warm(self.cold(offset))
    }

    fn read_with(&self, offset: i64, warmed: Warmed) -> PartitionRead {
        let read = self.partition.read_resident(&from(offset), Some(warmed));
        match read.unwrap() {
            Reading::Found(read) => read,
            Reading::Cold(cold) => panic!("{cold:?}"),
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // somebody must hang
fn a_cold_read_does_not_wait_for_whoever_has_the_lock_while_the_disk_hangs() {
    let world = world(Durability::Memory);
    world.append(2).unwrap();
    let place = world.partition.log_dir();
    place.hang.bound(1, std::time::Duration::from_millis(50));
    let cold = world.cold(0);
    let (held, over) = (std::sync::Barrier::new(2), AtomicBool::new(false));
    let hang = || {
        held.wait();
        (0..1_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            over.load(Ordering::SeqCst)
        })
    };
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| world.partition.with_lock(hang));
        held.wait();
        let warmed = world.partition.warm(cold);
        over.store(true, Ordering::SeqCst);
        assert!(hanging.join().unwrap(), "the read waited for the lock");
        assert_eq!(world.read_with(0, warmed).next_offset, Offset(2));
    });
}

/// What was read without the lock is used later: until then the log may have been cut and
/// written again.
#[test]
fn what_was_warmed_before_a_truncation_is_not_handed_out_after_it() {
    let world = world(Durability::Memory);
    for records in [1, 2, 3] {
        world.append(records).unwrap();
    }
    let warmed = world.warmed(1);
    world.partition.with(|inner, _| {
        let log = inner.log_mut().unwrap();
        log.truncate_to(Offset(1)).unwrap();
        let at = AppendAt {
            leader_epoch: LeaderEpoch(3),
            now_ms: 1_000,
            origin: Origin::Coordinator,
        };
        log.append(batch(5), &at).unwrap();
    });
    let read = world.read_with(1, warmed);
    let again = world.read(1).unwrap();
    assert_eq!(
        read.next_offset,
        Offset(6),
        "the one batch that is there now"
    );
    assert_eq!(read.size_bytes, again.size_bytes);
}

#[test]
fn what_was_warmed_is_used_while_the_log_is_the_same() {
    let world = world(Durability::Memory);
    world.append(2).unwrap();
    let warmed = world.warmed(0);
    world.append(1).unwrap();
    let read = world.read_with(0, warmed);
    assert_eq!(read.next_offset, Offset(2), "an append replaces nothing");
}
