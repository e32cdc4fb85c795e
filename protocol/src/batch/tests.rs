//! Header layout, CRC and in-place patches.

use proptest::prelude::*;

use super::*;

fn batch() -> RecordBatch {
    let mut builder = BatchBuilder::new().producer(ProducerId(7), 3, 40);
    builder.append(1_000, Some(b"k"), Some(b"v"), &[]);
    builder.append(1_005, None, Some(b"w"), &[(b"h", None)]);
    builder.build().unwrap()
}

#[test]
fn the_header_lies_where_kafka_puts_it() {
    let batch = batch();
    let bytes = batch.bytes();
    assert_eq!(bytes[16], 2);
    assert_eq!(bytes[8..12], (bytes.len() as i32 - 12).to_be_bytes());
    assert_eq!(bytes[21..23], [0, 0]);
    assert_eq!(bytes[23..27], 1i32.to_be_bytes());
    assert_eq!(bytes[27..35], 1_000i64.to_be_bytes());
    assert_eq!(bytes[35..43], 1_005i64.to_be_bytes());
    assert_eq!(bytes[43..51], 7i64.to_be_bytes());
    assert_eq!(bytes[51..53], 3i16.to_be_bytes());
    assert_eq!(bytes[53..57], 40i32.to_be_bytes());
    assert_eq!(bytes[57..61], 2i32.to_be_bytes());
    assert_eq!(bytes[17..21], crc32c::crc32c(&bytes[21..]).to_be_bytes());
    assert_eq!(batch.header().last_sequence(), 41);
    assert_eq!(batch.view().last_offset(), Offset(1));
}

#[test]
fn stamping_leaves_the_crc_valid() {
    let mut batch = batch();
    batch.stamp(Offset(1 << 40), LeaderEpoch(9));
    let view = RecordBatchView::parse(batch.bytes()).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!(view.header(), batch.header());
    assert_eq!(view.base_offset(), Offset(1 << 40));
    assert_eq!(view.last_offset(), Offset((1 << 40) + 1));
    assert_eq!(view.header().leader_epoch, LeaderEpoch(9));
}

#[test]
fn log_append_time_rewrites_the_crc() {
    let mut batch = batch();
    batch.set_log_append_time(5_000);
    let view = RecordBatchView::parse(batch.bytes()).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!(view.header(), batch.header());
    assert_eq!(view.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(view.header().max_timestamp, 5_000);
    batch.set_max_timestamp(6_000);
    let view = RecordBatchView::parse(batch.bytes()).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!(view.header().max_timestamp, 6_000);
}

#[test]
fn every_flipped_bit_after_the_crc_is_noticed() {
    let batch = batch();
    for index in 17..batch.size_bytes() {
        let mut bytes = batch.bytes().to_vec();
        bytes[index] ^= 0x10;
        let view = RecordBatchView::parse(&bytes).unwrap();
        assert!(!view.crc_is_valid(), "byte {index}");
    }
}

#[test]
fn cut_batches_are_truncated_and_longer_runs_are_cut() {
    let batch = batch();
    for len in 0..batch.size_bytes() {
        let cut = RecordBatchView::parse(&batch.bytes()[..len]);
        assert!(
            matches!(cut, Err(BatchError::Truncated { .. })),
            "{len}: {cut:?}"
        );
    }
    let mut longer = batch.bytes().to_vec();
    longer.extend_from_slice(b"next");
    assert_eq!(
        RecordBatchView::parse(&longer).unwrap().bytes(),
        batch.bytes()
    );
    let owned = RecordBatch::from_bytes(BytesMut::from(&longer[..]));
    assert_eq!(owned.unwrap_err(), BatchError::Trailing { trailing: 4 });
}

#[test]
fn old_magic_and_impossible_lengths_are_refused() {
    let mut bytes = batch().bytes().to_vec();
    bytes[16] = 1;
    assert_eq!(
        RecordBatchView::parse(&bytes).unwrap_err(),
        BatchError::Magic { magic: 1 }
    );
    assert_eq!(
        RecordBatchView::parse(&bytes[..20]).unwrap_err(),
        BatchError::Magic { magic: 1 }
    );
    bytes[16] = 2;
    for batch_length in [i32::MIN, -1, 0, 48] {
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        let error = RecordBatchView::parse(&bytes).unwrap_err();
        assert_eq!(error, BatchError::Length { batch_length });
    }
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let error = RecordBatchView::parse(&bytes).unwrap_err();
    assert!(matches!(error, BatchError::Truncated { .. }));
}

#[test]
fn codecs_have_kafkas_numbers() {
    for (number, codec) in Compression::ALL.into_iter().enumerate() {
        assert_eq!(Compression::from_attributes(number as i16), Ok(codec));
        assert_eq!(Compression::from_name(codec.name()), Some(codec));
    }
    assert_eq!(
        Compression::from_attributes(5),
        Err(BatchError::Codec { codec: 5 })
    );
}

#[test]
fn sequences_wrap_to_zero() {
    let mut builder = BatchBuilder::new().producer(ProducerId(1), 0, i32::MAX);
    builder
        .append(0, None, None, &[])
        .append(0, None, None, &[]);
    assert_eq!(builder.build().unwrap().header().last_sequence(), 0);
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(view) = RecordBatchView::parse(&bytes) {
            let _ = (view.crc_is_valid(), view.last_offset(), view.header().last_sequence());
        }
    }
}
