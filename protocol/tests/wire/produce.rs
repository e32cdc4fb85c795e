//! The hand-written Produce codec against kafka-protocol, every version.

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint as TheirEndpoint,
    PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::guard::sample;
use ottla_protocol::messages::{
    BrokerId as TheirBrokerId, ProduceRequest, ProduceResponse, TopicName, decode_request,
    encode_response,
};
use ottla_protocol::produce_view::ProduceView;
use ottla_protocol::produce_writer::{
    CurrentLeader, NodeEndpoint, ProducePartitionResponse, ProduceWriter,
};
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes, TopicId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::allocation::allocated;
use crate::guard::damage;

/// Both refuse, or both read the same.
fn compare(version: i16, body: &[u8]) -> bool {
    let theirs = decode_request::<ProduceRequest>(Bytes::copy_from_slice(body), version);
    let (ours, bytes) = allocated(|| ProduceView::parse(body, version));
    assert!(
        bytes <= 64 * 1024 + 8 * body.len() as u64,
        "{bytes} for {}",
        body.len()
    );
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return false,
        (ours, theirs) => panic!("{version}: {ours:?} but {theirs:?}: {body:02x?}"),
    };
    let id = theirs.transactional_id.as_ref().map(|id| id.0.as_str());
    assert_eq!(ours.transactional_id(body), id);
    assert_eq!(
        (ours.acks, ours.timeout_ms),
        (theirs.acks, theirs.timeout_ms)
    );
    assert_eq!(ours.topics().len(), theirs.topic_data.len());
    for (our, their) in ours.topics().iter().zip(&theirs.topic_data) {
        assert_eq!(our.name(body), their.name.0.as_str());
        assert_eq!(our.topic_id.0, their.topic_id);
        assert_eq!(our.partition_count(), their.partition_data.len());
        for (our, their) in ours.partitions(our).iter().zip(&their.partition_data) {
            assert_eq!(our.index, their.index);
            assert_eq!(
                our.records().map(|range| &body[range]),
                their.records.as_deref()
            );
        }
    }
    true
}

#[test]
fn the_walk_reads_what_the_codec_reads() {
    for version in 3..=13 {
        let mut rng = StdRng::seed_from_u64(version as u64);
        let mut accepted = 0;
        for _ in 0..500 {
            let body = sample::request(0, version, &mut |n| rng.random_range(0..n)).unwrap();
            assert!(compare(version, &body));
            (0..body.len()).for_each(|len| assert!(!compare(version, &body[..len])));
            let mut body = body.to_vec();
            damage(&mut body, &mut rng);
            accepted += i32::from(compare(version, &body));
        }
        assert!(accepted > 50, "{version}: {accepted}");
    }
}

#[test]
fn a_view_is_reused_without_allocating() {
    let mut rng = StdRng::seed_from_u64(1);
    let bodies: Vec<_> = (0..50)
        .map(|_| sample::request(0, 9, &mut |n| rng.random_range(0..n)).unwrap())
        .collect();
    let mut view = ProduceView::default();
    bodies
        .iter()
        .for_each(|body| view.parse_into(body, 9).unwrap());
    let (parsed, bytes) = allocated(|| bodies.iter().all(|body| view.parse_into(body, 9).is_ok()));
    assert!(parsed);
    assert_eq!(bytes, 0);
}

#[test]
fn a_thousand_partitions_fit_and_a_million_empty_topics_stay_within_the_limit() {
    for version in 3..=13i16 {
        let flexible = version >= 9;
        let mut body: Vec<u8> = if flexible { vec![0] } else { vec![0xff, 0xff] };
        body.extend_from_slice(&[0, 1, 0, 0, 0, 9]);
        let mut few = body.clone();
        // Each of 1000 topics has one partition with three bytes of records.
        few.extend_from_slice(if flexible {
            &[0xe9, 0x07]
        } else {
            &[0, 0, 0x03, 0xe8]
        });
        for _ in 0..1000 {
            match version {
                13 => few.extend_from_slice(&[7; 16]),
                9..13 => few.extend_from_slice(&[2, b't']),
                _ => few.extend_from_slice(&[0, 1, b't']),
            }
            few.extend_from_slice(if flexible { &[2] } else { &[0, 0, 0, 1] });
            few.extend_from_slice(&[0, 0, 0, 5]);
            few.extend_from_slice(if flexible { &[4] } else { &[0, 0, 0, 3] });
            few.extend_from_slice(&[1, 2, 3]);
            few.extend_from_slice(if flexible { &[0, 0] } else { &[] });
        }
        few.extend_from_slice(if flexible { &[0] } else { &[] });
        assert!(compare(version, &few), "{version}");
        // As many topics as an array may have, each as small as can be.
        let mut many = body;
        many.extend_from_slice(if flexible {
            &[0xc0, 0x84, 0x3d]
        } else {
            &[0, 0x0f, 0x42, 0x3f]
        });
        many.resize(many.len() + 18_000_000, if flexible { 1 } else { 0 });
        let (parsed, bytes) = allocated(|| ProduceView::parse(&many, version));
        assert!(
            bytes <= 64 * 1024 + 8 * many.len() as u64,
            "{version}: {parsed:?}"
        );
    }
}

