//! What recompression and strict validation make of a batch.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::record::{Record, RecordError, RecordLimits, Records};
use ottla_protocol::types::{Offset, ProducerId, TopicId};

use super::*;
use crate::disk::MemoryDisk;
use crate::log::{BadRecord, InvalidRecord, Log, RecordRule};

const NOW_MS: i64 = 1_000_000;
const CODECS: [Compression; 5] = Compression::ALL;

fn recompressing(compression: Compression) -> LogConfig {
    LogConfig {
        recompression: Some(Codec::of(compression)),
        ..LogConfig::default()
    }
}

fn strict() -> LogConfig {
    LogConfig {
        validation: Validation::Strict,
        ..LogConfig::default()
    }
}

fn batch(compression: Compression, count: i64) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(compression);
    for index in 0..count {
        let value = format!("value {index}");
        builder.append(
            NOW_MS - index,
            Some(b"k"),
            Some(value.as_bytes()),
            &[(b"h", None)],
        );
    }
    builder
}

fn run(config: &LogConfig, batch: &BatchBuilder) -> Result<RecordBatch, AppendError> {
    let work = config.record_work().unwrap();
    work.run(batch.build().unwrap(), 12, NOW_MS)
}

fn records(batch: &RecordBatch) -> Vec<Record> {
    Records::open(batch.view(), RecordLimits::default())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_batch_in_the_codec_of_its_topic_stays_byte_for_byte() {
    for codec in CODECS {
        let sent = batch(codec, 5);
        let kept = run(&recompressing(codec), &sent).unwrap();
        assert_eq!(kept.bytes(), sent.build().unwrap().bytes(), "{codec:?}");
    }
}

#[test]
fn any_other_batch_gets_the_codec_of_its_topic_and_keeps_its_records() {
    for from in CODECS {
        for to in CODECS.into_iter().filter(|to| *to != from) {
            let sent = batch(from, 5)
                .producer(ProducerId(3), 1, 7)
                .transactional(true);
            let new = run(&recompressing(to), &sent).unwrap();
            assert_eq!(new.header().compression(), Ok(to));
            assert_eq!(records(&new), records(&sent.build().unwrap()));
            assert_eq!(new.header().max_timestamp, NOW_MS);
            assert!(new.view().crc_is_valid());
        }
    }
}

#[test]
fn the_log_gives_a_recompressed_batch_offsets_epoch_and_its_own_time() {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..recompressing(Compression::Lz4)
    };
    let mut log = Log::create(Arc::new(disk), "t-0", TopicId::ZERO, config.clone()).unwrap();
    let at = AppendAt {
        leader_epoch: LeaderEpoch(4),
        now_ms: NOW_MS + 9,
        origin: Origin::ClientOpened {
            produce_version: 12,
        },
    };
    for round in 0..3 {
        let sent = batch(Compression::Gzip, 4).producer(ProducerId(3), 0, round * 4);
        let work = config.record_work().unwrap();
        let opened = work.run(sent.build().unwrap(), 12, NOW_MS).unwrap();
        let done = log.append(opened, &at).unwrap();
        assert_eq!(done.base_offset, Offset(i64::from(round) * 4));
        assert_eq!(done.log_append_time_ms, NOW_MS + 9);
        // The producer sends it again: it is known, whatever codec it is stored in.
        let opened = work.run(sent.build().unwrap(), 12, NOW_MS).unwrap();
        assert!(log.append(opened, &at).unwrap().duplicate);
    }
    let read = log.read(Offset(4), 1 << 20, Offset(12), true).unwrap();
    let bytes = crate::log::tests::bytes_of(&read);
    let view = ottla_protocol::batch::RecordBatchView::parse(&bytes).unwrap();
    let header = view.header();
    assert!(view.crc_is_valid());
    assert_eq!(header.base_offset, Offset(4));
    assert_eq!(header.leader_epoch, LeaderEpoch(4));
    assert_eq!(header.compression(), Ok(Compression::Lz4));
    assert_eq!(header.max_timestamp, NOW_MS + 9);
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
}

#[test]
fn the_size_of_the_new_batch_must_fit_too() {
    let mut sent = BatchBuilder::new().compression(Compression::Zstd);
    sent.append(NOW_MS, None, Some(&[b'x'; 4_000]), &[]);
    let config = LogConfig {
        max_message_bytes: 1_000,
        ..recompressing(Compression::None)
    };
    assert!(sent.build().unwrap().size_bytes() < 200);
    let refused = run(&config, &sent).unwrap_err();
    assert!(matches!(
        refused,
        AppendError::RecompressedTooLarge { max_bytes: 1_000 }
    ));
}

