//! Readers and a writer beside rounds, on a real disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, RealDisk};
use ottla_storage::log::compact::{CompactionLimits, CompactionPolicy, LogAccess, compact};
use ottla_storage::log::{AppendAt, Log, LogConfig, OldFiles, Origin};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::checks::batches_of;
use super::world::{DIR, Shared};
use crate::world::{bytes_of, read_all};

/// Readers and a writer on a real disk while rounds, deletions and checkpoints go on.
#[test]
fn readers_beside_rounds_never_see_torn_reordered_or_returning_records() {
    let root = tempfile::tempdir().unwrap();
    // Few descriptors: files are closed and opened again all the time.
    let disk = RealDisk::open(root.path(), &Budget::new(3, 4)).unwrap();
    let config = LogConfig {
        segment_size_bytes: 4_000,
        index_interval_bytes: 200,
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    };
    let log = Log::create(Arc::new(disk), DIR, TopicId::ZERO, config).unwrap();
    let (log, stop) = (Shared(Mutex::new(Some(log))), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (log, stop) = (&log, &stop);
            scope.spawn(move || read_until(log, stop, reader));
        }
        scope.spawn(|| write_until(&log, &stop));
        let mut rounds = 0;
        let started = std::time::Instant::now();
        while rounds < 60 && started.elapsed().as_secs() < 20 {
            let flush = log.with_log(|log| log.begin_checkpoint()).unwrap();
            let result = flush.run();
            log.with_log(|log| log.finish_flush(flush, result));
            let policy = CompactionPolicy {
                min_lag_ms: 0,
                max_lag_ms: i64::MAX,
            };
            let cleanable = log.with_log(|log| {
                let end = log.recovery_point();
                log.cleanable(&policy, end, 1).unwrap()
            });
            let limits = CompactionLimits {
                map_memory_bytes: 1 << 16,
                map_load_factor: 0.9,
                io_buffer_bytes: 64 << 10,
                delete_retention_ms: 0,
                now_ms: 1,
                hash_key: (1, 2),
            };
            let mut remove = |old: OldFiles| old.remove().unwrap();
            compact(
                &log,
                &cleanable.unwrap(),
                limits,
                &mut |_| true,
                &mut remove,
            )
            .unwrap();
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(rounds > 5, "{rounds}");
    });
    let log = log.0.lock().take().unwrap();
    let bytes = read_all(&log);
    let mut keys = BTreeSet::new();
    let first_dirty = log.compacted_to().0;
    for (_, entries) in batches_of(&bytes) {
        for (offset, entry) in entries {
            assert!(offset >= first_dirty || keys.insert(entry.key), "{offset}");
        }
    }
}

fn write_until(log: &Shared, stop: &AtomicBool) {
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let mut builder = BatchBuilder::new();
        for _ in 0..3 {
            let key = [(n % 37) as u8];
            builder.append(1, Some(&key), Some(&n.to_be_bytes()), &[]);
            n += 1;
        }
        let at = AppendAt {
            leader_epoch: LeaderEpoch(0),
            now_ms: 1,
            origin: Origin::Coordinator,
        };
        let batch = builder.build().unwrap();
        log.with_log(|log| log.append(batch, &at)).unwrap().unwrap();
        if n.is_multiple_of(30) {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
}

/// The value of a record is its offset, so a torn or misplaced one shows.
fn read_until(log: &Shared, stop: &AtomicBool, reader: u64) {
    let mut rng = StdRng::seed_from_u64(reader);
    let mut gone: BTreeSet<i64> = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let (from, read, end) = log
            .with_log(|log| {
                let end = log.log_end_offset();
                let from = Offset(rng.random_range(0..=end.0));
                (from, log.read(from, 3_000, end, true).unwrap(), end)
            })
            .unwrap();
        // The bytes are fetched later, without the lock, as a connection does.
        std::thread::yield_now();
        let bytes = bytes_of(&read);
        let mut seen = BTreeSet::new();
        for (_, entries) in batches_of(&bytes) {
            for (offset, entry) in entries {
                assert_eq!(entry.value.unwrap(), (offset as u64).to_be_bytes());
                assert_eq!(entry.key.unwrap(), [(offset as u64 % 37) as u8]);
                assert!(!gone.contains(&offset), "{offset} came back");
                seen.insert(offset);
            }
        }
        assert!(
            from == end || read.next_offset > from,
            "a read makes progress"
        );
        gone.extend((from.0..read.next_offset.0).filter(|offset| !seen.contains(offset)));
    }
}
