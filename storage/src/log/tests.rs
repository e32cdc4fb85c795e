//! Tests of the whole log on the memory disk: the everyday paths. What crashes, damage and random
//! histories do to it is in `storage/tests/`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, RecordBatch, RecordBatchView};
use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicId};
use uuid::Uuid;

use super::*;
use crate::disk::{MemoryDisk, RecordData};

pub(super) fn client(now_ms: i64) -> AppendAt {
    AppendAt {
        leader_epoch: LeaderEpoch(0),
        now_ms,
        origin: Origin::Client {
            produce_version: 12,
        },
    }
}

pub(super) fn batch(count: i32, timestamp: i64, value_bytes: usize) -> RecordBatch {
    let value = vec![b'v'; value_bytes];
    let mut builder = BatchBuilder::new();
    for record in 0..count {
        builder.append(timestamp + i64::from(record), Some(b"k"), Some(&value), &[]);
    }
    builder.build().unwrap()
}

fn log(disk: &MemoryDisk, config: LogConfig) -> Log {
    let id = TopicId(Uuid::from_u128(7));
    Log::create(Arc::new(disk.clone()), "t-0", id, config).unwrap()
}

fn reopen(disk: &MemoryDisk, config: LogConfig, open: OpenLog) -> (Log, RecoveryReport) {
    Log::open(Arc::new(disk.clone()), "t-0", config, open, 0).unwrap()
}

pub(super) fn bytes_of(read: &LogRead) -> Vec<u8> {
    let pieces = read.data.iter().map(|data| match data {
        RecordData::Bytes(bytes) => bytes.clone(),
        RecordData::File(range) => range.read().unwrap(),
    });
    pieces.collect::<Vec<_>>().concat()
}

/// Offsets of the batches in an answer; it must be whole batches.
pub(super) fn batches_of(read: &LogRead) -> Vec<(i64, i64)> {
    let bytes = bytes_of(read);
    assert_eq!(bytes.len(), read.size_bytes as usize);
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let view = RecordBatchView::parse(rest).unwrap();
        assert!(view.crc_is_valid());
        found.push((view.base_offset().0, view.last_offset().0));
        rest = &rest[view.size_bytes()..];
    }
    found
}

#[test]
fn what_is_appended_is_read_back_in_whole_batches() {
    let disk = MemoryDisk::new();
    let mut log = log(&disk, LogConfig::default());
    for _ in 0..10 {
        log.append(batch(3, 1_000, 10), &client(1_000)).unwrap();
    }
    assert_eq!(log.log_end_offset(), Offset(30));
    let all = log.read(Offset(0), u32::MAX, Offset(30), true).unwrap();
    assert_eq!(batches_of(&all).len(), 10);
    assert_eq!(all.next_offset, Offset(30));
    let middle = log.read(Offset(10), u32::MAX, Offset(18), true).unwrap();
    assert_eq!(batches_of(&middle), [(9, 11), (12, 14), (15, 17)]);
    let one = log.read(Offset(4), 1, Offset(30), true).unwrap();
    assert_eq!(batches_of(&one), [(3, 5)]);
    let none = log.read(Offset(4), 1, Offset(30), false).unwrap();
    assert!(none.data.is_empty());
    assert!(
        log.read(Offset(30), 1, Offset(30), true)
            .unwrap()
            .data
            .is_empty()
    );
    assert!(matches!(
        log.read(Offset(31), 1, Offset(30), true),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
}

#[test]
fn a_closed_log_opens_without_checking_anything() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        segment_size_bytes: 1_000,
        ..LogConfig::default()
    };
    let mut log = log(&disk, config.clone());
    log.assign_leader_epoch(LeaderEpoch(0));
    for _ in 0..30 {
        log.append(batch(2, 1_000, 50), &client(1_000)).unwrap();
    }
    assert!(log.segment_count() > 3);
    log.close().unwrap();
    let open = OpenLog {
        recovery_point: log.checkpointed_offset(),
        log_start_offset: Offset(0),
        clean: true,
    };
    assert_eq!(open.recovery_point, Offset(60));
    let (again, report) = reopen(&disk, config, open);
    assert_eq!(report.checked_batches, 0);
    assert!(report.damage.is_empty());
    assert_eq!(again.log_end_offset(), Offset(60));
    assert_eq!(again.topic_id(), log.topic_id());
    assert_eq!(again.leader_epochs(), log.leader_epochs());
    assert_eq!(again.checkpointed_offset(), Offset(60));
    let all = again.read(Offset(0), u32::MAX, Offset(60), true).unwrap();
    assert!(batches_of(&all).len() > 10);
}

#[test]
fn a_duplicate_is_answered_with_the_place_of_the_original_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut log = log(&disk, LogConfig::default());
    let send = |sequence: i32| {
        let mut builder = BatchBuilder::new().producer(ProducerId(9), 0, sequence);
        builder.append(1_000, None, Some(b"v"), &[]);
        builder.build().unwrap()
    };
    for sequence in 0..6 {
        log.append(send(sequence), &client(1_000)).unwrap();
    }
    let again = log.append(send(3), &client(1_000)).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.base_offset, Offset(3));
    assert_eq!(log.log_end_offset(), Offset(6));
    log.close().unwrap();
    let open = OpenLog {
        recovery_point: Offset(6),
        log_start_offset: Offset(0),
        clean: true,
    };
    let (mut log, _) = reopen(&disk, LogConfig::default(), open);
    let again = log.append(send(2), &client(1_000)).unwrap();
    assert!(
        again.duplicate,
        "older than the one batch that Kafka's snapshot keeps"
    );
    assert_eq!(again.base_offset, Offset(2));
    assert!(log.append(send(7), &client(1_000)).is_err());
    log.append(send(6), &client(1_000)).unwrap();
}
