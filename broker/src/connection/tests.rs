//! The connection machine over a whole core in one thread: no sockets, no threads, time by hand.
//! Clients' rules about framing, order, acks, long polls and sessions, as seen on the wire.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use ottla_protocol::BatchBuilder;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::*;
use ottla_protocol::types::{Offset, ProducerId, TopicId};
use ottla_storage::disk::memory::{InjectedError, Injection, Operation};

use super::*;
use crate::handlers::testing::TestBroker;

mod cold;
mod dirty;
mod gather;
mod opening;
mod patience;
mod schedules;
mod wire_rules;

const TIMEOUT_MS: i32 = 10_000;

/// One client on one connection of a broker whose time and disk the test drives.
struct Wire {
    world: Arc<TestBroker>,
    connection: Connection,
    now: Instant,
    next_id: i32,
    received: Vec<u8>,
}

fn wire(durability: &str) -> Wire {
    wire_with(&[("ottla.durability", durability)])
}

fn wire_with(config: &[(&str, &str)]) -> Wire {
    let world = Arc::new(TestBroker::with_config(config));
    world.create_topic("t", 2);
    wire_to(&world, ConnectionSignal::new(|| {}))
}

fn wire_to(world: &Arc<TestBroker>, signal: Arc<ConnectionSignal>) -> Wire {
    Wire {
        world: Arc::clone(world),
        connection: connect_with(world, signal),
        now: Instant::now(),
        next_id: 0,
        received: Vec::new(),
    }
}

fn connect(world: &TestBroker) -> Connection {
    connect_with(world, ConnectionSignal::new(|| {}))
}

fn connect_with(world: &TestBroker, signal: Arc<ConnectionSignal>) -> Connection {
    let peer = SocketAddr::from(([127, 0, 0, 1], 5000));
    let listener = ListenerName(Arc::from("PLAINTEXT"));
    Connection::new(Arc::clone(&world.broker), peer, listener, signal)
}

impl Wire {
    fn send_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let buffer = self.connection.read_buffer();
            let room = (buffer.capacity() - buffer.len()).min(rest.len());
            buffer.put_slice(&rest[..room]);
            rest = &rest[room..];
            self.connection.note_received(self.now);
            self.work();
        }
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.next_id += 1;
        let frame = encode_request(self.next_id, "test", version, request).unwrap();
        self.send_bytes(&frame);
        self.next_id
    }

    fn work(&mut self) {
        let mut pieces = Vec::new();
        while self.connection.process(self.now) {
            self.connection.take_output(&mut pieces);
        }
        self.connection.take_output(&mut pieces);
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) | Piece::Body(RecordData::Bytes(bytes)) => {
                    self.received.extend_from_slice(&bytes);
                }
                Piece::Body(RecordData::File(range)) => {
                    self.received.extend_from_slice(&range.read().unwrap());
                }
            }
        }
    }

    fn sleep(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.work();
    }

    /// Lets the flusher do everything there is.
    fn flush(&mut self) {
        while self.world.broker.flush.run_one() {}
        self.work();
    }

    /// The next answer's frame, if one was sent.
    fn frame(&mut self) -> Option<Bytes> {
        let len = i32::from_be_bytes(*self.received.first_chunk()?) as usize;
        let whole: Vec<u8> = self.received.drain(..4 + len).collect();
        Some(Bytes::from(whole).slice(4..))
    }

    fn answer<R: Response>(&mut self, correlation_id: i32, version: i16) -> R {
        let frame = self.frame().expect("an answer was sent");
        let (id, response) = decode_response(frame, version).unwrap();
        assert_eq!(
            id, correlation_id,
            "answers come in the order of the requests"
        );
        response
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Response,
    {
        let id = self.send(version, request);
        self.answer(id, version)
    }

    /// Produces and lets the disk finish.
    fn produce(&mut self, partition: i32, batch: &BatchBuilder) -> (i16, i64) {
        let id = self.send(9, &produce(-1, partition, batch));
        self.flush();
        let response: ProduceResponse = self.answer(id, 9);
        let answer = &response.responses[0].partition_responses[0];
        (answer.error_code, answer.base_offset)
    }

    fn fetch(&mut self, version: i16, request: &FetchRequest) -> FetchResponse {
        self.call(version, request)
    }

    fn closed(&self) -> Option<CloseReason> {
        self.connection.close_reason()
    }
}

