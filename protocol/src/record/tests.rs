//! Records survive every codec; bombs, cuts and garbage do not get through.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::batch::BatchBuilder;

type Row = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn build(codec: Compression, rows: &[Row]) -> Vec<u8> {
    let mut builder = BatchBuilder::new()
        .compression(codec)
        .base_offset(Offset(100));
    for (timestamp, key, value, headers) in rows {
        let headers: Vec<(&[u8], Option<&[u8]>)> = headers
            .iter()
            .map(|(k, v)| (k.as_slice(), v.as_deref()))
            .collect();
        builder.append(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    builder.build().unwrap().bytes().to_vec()
}

fn read(bytes: &[u8], limits: RecordLimits) -> Result<Vec<Record>, RecordError> {
    Records::open(RecordBatchView::parse(bytes).unwrap(), limits)?.collect()
}

/// A batch whose records are exactly `records`, whatever the header says about them.
fn raw(attributes: i16, count: i32, records: &[u8]) -> Vec<u8> {
    let mut bytes = build(Compression::None, &[]);
    bytes.truncate(61);
    bytes.extend_from_slice(records);
    let len = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&len.to_be_bytes());
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes
}

fn sample() -> Vec<Row> {
    let headers = vec![
        (b"same".to_vec(), Some(b"1".to_vec())),
        (b"same".to_vec(), None),
        (b"".to_vec(), Some(vec![])),
    ];
    vec![
        (
            1_000,
            Some(b"key".to_vec()),
            Some(vec![7; 100_000]),
            headers,
        ),
        (990, None, Some(vec![]), vec![]),
        (2_000, Some(vec![]), None, vec![]),
    ]
}

#[test]
fn duplicate_headers_nulls_and_order_survive_every_codec() {
    for codec in Compression::ALL {
        let records = read(&build(codec, &sample()), RecordLimits::default()).unwrap();
        assert_eq!(records.len(), 3, "{codec:?}");
        for (index, (record, row)) in records.iter().zip(sample()).enumerate() {
            assert_eq!(record.offset, Offset(100 + index as i64));
            assert_eq!(record.timestamp, row.0);
            assert_eq!(record.key.as_deref(), row.1.as_deref());
            assert_eq!(record.value.as_deref(), row.2.as_deref());
            let headers = record
                .headers
                .iter()
                .map(|(k, v)| (k.to_vec(), v.as_ref().map(|v| v.to_vec())));
            assert_eq!(headers.collect::<Vec<_>>(), row.3);
        }
    }
}

#[test]
fn raw_snappy_blocks_are_accepted() {
    let plain = build(Compression::None, &sample());
    let block = snap::raw::Encoder::new()
        .compress_vec(&plain[61..])
        .unwrap();
    let records = read(&raw(2, 3, &block), RecordLimits::default()).unwrap();
    assert_eq!(records.len(), 3);
}

#[test]
fn a_snappy_block_that_claims_four_gigabytes_allocates_nothing() {
    // Length 2^32 - 1 as a varint, then one literal.
    let block = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x61];
    let damaged = Err(RecordError::Decompress {
        codec: Compression::Snappy,
    });
    assert_eq!(read(&raw(2, 1, &block), RecordLimits::default()), damaged);
    let mut framed = BytesMut::from(&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..]);
    framed.put_i32(block.len() as i32);
    framed.extend_from_slice(&block);
    assert_eq!(read(&raw(2, 1, &framed), RecordLimits::default()), damaged);
}

#[test]
fn bombs_stop_at_the_limit() {
    let limits = RecordLimits {
        plain_bytes: 1 << 20,
        ratio: 2,
    };
    let rows = [(0, None, Some(vec![0; 4 << 20]), vec![])];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let bytes = build(codec, &rows);
        let refused = Err(RecordError::TooLarge {
            limit_bytes: 1 << 20,
        });
        assert_eq!(read(&bytes, limits), refused, "{codec:?}");
        assert!(read(&bytes, RecordLimits::default()).is_ok(), "{codec:?}");
    }
}

#[test]
fn a_wide_zstd_window_leaves_less_room_to_expand() {
    let limits = RecordLimits {
        plain_bytes: 1 << 20,
        ratio: 1 << 20,
    };
    let rows = [(0, None, Some(vec![0; 4 << 20]), vec![])];
    let plain = &build(Compression::None, &rows)[61..];
    let stream = |window_log, sized: bool| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        if sized {
            encoder
                .set_pledged_src_size(Some(plain.len() as u64))
                .unwrap();
        }
        encoder.write_all(plain).unwrap();
        raw(4, 1, &encoder.finish().unwrap())
    };
    assert!(read(&stream(23, false), limits).is_ok());
    assert!(
        read(&stream(27, true), limits).is_ok(),
        "the content is the window"
    );
    let refused = Err(RecordError::TooLarge {
        limit_bytes: 1 << 20,
    });
    assert_eq!(read(&stream(24, false), limits), refused);
    assert_eq!(read(&stream(27, false), limits), refused);
    assert!(read(&stream(27, false), RecordLimits::default()).is_ok());
}

