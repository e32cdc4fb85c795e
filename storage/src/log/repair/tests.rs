//! Repairs on the memory disk: what is left is a log that opens, checks sound and serves the rest;
//! what is taken out is in the quarantine; a crash at any point can be repaired again.

use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression};
use ottla_protocol::types::{ProducerId, TopicId};
use uuid::Uuid;

use super::*;
use crate::disk::memory::Crash;
use crate::disk::{MemoryDisk, read_file};
use crate::log::inspect::check_partition;
use crate::log::inspect::dump::{self, Item};
use crate::log::tests::{batches_of, client};
use crate::log::{Log, LogConfig, OpenLog};

fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 4 << 10,
        index_interval_bytes: 500,
        ..LogConfig::default()
    }
}

/// 60 batches of two records in several segments, closed and synced.
fn written() -> (MemoryDisk, Offset) {
    let disk = MemoryDisk::new();
    let id = TopicId(Uuid::from_u128(7));
    let mut log = Log::create(Arc::new(disk.clone()), "t-0", id, config()).unwrap();
    log.assign_leader_epoch(LeaderEpoch(0));
    for step in 0..60 {
        let codec = Compression::ALL[(step % 5) as usize];
        let mut builder = BatchBuilder::new().compression(codec);
        builder = builder.producer(ProducerId(4), 0, step * 2);
        builder.append(i64::from(step), Some(b"k"), Some(&[b'x'; 300]), &[]);
        builder.append(i64::from(step) + 1, None, Some(b"y"), &[]);
        log.append(builder.build().unwrap(), &client(1_000))
            .unwrap();
    }
    log.close().unwrap();
    (disk, log.log_end_offset())
}

fn expected(end: Offset) -> Expected {
    Expected {
        recovery_point: end,
        ..Expected::default()
    }
}

fn check(disk: &MemoryDisk, end: Offset) -> PartitionCheck {
    check_partition(disk, "t-0", expected(end), &mut |_| {}).unwrap()
}

fn mend(
    disk: &MemoryDisk,
    end: Offset,
    on_damage: OnDamage,
    dry_run: bool,
) -> Result<Repaired, RepairError> {
    let options = RepairOptions {
        on_damage,
        index_interval_bytes: 500,
        dry_run,
        seal: false,
    };
    repair(disk, "t-0", expected(end), &check(disk, end), options)
}

/// A start after a sealing repair trusts the ends of all segments but the last.
#[test]
fn a_sealing_repair_cuts_zeros_off_and_any_other_leaves_them_to_the_start() {
    let (disk, end) = written();
    let lens = |disk: &MemoryDisk| -> Vec<u64> {
        let len = |log: &String| disk.open(log).unwrap().len_bytes().unwrap();
        logs(disk).iter().map(len).collect()
    };
    let before = lens(&disk);
    let longer: Vec<u64> = before.iter().map(|len| len + 700).collect();
    for (log, len) in logs(&disk).iter().zip(&longer) {
        disk.open(log).unwrap().truncate(*len).unwrap();
    }
    mend(&disk, end, OnDamage::Refuse, false).unwrap();
    assert_eq!(lens(&disk), longer);
    let sound = check(&disk, end);
    let options = |dry_run| RepairOptions {
        on_damage: OnDamage::Refuse,
        index_interval_bytes: 500,
        dry_run,
        seal: true,
    };
    for (dry_run, wanted) in [(true, &longer), (false, &before)] {
        let done = repair(&disk, "t-0", expected(end), &sound, options(dry_run)).unwrap();
        let cuts = done.steps.iter();
        let cuts = cuts.filter(|step| step.what.starts_with("700 zeros"));
        assert_eq!(cuts.count(), before.len(), "{:?}", done.steps);
        assert_eq!(lens(&disk), *wanted, "dry run: {dry_run}");
    }
    assert_eq!(check(&disk, end).findings, []);
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert_eq!(lens(&disk), before);
    assert_eq!(served(&disk, end, Offset(0)).len(), 60);
}

