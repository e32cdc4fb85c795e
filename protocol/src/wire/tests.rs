//! Varints and lengths at their edges.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn varints_end_after_five_groups() {
    let read = |bytes: &[u8]| Reader::new(bytes).unsigned_varint();
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(
        read(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
        Err(DecodeError::VarintTooLong)
    );
    assert_eq!(
        read(&[0x80, 0x80, 0x80, 0x80, 0x80]),
        Err(DecodeError::VarintTooLong)
    );
    assert_eq!(read(&[0x80, 0x00]), Ok(0));
    assert!(matches!(read(&[0x80]), Err(DecodeError::Truncated { .. })));
}

#[test]
fn varlongs_end_after_ten_groups() {
    let read = |bytes: &[u8]| Reader::new(bytes).varlong();
    let mut longest = [0xff; 10];
    longest[9] = 1;
    assert_eq!(read(&longest), Ok(i64::MIN));
    longest[9] = 2;
    assert_eq!(read(&longest), Err(DecodeError::VarintTooLong));
}

#[test]
fn lengths_below_minus_one_are_refused() {
    let mut reader = Reader::new(&[0xff, 0xfe, 0xff, 0xff]);
    assert_eq!(reader.string_len(false), Err(DecodeError::NegativeLength));
    assert_eq!(reader.string_len(false), Ok(None));
    let mut reader = Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x08]);
    assert_eq!(reader.bytes_len(true), Err(DecodeError::NegativeLength));
}

#[test]
fn counts_are_bounded_by_the_bytes_left() {
    let body = [0, 0, 0, 3, 1, 2, 3, 4, 5];
    assert_eq!(Reader::new(&body).array_len(false, 1), Ok(3));
    let refused = Err(DecodeError::CountBeyondBody { count: 3 });
    assert_eq!(Reader::new(&body).array_len(false, 2), refused);
}

#[test]
fn tagged_fields_are_bounded() {
    let mut buf = BytesMut::new();
    put_unsigned_varint(&mut buf, 10_001);
    let refused = Err(DecodeError::TooManyTaggedFields { count: 10_001 });
    assert_eq!(Reader::new(&buf).skip_tagged_fields(), refused);
}

proptest! {
    #[test]
    fn varints_survive_write_and_read(value: i32, long: i64, unsigned: u32) {
        let mut buf = BytesMut::new();
        put_varint(&mut buf, value);
        prop_assert_eq!(buf.len(), varint_size(value));
        put_varlong(&mut buf, long);
        prop_assert_eq!(buf.len(), varint_size(value) + varlong_size(long));
        put_unsigned_varint(&mut buf, unsigned);
        let mut reader = Reader::new(&buf);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.varlong(), Ok(long));
        prop_assert_eq!(reader.unsigned_varint(), Ok(unsigned));
        prop_assert_eq!(reader.remaining(), 0);
    }
}
