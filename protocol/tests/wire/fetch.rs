//! The hand-written Fetch codec against kafka-protocol, every version.

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction as TheirAborted, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint as TheirEndpoint, PartitionData,
};
use ottla_protocol::fetch_view::FetchRequest;
use ottla_protocol::fetch_writer::{
    AbortedTransaction, CurrentLeader, DivergingEpoch, FetchPartitionResponse, FetchResponseHead,
    FetchWriter, NodeEndpoint,
};
use ottla_protocol::guard::sample;
use ottla_protocol::messages::{
    BrokerId as TheirBrokerId, FetchRequest as TheirRequest, FetchResponse,
    ProducerId as TheirProducerId, TopicName, decode_request, encode_response,
};
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, Piece, ProducerId, StrBytes, TopicId,
};
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
    let theirs = decode_request::<TheirRequest>(Bytes::copy_from_slice(body), version);
    let (ours, bytes) = allocated(|| FetchRequest::parse(body, version));
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
    let replica = if version >= 15 {
        &theirs.replica_state.replica_id
    } else {
        &theirs.replica_id
    };
    assert_eq!(ours.replica_id.0, replica.0);
    assert_eq!(ours.replica_epoch, theirs.replica_state.replica_epoch);
    assert_eq!(
        (ours.max_wait_ms, ours.min_bytes, ours.max_bytes),
        (theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes)
    );
    assert_eq!(
        (ours.isolation_level, ours.session_id, ours.session_epoch),
        (
            theirs.isolation_level,
            theirs.session_id,
            theirs.session_epoch
        )
    );
    assert_eq!(ours.rack_id(body), theirs.rack_id.as_str());
    assert_eq!(ours.cluster_id(body), theirs.cluster_id.as_deref());
    compare_topics(&ours, &theirs, body);
    true
}

fn compare_topics(ours: &FetchRequest, theirs: &TheirRequest, body: &[u8]) {
    assert_eq!(ours.topics().len(), theirs.topics.len());
    for (our, their) in ours.topics().iter().zip(&theirs.topics) {
        assert_eq!(our.name(body), their.topic.0.as_str());
        assert_eq!(our.topic_id.0, their.topic_id);
        assert_eq!(ours.partitions(our).len(), their.partitions.len());
        for (our, their) in ours.partitions(our).iter().zip(&their.partitions) {
            assert_eq!(our.partition, their.partition);
            assert_eq!(our.current_leader_epoch.0, their.current_leader_epoch);
            assert_eq!(our.fetch_offset.0, their.fetch_offset);
            assert_eq!(our.last_fetched_epoch.0, their.last_fetched_epoch);
            assert_eq!(our.log_start_offset.0, their.log_start_offset);
            assert_eq!(our.partition_max_bytes, their.partition_max_bytes);
            assert_eq!(our.replica_directory_id, their.replica_directory_id);
            assert_eq!(our.high_watermark.0, their.high_watermark);
        }
    }
    assert_eq!(ours.forgotten().len(), theirs.forgotten_topics_data.len());
    for (our, their) in ours.forgotten().iter().zip(&theirs.forgotten_topics_data) {
        assert_eq!(our.name(body), their.topic.0.as_str());
        assert_eq!(our.topic_id.0, their.topic_id);
        assert_eq!(ours.forgotten_partitions(our), their.partitions);
    }
}

