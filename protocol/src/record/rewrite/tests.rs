//! Rewritten batches hold the same records, and both ways of reading accept the same batches.

use proptest::prelude::*;

use super::*;
use crate::record::{Record, Records};
use crate::types::{LeaderEpoch, Offset, ProducerId};

fn batch(compression: Compression, times: &[i64]) -> RecordBatch {
    let mut builder = BatchBuilder::new()
        .compression(compression)
        .producer(ProducerId(7), 3, 40)
        .transactional(true);
    for (index, time) in times.iter().enumerate() {
        let value = vec![b'v'; index * 40];
        let headers: [(&[u8], Option<&[u8]>); 3] =
            [(b"h", Some(b"1")), (b"h", None), (b"\xff", Some(b""))];
        builder.append(*time, Some(b"key"), Some(&value), &headers);
        builder.append(*time, None, None, &[]);
    }
    builder.build().unwrap()
}

fn read(batch: &RecordBatch) -> Vec<Record> {
    Records::open(batch.view(), RecordLimits::default())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn to(batch: &RecordBatch, codec: Codec) -> RecordBatch {
    rewrite(
        batch.view(),
        RecordLimits::default(),
        codec,
        1 << 20,
        |_| (),
    )
    .unwrap()
}

#[test]
fn records_and_producer_survive_every_pair_of_codecs() {
    for from in Compression::ALL {
        let batch = batch(from, &[1_000, 995, -1, 2_000]);
        for target in Compression::ALL {
            let new = to(&batch, Codec::of(target));
            assert!(new.view().crc_is_valid());
            assert_eq!(read(&new), read(&batch), "{from:?} {target:?}");
            let (old, new) = (batch.header(), new.header());
            assert_eq!(new.compression(), Ok(target));
            assert_eq!(new.producer_id, old.producer_id);
            assert_eq!(new.producer_epoch, old.producer_epoch);
            assert_eq!(new.base_sequence, old.base_sequence);
            assert_eq!(new.last_offset_delta, old.last_offset_delta);
            assert_eq!(new.record_count, old.record_count);
            assert_eq!(new.base_timestamp, 1_000);
            assert_eq!(new.max_timestamp, 2_000);
            assert!(new.is_transactional() && !new.is_control());
        }
    }
}

#[test]
fn a_plain_copy_of_a_batch_of_ours_is_byte_for_byte_the_same() {
    let batch = batch(Compression::None, &[5, 6, 7]);
    let again = to(
        &to(&batch, Codec::of(Compression::Zstd)),
        Codec::of(Compression::None),
    );
    assert_eq!(again.bytes(), batch.bytes());
}

#[test]
fn the_first_record_becomes_the_base_and_unknown_attributes_go() {
    let batch = batch(Compression::None, &[1_000, 1_001]);
    let mut bytes = batch.into_bytes_mut();
    // A base timestamp of its own, an attribute bit that nobody has defined.
    bytes[27..35].copy_from_slice(&900i64.to_be_bytes());
    bytes[21] |= 0x40;
    let batch = RecordBatch::from_bytes(bytes).unwrap();
    let new = to(&batch, Codec::of(Compression::Lz4));
    assert_eq!(new.header().base_timestamp, 900);
    assert_eq!(new.header().max_timestamp, 901);
    assert_eq!(new.header().attributes, 3 | 1 << 4);
}

#[test]
fn a_higher_level_takes_less_room_in_every_codec_that_has_levels() {
    let mut builder = BatchBuilder::new();
    let mut state = 1u32;
    for _ in 0..4_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = format!("user-{} action-{}", state >> 24, (state >> 16) & 7);
        builder.append(1, None, Some(value.as_bytes()), &[]);
    }
    let batch = builder.build().unwrap();
    let size = |compression, level| {
        let new = to(&batch, Codec { compression, level });
        assert_eq!(read(&new), read(&batch));
        new.size_bytes()
    };
    for (compression, low, high) in [
        (Compression::Gzip, 1, 9),
        (Compression::Lz4, Codec::LZ4_LEVEL, 12),
        (Compression::Lz4, Codec::LZ4_LEVEL, 17),
        (Compression::Zstd, -5, 3),
        (Compression::Zstd, 1, 22),
    ] {
        assert!(
            size(compression, high) < size(compression, low),
            "{compression:?}"
        );
    }
    assert_eq!(size(Compression::Gzip, -1), size(Compression::Gzip, 6));
}

