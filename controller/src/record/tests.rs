//! Bytes of records: round trips of any record, and hostile bytes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::codec::RecordError;
use super::*;

pub(crate) fn any_record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        name().prop_map(|cluster_id| MetadataRecord::Cluster { cluster_id }),
        (name(), any::<i16>(), any::<i64>())
            .prop_map(|(name, level, epoch)| MetadataRecord::Feature { name, level, epoch }),
        any_registration().prop_map(MetadataRecord::BrokerRegistration),
        broker().prop_map(|broker_id| MetadataRecord::BrokerUnregistered { broker_id }),
        broker().prop_map(|broker_id| MetadataRecord::LeaderEpochsBumped { broker_id }),
        (topic_id(), name()).prop_map(|(topic_id, name)| MetadataRecord::Topic { topic_id, name }),
        topic_id().prop_map(|topic_id| MetadataRecord::RemoveTopic { topic_id }),
        any_partition().prop_map(MetadataRecord::Partition),
        any_partition().prop_map(|p| MetadataRecord::PartitionChange(PartitionChangeRecord {
            topic_id: p.topic_id,
            partition: p.partition,
            isr: p.isr,
            leader: p.leader,
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
        })),
        (resource(), name(), option::of(name())).prop_map(|(resource, name, value)| {
            MetadataRecord::Config {
                resource,
                name,
                value,
            }
        }),
        any::<i64>().prop_map(|id| MetadataRecord::ProducerIds {
            next_producer_id: ProducerId(id)
        }),
    ]
}

fn name() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}".prop_map(Arc::from)
}

fn broker() -> impl Strategy<Value = BrokerId> {
    any::<i32>().prop_map(BrokerId)
}

fn topic_id() -> impl Strategy<Value = TopicId> {
    any::<u128>().prop_map(|id| TopicId(Uuid::from_u128(id)))
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        name().prop_map(ConfigResource::Topic),
        broker().prop_map(ConfigResource::Broker),
        Just(ConfigResource::BrokerDefault),
        name().prop_map(ConfigResource::Group),
    ]
}

fn any_partition() -> impl Strategy<Value = PartitionRecord> {
    let brokers = || vec(broker(), 0..4);
    (
        topic_id(),
        0i32..,
        brokers(),
        brokers(),
        broker(),
        any::<i32>(),
        any::<i32>(),
    )
        .prop_map(
            |(topic_id, partition, replicas, isr, leader, leader_epoch, partition_epoch)| {
                PartitionRecord {
                    topic_id,
                    partition,
                    replicas,
                    isr,
                    leader,
                    leader_epoch: LeaderEpoch(leader_epoch),
                    partition_epoch: PartitionEpoch(partition_epoch),
                }
            },
        )
}

fn any_registration() -> impl Strategy<Value = BrokerRegistrationRecord> {
    let endpoint = (name(), name(), any::<u16>(), any::<i16>()).prop_map(
        |(listener, host, port, security_protocol)| BrokerEndpoint {
            listener,
            host,
            port,
            security_protocol,
        },
    );
    let feature = (name(), any::<i16>(), any::<i16>()).prop_map(|(name, min, max)| FeatureRange {
        name,
        min,
        max,
    });
    let uuid = || any::<u128>().prop_map(Uuid::from_u128);
    (
        (broker(), any::<i64>(), uuid()),
        vec(endpoint, 0..3),
        vec(feature, 0..3),
        option::of(name()),
        vec(uuid(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(ids, endpoints, features, rack, log_dirs, fenced)| {
            BrokerRegistrationRecord {
                broker_id: ids.0,
                broker_epoch: BrokerEpoch(ids.1),
                incarnation_id: ids.2,
                endpoints,
                features,
                rack,
                log_dirs,
                fenced,
            }
        })
}

proptest! {
    #[test]
    fn records_survive_encoding_and_decoding(records in vec(any_record(), 0..8)) {
        prop_assert_eq!(decode_batch(&encode_batch(&records)), Ok(records));
    }

    #[test]
    fn a_batch_cut_anywhere_is_an_error(records in vec(any_record(), 1..4), cut in any::<usize>()) {
        let bytes = encode_batch(&records);
        prop_assert!(decode_batch(&bytes[..cut % bytes.len()]).is_err());
    }

    #[test]
    fn damaged_batches_are_decoded_or_refused_but_never_panic(
        records in vec(any_record(), 1..4),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode_batch(&records);
        let at = at % bytes.len();
        bytes[at] = byte;
        // What is still readable is what the bytes say, to the last byte.
        if let Ok(decoded) = decode_batch(&bytes) {
            prop_assert_eq!(decode_batch(&encode_batch(&decoded)), Ok(decoded));
        }
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..64)) {
        let _ = decode_batch(&bytes);
    }
}

#[test]
fn counts_beyond_the_bytes_at_hand_are_refused_before_anything_is_allocated() {
    // Format, then a count of 2^60 records.
    let bytes = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    assert_eq!(decode_batch(&bytes), Err(RecordError::Truncated));
    // A varint that never ends, and one with too many bits.
    assert_eq!(
        decode_batch(&[&[1][..], &[0xff; 12]].concat()),
        Err(RecordError::InvalidValue("varint"))
    );
}

#[test]
fn records_of_a_later_release_are_named() {
    let record = MetadataRecord::BrokerUnregistered {
        broker_id: BrokerId(1),
    };
    let bytes = encode_batch(&[record]);
    let changed = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        decode_batch(&bytes)
    };
    assert_eq!(changed(0, 2), Err(RecordError::UnknownFormat(2)));
    assert_eq!(
        changed(3, 9),
        Err(RecordError::UnknownRecord {
            record_type: 4,
            version: 9
        })
    );
    assert_eq!(
        changed(4, 99),
        Err(RecordError::UnknownRecord {
            record_type: 99,
            version: 1
        })
    );
}