fn name(topic: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(topic))
}

fn batch(values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for (n, value) in values.iter().enumerate() {
        builder.append(1_000 + n as i64, None, Some(value.as_bytes()), &[]);
    }
    builder
}

fn records(batch: &BatchBuilder) -> Bytes {
    Bytes::copy_from_slice(batch.build().unwrap().bytes())
}

fn produce(acks: i16, partition: i32, batch: &BatchBuilder) -> ProduceRequest {
    produce_bytes(acks, partition, Some(records(batch)))
}

fn produce_bytes(acks: i16, partition: i32, records: Option<Bytes>) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(records);
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(TIMEOUT_MS)
        .with_topic_data(vec![topic])
}

fn fetch_at(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

fn fetch(partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default()
        .with_topic(name("t"))
        .with_partitions(partitions);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(1 << 24)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn found(response: &FetchResponse, index: usize) -> (i16, usize) {
    let partition = &response.responses[0].partitions[index];
    (
        partition.error_code,
        partition.records.as_ref().map_or(usize::MAX, Bytes::len),
    )
}

#[test]
fn an_api_versions_request_of_the_future_is_answered_in_version_zero() {
    let mut wire = wire("memory");
    let mut frame = BytesMut::new();
    frame.put_slice(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 1, 0]);
    wire.send_bytes(&frame);
    let response: ApiVersionsResponse = wire.answer(7, 0);
    assert_eq!(response.error_code, 35);
    assert!(response.api_keys.len() > 20);
    assert_eq!(wire.closed(), None, "the connection goes on");
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("a"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    let response = wire.call(4, &request);
    let produce = response
        .api_keys
        .iter()
        .find(|api| api.api_key == 0)
        .unwrap();
    assert_eq!(
        (produce.min_version, produce.max_version),
        (0, 13),
        "old clients need the 0"
    );
}

#[test]
fn what_cannot_be_answered_ends_the_connection_after_the_answers_before_it() {
    let cases: [(&[u8], CloseReason); 6] = [
        (&[0, 0, 0, 0], CloseReason::BadFrameLength),
        (&[0xff, 0xff, 0xff, 0xff], CloseReason::BadFrameLength),
        (&[0x7f, 0xff, 0xff, 0xff], CloseReason::BadFrameLength),
        (&[0, 0, 0, 4, 0, 3, 0, 1], CloseReason::BadHeader),
        (
            &[0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
            CloseReason::UnknownApi,
        ),
        (
            &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
            CloseReason::UnsupportedVersion,
        ),
    ];
    for (bytes, reason) in cases {
        let mut wire = wire("memory");
        let id = wire.send(0, &ApiVersionsRequest::default());
        wire.send_bytes(bytes);
        assert_eq!(wire.closed(), Some(reason), "{bytes:?}");
        wire.answer::<ApiVersionsResponse>(id, 0);
        assert!(!wire.connection.wants_read());
    }
}

#[test]
fn answers_keep_the_order_of_requests_whatever_is_ready_first() {
    let mut wire = wire("commit");
    let produced = wire.send(9, &produce(-1, 0, &batch(&["a"])));
    let polled = wire.send(11, &fetch(vec![fetch_at(1, 0)]).with_max_wait_ms(500));
    let listed = wire.send(0, &ApiVersionsRequest::default());
    assert!(
        wire.frame().is_none(),
        "the first waits for the disk, so all wait"
    );
    assert_eq!(wire.connection.in_flight(), 3);
    wire.flush();
    wire.answer::<ProduceResponse>(produced, 9);
    assert!(
        wire.frame().is_none(),
        "the long poll holds back what came after it"
    );
    wire.sleep(499);
    assert!(wire.frame().is_none());
    wire.sleep(1);
    wire.answer::<FetchResponse>(polled, 11);
    wire.answer::<ApiVersionsResponse>(listed, 0);
}

#[test]
fn a_connection_with_64_requests_in_flight_stops_reading() {
    let mut wire = wire("commit");
    for _ in 0..64 {
        assert!(wire.connection.wants_read());
        wire.send(9, &produce(-1, 0, &batch(&["a"])));
    }
    assert!(!wire.connection.wants_read());
    wire.send(0, &ApiVersionsRequest::default());
    assert_eq!(
        wire.connection.in_flight(),
        64,
        "what was read already waits its turn"
    );
    wire.flush();
    for id in 1..=64 {
        wire.answer::<ProduceResponse>(id, 9);
    }
    wire.answer::<ApiVersionsResponse>(65, 0);
    assert!(wire.connection.wants_read() && wire.connection.is_idle());
}

#[test]
fn one_call_does_a_bounded_amount_of_work() {
    let mut wire = wire("memory");
    let mut frames = BytesMut::new();
    for id in 0..1000 {
        frames.put_slice(&encode_request(id, "", 0, &ApiVersionsRequest::default()).unwrap());
    }
    let buffer = wire.connection.read_buffer();
    buffer.reserve(frames.len());
    buffer.put_slice(&frames);
    let mut calls = 1;
    while wire.connection.process(wire.now) {
        calls += 1;
    }
    assert!(calls >= 1000 / FRAMES_PER_CALL, "{calls}");
}

#[test]
fn large_requests_wait_for_memory_that_others_hold() {
    let mut wire = wire("memory");
    let memory = Arc::clone(&wire.world.broker.request_memory);
    let held = memory.claim(usize::MAX >> 1).expect("everything is free");
    let value = "x".repeat(200_000);
    let request = produce(-1, 0, &batch(&[&value]));
    let frame = encode_request(1, "test", 9, &request).unwrap();
    wire.send_bytes(&frame[..5_000]);
    assert!(
        !wire.connection.wants_read(),
        "nothing is read while there is no room"
    );
    wire.sleep(60_000);
    assert_eq!(wire.closed(), None, "the client is not blamed for our wait");
    drop(held);
    wire.sleep(20);
    assert!(wire.connection.wants_read() && memory.claimed_bytes() > 0);
    wire.send_bytes(&frame[5_000..]);
    let response: ProduceResponse = wire.answer(1, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(memory.claimed_bytes(), 0);
}

#[test]
fn acks_decide_when_and_whether_a_producer_hears() {
    let mut wire = wire("commit");
    for acks in [1, -1] {
        let id = wire.send(9, &produce(acks, 0, &batch(&["a"])));
        assert!(
            wire.frame().is_none(),
            "acks={acks} waits for the disk in class commit"
        );
        wire.flush();
        wire.answer::<ProduceResponse>(id, 9);
    }
    wire.send(9, &produce(0, 0, &batch(&["a"])));
    wire.flush();
    assert!(
        wire.frame().is_none() && wire.closed().is_none(),
        "nobody waits with acks=0"
    );
    let marks = wire
        .world
        .broker
        .partitions
        .get("t", 0)
        .unwrap()
        .marks()
        .unwrap();
    assert_eq!(marks.high_watermark.0, 3);
    wire.send(9, &produce(0, 77, &batch(&["a"])));
    assert_eq!(wire.closed(), Some(CloseReason::ProduceFailedWithoutAcks));
}

#[test]
fn class_memory_answers_at_once() {
    let mut wire = wire("memory");
    let response = wire.call(9, &produce(-1, 0, &batch(&["a"])));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_produce_that_the_disk_keeps_waiting_times_out() {
    let mut wire = wire("commit");
    let id = wire.send(9, &produce(-1, 0, &batch(&["a"])));
    wire.sleep(TIMEOUT_MS as u64 - 1);
    assert!(wire.frame().is_none());
    wire.sleep(1);
    let response: ProduceResponse = wire.answer(id, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 7);
}

#[test]
fn a_failed_sync_is_a_storage_error_and_not_an_acknowledgement() {
    let mut wire = wire("commit");
    let id = wire.send(9, &produce(-1, 0, &batch(&["a"])));
    wire.world
        .disk
        .inject(Injection::once(Operation::Sync, InjectedError::Io));
    wire.flush();
    let response: ProduceResponse = wire.answer(id, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 56);
    let response = wire.fetch(11, &fetch(vec![fetch_at(0, 0)]).with_max_wait_ms(500));
    assert_eq!(
        found(&response, 0).0,
        56,
        "an offline partition answers at once"
    );
    assert_eq!(
        wire.produce(1, &batch(&["b"])).0,
        56,
        "its directory has failed"
    );
}

#[test]
fn bad_batches_are_refused_one_by_one() {
    let mut wire = wire("memory");
    let good = records(&batch(&["a", "b"]));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        Some(Bytes::from(bytes))
    };
    let cases: [(&str, Option<Bytes>, i16); 8] = [
        ("null records", None, 87),
        ("empty records", Some(Bytes::new()), 87),
        ("a wrong checksum", with(&|bytes| bytes[70] ^= 1), 2),
        ("magic 1", with(&|bytes| bytes[16] = 1), 87),
        ("cut off", with(&|bytes| bytes.truncate(bytes.len() - 1)), 2),
        (
            "two batches",
            with(&|bytes| bytes.extend_from_within(..)),
            87,
        ),
        (
            "a base offset",
            Some(records(&batch(&["a"]).base_offset(Offset(5)))),
            87,
        ),
        (
            "a control batch",
            Some(records(&batch(&["a"]).control(true))),
            87,
        ),
    ];
    for (what, records, code) in cases {
        let response = wire.call(9, &produce_bytes(-1, 0, records));
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (code, -1),
            "{what}"
        );
        assert!(answer.error_message.is_some(), "{what}");
    }
    let response = wire.call(9, &produce(5, 0, &batch(&["a"])));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
    let unknown = wire.call(9, &produce(-1, 2, &batch(&["a"])));
    assert_eq!(unknown.responses[0].partition_responses[0].error_code, 3);
    assert_eq!(
        wire.produce(0, &batch(&["a"])),
        (0, 0),
        "nothing of all that was written"
    );
}

#[test]
fn an_idempotent_producer_gets_the_first_offset_of_a_batch_it_repeats() {
    let mut wire = wire("commit");
    let from = |sequence| batch(&["a", "b"]).producer(ProducerId(7), 0, sequence);
    assert_eq!(wire.produce(0, &from(0)), (0, 0));
    assert_eq!(wire.produce(0, &from(2)), (0, 2));
    assert_eq!(wire.produce(0, &from(0)), (0, 0), "a repetition");
    assert_eq!(wire.produce(0, &from(6)).0, 45, "a gap");
    assert_eq!(
        wire.produce(0, &batch(&["x"]).producer(ProducerId(-1), -1, 9)),
        (0, 4)
    );
}

#[test]
fn producer_ids_are_handed_out_once_and_transactions_are_refused() {
    let mut wire = wire("memory");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
        let id = wire.send(4, &idempotent);
        wire.work();
        let response: InitProducerIdResponse = wire.answer(id, 4);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        ids.push(response.producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let transactional = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("tx"))));
    let response = wire.call(4, &transactional);
    assert_eq!((response.error_code, response.producer_id.0), (35, -1));
}

#[test]
fn topics_are_named_by_id_from_version_thirteen_on() {
    let mut wire = wire("memory");
    let id = wire.world.image().topics.by_name("t").unwrap().id;
    let mut request = produce(-1, 0, &batch(&["a"]));
    request.topic_data[0].topic_id = id.0;
    request.topic_data[0].name = TopicName::default();
    let response = wire.call(13, &request);
    assert_eq!(response.responses[0].topic_id, id.0);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    request.topic_data[0].topic_id = TopicId(uuid::Uuid::from_u128(9)).0;
    let response = wire.call(13, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 100);

    let mut request = fetch(vec![fetch_at(0, 0)]);
    request.topics[0].topic = TopicName::default();
    request.topics[0].topic_id = id.0;
    let response = wire.fetch(16, &request);
    assert!(found(&response, 0).1 > 0 && response.responses[0].topic_id == id.0);
    request.topics[0].topic_id = uuid::Uuid::from_u128(9);
    assert_eq!(found(&wire.fetch(16, &request), 0), (100, 0));
}

#[test]
fn a_long_poll_is_answered_when_enough_bytes_are_readable() {
    let mut wire = wire("commit");
    let one = records(&batch(&["0123456789"])).len() as i32;
    let wanted = fetch(vec![fetch_at(0, 0), fetch_at(1, 0)])
        .with_max_wait_ms(30_000)
        .with_min_bytes(2 * one);
    let mut producer = connect(&wire.world);
    let id = wire.send(11, &wanted);
    let mut produce_elsewhere = |wire: &mut Wire, partition| {
        let request = produce(-1, partition, &batch(&["0123456789"]));
        let frame = encode_request(1, "p", 9, &request).unwrap();
        producer.read_buffer().put_slice(&frame);
        producer.process(wire.now);
    };
    produce_elsewhere(&mut wire, 0);
    wire.work();
    assert!(wire.frame().is_none(), "nothing is committed yet");
    wire.flush();
    assert!(wire.frame().is_none(), "one batch is not enough");
    produce_elsewhere(&mut wire, 1);
    wire.flush();
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(
        (found(&response, 0), found(&response, 1)),
        ((0, one as usize), (0, one as usize))
    );
    assert_eq!(response.responses[0].partitions[0].high_watermark, 1);
}

#[test]
fn a_parked_fetch_leaves_nothing_behind_when_its_connection_goes() {
    let mut wire = wire("memory");
    wire.send(11, &fetch(vec![fetch_at(0, 0)]).with_max_wait_ms(30_000));
    let partition = wire.world.broker.partitions.get("t", 0).unwrap();
    assert!(partition.is_watched());
    wire.connection = connect(&wire.world);
    assert!(!partition.is_watched());
}

#[test]
fn the_first_batch_comes_whole_and_the_limits_hold_beyond_it() {
    let mut wire = wire("memory");
    let value = "x".repeat(5_000);
    for _ in 0..3 {
        wire.produce(0, &batch(&[&value]));
        wire.produce(1, &batch(&[&value]));
    }
    let one = records(&batch(&[&value])).len();
    let small = |partition| fetch_at(partition, 0).with_partition_max_bytes(10);
    let response = wire.fetch(11, &fetch(vec![small(0), small(1)]).with_max_bytes(10));
    assert_eq!(
        (found(&response, 0), found(&response, 1)),
        ((0, one), (0, 0))
    );
    let two = fetch_at(0, 0).with_partition_max_bytes(2 * one as i32 + 50);
    let response = wire.fetch(11, &fetch(vec![two, fetch_at(1, 0)]));
    assert_eq!(
        (found(&response, 0), found(&response, 1)),
        ((0, 2 * one), (0, 3 * one))
    );
    let limited = fetch(vec![fetch_at(0, 0), fetch_at(1, 0)]).with_max_bytes(4 * one as i32);
    let response = wire.fetch(11, &limited);
    assert_eq!(
        (found(&response, 0), found(&response, 1)),
        ((0, 3 * one), (0, one))
    );
}

#[test]
fn fetch_errors_are_told_at_once_and_per_partition() {
    let mut wire = wire("commit");
    wire.produce(0, &batch(&["a", "b"]));
    let patient = |partitions| fetch(partitions).with_max_wait_ms(30_000);
    let response = wire.fetch(11, &patient(vec![fetch_at(0, 3)]));
    assert_eq!(found(&response, 0), (1, 0));
    let response = wire.fetch(11, &patient(vec![fetch_at(9, 0)]));
    assert_eq!(found(&response, 0), (3, 0));
    let epoch = |epoch| vec![fetch_at(0, 0).with_current_leader_epoch(epoch)];
    assert_eq!(found(&wire.fetch(11, &patient(epoch(77))), 0).0, 75);
    wire.world.bump_leader_epochs();
    assert_eq!(found(&wire.fetch(11, &patient(epoch(0))), 0).0, 74);
    let response = wire.fetch(11, &fetch(vec![fetch_at(0, 2)]));
    assert_eq!(found(&response, 0), (0, 0), "records are empty, never null");
    let follower = fetch(vec![fetch_at(0, 0)]).with_replica_id(3.into());
    assert_eq!(wire.fetch(11, &follower).error_code, 31);
}

#[test]
fn a_session_tells_only_what_changed() {
    let mut wire = wire("memory");
    wire.produce(0, &batch(&["a"]));
    let first = fetch(vec![fetch_at(0, 0), fetch_at(1, 0)]).with_session_epoch(0);
    let response = wire.fetch(11, &first);
    let session_id = response.session_id;
    assert!(session_id != 0 && response.responses[0].partitions.len() == 2);
    let next = |epoch, partitions: Vec<FetchPartition>| {
        let mut request = fetch(partitions)
            .with_session_id(session_id)
            .with_session_epoch(epoch);
        request.topics.retain(|topic| !topic.partitions.is_empty());
        request
    };
    let response = wire.fetch(11, &next(1, vec![fetch_at(0, 1)]));
    assert!(response.responses.is_empty() && response.session_id == session_id);
    wire.produce(1, &batch(&["b"]));
    let response = wire.fetch(11, &next(2, vec![]));
    assert_eq!(response.responses[0].partitions.len(), 1);
    assert_eq!(response.responses[0].partitions[0].partition_index, 1);
    let wrong = wire.fetch(11, &next(9, vec![]));
    assert_eq!((wrong.error_code, wrong.responses.len()), (71, 0));
    let unknown = next(3, vec![]).with_session_id(session_id ^ 1);
    assert_eq!(wire.fetch(11, &unknown).error_code, 70);
    let forgotten = ForgottenTopic::default()
        .with_topic(name("t"))
        .with_partitions(vec![1]);
    let request = next(3, vec![]).with_forgotten_topics_data(vec![forgotten]);
    wire.fetch(11, &request);
    wire.produce(1, &batch(&["c"]));
    let response = wire.fetch(11, &next(4, vec![]));
    assert!(
        response.responses.is_empty(),
        "a forgotten partition is not told"
    );
}

#[test]
fn every_special_timestamp_has_its_answer() {
    asks_for_every_timestamp(wire("memory"));
}

/// A search by time is made by a thread that may wait for the disk.
#[test]
fn a_search_by_time_is_answered_by_whoever_may_wait_for_the_disk() {
    let wire = wire("memory");
    let searches = Arc::new(AtomicUsize::new(0));
    let (broker, counted) = (Arc::downgrade(&wire.world.broker), Arc::clone(&searches));
    wire.world.broker.cold_reads.on_push(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let broker = broker.upgrade().unwrap();
        assert!(broker.cold_reads.run_one());
    });
    let metrics = Arc::clone(&wire.world.broker.metrics);
    asks_for_every_timestamp(wire);
    assert_eq!(searches.load(Ordering::Relaxed), 5, "and nothing else is");
    assert_eq!(metrics.snapshot().cold_reads.count(), 5);
}

