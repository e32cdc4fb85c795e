//! A simulated producer: idempotent, several batches in flight, and as stubborn as a real client.
//!
//! Batches of a partition are sent in the order of their sequence numbers. After a broken
//! connection or a retriable error everything that is not confirmed is sent again, with the same
//! sequence numbers. When the broker has forgotten the sequence (a tail was lost), the producer
//! takes a new id, and what was unconfirmed counts as "maybe written".

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ottla_protocol::batch::{BatchBuilder, Compression};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{self as api, StrBytes};
use ottla_protocol::types::ProducerId;
use rand::Rng;
use rand::rngs::StdRng;

use crate::clock::WALL_BASE_MS;
use crate::link::Link;
use crate::model::{Model, Value, Violation};

const PRODUCE_VERSION: i16 = 9;
const INIT_VERSION: i16 = 4;
/// As many as an idempotent producer may have.
const IN_FLIGHT_MAX: usize = 5;

struct Batch {
    values: Vec<Value>,
    base_sequence: i32,
    sent: bool,
}

#[derive(Default)]
struct Lane {
    next_sequence: i32,
    unconfirmed: VecDeque<Batch>,
    /// A batch failed: before anything is sent again, the replies on their way are awaited.
    draining: bool,
}

enum Awaited {
    ProducerId,
    Produce(Sent),
    /// The producer has started over since.
    Nothing,
}

struct Sent {
    topic: String,
    partition: i32,
    base_sequence: i32,
    values: Vec<Value>,
}

pub(crate) struct Producer {
    number: u32,
    id: Option<(ProducerId, i16)>,
    lanes: BTreeMap<(String, i32), Lane>,
    awaited: VecDeque<(i32, Awaited)>,
    next_correlation_id: i32,
    next_value: u32,
    topics: Vec<(String, i32)>,
    retired: bool,
    pub(crate) acks: i16,
    /// Confirmed batches, for the liveness check.
    pub(crate) confirmed: u64,
}

impl Producer {
    pub(crate) fn new(number: u32, acks: i16) -> Producer {
        Producer {
            number,
            id: None,
            lanes: BTreeMap::new(),
            awaited: VecDeque::new(),
            next_correlation_id: 1,
            next_value: 1,
            topics: Vec::new(),
            retired: false,
            acks,
            confirmed: 0,
        }
    }

    /// True when nothing waits for a confirmation.
    pub(crate) fn is_done(&self) -> bool {
        self.awaited.is_empty() && self.lanes.values().all(|lane| lane.unconfirmed.is_empty())
    }

    /// The connection is gone, and with it every answer that was on its way.
    pub(crate) fn disconnected(&mut self) {
        self.awaited.clear();
        self.lanes.values_mut().for_each(Lane::send_all_again);
    }

    /// Topics that no longer exist take their unconfirmed batches with them.
    pub(crate) fn topic_deleted(&mut self, topic: &str) {
        self.topics.retain(|(name, _)| name != topic);
        self.lanes.retain(|(name, _), _| name != topic);
    }

    pub(crate) fn topic_created(&mut self, topic: &str, partitions: i32) {
        self.topics.push((topic.to_owned(), partitions));
    }

    /// Begins nothing new.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    /// Thinks of something to send, perhaps, and sends what may be sent.
    pub(crate) fn act(&mut self, link: &mut Link, rng: &mut StdRng) {
        if !self.retired && !self.topics.is_empty() && rng.random_bool(0.5) {
            let at = rng.random_range(0..self.topics.len());
            let (topic, partitions) = self.topics[at].clone();
            let partition = rng.random_range(0..partitions);
            self.add(&topic, partition, rng);
        }
        self.pump(link, rng);
    }

    /// New records for a partition.
    fn add(&mut self, topic: &str, partition: i32, rng: &mut StdRng) {
        let count = rng.random_range(1..=4);
        let lane = self.lanes.entry((topic.to_owned(), partition)).or_default();
        if lane.unconfirmed.len() >= IN_FLIGHT_MAX {
            return;
        }
        let values: Vec<Value> = (0..count)
            .map(|_| {
                let value = u64::from(self.number) << 32 | u64::from(self.next_value);
                self.next_value += 1;
                value
            })
            .collect();
        let base_sequence = lane.next_sequence;
        lane.next_sequence += count;
        lane.unconfirmed.push_back(Batch {
            values,
            base_sequence,
            sent: false,
        });
    }

    /// Sends what may be sent.
    fn pump(&mut self, link: &mut Link, rng: &mut StdRng) {
        let Some((producer_id, epoch)) = self.id else {
            if self.awaited.is_empty() {
                self.ask_for_id(link);
            }
            return;
        };
        let mut frames = Vec::new();
        for ((topic, partition), lane) in &mut self.lanes {
            let on_their_way = self
                .awaited
                .iter()
                .any(|(_, awaited)| awaited.is_to(topic, *partition));
            lane.draining &= on_their_way;
            if lane.draining {
                continue;
            }
            for batch in lane.unconfirmed.iter_mut().filter(|batch| !batch.sent) {
                if self.awaited.len() >= IN_FLIGHT_MAX {
                    break;
                }
                batch.sent = true;
                let records = records_of(batch, producer_id, epoch, rng);
                let correlation_id = self.next_correlation_id;
                self.next_correlation_id += 1;
                let request = produce_request(topic, *partition, self.acks, records);
                frames.push(encode(correlation_id, PRODUCE_VERSION, &request));
                let sent = Sent {
                    topic: topic.clone(),
                    partition: *partition,
                    base_sequence: batch.base_sequence,
                    values: batch.values.clone(),
                };
                self.awaited
                    .push_back((correlation_id, Awaited::Produce(sent)));
            }
        }
        frames.iter().for_each(|frame| link.send(frame));
    }

