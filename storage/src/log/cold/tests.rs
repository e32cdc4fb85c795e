//! Reads that must not wait: they never do, and what is read for them is what a read would give.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ottla_protocol::types::{Offset, TopicId};
use uuid::Uuid;

use super::super::tests::{batch, batches_of, bytes_of, client};
use super::super::{ByTime, LogConfig, OpenLog, ReadError};
use super::*;
use crate::disk::MemoryDisk;

/// Twenty segments of five batches, which are indexed one by one.
fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 5 * batch(3, 0, 100).size_bytes() as u32,
        index_interval_bytes: 1,
        ..LogConfig::default()
    }
}

fn log(disk: &MemoryDisk) -> Log {
    let id = TopicId(Uuid::from_u128(7));
    let mut log = Log::create(Arc::new(disk.clone()), "t-0", id, config()).unwrap();
    for n in 0..100 {
        log.append(batch(3, n, 100), &client(n)).unwrap();
    }
    assert_eq!(log.segment_count(), 20);
    log
}

/// The log after its process ended: no file is open, no index loaded.
fn reopened(disk: &MemoryDisk, mut log: Log) -> Log {
    log.close().unwrap();
    let open = OpenLog {
        recovery_point: log.log_end_offset(),
        log_start_offset: Offset(0),
        clean: true,
        synced: false,
    };
    Log::open(Arc::new(disk.clone()), "t-0", config(), open, 0)
        .unwrap()
        .0
}

fn cold<T: std::fmt::Debug>(read: Result<Resident<T>, ReadError>) -> Box<ColdRead> {
    match read.unwrap() {
        Resident::Cold(cold) => cold,
        Resident::Found(found) => panic!("{found:?} was found in memory"),
    }
}

fn found<T: std::fmt::Debug>(read: Result<Resident<T>, ReadError>) -> T {
    match read.unwrap() {
        Resident::Found(found) => found,
        Resident::Cold(cold) => panic!("{cold:?} is cold"),
    }
}

#[test]
fn what_is_read_later_is_what_a_read_that_waits_gives() {
    let disk = MemoryDisk::new();
    let log = log(&disk);
    let size = batch(3, 0, 100).size_bytes() as u32;
    for from in 0..300 {
        for (max_bytes, upper) in [
            (1, 300),
            (size * 3, 300),
            (size * 12, 151),
            (size * 90, 290),
        ] {
            let (from, upper) = (Offset(from), Offset(upper));
            let wanted = log.read(from, max_bytes, upper, true).unwrap();
            disk.set_resident(false);
            let waited = disk.waiting_reads();
            let read = log.read_resident(from, max_bytes, upper, true);
            assert_eq!(disk.waiting_reads(), waited, "it must not wait");
            if from >= upper {
                assert!(found(read).data.is_empty());
                continue;
            }
            let later = cold(read).run().unwrap().unwrap();
            disk.set_resident(true);
            let waited = disk.waiting_reads();
            let now = found(log.read_resident(from, max_bytes, upper, true));
            assert_eq!(disk.waiting_reads(), waited);
            for read in [later, now] {
                assert_eq!(bytes_of(&read), bytes_of(&wanted));
                assert_eq!(read.next_offset, wanted.next_offset);
            }
        }
        disk.set_resident(true);
    }
}

#[test]
fn what_was_loaded_is_kept_and_the_next_read_need_not_wait() {
    let disk = MemoryDisk::new();
    let written = log(&disk);
    let mut log = reopened(&disk, written);
    let read = |log: &Log| log.read_resident(Offset(31), 100, Offset(300), true);
    let waited = disk.waiting_reads();
    let work = cold(read(&log));
    assert_eq!(disk.waiting_reads(), waited, "nor for an index");
    let first = work.run().unwrap().unwrap();
    assert!(log.adopt(*work));
    let waited = disk.waiting_reads();
    let second = found(read(&log));
    assert_eq!(disk.waiting_reads(), waited);
    assert_eq!(batches_of(&first), [(30, 32)]);
    assert_eq!(bytes_of(&second), bytes_of(&first));
}

