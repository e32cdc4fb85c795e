//! The check on the memory disk: a sound log has no findings, and each kind of damage exactly its
//! own, at its place.

use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression};
use ottla_protocol::types::{LeaderEpoch, ProducerId, TopicId};
use uuid::Uuid;

use super::*;
use crate::disk::{MemoryDisk, read_file};
use crate::log::{AppendAt, Log, LogConfig, Origin};

fn at(epoch: i32) -> AppendAt {
    AppendAt {
        leader_epoch: LeaderEpoch(epoch),
        now_ms: 1_000,
        origin: Origin::Coordinator,
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 8 << 10,
        index_interval_bytes: 500,
        ..LogConfig::default()
    }
}

/// Several segments and epochs, a producer, a committed, an aborted and no open transaction.
fn sound(disk: &MemoryDisk) -> Log {
    let id = TopicId(Uuid::from_u128(7));
    let mut log = Log::create(Arc::new(disk.clone()), "t-0", id, config()).unwrap();
    for epoch in 0..2 {
        log.assign_leader_epoch(LeaderEpoch(epoch));
        for step in 0..60 {
            let mut builder = BatchBuilder::new().compression(Compression::ALL[step % 5]);
            if step % 3 == 0 {
                builder = builder.producer(ProducerId(4), epoch as i16, (step / 3 * 2) as i32);
            }
            builder.append(step as i64, Some(b"k"), Some(&[b'x'; 300]), &[]);
            builder.append(step as i64 + 1, None, Some(b"y"), &[]);
            log.append(builder.build().unwrap(), &at(epoch)).unwrap();
        }
        transaction(&mut log, epoch, epoch == 0);
    }
    log.close().unwrap();
    log
}

fn transaction(log: &mut Log, epoch: i32, committed: bool) {
    let transactional = || {
        BatchBuilder::new()
            .producer(ProducerId(9), 0, -1)
            .transactional(true)
    };
    let mut data = transactional();
    data.append(5, Some(b"k"), Some(b"v"), &[]);
    log.append(data.build().unwrap(), &at(epoch)).unwrap();
    let mut marker = transactional().control(true);
    let key = [0, 0, 0, u8::from(committed)];
    marker.append(5, Some(&key), Some(&[0, 0, 0, 0, 0, 1]), &[]);
    log.append(marker.build().unwrap(), &at(epoch)).unwrap();
}

fn checked(disk: &MemoryDisk, recovery_point: i64) -> PartitionCheck {
    let expected = Expected {
        recovery_point: Offset(recovery_point),
        ..Expected::default()
    };
    check_partition(disk, "t-0", expected, &mut |_| {}).unwrap()
}

fn segments(disk: &MemoryDisk, suffix: &str) -> Vec<String> {
    let entries = disk.list("t-0").unwrap();
    let names = entries
        .into_iter()
        .map(|entry| format!("t-0/{}", entry.name));
    names.filter(|name| name.ends_with(suffix)).collect()
}

fn only(check: &PartitionCheck) -> &Finding {
    assert_eq!(check.findings.len(), 1, "{:#?}", check.findings);
    &check.findings[0]
}

#[test]
fn a_sound_log_has_no_findings() {
    let disk = MemoryDisk::new();
    let log = sound(&disk);
    let mut told = 0;
    let expected = Expected::default();
    let check = check_partition(&disk, "t-0", expected, &mut |bytes| told += bytes).unwrap();
    assert_eq!(check.findings, []);
    assert_eq!(check.end_offset, log.log_end_offset());
    assert_eq!((check.batches, check.records), (124, 244));
    assert_eq!((check.bytes, told), (log.size_bytes(), log.size_bytes()));
    assert_eq!(check.latest_epoch, Some(LeaderEpoch(1)));
    assert!(check.segments > 2 && check.producers == 2 && check.open_transactions.is_empty());
}

#[test]
fn deleted_records_that_still_lie_there_do_not_matter() {
    let disk = MemoryDisk::new();
    let mut log = sound(&disk);
    log.advance_log_start_offset(Offset(130)).unwrap();
    log.close().unwrap();
    let expected = Expected {
        recovery_point: log.log_end_offset(),
        log_start_offset: Offset(130),
        ..Expected::default()
    };
    let check = check_partition(&disk, "t-0", expected, &mut |_| {}).unwrap();
    assert_eq!(
        (check.findings, check.start_offset),
        (Vec::new(), Offset(130))
    );
}