#[test]
fn a_batch_that_would_be_too_large_is_refused_before_it_is() {
    let batch = batch(Compression::Zstd, &[0; 200]);
    for target in Compression::ALL {
        let refused = rewrite(
            batch.view(),
            RecordLimits::default(),
            Codec::of(target),
            100,
            |_| (),
        );
        assert_eq!(
            refused.unwrap_err(),
            RewriteError::TooLarge { max_bytes: 100 }
        );
    }
}

#[test]
fn a_bomb_ends_at_the_limit_whatever_it_is_to_become() {
    let limits = RecordLimits {
        plain_bytes: 1 << 20,
        ratio: 2,
    };
    let mut builder = BatchBuilder::new();
    builder.append(0, None, Some(&vec![0; 4 << 20]), &[]);
    for from in &Compression::ALL[1..] {
        let bomb = builder.clone().compression(*from).build().unwrap();
        let error = RecordError::TooLarge {
            limit_bytes: 1 << 20,
        };
        let refused = Err(RewriteError::Record { index: 0, error });
        assert_eq!(inspect(bomb.view(), limits, |_| ()), refused, "{from:?}");
        for target in &Compression::ALL[1..] {
            let codec = Codec::of(*target);
            let new = rewrite(bomb.view(), limits, codec, 1 << 30, |_| ());
            assert_eq!(new.map(|_| ()), refused, "{from:?} {target:?}");
        }
    }
}

#[test]
fn heads_tell_what_is_known_before_the_key() {
    let batch = batch(Compression::Gzip, &[10, 11]);
    let mut heads = Vec::new();
    inspect(batch.view(), RecordLimits::default(), |head| {
        heads.push((head.index, head.offset_delta, head.timestamp, head.has_key));
    })
    .unwrap();
    let expected = [
        (0, 0, 10, true),
        (1, 1, 10, false),
        (2, 2, 11, true),
        (3, 3, 11, false),
    ];
    assert_eq!(heads, expected);
}

proptest! {
    #[test]
    fn both_ways_of_reading_accept_the_same_batches(
        codec in 0..5usize,
        times in proptest::collection::vec(any::<i64>(), 1..4),
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        cut in 0..20usize,
    ) {
        let mut bytes = batch(Compression::ALL[codec], &times).into_bytes_mut();
        let body = bytes.len() - BATCH_HEADER_BYTES;
        damage.iter().for_each(|(at, value)| bytes[BATCH_HEADER_BYTES + at % body] ^= value);
        bytes.truncate(bytes.len() - cut.saturating_sub(15));
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let batch = RecordBatch::from_bytes(bytes).unwrap();
        let limits = RecordLimits { plain_bytes: 1 << 16, ratio: 4 };
        let whole: Result<Vec<Record>, _> = Records::open(batch.view(), limits)
            .and_then(|records| records.collect());
        let passed = inspect(batch.view(), limits, |_| ());
        prop_assert_eq!(whole.is_ok(), passed.is_ok(), "{:?} {:?}", whole, passed);
        if whole.is_ok() {
            let new = rewrite(batch.view(), limits, Codec::of(Compression::None), 1 << 20, |_| ());
            prop_assert!(new.is_ok());
        }
    }

    #[test]
    fn unstamped_batches_stay_unstamped(codec in 0..5usize) {
        let new = to(&batch(Compression::ALL[codec], &[1]), Codec::of(Compression::Snappy));
        prop_assert_eq!(new.header().base_offset, Offset::ZERO);
        prop_assert_eq!(new.header().leader_epoch, LeaderEpoch::NONE);
    }
}
