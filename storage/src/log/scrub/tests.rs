//! The scrub on the memory disk: what it finds, what readers get then, and what it leaves alone.

use std::sync::Arc;

use ottla_protocol::types::TopicId;
use uuid::Uuid;

use super::*;
use crate::disk::memory::{InjectedError, Injection, Operation};
use crate::disk::{Disk, MemoryDisk};
use crate::log::error::ReadError;
use crate::log::tests::{batch, batches_of, client};
use crate::log::{LogConfig, OpenLog};

fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 4 << 10,
        index_interval_bytes: 500,
        ..LogConfig::default()
    }
}

fn written() -> (MemoryDisk, Log) {
    let disk = MemoryDisk::new();
    let id = TopicId(Uuid::from_u128(7));
    let mut log = Log::create(Arc::new(disk.clone()), "t-0", id, config()).unwrap();
    for step in 0..50 {
        log.append(batch(2, step, 150), &client(1_000)).unwrap();
    }
    log.close().unwrap();
    log.release_caches();
    (disk, log)
}

/// A whole pass; what is new of what it found.
fn scrub(log: &mut Log) -> (u64, Vec<DamagedPlace>) {
    let (mut at, mut batches, mut new) = (Offset::ZERO, 0, Vec::new());
    while let Some(work) = log.scrub_work(at).unwrap() {
        let found = work.run(&mut |_| true).unwrap();
        assert!(found.finished);
        batches += found.batches;
        new.extend(log.note_scrubbed(&work, &found));
        at = work.end();
    }
    assert_eq!(Some(at), log.active_segment_base());
    (batches, new)
}

fn read_from(log: &Log, mut at: Offset) -> (Vec<(i64, i64)>, Option<ReadError>) {
    let (end, mut found) = (log.log_end_offset(), Vec::new());
    while at < end {
        match log.read(at, 100_000, end, true) {
            Ok(read) => {
                found.extend(batches_of(&read));
                at = read.next_offset;
            }
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

#[test]
fn every_sealed_batch_is_read_and_a_sound_log_is_left_as_it_is() {
    let (_disk, mut log) = written();
    let (batches, new) = scrub(&mut log);
    assert!((40..50).contains(&batches), "{batches}");
    assert_eq!((new, log.damaged()), (Vec::new(), &[][..]));
}

#[test]
fn damage_has_a_place_is_told_once_and_readers_are_served_around_it() {
    let (disk, mut log) = written();
    let path = "t-0/00000000000000000000.log";
    // The header of the fourth batch: its length, and with it where the next one starts, is lost.
    let size = batch(2, 0, 150).size_bytes() as u64;
    disk.corrupt(path, 3 * size + 8, &[0x7f; 4]).unwrap();
    let (_, new) = scrub(&mut log);
    assert_eq!(new.len(), 1);
    assert_eq!(
        (new[0].path.as_str(), new[0].bytes),
        (path, (3 * size, 4 * size))
    );
    assert_eq!(new[0].offsets, (Offset(6), Offset(8)));
    assert_eq!(scrub(&mut log).1, []);

    let (before, error) = read_from(&log, Offset::ZERO);
    assert_eq!(before, [(0, 1), (2, 3), (4, 5)]);
    let error = error.unwrap();
    assert!(matches!(
        &error,
        ReadError::Corrupt { path: at, position, .. } if at == path && *position == 3 * size
    ));
    assert!(log.read(Offset(7), 100, Offset(100), true).is_err());
    let (after, error) = read_from(&log, Offset(8));
    assert!(error.is_none());
    assert_eq!(
        (after.first(), after.last()),
        (Some(&(8, 9)), Some(&(98, 99)))
    );
}

#[test]
fn a_wrong_checksum_is_not_served_once_it_is_known() {
    let (disk, mut log) = written();
    let size = batch(2, 0, 150).size_bytes() as u64;
    let second = log.scrub_work(Offset::ZERO).unwrap().unwrap().end();
    let path = format!("t-0/{:020}.log", second.0);
    disk.corrupt(&path, 2 * size - 5, b"z").unwrap();
    let (_, new) = scrub(&mut log);
    let lost = (Offset(second.0 + 2), Offset(second.0 + 4));
    assert_eq!(
        (new.len(), new[0].offsets, new[0].fault),
        (1, lost, Fault::Crc)
    );
    let (before, error) = read_from(&log, Offset::ZERO);
    assert!(error.is_some());
    assert_eq!(before.last().unwrap().1 + 1, lost.0.0);
    assert!(read_from(&log, lost.1).1.is_none());
    // Truncation below it makes it void.
    log.truncate_to(Offset(1)).unwrap();
    assert_eq!(log.damaged(), []);
}

#[test]
fn a_pass_can_be_ended_at_any_time_and_believes_nothing_about_replaced_files() {
    let (disk, mut log) = written();
    let work = log.scrub_work(Offset::ZERO).unwrap().unwrap();
    assert!(!work.run(&mut |_| false).unwrap().finished);
    disk.corrupt("t-0/00000000000000000000.log", 70, b"zz")
        .unwrap();
    let found = work.run(&mut |_| true).unwrap();
    assert_eq!(found.damaged.len(), 1);
    log.truncate_to(Offset(1)).unwrap();
    assert_eq!(log.note_scrubbed(&work, &found), []);
}

#[test]
fn what_recovery_left_in_place_is_known_from_the_start() {
    let (disk, log) = written();
    let end = log.log_end_offset();
    drop(log);
    let size = batch(2, 0, 150).size_bytes() as u64;
    let last = disk.list("t-0").unwrap();
    let last = last
        .iter()
        .rfind(|entry| entry.name.ends_with(".log"))
        .unwrap();
    let path = format!("t-0/{}", last.name);
    let base: i64 = last.name[..20].parse().unwrap();
    disk.corrupt(&path, size + 8, &[0x7f; 4]).unwrap();
    for name in ["index", "timeindex"] {
        disk.remove(&format!("t-0/{:020}.{name}", base)).unwrap();
    }
    let open = OpenLog {
        recovery_point: end,
        log_start_offset: Offset::ZERO,
        clean: true,
        synced: false,
    };
    let (log, report) = Log::open(Arc::new(disk), "t-0", config(), open, 0).unwrap();
    assert!(report.is_corrupt());
    assert_eq!(log.log_end_offset(), end);
    assert_eq!(log.damaged().len(), 1);
    let (before, error) = read_from(&log, Offset(base));
    assert!(before.len() == 1 && error.is_some());
    assert!(read_from(&log, Offset(base + 4)).1.is_none());
}

#[test]
fn what_the_disk_cannot_read_is_named_with_its_file_and_its_place() {
    let (disk, mut log) = written();
    log.release_caches();
    let work = log.scrub_work(Offset::ZERO).unwrap().unwrap();
    let error = Injection::once(Operation::Read, InjectedError::Io);
    disk.inject(error.on("t-0/00000000000000000000.log"));
    let error = work.run(&mut |_| true).unwrap_err().to_string();
    assert!(
        error.starts_with("t-0/00000000000000000000.log cannot be read from 0 on"),
        "{error}"
    );
}