#[test]
fn a_handle_that_was_given_back_is_opened_later() {
    let disk = MemoryDisk::new();
    let mut log = reopened(&disk, log(&disk));
    log.read(Offset(31), 100, Offset(300), true).unwrap();
    let at = log.segment_of(Offset(31));
    let index = log.segments[at].loaded_index().unwrap().clone();
    let entries = index.offsets.len();
    assert!(entries > 1);
    log.segments[at].release(true);
    log.segments[at].set_index(index);
    let work = cold(log.read_resident(Offset(31), 100, Offset(300), true));
    work.run().unwrap();
    assert!(log.adopt(*work));
    let index = log.segments[at].loaded_index().unwrap();
    assert_eq!(index.offsets.len(), entries, "the whole index stays");
    found(log.read_resident(Offset(31), 100, Offset(300), true));
}

#[test]
fn damage_is_found_by_the_read_that_waits() {
    let disk = MemoryDisk::new();
    let log = log(&disk);
    let segment = &log.segments[log.segment_of(Offset(30))];
    disk.corrupt(&segment.path("t-0"), 16, &[9]).unwrap();
    disk.set_resident(false);
    let error = cold(log.read_resident(Offset(30), 100, Offset(300), true)).run();
    assert!(matches!(error, Err(ReadError::Corrupt { .. })), "{error:?}");
}

#[test]
fn a_log_whose_files_were_cut_adopts_nothing() {
    let disk = MemoryDisk::new();
    let mut log = log(&disk);
    disk.set_resident(false);
    let work = cold(log.read_resident(Offset(150), 100, Offset(300), true));
    log.truncate_to(Offset(150)).unwrap();
    assert!(!log.adopt(*work));
    let other = MemoryDisk::new();
    let (mut other, work) = (
        self::log(&other),
        cold(log.read_resident(Offset(0), 100, Offset(150), true)),
    );
    assert!(!other.adopt(*work), "nor does another log");
}

#[test]
fn aborted_transactions_are_loaded_without_the_log_too() {
    let disk = MemoryDisk::new();
    let mut log = reopened(&disk, log(&disk));
    let asked = |log: &Log| log.aborted_transactions_resident(Offset(0), Offset(300));
    let waited = disk.waiting_reads();
    let work = cold(asked(&log));
    assert_eq!(disk.waiting_reads(), waited);
    assert!(work.run().unwrap().is_none());
    assert!(log.adopt(*work));
    assert!(found(asked(&log)).is_empty());
}

#[test]
fn a_search_by_time_needs_no_lock_and_waits_on_its_own_thread_only() {
    let disk = MemoryDisk::new();
    let log = reopened(&disk, log(&disk));
    disk.set_resident(false);
    for (by, upper) in [
        (ByTime::AtLeast(37), 300),
        (ByTime::AtLeast(0), 300),
        (ByTime::AtLeast(37), 100),
        (ByTime::AtLeast(1_000), 300),
        (ByTime::Youngest, 300),
    ] {
        let waited = disk.waiting_reads();
        let search = log.search_by_time(by, Offset(upper));
        assert_eq!(disk.waiting_reads(), waited, "making it must not wait");
        let found = search.run().unwrap();
        assert!(log.adopt_search(search));
        // The record at 3n + k is of the time n + k.
        let wanted = match by {
            ByTime::AtLeast(0) => Some(0),
            ByTime::AtLeast(timestamp) => Some(3 * timestamp - 4),
            ByTime::Youngest => Some(299),
        };
        let wanted = wanted.filter(|offset| *offset < upper);
        assert_eq!(
            found.map(|found| found.offset.0),
            wanted,
            "{by:?} below {upper}"
        );
    }
    assert!(log.segments.iter().all(|one| one.loaded_index().is_some()));
}

#[test]
fn a_search_by_time_that_was_overtaken_counts_for_nothing() {
    let disk = MemoryDisk::new();
    let mut log = log(&disk);
    let search = log.search_by_time(ByTime::AtLeast(50), Offset(300));
    log.truncate_to(Offset(120)).unwrap();
    assert!(!log.adopt_search(search), "what it has found may be gone");
    let search = log.search_by_time(ByTime::AtLeast(10), Offset(120));
    log.advance_log_start_offset(Offset(60)).unwrap();
    let checkpoint = log.begin_checkpoint();
    let result = checkpoint.run();
    log.finish_flush(checkpoint, result);
    let gone = log.delete_segments_below_log_start().unwrap();
    assert!(gone.segments > 0);
    assert!(!log.adopt_search(search), "its files may be gone");
}