#[test]
fn a_zstd_window_above_the_limit_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder
        .write_all(&build(Compression::None, &sample())[61..])
        .unwrap();
    let stream = encoder.finish().unwrap();
    let damaged = Err(RecordError::Decompress {
        codec: Compression::Zstd,
    });
    assert_eq!(read(&raw(4, 3, &stream), RecordLimits::default()), damaged);
}

#[test]
fn a_record_count_that_is_wrong_is_an_error() {
    for codec in Compression::ALL {
        let mut bytes = build(codec, &sample());
        for count in [-1, 0, 1, 2, 4, i32::MAX] {
            bytes[57..61].copy_from_slice(&i32::to_be_bytes(count));
            assert!(
                read(&bytes, RecordLimits::default()).is_err(),
                "{codec:?} {count}"
            );
        }
    }
}

#[test]
fn an_error_is_reported_once() {
    let bytes = raw(0, 3, &[0x02, 0x00]);
    let mut records = Records::open(
        RecordBatchView::parse(&bytes).unwrap(),
        RecordLimits::default(),
    )
    .unwrap();
    assert!(records.next_ref().unwrap().is_err());
    assert!(records.next_ref().is_none());
}

#[test]
fn malformed_records_are_refused() {
    let refused = |records: &[u8]| read(&raw(0, 1, records), RecordLimits::default()).unwrap_err();
    // length 7: attributes, timestamp, offset, key, value, headers
    assert!(read(&raw(0, 1, &[12, 0, 0, 0, 1, 1, 0]), RecordLimits::default()).is_ok());
    let trailing = refused(&[14, 0, 0, 0, 1, 1, 0, 9]);
    assert_eq!(trailing, RecordError::RecordTrailing { trailing: 1 });
    assert_eq!(
        refused(&[12, 0, 0, 0, 1, 1, 0, 9]),
        RecordError::BatchTrailing
    );
    assert_eq!(refused(&[12, 0, 0, 1, 1, 1, 0]), RecordError::OffsetRange);
    assert_eq!(
        refused(&[1]),
        RecordError::Malformed(DecodeError::NegativeLength)
    );
    assert_eq!(
        refused(&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
        RecordError::Malformed(DecodeError::CountBeyondBody {
            count: i32::MAX as usize
        })
    );
    assert_eq!(
        refused(&[12, 0, 0, 0, 3, 1, 0]),
        RecordError::Malformed(DecodeError::NegativeLength)
    );
}

#[test]
fn log_append_time_is_the_time_of_all_records() {
    let mut builder = BatchBuilder::new();
    builder
        .append(5, None, None, &[])
        .append(6, None, None, &[]);
    let mut batch = builder.build().unwrap();
    batch.set_log_append_time(77);
    let records = read(batch.bytes(), RecordLimits::default()).unwrap();
    assert!(records.iter().all(|record| record.timestamp == 77));
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let field = move || proptest::option::of(bytes());
    let headers = proptest::collection::vec((bytes(), field()), 0..4);
    proptest::collection::vec((any::<i64>(), field(), field(), headers), 0..8)
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in rows(), codec in 0..5usize) {
        let records = read(&build(Compression::ALL[codec], &rows), RecordLimits::default());
        let records = records.unwrap();
        prop_assert_eq!(records.len(), rows.len());
        for (record, row) in records.iter().zip(&rows) {
            prop_assert_eq!(record.timestamp, row.0);
            prop_assert_eq!(record.key.as_deref(), row.1.as_deref());
            prop_assert_eq!(record.value.as_deref(), row.2.as_deref());
            prop_assert_eq!(record.headers.len(), row.3.len());
        }
    }

    #[test]
    fn damaged_batches_end(
        rows in rows(),
        codec in 0..5usize,
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = build(Compression::ALL[codec], &rows);
        let len = bytes.len();
        if len > 61 {
            damage.iter().for_each(|(at, value)| bytes[61 + at % (len - 61)] ^= value);
        }
        let limits = RecordLimits { plain_bytes: 1 << 16, ratio: 4 };
        let _ = read(&bytes, limits);
    }

    #[test]
    fn garbage_ends(
        records in proptest::collection::vec(any::<u8>(), 0..300),
        codec in 0i16..8,
        count: i32,
    ) {
        let limits = RecordLimits { plain_bytes: 1 << 16, ratio: 4 };
        let _ = read(&raw(codec, count, &records), limits);
    }
}