fn logs(disk: &MemoryDisk) -> Vec<String> {
    let entries = disk.list("t-0").unwrap();
    let names = entries
        .into_iter()
        .map(|entry| format!("t-0/{}", entry.name));
    names.filter(|name| name.ends_with(".log")).collect()
}

/// Position, first offset and end of the batch at this place in a segment.
fn batch_at(disk: &MemoryDisk, log: &str, at: usize) -> (u64, Offset, Offset) {
    let base = segment_base(log).unwrap();
    let mut all = Vec::new();
    dump::segment(&*disk.open(log).unwrap(), base, &mut |item| {
        if let Item::Batch {
            position, header, ..
        } = item
        {
            all.push((*position, header.base_offset, header.last_offset().next()));
        }
        true
    })
    .unwrap();
    all[at]
}

/// Two damaged places: one in the first segment, one in the second.
fn damage(disk: &MemoryDisk) -> [(Offset, Offset); 2] {
    let logs = logs(disk);
    let mut places = [(Offset(0), Offset(0)); 2];
    for (at, log) in logs[..2].iter().enumerate() {
        let (position, from, until) = batch_at(disk, log, 2);
        disk.corrupt(log, position + 65, &[0xee; 9]).unwrap();
        places[at] = (from, until);
    }
    places
}

/// Opens the log as a broker does after a crash and reads it from an offset to its end.
fn served(disk: &MemoryDisk, end: Offset, from: Offset) -> Vec<(i64, i64)> {
    let open = OpenLog {
        recovery_point: end,
        log_start_offset: Offset::ZERO,
        clean: false,
        synced: false,
    };
    let (log, report) = Log::open(Arc::new(disk.clone()), "t-0", config(), open, 0).unwrap();
    assert!(!report.is_corrupt(), "{report:?}");
    assert_eq!(log.log_end_offset(), end);
    let (mut at, mut found) = (from, Vec::new());
    while at < end {
        let read = log.read(at, 1_000, end, true).unwrap();
        assert!(read.next_offset > at, "stuck at {at}");
        found.extend(batches_of(&read));
        at = read.next_offset;
    }
    found
}

#[test]
fn damage_is_left_alone_until_somebody_says_what_to_do() {
    let (disk, end) = written();
    damage(&disk);
    let before: Vec<_> = logs(&disk)
        .iter()
        .map(|log| read_file(&disk, log, 1 << 20))
        .collect();
    let refused = mend(&disk, end, OnDamage::Refuse, false);
    assert!(matches!(refused, Err(RepairError::Choice(_))));
    let dry = mend(&disk, end, OnDamage::Skip, true).unwrap();
    assert!(dry.steps.iter().any(|step| step.kept.is_some()), "{dry:?}");
    let after: Vec<_> = logs(&disk)
        .iter()
        .map(|log| read_file(&disk, log, 1 << 20))
        .collect();
    let bytes = |files: Vec<io::Result<Vec<u8>>>| files.into_iter().map(Result::unwrap);
    assert!(bytes(before).eq(bytes(after)));
    assert!(!disk.exists("t-0/quarantine").unwrap());
}

#[test]
fn skipping_keeps_every_offset_and_everything_that_can_be_read() {
    let (disk, end) = written();
    let lost = damage(&disk);
    let repaired = mend(&disk, end, OnDamage::Skip, false).unwrap();
    assert_eq!(repaired.end_offset, end);
    assert_eq!(check(&disk, end).findings, []);
    let found = served(&disk, end, Offset::ZERO);
    // Whole: the damaged offsets are there as empty batches.
    let mut next = 0;
    for (from, last) in &found {
        assert_eq!(*from, next);
        next = last + 1;
    }
    assert_eq!(next, end.0);
    let check = check(&disk, end);
    assert_eq!(check.records, 120 - 4);
    for (from, until) in lost {
        assert!(found.contains(&(from.0, until.0 - 1)));
    }
    assert_eq!(
        disk.list("t-0/quarantine").unwrap().len(),
        repaired.steps.iter().filter(|s| s.kept.is_some()).count()
    );
}

