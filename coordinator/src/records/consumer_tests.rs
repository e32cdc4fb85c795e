//! Golden bytes of a consumer group's records, round trips, and bytes that lie.

use bytes::Bytes;
use ottla_protocol::types::TopicId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::command::TopicPartitions;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits.map(|d| u8::from_str_radix(d, 16).unwrap()).collect()
}

fn t() -> TopicId {
    TopicId(Uuid::from_u64_pair(
        0x0102_0304_0506_0708,
        0x090a_0b0c_0d0e_0f10,
    ))
}

fn u() -> TopicId {
    TopicId(Uuid::from_u64_pair(7, 8))
}

fn owned(topic_id: TopicId, partitions: &[i32], epochs: &[i32]) -> OwnedTopic {
    OwnedTopic {
        topic_id,
        partitions: partitions.to_vec(),
        epochs: epochs.to_vec(),
    }
}

fn member(member_id: &str, value: Option<ConsumerMemberValue>) -> ConsumerRecord {
    ConsumerRecord::Member {
        member_id: member_id.to_owned(),
        value,
    }
}

fn native(names: &[&str], regex: &str) -> ConsumerMemberValue {
    ConsumerMemberValue {
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        subscribed_topic_names: names.iter().map(|name| (*name).to_owned()).collect(),
        subscribed_topic_regex: Some(regex.to_owned()),
        rebalance_timeout_ms: 45_000,
        ..ConsumerMemberValue::default()
    }
}

/// What the golden file says, line by line.
fn golden() -> Vec<ConsumerRecord> {
    let epoch = |metadata_hash| {
        ConsumerRecord::GroupEpoch(Some(GroupEpochValue {
            epoch: 3,
            metadata_hash,
        }))
    };
    let target_epoch = |timestamp_ms| {
        ConsumerRecord::TargetEpoch(Some(TargetEpochValue {
            epoch: 3,
            timestamp_ms,
        }))
    };
    let target = |value| ConsumerRecord::Target {
        member_id: "m-1".to_owned(),
        value,
    };
    let partitions = |topic_id, partitions: &[i32]| TopicPartitions {
        topic_id,
        partitions: partitions.to_vec(),
    };
    let current = |value| ConsumerRecord::Current {
        member_id: "m-1".to_owned(),
        value,
    };
    let protocols = vec![
        ("range".to_owned(), Bytes::from_static(&[0, 1, 2, 3])),
        ("roundrobin".to_owned(), Bytes::new()),
    ];
    let regex = |value| ConsumerRecord::Regex {
        regex: "ord.*".to_owned(),
        value,
    };
    vec![
        epoch(0),
        epoch(-2),
        ConsumerRecord::PartitionMetadata(Some(
            unhex("0000020102030405060708090a0b0c0d0e0f10076f726465727300000002010000").into(),
        )),
        member("m-1", Some(native(&["orders", "payments"], ""))),
        member(
            "m-1",
            Some(ConsumerMemberValue {
                instance_id: Some("i".to_owned()),
                rack_id: Some("r".to_owned()),
                server_assignor: Some("range".to_owned()),
                ..native(&[], "ord.*")
            }),
        ),
        member(
            "m-2",
            Some(ConsumerMemberValue {
                subscribed_topic_regex: None,
                rebalance_timeout_ms: 60_000,
                classic: Some(ClassicValue {
                    session_timeout_ms: 10_000,
                    protocols,
                }),
                ..native(&["orders"], "")
            }),
        ),
        member(
            "m-3",
            Some(ConsumerMemberValue {
                instance_id: Some(String::new()),
                rack_id: Some(String::new()),
                subscribed_topic_regex: Some(String::new()),
                rebalance_timeout_ms: -1,
                server_assignor: Some(String::new()),
                classic: Some(ClassicValue::default()),
                ..ConsumerMemberValue::default()
            }),
        ),
        target_epoch(0),
        target_epoch(1_700_000_000_000),
        target(Some(vec![partitions(u(), &[0, 5]), partitions(t(), &[2])])),
        target(Some(Vec::new())),
        current(Some(CurrentValue {
            epoch: 3,
            previous_epoch: 2,
            state: 1,
            assigned: vec![owned(u(), &[0, 5], &[1, 3])],
            pending_revocation: vec![owned(t(), &[2], &[2])],
        })),
        current(Some(CurrentValue {
            epoch: -2,
            previous_epoch: 2,
            ..CurrentValue::default()
        })),
        regex(Some(RegexValue {
            topics: vec!["orders".to_owned(), "ordinary".to_owned()],
            version: 42,
            timestamp_ms: 1_700_000_000_000,
        })),
        ConsumerRecord::GroupEpoch(None),
        ConsumerRecord::PartitionMetadata(None),
        member("m-1", None),
        ConsumerRecord::TargetEpoch(None),
        target(None),
        current(None),
        regex(None),
    ]
}