fn asks_for_every_timestamp(mut wire: Wire) {
    wire.produce(0, &batch(&["a", "b", "c"]));
    let list = |timestamp| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(0)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic])
    };
    let mut ask = |version, timestamp| {
        let id = wire.send(version, &list(timestamp));
        wire.sleep(0);
        let response: ListOffsetsResponse = wire.answer(id, version);
        let answer = &response.topics[0].partitions[0];
        (answer.error_code, answer.offset, answer.timestamp)
    };
    assert_eq!(ask(1, -1), (0, 3, -1));
    assert_eq!(ask(10, -1), (0, 3, -1));
    assert_eq!(ask(1, -2), (0, 0, -1));
    assert_eq!(ask(7, -3), (0, 2, 1_002));
    assert_eq!(ask(8, -4), (0, 0, -1));
    assert_eq!(ask(9, -5), (0, -1, -1));
    assert_eq!(ask(11, -6), (0, -1, -1));
    assert_eq!(ask(6, -3).0, 35, "not in that version");
    assert_eq!(ask(10, -6).0, 35, "not in that version");
    assert_eq!(ask(10, 1_001), (0, 1, 1_001));
    assert_eq!(ask(10, 0), (0, 0, 1_000));
    assert_eq!(ask(10, 9_999), (0, -1, -1), "nothing is so young");
}

#[test]
fn the_end_of_a_leadership_is_known_after_the_next_began() {
    let mut wire = wire("memory");
    wire.produce(0, &batch(&["a", "b"]));
    wire.world.bump_leader_epochs();
    wire.produce(0, &batch(&["c"]));
    let mut ask = |epoch| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        let response = wire.call(3, &request);
        let answer = &response.topics[0].partitions[0];
        (answer.error_code, answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(ask(0), (0, 0, 2));
    assert_eq!(ask(1), (0, 1, 3));
    assert_eq!(ask(5), (0, -1, -1), "an epoch of the future");
}