#[test]
fn a_compacted_topic_names_every_record_without_a_key() {
    let config = LogConfig {
        compacted: true,
        ..LogConfig::default()
    };
    for codec in CODECS {
        let mut sent = batch(codec, 2);
        sent.append(NOW_MS, None, Some(b"v"), &[]);
        sent.append(NOW_MS, Some(b"k"), None, &[]);
        sent.append(NOW_MS, None, None, &[]);
        let AppendError::BadRecords(bad) = run(&config, &sent).unwrap_err() else {
            panic!("records without keys");
        };
        let rule = RecordRule::KeyMissing;
        let expected = [2, 4].map(|index| BadRecord { index, rule });
        assert_eq!((bad.total, &bad.listed[..]), (2, &expected[..]));
        assert!(!bad.timestamps);
    }
}

#[test]
fn strict_validation_looks_at_the_time_of_every_record() {
    let config = LogConfig {
        timestamp_after_max_ms: 10,
        ..strict()
    };
    // The header's limits are those of the honest records: only opening it shows the third.
    let mut sent = batch(Compression::Zstd, 2);
    sent.append(NOW_MS + 11, Some(b"k"), None, &[]);
    let sent = sent.max_timestamp(NOW_MS);
    let AppendError::BadRecords(bad) = run(&config, &sent).unwrap_err() else {
        panic!("a record from the future");
    };
    assert!(bad.timestamps);
    assert_eq!(bad.listed[0].index, 2);
    let header_only = LogConfig {
        validation: Validation::Header,
        ..config
    };
    assert!(header_only.record_work().is_none());
}

#[test]
fn strict_validation_corrects_a_maximum_timestamp_that_is_wrong() {
    for codec in CODECS {
        let sent = batch(codec, 3).max_timestamp(NOW_MS + 5);
        let kept = run(&strict(), &sent).unwrap();
        assert_eq!(kept.header().max_timestamp, NOW_MS);
        assert!(kept.view().crc_is_valid());
        assert_eq!(records(&kept).len(), 3);
    }
}

#[test]
fn strict_validation_refuses_gaps_and_wrong_counts() {
    let mut gap = BatchBuilder::new().compression(Compression::Gzip);
    gap.append_at(0, NOW_MS, Some(b"k"), None, &[]);
    gap.append_at(2, NOW_MS, Some(b"k"), None, &[]);
    let mut bytes = gap.build().unwrap().into_bytes_mut();
    bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
    let work = strict().record_work().unwrap();
    let refused = work.run(RecordBatch::from_bytes(bytes.clone()).unwrap(), 12, NOW_MS);
    let AppendError::BadRecords(bad) = refused.unwrap_err() else {
        panic!("a gap");
    };
    let rule = RecordRule::OffsetDelta { delta: 2 };
    assert_eq!(bad.listed, [BadRecord { index: 1, rule }]);
    bytes[23..27].copy_from_slice(&2i32.to_be_bytes());
    bytes[57..61].copy_from_slice(&3i32.to_be_bytes());
    let refused = work.run(RecordBatch::from_bytes(bytes).unwrap(), 12, NOW_MS);
    assert!(matches!(
        refused.unwrap_err(),
        AppendError::InvalidRecord(InvalidRecord::Record { index: 2, .. })
    ));
}

#[test]
fn a_bomb_is_an_invalid_record_on_every_topic_that_opens_batches() {
    let limits = RecordLimits {
        plain_bytes: 1 << 16,
        ratio: 2,
    };
    let compacted = LogConfig {
        compacted: true,
        ..LogConfig::default()
    };
    for codec in &CODECS[1..] {
        let mut bomb = BatchBuilder::new().compression(*codec);
        bomb.append(NOW_MS, Some(b"k"), Some(&vec![0; 1 << 20]), &[]);
        for config in [
            strict(),
            compacted.clone(),
            recompressing(Compression::None),
        ] {
            let config = LogConfig {
                record_limits: limits,
                ..config
            };
            let refused = run(&config, &bomb).unwrap_err();
            let AppendError::InvalidRecord(InvalidRecord::Record { error, .. }) = refused else {
                panic!("{codec:?}: {refused}");
            };
            assert!(matches!(error, RecordError::TooLarge { .. }), "{error}");
        }
    }
}

#[test]
fn many_bad_records_are_counted_and_some_of_them_listed() {
    let mut sent = BatchBuilder::new();
    for _ in 0..5_000 {
        sent.append(NOW_MS, None, None, &[]);
    }
    let config = LogConfig {
        compacted: true,
        ..LogConfig::default()
    };
    let AppendError::BadRecords(bad) = run(&config, &sent).unwrap_err() else {
        panic!("records without keys");
    };
    assert_eq!((bad.total, bad.listed.len()), (5_000, 1_000));
}