#[test]
fn records_of_consumer_groups_are_those_of_kafka_byte_for_byte() {
    let lines = include_str!("kafka_4_3_consumer.txt").lines();
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    let golden = golden();
    assert_eq!(lines.len(), golden.len());
    for (line, record) in lines.into_iter().zip(golden) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let record = GroupRecord::Consumer {
            group: "g".to_owned(),
            record,
        };
        let (is_key, is_value) = record.encode();
        assert_eq!(hex(&is_key), key);
        assert_eq!(is_value.map(|bytes| hex(&bytes)).unwrap_or_default(), value);
        let bytes = unhex(value);
        let bytes = (!value.is_empty()).then_some(&bytes[..]);
        let decoded = GroupRecord::decode(&unhex(key), bytes);
        assert_eq!(decoded, Ok(Decoded::Record(record)));
    }
}

#[test]
fn partitions_without_epochs_are_read_and_null_epochs_too() {
    let (key, _) = GroupRecord::Consumer {
        group: "g".to_owned(),
        record: golden().swap_remove(11),
    }
    .encode();
    let mut value = unhex("000000000003000000020002");
    value.extend(u().0.as_bytes());
    value.extend(unhex("02000000050001"));
    value.push(0);
    let Ok(Decoded::Record(GroupRecord::Consumer {
        record: ConsumerRecord::Current {
            value: Some(current),
            ..
        },
        ..
    })) = GroupRecord::decode(&key, Some(&value))
    else {
        panic!("not read");
    };
    assert_eq!(current.assigned, [owned(u(), &[5], &[])]);
    let mut value = unhex("000000000003000000020002");
    value.extend(u().0.as_bytes());
    value.extend(unhex("0200000005010001000100"));
    let decoded = GroupRecord::decode(&key, Some(&value));
    assert!(matches!(decoded, Ok(Decoded::Record(_))), "{decoded:?}");
}

#[test]
fn keys_of_share_and_streams_groups_are_passed_over() {
    for key_version in [10, 15, 17, 23] {
        let key = [&i16::to_be_bytes(key_version)[..], b"\0\x01g"].concat();
        let decoded = GroupRecord::decode(&key, Some(&[0, 0]));
        assert_eq!(decoded, Ok(Decoded::Unknown { key_version }));
    }
}

proptest! {
    #[test]
    fn garbage_of_consumer_groups_is_an_error_and_never_more(
        version in 3i16..17, name in "[a-z]{0,5}",
        value in proptest::collection::vec(any::<u8>(), 0..90),
    ) {
        let mut key = version.to_be_bytes().to_vec();
        for text in ["g", &name] {
            key.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            key.extend(text.as_bytes());
        }
        let value = [&[0, 0][..], &value].concat();
        let _ = GroupRecord::decode(&key, Some(&value));
        let _ = GroupRecord::decode(&key[..key.len() / 2], Some(&value));
    }

    #[test]
    fn every_damaged_record_of_a_consumer_group_is_survived(
        which in 0usize..14, at in any::<proptest::sample::Index>(), byte in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let record = GroupRecord::Consumer {
            group: "g".to_owned(),
            record: golden().swap_remove(which),
        };
        let (key, value) = record.encode();
        let mut value = value.unwrap().to_vec();
        let at = at.index(value.len());
        value[at] = byte;
        let _ = GroupRecord::decode(&key, Some(&value));
        value.truncate(cut.index(value.len()));
        let _ = GroupRecord::decode(&key, Some(&value));
    }
}
