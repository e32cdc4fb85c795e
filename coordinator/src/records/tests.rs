//! Round trips, older versions, and bytes that lie.

use proptest::prelude::*;

use super::*;

fn offset_record(value: Option<OffsetValue>) -> GroupRecord {
    GroupRecord::Offset {
        group: "payments".to_owned(),
        topic: "orders".to_owned(),
        partition: 7,
        value,
    }
}

fn offset_value() -> OffsetValue {
    OffsetValue {
        offset: Offset(42),
        leader_epoch: LeaderEpoch(3),
        metadata: "note".to_owned(),
        commit_timestamp_ms: 1_700_000_000_000,
        expire_timestamp_ms: None,
        topic_id: TopicId::ZERO,
    }
}

fn round_trip(record: &GroupRecord) {
    let (key, value) = record.encode();
    let decoded = GroupRecord::decode(&key, value.as_deref());
    assert_eq!(decoded, Ok(Decoded::Record(record.clone())));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_offset_is_written_as_the_schema_says() {
    let (key, value) = offset_record(Some(offset_value())).encode();
    assert_eq!(
        hex(&key),
        "000100087061796d656e747300066f726465727300000007"
    );
    assert_eq!(
        hex(&value.unwrap()),
        "0004000000000000002a00000003056e6f74650000018bcfe5680000"
    );
}

#[test]
fn an_offset_with_an_expiry_of_its_own_is_version_1() {
    let value = OffsetValue {
        expire_timestamp_ms: Some(5),
        leader_epoch: LeaderEpoch::NONE,
        ..offset_value()
    };
    let record = offset_record(Some(value));
    let (_, bytes) = record.encode();
    assert_eq!(
        hex(&bytes.unwrap()),
        "0001000000000000002a00046e6f74650000018bcfe568000000000000000005"
    );
    round_trip(&record);
}

#[test]
fn what_kafka_wrote_is_read_and_would_be_written_again() {
    let unhex = |text: &str| -> Vec<u8> {
        let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        digits.map(|d| u8::from_str_radix(d, 16).unwrap()).collect()
    };
    let mut read = Vec::new();
    let lines = include_str!("kafka_4_3.txt").lines();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(' ').unwrap();
        let Ok(Decoded::Record(record)) = GroupRecord::decode(&unhex(key), Some(&unhex(value)))
        else {
            panic!("not read: {line}");
        };
        let (key_again, value_again) = record.encode();
        assert_eq!(
            format!("{} {}", hex(&key_again), hex(&value_again.unwrap())),
            line
        );
        read.push(record);
    }
    assert_eq!(read.len(), 10);
    let GroupRecord::Group {
        value: Some(value), ..
    } = &read[3]
    else {
        panic!("the generation of the static member");
    };
    assert_eq!(
        (value.generation, value.protocol.as_deref()),
        (1, Some("range"))
    );
    assert_eq!(value.members[0].instance_id.as_deref(), Some("desk-1"));
    assert_eq!(value.members[0].client_host, "/127.0.0.1");
    assert_eq!(value.members[0].session_timeout_ms, 6_000);
    let GroupRecord::Offset {
        value: Some(value), ..
    } = &read[4]
    else {
        panic!("a committed offset");
    };
    assert_eq!(
        (value.offset, value.leader_epoch),
        (Offset(1), LeaderEpoch::NONE)
    );
    assert_ne!(value.topic_id, TopicId::ZERO);
}

#[test]
fn tombstones_have_no_value() {
    round_trip(&offset_record(None));
    round_trip(&GroupRecord::Group {
        group: "g".to_owned(),
        value: None,
    });
}

#[test]
fn an_offset_of_version_4_has_a_topic_id_in_a_tag() {
    let mut bytes = vec![0, 4];
    bytes.extend(42i64.to_be_bytes());
    bytes.extend(3i32.to_be_bytes());
    bytes.extend([5, b'n', b'o', b't', b'e']);
    bytes.extend(9i64.to_be_bytes());
    bytes.extend([1, 0, 16]);
    bytes.extend([7; 16]);
    let (key, _) = offset_record(None).encode();
    let Ok(Decoded::Record(GroupRecord::Offset { value, .. })) =
        GroupRecord::decode(&key, Some(&bytes))
    else {
        panic!("version 4 is read");
    };
    let value = value.unwrap();
    assert_eq!(value.metadata, "note");
    assert_eq!(value.topic_id.0.as_bytes(), &[7; 16]);
}

#[test]
fn keys_of_other_coordinators_are_told_apart() {
    let decoded = GroupRecord::decode(&[0, 10, 0, 1, b'g'], Some(&[0, 0]));
    assert_eq!(decoded, Ok(Decoded::Unknown { key_version: 10 }));
    assert!(GroupRecord::decode(&[0], None).is_err());
    let (key, _) = offset_record(None).encode();
    assert_eq!(
        GroupRecord::decode(&key, Some(&[0, 9])),
        Err(RecordError::ValueVersion { version: 9 })
    );
}

#[test]
fn a_group_is_kept_by_the_partition_that_kafka_would_choose() {
    // Taken from Java: Utils.abs("...".hashCode()) % 50.
    assert_eq!(partition_of("", 50), 0);
    assert_eq!(partition_of("a", 50), 97 % 50);
    assert_eq!(partition_of("polygenelubricants", 50), 0);
    assert_eq!(partition_of("my-group", 50), 12);
}

prop_compose! {
    fn any_text()(text in "[a-zA-Z0-9 ä]{0,20}") -> String { text }
}

prop_compose! {
    fn any_member()(
        member_id in any_text(), instance_id in proptest::option::of(any_text()),
        client_id in any_text(), client_host in any_text(),
        rebalance_timeout_ms in 0..i32::MAX, session_timeout_ms in 0..i32::MAX,
        subscription in proptest::collection::vec(any::<u8>(), 0..50),
        assignment in proptest::collection::vec(any::<u8>(), 0..50),
    ) -> MemberValue {
        MemberValue {
            member_id, instance_id, client_id, client_host, rebalance_timeout_ms,
            session_timeout_ms, subscription: subscription.into(), assignment: assignment.into(),
        }
    }
}

proptest! {
    #[test]
    fn every_group_comes_back_as_it_was_written(
        protocol_type in any_text(), generation in any::<i32>(),
        protocol in proptest::option::of(any_text()), leader in proptest::option::of(any_text()),
        current_state_timestamp_ms in any::<i64>(),
        members in proptest::collection::vec(any_member(), 0..5),
    ) {
        let value = GroupValue {
            protocol_type, generation, protocol, leader, current_state_timestamp_ms, members,
        };
        round_trip(&GroupRecord::Group { group: "g".to_owned(), value: Some(value) });
    }

    #[test]
    fn garbage_is_an_error_and_never_more(
        version in 0i16..6, key in proptest::collection::vec(any::<u8>(), 0..60),
        value_version in 0i16..6, value in proptest::collection::vec(any::<u8>(), 0..90),
    ) {
        let key = [&version.to_be_bytes()[..], &key].concat();
        let value = [&value_version.to_be_bytes()[..], &value].concat();
        let _ = GroupRecord::decode(&key, Some(&value));
        let (valid_key, _) = offset_record(None).encode();
        let _ = GroupRecord::decode(&valid_key, Some(&value));
    }
}
