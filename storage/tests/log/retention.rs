//! Retention against hand-counted logs: which segments go, which stay, and who may still read them.

use std::sync::Arc;

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, Disk, MemoryDisk, RealDisk};
use ottla_storage::log::{
    AppendAt, Expired, Log, LogConfig, LogError, OpenLog, Origin, Reason, Retention,
};

use super::world::{bytes_of, read_all};

const DIR: &str = "t-0";
const SIZE_BYTES: usize = 161;

fn config() -> LogConfig {
    LogConfig {
        // Two batches each.
        segment_size_bytes: 2 * SIZE_BYTES as u32 + 10,
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    }
}

fn append(log: &mut Log, timestamp: i64) {
    let mut builder = BatchBuilder::new();
    builder.append(timestamp, Some(b"k"), Some(&[7; 90]), &[]);
    let batch = builder.build().unwrap();
    let at = AppendAt {
        leader_epoch: LeaderEpoch(0),
        now_ms: 1_000,
        origin: Origin::Client {
            produce_version: 11,
        },
    };
    log.append(batch, &at).unwrap();
}

/// Seven batches of one record: segments at 0, 2, 4 and 6; record n has the timestamp 100 n.
fn log(disk: Arc<dyn Disk>, timestamp: impl Fn(i64) -> i64) -> Log {
    let mut log = Log::create(disk, DIR, TopicId::ZERO, config()).unwrap();
    for n in 0..7 {
        append(&mut log, timestamp(n));
    }
    assert_eq!(log.segment_count(), 4);
    checkpoint(&mut log);
    log
}

fn on_memory() -> Log {
    log(Arc::new(MemoryDisk::new()), |n| 100 * n)
}

fn checkpoint(log: &mut Log) {
    let work = log.begin_checkpoint();
    let result = work.run();
    log.finish_flush(work, result);
    assert_eq!(log.checkpointed_offset(), log.log_end_offset());
}

/// As a broker does it, without the file that it writes in between.
fn retain(log: &mut Log, retention: Retention, high_watermark: i64, now_ms: i64) -> Vec<Reason> {
    let expired = log.expired(&retention, Offset(high_watermark), now_ms);
    let Some(Expired {
        log_start_offset,
        segments,
    }) = expired.unwrap()
    else {
        return Vec::new();
    };
    log.advance_log_start_offset(log_start_offset).unwrap();
    checkpoint(log);
    let old = log.delete_segments_below_log_start().unwrap();
    assert_eq!(old.segments, segments.len());
    let size_bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(old.size_bytes, size_bytes);
    old.remove().unwrap();
    log.check_invariants();
    segments.into_iter().map(|(reason, _)| reason).collect()
}

fn by_age(max_age_ms: i64) -> Retention {
    Retention {
        max_age_ms: Some(max_age_ms),
        max_bytes: None,
    }
}

fn by_size(max_bytes: u64) -> Retention {
    Retention {
        max_age_ms: None,
        max_bytes: Some(max_bytes),
    }
}

#[test]
fn segments_go_when_their_youngest_record_is_too_old() {
    let mut log = on_memory();
    // Record 1 is as old as allowed, record 3 is younger.
    assert_eq!(retain(&mut log, by_age(900), 7, 1_000), []);
    assert_eq!(retain(&mut log, by_age(899), 7, 1_000), [Reason::Age]);
    assert_eq!(log.log_start_offset(), Offset(2));
    assert_eq!(log.segment_count(), 3);
    let wanted = [Reason::Age, Reason::Age];
    assert_eq!(retain(&mut log, by_age(450), 7, 1_000), wanted);
    assert_eq!(log.log_start_offset(), Offset(6));
}

#[test]
fn segments_go_as_long_as_the_log_stays_as_large_as_asked() {
    let mut log = on_memory();
    let total = log.size_bytes();
    let segment = total - 5 * total / 7;
    assert_eq!(retain(&mut log, by_size(total - segment + 1), 7, 0), []);
    assert_eq!(
        retain(&mut log, by_size(total - segment), 7, 0),
        [Reason::Size]
    );
    assert_eq!(log.size_bytes(), total - segment);
    // The active segment alone is too small to be given up for that limit.
    let wanted = [Reason::Size, Reason::Size];
    assert_eq!(retain(&mut log, by_size(1), 7, 0), wanted);
    assert_eq!(log.segment_count(), 1);
}

#[test]
fn nothing_at_or_above_the_high_watermark_goes() {
    let mut log = on_memory();
    assert_eq!(retain(&mut log, by_age(0), 3, 1_000_000), [Reason::Age]);
    assert_eq!(log.log_start_offset(), Offset(2));
    assert_eq!(retain(&mut log, by_size(0), 6, 0).len(), 2);
    assert_eq!(log.log_start_offset(), Offset(6));
}

