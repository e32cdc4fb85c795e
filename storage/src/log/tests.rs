//! Tests of the whole log on the memory disk: the everyday paths. What crashes, damage and random
//! histories do to it is in `storage/tests/`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression, RecordBatch, RecordBatchView};
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
        synced: false,
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
        synced: false,
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

#[test]
fn log_append_time_is_given_by_the_broker_and_create_time_is_bounded() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    let mut stamped = log(&disk, config);
    let appended = stamped.append(batch(2, 1_000, 10), &client(777)).unwrap();
    assert_eq!(appended.log_append_time_ms, 777);
    let read = stamped.read(Offset(0), 10_000, Offset(2), true).unwrap();
    let bytes = bytes_of(&read);
    let view = RecordBatchView::parse(&bytes).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!(view.header().max_timestamp, 777);
    assert_eq!(view.timestamp_type(), TimestampType::LogAppendTime);

    let config = LogConfig {
        timestamp_before_max_ms: 100,
        timestamp_after_max_ms: 50,
        ..LogConfig::default()
    };
    let mut bounded = Log::create(Arc::new(disk), "t-1", TopicId::ZERO, config).unwrap();
    for (timestamp, good) in [
        (899, false),
        (900, true),
        (1_050, true),
        (1_051, false),
        (-1, true),
    ] {
        let appended = bounded.append(batch(1, timestamp, 1), &client(1_000));
        assert_eq!(appended.is_ok(), good, "{timestamp}: {appended:?}");
        assert!(good || matches!(appended, Err(AppendError::InvalidTimestamp { .. })));
    }
    // A client must not claim the broker's clock.
    let mut builder = BatchBuilder::new().timestamp_type(TimestampType::LogAppendTime);
    builder.append(1_000, None, None, &[]);
    let claimed = bounded.append(builder.build().unwrap(), &client(1_000));
    assert!(matches!(claimed, Err(AppendError::InvalidTimestamp { .. })));
}

#[test]
fn batches_that_break_a_rule_are_refused_with_the_rule() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        max_message_bytes: 500,
        segment_size_bytes: 400,
        compacted: true,
        ..LogConfig::default()
    };
    let mut log = log(&disk, config);
    let mut refuse = |batch: RecordBatch| log.append(batch, &client(1_000)).unwrap_err();
    assert!(matches!(
        refuse(batch(1, 1_000, 600)),
        AppendError::MessageTooLarge { .. }
    ));
    assert!(matches!(
        refuse(batch(1, 1_000, 400)),
        AppendError::RecordListTooLarge { .. }
    ));
    let mut stamped = batch(1, 1_000, 1);
    stamped.stamp(Offset(5), LeaderEpoch(0));
    let rule = |error| match error {
        AppendError::InvalidRecord(rule) => rule,
        other => panic!("{other}"),
    };
    assert_eq!(rule(refuse(stamped)), InvalidRecord::BaseOffset);
    let mut control = BatchBuilder::new().control(true);
    control.append(1_000, Some(b"k"), None, &[]);
    assert_eq!(
        rule(refuse(control.build().unwrap())),
        InvalidRecord::Control
    );
    let unsequenced = BatchBuilder::new().producer(ProducerId(1), 0, -1);
    let mut unsequenced = unsequenced;
    unsequenced.append(1_000, Some(b"k"), None, &[]);
    assert_eq!(
        rule(refuse(unsequenced.build().unwrap())),
        InvalidRecord::Sequence
    );
    let mut keyless = BatchBuilder::new();
    keyless.append(1_000, Some(b"k"), None, &[]);
    keyless.append(1_000, None, Some(b"v"), &[]);
    let AppendError::BadRecords(bad) = refuse(keyless.build().unwrap()) else {
        panic!("the record without a key is at fault");
    };
    let keyless = BadRecord {
        index: 1,
        rule: RecordRule::KeyMissing,
    };
    assert_eq!((bad.total, &bad.listed[..]), (1, &[keyless][..]));
    let mut zstd = BatchBuilder::new().compression(Compression::Zstd);
    zstd.append(1_000, Some(b"k"), Some(b"v"), &[]);
    let old = AppendAt {
        origin: Origin::Client { produce_version: 6 },
        ..client(1_000)
    };
    let error = log.append(zstd.build().unwrap(), &old).unwrap_err();
    assert!(matches!(error, AppendError::UnsupportedCompression));
    assert_eq!(log.log_end_offset(), Offset(0));
}

#[test]
fn a_replica_keeps_the_leaders_offsets_gaps_and_epochs() {
    let disk = MemoryDisk::new();
    let mut log = log(&disk, LogConfig::default());
    let replica = AppendAt {
        origin: Origin::Replica,
        ..client(1_000)
    };
    let at = |offset, epoch| {
        let mut batch = batch(2, 1_000, 10);
        batch.stamp(Offset(offset), LeaderEpoch(epoch));
        batch
    };
    log.append(at(0, 3), &replica).unwrap();
    log.append(at(7, 4), &replica).unwrap();
    assert_eq!(log.log_end_offset(), Offset(9));
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(3)),
        Some((LeaderEpoch(3), Offset(7)))
    );
    let back = log.append(at(8, 4), &replica);
    assert!(matches!(back, Err(AppendError::OffsetNotDense { .. })));
    let old = log.append(at(9, 3), &replica);
    assert!(matches!(old, Err(AppendError::LeaderEpoch { .. })));
    let read = log.read(Offset(3), 10_000, Offset(9), true).unwrap();
    assert_eq!(batches_of(&read), [(7, 8)], "the gap is stepped over");
}

#[test]
fn dirty_data_is_offered_for_write_back_in_large_pieces() {
    let disk = MemoryDisk::volatile();
    let mut log = log(&disk, LogConfig::default());
    let mut offered = 0;
    for _ in 0..40 {
        let appended = log
            .append(batch(1, 1_000, 1_000_000), &client(1_000))
            .unwrap();
        if let Some(write_back) = appended.write_back {
            assert!(write_back.len_bytes() >= 8 << 20);
            write_back.start().unwrap();
            write_back.finish().unwrap();
            offered += write_back.len_bytes();
        }
    }
    assert!(offered >= 24 << 20);
}

#[test]
fn segments_roll_by_age_of_their_records_or_else_of_the_clock() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        segment_ms: 1_000,
        ..LogConfig::default()
    };
    let mut log = log(&disk, config);
    log.append(batch(1, 10_000, 1), &client(10_000)).unwrap();
    log.append(batch(1, 11_000, 1), &client(50_000)).unwrap();
    assert_eq!(log.segment_count(), 1, "records tell the time");
    let rolled = log
        .append(batch(1, 11_001, 1), &client(50_000))
        .unwrap()
        .rolled;
    assert!(rolled && log.segment_count() == 2);
    log.truncate_fully_and_start_at(Offset(100)).unwrap();
    log.append(batch(1, -1, 1), &client(60_000)).unwrap();
    log.append(batch(1, -1, 1), &client(60_500)).unwrap();
    log.append(batch(1, -1, 1), &client(70_000)).unwrap();
    assert!(log.segment_count() >= 2, "without times the clock does");
}

#[test]
fn an_idle_log_is_small() {
    let bytes = size_of::<Log>();
    assert!(bytes <= 1_024, "{bytes}");
}