#[test]
fn truncating_ends_the_log_before_the_damage_and_keeps_the_rest_aside() {
    let (disk, end) = written();
    let lost = damage(&disk);
    let before: u64 = logs(&disk)
        .iter()
        .map(|log| disk.open(log).unwrap().len_bytes().unwrap())
        .sum();
    let repaired = mend(&disk, end, OnDamage::Truncate, false).unwrap();
    assert_eq!(repaired.end_offset, lost[0].0);
    let found = served(&disk, repaired.end_offset, Offset::ZERO);
    assert_eq!(found.last().unwrap().1 + 1, lost[0].0.0);
    let left = disk.open(&logs(&disk)[0]).unwrap().len_bytes().unwrap();
    let aside = disk.list("t-0/quarantine").unwrap();
    let aside: u64 = aside
        .iter()
        .filter(|e| e.name.contains(".log"))
        .map(|e| e.len_bytes)
        .sum();
    assert_eq!(left + aside, before);
    assert_eq!(check(&disk, repaired.end_offset).findings, []);
}

#[test]
fn a_missing_segment_becomes_an_empty_batch() {
    let (disk, end) = written();
    disk.remove(&logs(&disk)[1]).unwrap();
    let repaired = mend(&disk, end, OnDamage::Skip, false).unwrap();
    assert_eq!(repaired.end_offset, end);
    let found = served(&disk, end, Offset::ZERO);
    assert!(
        found.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0),
        "{found:?}"
    );
}

#[test]
fn derived_files_are_written_anew_as_they_were() {
    let (disk, end) = written();
    let entries = disk.list("t-0").unwrap();
    let derived = entries
        .iter()
        .filter(|e| !e.name.ends_with(".log") && e.len_bytes > 12);
    let derived: Vec<_> = derived.filter(|e| e.name != "partition.metadata").collect();
    assert!(derived.len() > 6);
    for entry in derived {
        let file = format!("t-0/{}", entry.name);
        let good = read_file(&disk, &file, 1 << 20).unwrap();
        disk.corrupt(&file, 5, &[good[5] ^ 3]).unwrap();
        assert_ne!(check(&disk, end).findings, [], "{file}");
        mend(&disk, end, OnDamage::Refuse, false).unwrap();
        assert_eq!(check(&disk, end).findings, [], "{file}");
        if !file.ends_with(".snapshot") {
            assert_eq!(read_file(&disk, &file, 1 << 20).unwrap(), good, "{file}");
        }
    }
    served(&disk, end, Offset::ZERO);
}

#[test]
fn a_crash_at_any_point_of_a_repair_can_be_repaired_again() {
    for choice in [OnDamage::Skip, OnDamage::Truncate] {
        let (whole, end) = written();
        let lost = damage(&whole);
        let before = whole.operations();
        mend(&whole, end, choice, false).unwrap();
        for halted in 0..whole.operations() - before {
            let (disk, end) = written();
            damage(&disk);
            disk.halt_after(halted);
            let _ = mend(&disk, end, choice, false);
            disk.crash(match halted % 2 {
                0 => Crash::PowerLossOfAllUnsynced,
                _ => Crash::PowerLoss { seed: halted },
            });
            let repaired = mend(&disk, end, choice, false).unwrap();
            let wanted = match choice {
                OnDamage::Truncate => lost[0].0,
                _ => end,
            };
            assert_eq!(
                repaired.end_offset, wanted,
                "{choice:?} halted after {halted}"
            );
            assert_eq!(
                check(&disk, wanted).findings,
                [],
                "{choice:?} halted after {halted}"
            );
        }
    }
}
