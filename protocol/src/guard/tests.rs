//! What the guard refuses, by example; `protocol/tests/wire/guard.rs` has the properties.

use bytes::{BufMut, BytesMut};

use super::*;
use crate::wire::{put_string, put_unsigned_varint};

const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;

fn check(version: i16, body: &[u8]) -> Result<(), DecodeError> {
    check_request(METADATA, version, body, &Budget::default())
}

#[test]
fn the_bodies_that_abort_the_codec_are_refused() {
    let count = i32::MAX as usize;
    assert_eq!(
        check(0, &[0x7f, 0xff, 0xff, 0xff]),
        Err(DecodeError::CountBeyondBody { count })
    );
    assert_eq!(
        check(12, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(DecodeError::NegativeLength)
    );
    let count = 54_265_856;
    let body = [0x03, 0x3c, 0x08, 0x00, 0, 0, 0, 0];
    assert_eq!(
        check(0, &body),
        Err(DecodeError::CountBeyondBody { count: 54_265_856 }),
        "{count}"
    );
}

#[test]
fn bytes_after_the_last_field_are_accepted() {
    // What librdkafka 2.16.0 sends to list all topics: three bytes are left over.
    assert_eq!(check(13, &[0, 0, 0, 0, 1, 0, 0]), Ok(()));
}

#[test]
fn null_is_accepted_only_where_the_schema_has_it() {
    assert_eq!(check(0, &[0xff; 4]), Err(DecodeError::NullNotAllowed));
    assert_eq!(check(1, &[0xff; 4]), Ok(()));
    assert_eq!(
        check(1, &[0, 0, 0, 1, 0xff, 0xff]),
        Err(DecodeError::NullNotAllowed)
    );
    assert_eq!(
        check(1, &[0xff, 0xff, 0xff, 0xfe]),
        Err(DecodeError::NegativeLength)
    );
}

#[test]
fn text_must_be_utf8() {
    assert_eq!(
        check(1, &[0, 0, 0, 1, 0, 1, 0xff]),
        Err(DecodeError::InvalidUtf8)
    );
}

#[test]
fn unknown_keys_and_versions_are_told() {
    let budget = Budget::default();
    let unknown = check_request(4, 0, &[], &budget);
    assert_eq!(unknown, Err(DecodeError::UnknownApi { key: 4 }));
    for version in [-1, 14, i16::MAX] {
        let error = DecodeError::UnsupportedVersion {
            key: METADATA,
            version,
        };
        assert_eq!(check(version, &[]), Err(error));
    }
}

fn with_tags(tags: &[u8]) -> Vec<u8> {
    // Null topics, two booleans.
    [&[0, 0, 0], tags].concat()
}

#[test]
fn tags_must_ascend_and_fit() {
    assert_eq!(check(12, &with_tags(&[2, 7, 0, 8, 1, 9])), Ok(()));
    assert_eq!(
        check(12, &with_tags(&[2, 8, 0, 7, 0])),
        Err(DecodeError::TagOrder { tag: 7 })
    );
    assert_eq!(
        check(12, &with_tags(&[2, 8, 0, 8, 0])),
        Err(DecodeError::TagOrder { tag: 8 })
    );
    let cut = DecodeError::Truncated {
        needed: 5,
        remaining: 1,
    };
    assert_eq!(check(12, &with_tags(&[1, 7, 5, 0])), Err(cut));
    let mut many = BytesMut::from(&[0u8, 0, 0][..]);
    put_unsigned_varint(&mut many, 10_001);
    assert_eq!(
        check(12, &many),
        Err(DecodeError::TooManyTaggedFields { count: 10_001 })
    );
}

#[test]
fn a_known_tag_must_fill_its_size() {
    // FetchRequest 15: the replica state is tag 1, twelve bytes and its own tags.
    let fetch = |size: u8| {
        let mut body = vec![0; 4 + 4 + 4 + 1 + 4 + 4];
        body.extend_from_slice(&[1, 1, 1, 1, 1, size]);
        body.extend_from_slice(&[0; 13]);
        body
    };
    let check = |version, size| check_request(1, version, &fetch(size), &Budget::default());
    assert_eq!(check(15, 13), Ok(()));
    assert_eq!(check(15, 12), Err(DecodeError::TagSize { tag: 1 }));
    assert_eq!(check(15, 14), Err(DecodeError::TagSize { tag: 1 }));
}

#[test]
fn elements_of_all_arrays_count_together() {
    let budget = Budget {
        elements_max: 5,
        ..Budget::default()
    };
    let topics = |count: u8| {
        let mut body = vec![0, 0, 0, count];
        (0..count).for_each(|_| body.extend_from_slice(&[0, 1, b'x']));
        body
    };
    assert_eq!(check_request(METADATA, 1, &topics(5), &budget), Ok(()));
    let refused = Err(DecodeError::TooManyElements { max: 5 });
    assert_eq!(check_request(METADATA, 1, &topics(6), &budget), refused);
    // Four assignments with one broker each and the topic itself are nine elements.
    let mut body = BytesMut::from(&[0u8, 0, 0, 1][..]);
    put_string(&mut body, false, "t");
    body.put_i32(-1);
    body.put_i16(-1);
    body.put_i32(4);
    for partition in 0..4 {
        body.put_i32(partition);
        body.put_i32(1);
        body.put_i32(0);
    }
    assert_eq!(check_request(CREATE_TOPICS, 2, &body, &budget), refused);
}

#[test]
fn a_million_tiny_elements_do_not_become_a_hundred_megabytes() {
    // Empty names: two bytes on the wire, 72 in memory.
    let mut body = BytesMut::new();
    body.put_i32(900_000);
    body.put_bytes(0, 1_800_000);
    assert!(matches!(
        check(1, &body),
        Err(DecodeError::MemoryBudget { .. })
    ));
}

#[test]
fn what_real_clients_send_is_accepted() {
    for (version, name_len) in [(1, 8), (8, 8), (9, 8), (12, 1), (13, 1)] {
        let mut body = BytesMut::new();
        crate::wire::put_array_len(&mut body, version >= 9, 100_000);
        for _ in 0..100_000 {
            if version >= 10 {
                body.put_bytes(7, 16);
            }
            put_string(&mut body, version >= 9, &"t".repeat(name_len));
            crate::wire::put_no_tags(&mut body, version >= 9);
        }
        body.put_bytes(0, 4);
        assert_eq!(check(version, &body), Ok(()), "Metadata {version}");
    }
    // ListOffsets of one topic with 10,000 partitions.
    for version in 1..=10 {
        let flexible = version >= 6;
        let mut body = BytesMut::new();
        body.put_i32(-1);
        body.put_bytes(0, usize::from(version >= 2));
        crate::wire::put_array_len(&mut body, flexible, 1);
        put_string(&mut body, flexible, "t");
        crate::wire::put_array_len(&mut body, flexible, 10_000);
        for _ in 0..10_000 {
            body.put_bytes(0, if version >= 4 { 16 } else { 12 });
            crate::wire::put_no_tags(&mut body, flexible);
        }
        body.put_bytes(0, 8);
        let accepted = check_request(2, version, &body, &Budget::default());
        assert_eq!(accepted, Ok(()), "ListOffsets {version}");
    }
}