#[test]
fn a_bad_checksum_in_the_middle_is_damage_with_its_place_and_what_follows() {
    let disk = MemoryDisk::new();
    let log = sound(&disk);
    let first = &segments(&disk, ".log")[0];
    let mut batches = Vec::new();
    let file = disk.open(first).unwrap();
    dump::segment(&*file, Offset(0), &mut |item| {
        batches.push(item.clone());
        true
    })
    .unwrap();
    let dump::Item::Batch {
        position, header, ..
    } = &batches[3]
    else {
        panic!("{batches:?}")
    };
    let until = position + header.size_bytes() as u64;
    disk.corrupt(first, position + 70, b"zz").unwrap();
    let check = checked(&disk, log.log_end_offset().0);
    let finding = only(&check);
    assert_eq!((&finding.path, finding.severity), (first, Severity::Damage));
    assert_eq!(finding.bytes, Some((*position, until)));
    assert_eq!(
        finding.offsets,
        Some((header.base_offset, Some(header.last_offset().next())))
    );
    assert_eq!(finding.readable_after, Some(120));
    assert_eq!(check.end_offset, log.log_end_offset());
    // A broken length hides where the next one starts; it is found all the same.
    disk.corrupt(first, position + 8, &[0x7f; 4]).unwrap();
    assert_eq!(only(&checked(&disk, 0)).bytes, Some((*position, until)));
}

#[test]
fn garbage_at_the_end_is_a_torn_tail_unless_it_was_durable_once() {
    let disk = MemoryDisk::new();
    let log = sound(&disk);
    let last = segments(&disk, ".log").pop().unwrap();
    let file = disk.open(&last).unwrap();
    let len = file.len_bytes().unwrap();
    file.write_at(len, &[std::io::IoSlice::new(&[7; 100])])
        .unwrap();
    let end = log.log_end_offset();
    let check = checked(&disk, end.0);
    let finding = only(&check);
    assert_eq!(finding.severity, Severity::TornTail);
    assert_eq!(finding.bytes, Some((len, len + 100)));
    let check = checked(&disk, end.0 + 1);
    assert_eq!(only(&check).severity, Severity::Damage);
}

#[test]
fn zeros_behind_the_records_of_any_segment_are_worth_a_note_unless_records_are_missing() {
    let disk = MemoryDisk::new();
    let log = sound(&disk);
    let end = log.log_end_offset();
    for name in segments(&disk, ".log") {
        let file = disk.open(&name).unwrap();
        let len = file.len_bytes().unwrap();
        file.truncate(len + 100).unwrap();
        let check = checked(&disk, end.0);
        let finding = only(&check);
        assert_eq!(finding.severity, Severity::Note);
        assert_eq!(finding.bytes, Some((len, len + 100)));
        if Some(&name) == segments(&disk, ".log").last() {
            let check = checked(&disk, end.0 + 1);
            assert_eq!(only(&check).severity, Severity::Damage);
        }
        file.truncate(len).unwrap();
    }
}

#[test]
fn a_segment_that_is_gone_is_damage() {
    let disk = MemoryDisk::new();
    let log = sound(&disk);
    let names = segments(&disk, ".log");
    disk.remove(&names[1]).unwrap();
    let check = checked(&disk, log.log_end_offset().0);
    assert_eq!(check.severity(), Some(Severity::Damage));
    let gap = check
        .findings
        .iter()
        .find(|f| f.severity == Severity::Damage)
        .unwrap();
    assert_eq!(gap.path, names[2]);
    disk.remove(names.last().unwrap()).unwrap();
    let check = checked(&disk, log.log_end_offset().0);
    let lost = |finding: &&Finding| finding.what.starts_with("the log ends at");
    assert!(check.findings.iter().find(lost).is_some());
}

#[test]
fn each_derived_file_is_held_against_the_log() {
    let cases: [(&str, Subject, u64); 5] = [
        (".index", Subject::OffsetIndex, 7),
        (".timeindex", Subject::TimeIndex, 7),
        (".txnindex", Subject::TransactionIndex, 17),
        (".snapshot", Subject::ProducerSnapshot, 30),
        ("leader-epoch-checkpoint", Subject::LeaderEpochs, 6),
    ];
    for (suffix, subject, position) in cases {
        let disk = MemoryDisk::new();
        let log = sound(&disk);
        let full = |name: &String| read_file(&disk, name, 1 << 20).unwrap().len() > 11;
        let name = segments(&disk, suffix).into_iter().find(full).unwrap();
        let was = read_file(&disk, &name, 1 << 20).unwrap()[position as usize];
        disk.corrupt(&name, position, &[was ^ 1]).unwrap();
        let check = checked(&disk, log.log_end_offset().0);
        let finding = only(&check);
        assert_eq!((&finding.path, finding.subject), (&name, subject));
        assert_eq!(finding.severity, Severity::Derived, "{finding}");
    }
}