    fn ask_for_id(&mut self, link: &mut Link) {
        let mut request = api::InitProducerIdRequest::default();
        request.transactional_id = None;
        request.transaction_timeout_ms = 60_000;
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        link.send(&encode(correlation_id, INIT_VERSION, &request));
        self.awaited
            .push_back((correlation_id, Awaited::ProducerId));
    }

    /// Takes one reply.
    pub(crate) fn receive(&mut self, frame: Bytes, model: &mut Model) -> Result<(), Violation> {
        let Some((correlation_id, awaited)) = self.awaited.pop_front() else {
            return Err(Violation::Answer {
                what: "a reply that nobody asked for".into(),
            });
        };
        if frame.get(..4) != Some(&correlation_id.to_be_bytes()[..]) {
            return Err(Violation::Answer {
                what: "replies are out of order".into(),
            });
        }
        match awaited {
            Awaited::ProducerId => {
                let (_, response) = decode::<api::InitProducerIdResponse>(frame, INIT_VERSION)?;
                if response.error_code == 0 {
                    self.id = Some((ProducerId(response.producer_id.0), response.producer_epoch));
                }
                Ok(())
            }
            Awaited::Nothing => Ok(()),
            Awaited::Produce(sent) => {
                let (_, response) = decode::<api::ProduceResponse>(frame, PRODUCE_VERSION)?;
                let topic = response.responses.first();
                let Some(answered) = topic.and_then(|topic| topic.partition_responses.first())
                else {
                    return Err(Violation::Answer {
                        what: "an empty produce reply".into(),
                    });
                };
                self.answered(&sent, answered.error_code, answered.base_offset, model)
            }
        }
    }

    fn answered(
        &mut self,
        sent: &Sent,
        code: i16,
        base_offset: i64,
        model: &mut Model,
    ) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&(sent.topic.clone(), sent.partition)) else {
            return Ok(());
        };
        if code == 0 {
            lane.unconfirmed
                .retain(|batch| batch.base_sequence != sent.base_sequence);
            self.confirmed += 1;
            return model.ack(&sent.topic, sent.partition, base_offset, &sent.values);
        }
        let is_first = lane
            .unconfirmed
            .front()
            .is_some_and(|batch| batch.base_sequence == sent.base_sequence);
        if code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.0 && is_first && !lane.draining {
            if !model.has_lost_a_tail(&sent.topic) {
                let what = format!("{}-{} forgot a sequence", sent.topic, sent.partition);
                return Err(Violation::Answer { what });
            }
            self.start_over();
            return Ok(());
        }
        let expected = code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.0;
        if !expected && !ErrorCode(code).retriable() {
            let what = format!("produce to {}-{}: error {code}", sent.topic, sent.partition);
            return Err(Violation::Answer { what });
        }
        lane.send_all_again();
        lane.draining = true;
        Ok(())
    }

    /// A new producer id; what was not confirmed may or may not have been written and is given up.
    fn start_over(&mut self) {
        self.id = None;
        self.lanes.clear();
        self.awaited
            .iter_mut()
            .for_each(|(_, awaited)| *awaited = Awaited::Nothing);
    }
}

impl Lane {
    fn send_all_again(&mut self) {
        self.unconfirmed
            .iter_mut()
            .for_each(|batch| batch.sent = false);
    }
}

impl Awaited {
    fn is_to(&self, topic: &str, partition: i32) -> bool {
        matches!(self, Awaited::Produce(sent) if sent.topic == topic && sent.partition == partition)
    }
}

fn records_of(batch: &Batch, id: ProducerId, epoch: i16, rng: &mut StdRng) -> Bytes {
    let codec = [Compression::None, Compression::None, Compression::Lz4][rng.random_range(0..3)];
    let mut builder =
        BatchBuilder::new()
            .compression(codec)
            .producer(id, epoch, batch.base_sequence);
    for value in &batch.values {
        builder.append(WALL_BASE_MS, None, Some(&value.to_be_bytes()), &[]);
    }
    builder
        .build()
        .expect("a small batch can be built")
        .freeze()
}

fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> api::ProduceRequest {
    let mut data = api::produce_request::PartitionProduceData::default();
    data.index = partition;
    data.records = Some(records);
    let mut topic_data = api::produce_request::TopicProduceData::default();
    topic_data.name = api::TopicName(StrBytes::from_string(topic.to_owned()));
    topic_data.partition_data = vec![data];
    let mut request = api::ProduceRequest::default();
    request.acks = acks;
    request.timeout_ms = 10_000;
    request.topic_data = vec![topic_data];
    request
}

/// A request frame of the simulated clients.
pub(crate) fn encode<R: api::Request>(correlation_id: i32, version: i16, request: &R) -> Bytes {
    api::encode_request(correlation_id, "sim", version, request).expect("requests of ours encode")
}

/// A reply that must be readable.
pub(crate) fn decode<R: api::Response>(frame: Bytes, version: i16) -> Result<(i32, R), Violation> {
    api::decode_response(frame, version).map_err(|error| Violation::Answer {
        what: format!("unreadable reply: {error}"),
    })
}