#[test]
fn the_parser_reads_what_the_codec_reads() {
    for version in 4..=18 {
        let mut rng = StdRng::seed_from_u64(version as u64);
        let mut accepted = 0;
        for _ in 0..300 {
            let body = sample::request(1, version, &mut |n| rng.random_range(0..n)).unwrap();
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
fn a_request_is_reused_without_allocating_and_without_remembering() {
    let mut rng = StdRng::seed_from_u64(1);
    let bodies: Vec<_> = (0..50)
        .map(|_| sample::request(1, 18, &mut |n| rng.random_range(0..n)).unwrap())
        .collect();
    let mut request = FetchRequest::default();
    for body in &bodies {
        request.parse_into(body, 18).unwrap();
        let fresh = FetchRequest::parse(body, 18).unwrap();
        assert_eq!(format!("{request:?}"), format!("{fresh:?}"));
    }
    let (parsed, bytes) = allocated(|| bodies.iter().all(|b| request.parse_into(b, 18).is_ok()));
    assert!(parsed);
    assert_eq!(bytes, 0);
}

#[derive(Clone, Debug)]
struct Partition {
    index: i32,
    error: i16,
    offsets: (i64, i64, i64),
    aborted: Option<Vec<(i64, i64)>>,
    replica: i32,
    diverging: Option<(i32, i64)>,
    leader: Option<(i32, i32)>,
    records: Vec<Vec<u8>>,
}

fn partition() -> impl Strategy<Value = Partition> {
    let aborted = option::of(vec(any::<(i64, i64)>(), 0..3));
    let tags = (
        option::of((0..i32::MAX, 0..i64::MAX)),
        option::of((0..i32::MAX, 0..i32::MAX)),
    );
    let records = vec(vec(any::<u8>(), 0..200), 0..4);
    let offsets = any::<(i64, i64, i64)>();
    (
        any::<i32>(),
        any::<i16>(),
        offsets,
        aborted,
        any::<i32>(),
        tags,
        records,
    )
        .prop_map(
            |(index, error, offsets, aborted, replica, (diverging, leader), records)| Partition {
                index,
                error,
                offsets,
                aborted,
                replica,
                diverging,
                leader,
                records,
            },
        )
}

type Topic = (String, u128, Vec<Partition>);
type Endpoint = (i32, String, i32, Option<String>);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn their_partition(partition: &Partition, version: i16) -> PartitionData {
    let aborted = |aborted: &Vec<(i64, i64)>| {
        let aborted = aborted.iter().map(|(id, first)| {
            TheirAborted::default()
                .with_producer_id(TheirProducerId(*id))
                .with_first_offset(*first)
        });
        aborted.collect()
    };
    let mut theirs = PartitionData::default()
        .with_partition_index(partition.index)
        .with_error_code(partition.error)
        .with_high_watermark(partition.offsets.0)
        .with_last_stable_offset(partition.offsets.1)
        .with_aborted_transactions(partition.aborted.as_ref().map(aborted))
        .with_records(Some(partition.records.concat().into()));
    if version >= 5 {
        theirs.log_start_offset = partition.offsets.2;
    }
    if version >= 11 {
        theirs.preferred_read_replica = TheirBrokerId(partition.replica);
    }
    if version >= 12 {
        if let Some((epoch, end)) = partition.diverging {
            theirs.diverging_epoch = EpochEndOffset::default()
                .with_epoch(epoch)
                .with_end_offset(end);
        }
        if let Some((id, epoch)) = partition.leader {
            theirs.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(TheirBrokerId(id))
                .with_leader_epoch(epoch);
        }
    }
    theirs
}

fn their_response(
    version: i16,
    head: (i32, i16, i32),
    topics: &[Topic],
    endpoints: &[Endpoint],
) -> FetchResponse {
    let topic = |(name, id, partitions): &Topic| {
        let partitions = partitions
            .iter()
            .map(|p| their_partition(p, version))
            .collect();
        let topic = FetchableTopicResponse::default().with_partitions(partitions);
        match version {
            13.. => topic.with_topic_id(Uuid::from_u128(*id)),
            _ => topic.with_topic(TopicName(text(name))),
        }
    };
    let endpoint = |(id, host, port, rack): &Endpoint| {
        TheirEndpoint::default()
            .with_node_id(TheirBrokerId(*id))
            .with_host(text(host))
            .with_port(*port)
            .with_rack(rack.as_deref().map(text))
    };
    let mut response = FetchResponse::default()
        .with_throttle_time_ms(head.0)
        .with_responses(topics.iter().map(topic).collect());
    if version >= 7 {
        response.error_code = head.1;
        response.session_id = head.2;
    }
    if version >= 16 {
        response.node_endpoints = endpoints.iter().map(endpoint).collect();
    }
    response
}

fn our_response(
    version: i16,
    head: (i32, i16, i32),
    topics: &[Topic],
    endpoints: &[Endpoint],
) -> Vec<Piece<Bytes>> {
    let head = FetchResponseHead {
        throttle_time_ms: head.0,
        error_code: head.1,
        session_id: head.2,
    };
    let mut writer = FetchWriter::new(77, version, head, topics.len());
    for (name, id, partitions) in topics {
        writer.topic(name, TopicId(Uuid::from_u128(*id)), partitions.len());
        for partition in partitions {
            let aborted = partition.aborted.as_ref().map(|aborted| {
                let transaction = |&(id, first): &(i64, i64)| AbortedTransaction {
                    producer_id: ProducerId(id),
                    first_offset: Offset(first),
                };
                aborted.iter().map(transaction).collect::<Vec<_>>()
            });
            let answer = FetchPartitionResponse {
                partition_index: partition.index,
                error: ErrorCode(partition.error),
                high_watermark: Offset(partition.offsets.0),
                last_stable_offset: Offset(partition.offsets.1),
                log_start_offset: Offset(partition.offsets.2),
                aborted_transactions: aborted.as_deref(),
                preferred_read_replica: BrokerId(partition.replica),
                diverging_epoch: partition.diverging.map(|(epoch, end)| DivergingEpoch {
                    epoch: LeaderEpoch(epoch),
                    end_offset: Offset(end),
                }),
                current_leader: partition.leader.map(|(id, epoch)| CurrentLeader {
                    leader_id: BrokerId(id),
                    leader_epoch: LeaderEpoch(epoch),
                }),
            };
            writer.partition(&answer, partition.records.iter().cloned().map(Bytes::from));
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
    writer.finish(&endpoints)
}

fn joined(pieces: &[Piece<Bytes>]) -> Vec<u8> {
    let bytes = |piece: &Piece<Bytes>| match piece {
        Piece::Bytes(bytes) | Piece::Body(bytes) => bytes.to_vec(),
    };
    pieces.iter().flat_map(bytes).collect()
}

proptest! {
    #[test]
    fn responses_are_the_codecs_byte_for_byte(
        head: (i32, i16, i32),
        topics in vec(("[a-z]{0,9}", any::<u128>(), vec(partition(), 0..4)), 0..4),
        endpoints in
            vec((any::<i32>(), "[a-z.]{0,20}", any::<i32>(), option::of("[a-z]{0,9}")), 0..3),
    ) {
        for version in 4..=18 {
            let theirs = their_response(version, head, &topics, &endpoints);
            let theirs = encode_response(77, version, &theirs).unwrap();
            let ours = our_response(version, head, &topics, &endpoints);
            prop_assert_eq!(&joined(&ours), &theirs[..], "version {}", version);
            prop_assert!(ours.iter().all(|piece| !piece.is_empty()));
        }
    }
}

#[test]
fn bodies_are_handed_on_and_never_copied() {
    let body = Bytes::from(vec![7; 1000]);
    let mut writer = FetchWriter::new(1, 12, FetchResponseHead::default(), 1);
    writer.topic("t", TopicId::ZERO, 1);
    let answer = FetchPartitionResponse::failed(0, ErrorCode::NONE);
    writer.partition(&answer, [body.clone()]);
    let pieces = writer.finish(&[]);
    let sent: Vec<_> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Body(bytes) => Some(bytes.as_ptr()),
            Piece::Bytes(_) => None,
        })
        .collect();
    assert_eq!(sent, [body.as_ptr()]);
}