#[derive(Clone, Debug)]
struct Partition {
    index: i32,
    error: i16,
    offsets: (i64, i64, i64),
    record_errors: Vec<(i32, Option<String>)>,
    message: Option<String>,
    leader: Option<(i32, i32)>,
}

fn partition() -> impl Strategy<Value = Partition> {
    let errors = vec((any::<i32>(), option::of("[a-zä]{0,200}")), 0..3);
    let leader = option::of((0..i32::MAX, 0..i32::MAX));
    (
        any::<i32>(),
        any::<i16>(),
        any::<(i64, i64, i64)>(),
        errors,
        option::of(".{0,20}"),
        leader,
    )
        .prop_map(
            |(index, error, offsets, record_errors, message, leader)| Partition {
                index,
                error,
                offsets,
                record_errors,
                message,
                leader,
            },
        )
}

type Endpoint = (i32, String, i32, Option<String>);

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (
        any::<i32>(),
        "[a-z.]{0,20}",
        any::<i32>(),
        option::of("[a-z]{0,9}"),
    )
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn their_partition(partition: &Partition, version: i16) -> PartitionProduceResponse {
    let mut theirs = PartitionProduceResponse::default()
        .with_index(partition.index)
        .with_error_code(partition.error)
        .with_base_offset(partition.offsets.0)
        .with_log_append_time_ms(partition.offsets.1);
    if version >= 5 {
        theirs.log_start_offset = partition.offsets.2;
    }
    if version >= 8 {
        let error = |(index, message): &(i32, Option<String>)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(message.as_deref().map(text))
        };
        theirs.record_errors = partition.record_errors.iter().map(error).collect();
        theirs.error_message = partition.message.as_deref().map(text);
    }
    if let Some((id, epoch)) = partition.leader.filter(|_| version >= 10) {
        theirs.current_leader = LeaderIdAndEpoch::default()
            .with_leader_id(TheirBrokerId(id))
            .with_leader_epoch(epoch);
    }
    theirs
}

type Topic = (String, u128, Vec<Partition>);

fn their_response(
    version: i16,
    throttle: i32,
    topics: &[Topic],
    endpoints: &[Endpoint],
) -> ProduceResponse {
    let topic = |(name, id, partitions): &Topic| {
        let partitions = partitions
            .iter()
            .map(|p| their_partition(p, version))
            .collect();
        let topic = TopicProduceResponse::default().with_partition_responses(partitions);
        match version {
            13 => topic.with_topic_id(Uuid::from_u128(*id)),
            _ => topic.with_name(TopicName(text(name))),
        }
    };
    let endpoint = |(id, host, port, rack): &Endpoint| {
        TheirEndpoint::default()
            .with_node_id(TheirBrokerId(*id))
            .with_host(text(host))
            .with_port(*port)
            .with_rack(rack.as_deref().map(text))
    };
    let mut response = ProduceResponse::default()
        .with_responses(topics.iter().map(topic).collect())
        .with_throttle_time_ms(throttle);
    if version >= 10 {
        response.node_endpoints = endpoints.iter().map(endpoint).collect();
    }
    response
}

fn our_response(version: i16, throttle: i32, topics: &[Topic], endpoints: &[Endpoint]) -> Bytes {
    let mut writer = ProduceWriter::new(77, version, topics.len());
    for (name, id, partitions) in topics {
        writer.topic(name, TopicId(Uuid::from_u128(*id)), partitions.len());
        for partition in partitions {
            let errors: Vec<_> = partition
                .record_errors
                .iter()
                .map(|(i, m)| (*i, m.as_deref()))
                .collect();
            writer.partition(&ProducePartitionResponse {
                index: partition.index,
                error: ErrorCode(partition.error),
                base_offset: Offset(partition.offsets.0),
                log_append_time_ms: partition.offsets.1,
                log_start_offset: Offset(partition.offsets.2),
                record_errors: &errors,
                error_message: partition.message.as_deref(),
                current_leader: partition.leader.map(|(id, epoch)| CurrentLeader {
                    leader_id: BrokerId(id),
                    leader_epoch: LeaderEpoch(epoch),
                }),
            });
        }
    }
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(id, host, port, rack)| NodeEndpoint {
            node_id: BrokerId(*id),
            host,
            port: *port,
            rack: rack.as_deref(),
        })
        .collect();
    writer.finish(throttle, &endpoints)
}

proptest! {
    #[test]
    fn responses_are_the_codecs_byte_for_byte(
        throttle: i32,
        topics in vec(("[a-z]{0,9}", any::<u128>(), vec(partition(), 0..4)), 0..4),
        endpoints in vec(endpoint(), 0..3),
    ) {
        for version in 3..=13 {
            let theirs = their_response(version, throttle, &topics, &endpoints);
            let theirs = encode_response(77, version, &theirs).unwrap();
            let ours = our_response(version, throttle, &topics, &endpoints);
            prop_assert_eq!(&ours[..], &theirs[..], "version {}", version);
        }
    }
}