#[test]
fn when_all_segments_are_too_old_the_active_one_is_sealed_and_goes_as_well() {
    for retention in [by_age(0), by_size(0)] {
        let disk = Arc::new(MemoryDisk::new());
        let mut log = log(disk.clone(), |n| 100 * n);
        assert_eq!(retain(&mut log, retention, 7, 1_000_000).len(), 4);
        assert_eq!(log.log_start_offset(), Offset(7));
        assert_eq!((log.size_bytes(), log.segment_count()), (0, 1));
        // An empty log is not rolled again and again.
        assert_eq!(retain(&mut log, retention, 7, 2_000_000), []);
        append(&mut log, 5);
        assert_eq!(log.log_end_offset(), Offset(8));
        checkpoint(&mut log);
        let open = OpenLog {
            recovery_point: log.checkpointed_offset(),
            log_start_offset: Offset(7),
            clean: false,
            synced: false,
        };
        let (again, report) = Log::open(disk, DIR, config(), open, 0).unwrap();
        assert!(report.damage.is_empty());
        assert_eq!(again.log_start_offset(), Offset(7));
        assert_eq!(read_all(&again), read_all(&log));
    }
}

#[test]
fn segments_below_a_log_start_that_was_raised_go_whatever_the_policy_keeps() {
    let mut log = on_memory();
    log.advance_log_start_offset(Offset(5)).unwrap();
    let keep = Retention::default();
    assert_eq!(
        retain(&mut log, keep, 7, 0),
        [Reason::LogStart, Reason::LogStart]
    );
    assert_eq!(log.log_start_offset(), Offset(5), "inside a segment");
    assert_eq!(log.segment_count(), 2);
    log.advance_log_start_offset(Offset(7)).unwrap();
    assert_eq!(retain(&mut log, keep, 7, 0), [Reason::LogStart]);
    assert_eq!(log.segment_count(), 1, "the active segment stays");
}

#[test]
fn a_record_from_the_future_keeps_its_segment_and_those_behind_it() {
    let mut log = log(Arc::new(MemoryDisk::new()), |n| {
        if n == 2 { 1_000_000 } else { 100 * n }
    });
    assert_eq!(retain(&mut log, by_age(100), 7, 2_000), [Reason::Age]);
    assert_eq!(log.log_start_offset(), Offset(2));
}

#[test]
fn what_is_not_checkpointed_is_not_deleted_yet() {
    let mut log = Log::create(Arc::new(MemoryDisk::new()), DIR, TopicId::ZERO, config()).unwrap();
    for n in 0..7 {
        append(&mut log, n);
    }
    log.advance_log_start_offset(Offset(6)).unwrap();
    assert!(log.delete_segments_below_log_start().unwrap().is_empty());
    assert!(log.has_segments_below_log_start());
    checkpoint(&mut log);
    assert_eq!(log.delete_segments_below_log_start().unwrap().segments, 3);
}

fn real_disk() -> (tempfile::TempDir, Arc<RealDisk>) {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(root.path(), &Budget::new(4, 16)).unwrap();
    (root, Arc::new(disk))
}

#[test]
fn segments_without_timestamps_are_as_old_as_their_files() {
    let (_root, disk) = real_disk();
    let mut log = log(disk.clone(), |_| -1);
    let now_ms = disk
        .modified_ms("t-0/00000000000000000006.log")
        .unwrap()
        .unwrap();
    assert_eq!(retain(&mut log, by_age(60_000), 7, now_ms), []);
    disk.set_modified_ms("t-0/00000000000000000000.log", now_ms - 60_001)
        .unwrap();
    assert_eq!(retain(&mut log, by_age(60_000), 7, now_ms), [Reason::Age]);
}

#[test]
fn a_reader_of_a_deleted_segment_gets_its_bytes_and_the_next_one_is_told() {
    let (root, disk) = real_disk();
    let mut log = log(disk, |n| 100 * n);
    let wanted = read_all(&log);
    let reads: Vec<_> = (0..7)
        .map(|n| log.read(Offset(n), 1, Offset(7), true).unwrap())
        .collect();
    assert_eq!(retain(&mut log, by_age(0), 6, 1_000_000).len(), 3);
    let names = std::fs::read_dir(root.path().join(DIR)).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names.iter().all(|name| *name >= *"00000000000000000006"),
        "{names:?}"
    );
    let read: Vec<u8> = reads.iter().flat_map(bytes_of).collect();
    assert_eq!(read, wanted);
    assert!(log.read(Offset(5), 1, Offset(7), true).is_err());
    assert!(matches!(
        log.advance_log_start_offset(Offset(8)),
        Err(LogError::OffsetOutOfRange { .. })
    ));
}
