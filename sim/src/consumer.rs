//! A simulated consumer: reads every partition from the beginning, with and without fetch sessions.
//!
//! Every record it gets is held against the model; so are the marks of every answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{self as api, StrBytes};
use ottla_protocol::record::{RecordLimits, Records};
use rand::Rng;
use rand::rngs::StdRng;

use crate::link::Link;
use crate::model::{Model, Value, Violation};
use crate::producer::{decode, encode};

const FETCH_VERSION: i16 = 12;
const FULL_EPOCH: i32 = 0;
const NO_SESSION_EPOCH: i32 = -1;

pub(crate) struct Consumer {
    /// Where to read on, per partition.
    pub(crate) positions: BTreeMap<(String, i32), i64>,
    /// What the last session fetch said about each partition; an incremental one sends only what
    /// changed.
    in_session: BTreeMap<(String, i32), i64>,
    session_id: i32,
    session_epoch: i32,
    awaited: Option<i32>,
    next_correlation_id: i32,
    /// Everything read so far.
    contents: BTreeMap<(String, i32), BTreeMap<i64, Value>>,
}

impl Default for Consumer {
    fn default() -> Consumer {
        Consumer {
            positions: BTreeMap::new(),
            in_session: BTreeMap::new(),
            session_id: 0,
            session_epoch: FULL_EPOCH,
            awaited: None,
            next_correlation_id: 1,
            contents: BTreeMap::new(),
        }
    }
}

impl Consumer {
    pub(crate) fn disconnected(&mut self) {
        self.awaited = None;
        self.forget_session();
    }

    pub(crate) fn topic_deleted(&mut self, topic: &str) {
        self.positions.retain(|(name, _), _| name != topic);
        self.contents.retain(|(name, _), _| name != topic);
        self.forget_session();
    }

    /// What was read of a partition, by offset.
    pub(crate) fn contents(&self, topic: &str, partition: i32) -> &BTreeMap<i64, Value> {
        static NOTHING: BTreeMap<i64, Value> = BTreeMap::new();
        self.contents
            .get(&(topic.to_owned(), partition))
            .unwrap_or(&NOTHING)
    }

    fn forget_session(&mut self) {
        (self.session_id, self.session_epoch) = (0, FULL_EPOCH);
        self.in_session.clear();
    }

    /// Asks for more unless an answer is on its way.
    pub(crate) fn pump(&mut self, link: &mut Link, rng: &mut StdRng) {
        if self.awaited.is_some() || self.positions.is_empty() {
            return;
        }
        let without_session = self.session_epoch == FULL_EPOCH && rng.random_bool(0.3);
        let epoch = if without_session {
            NO_SESSION_EPOCH
        } else {
            self.session_epoch
        };
        let mut request = api::FetchRequest::default();
        request.replica_id = api::BrokerId(-1);
        request.max_wait_ms = rng.random_range(0..500);
        request.min_bytes = [0, 1, 1, 200][rng.random_range(0..4)];
        request.max_bytes = [200, 5_000, 1 << 20][rng.random_range(0..3)];
        request.session_id = self.session_id;
        request.session_epoch = epoch;
        let mut topics: BTreeMap<&str, Vec<api::fetch_request::FetchPartition>> = BTreeMap::new();
        for ((topic, index), offset) in &self.positions {
            let known = self.in_session.get(&(topic.clone(), *index)) == Some(offset);
            if epoch > 0 && known {
                continue;
            }
            let mut partition = api::fetch_request::FetchPartition::default();
            partition.partition = *index;
            partition.fetch_offset = *offset;
            partition.partition_max_bytes = 1 << 20;
            topics.entry(topic).or_default().push(partition);
        }
        request.topics = topics
            .into_iter()
            .map(|(name, partitions)| {
                let mut topic = api::fetch_request::FetchTopic::default();
                topic.topic = api::TopicName(StrBytes::from_string(name.to_owned()));
                topic.partitions = partitions;
                topic
            })
            .collect();
        if epoch == NO_SESSION_EPOCH {
            self.forget_session();
        } else {
            self.in_session = self.positions.clone();
        }
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        link.send(&encode(correlation_id, FETCH_VERSION, &request));
        self.awaited = Some(correlation_id);
    }

    pub(crate) fn receive(&mut self, frame: Bytes, model: &mut Model) -> Result<(), Violation> {
        let Some(awaited) = self.awaited.take() else {
            return Err(Violation::Answer {
                what: "a reply that nobody asked for".into(),
            });
        };
        let (correlation_id, response) = decode::<api::FetchResponse>(frame, FETCH_VERSION)?;
        if correlation_id != awaited {
            return Err(Violation::Answer {
                what: "replies are out of order".into(),
            });
        }
        match response.error_code {
            0 => {}
            code if ErrorCode(code).retriable() => {
                self.forget_session();
                return Ok(());
            }
            code => {
                return Err(Violation::Answer {
                    what: format!("fetch: error {code}"),
                });
            }
        }
        if response.session_id == 0 {
            self.forget_session();
        } else if response.session_id == self.session_id {
            self.session_epoch += 1;
        } else {
            (self.session_id, self.session_epoch) = (response.session_id, 1);
        }
        for topic in &response.responses {
            for partition in &topic.partitions {
                self.take(topic.topic.0.as_str(), partition, model)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        topic: &str,
        partition: &api::fetch_response::PartitionData,
        model: &mut Model,
    ) -> Result<(), Violation> {
        let index = partition.partition_index;
        let Some(position) = self.positions.get_mut(&(topic.to_owned(), index)) else {
            return Ok(());
        };
        match ErrorCode(partition.error_code) {
            ErrorCode::NONE => {}
            error if error.retriable() => return Ok(()),
            error => {
                let what = format!("fetch of {topic}-{index}: {}", error.name());
                return Err(Violation::Answer { what });
            }
        }
        let (high_watermark, start) = (partition.high_watermark, partition.log_start_offset);
        model.marks(topic, index, None, high_watermark, start)?;
        let mut data: &[u8] = partition.records.as_deref().unwrap_or_default();
        while !data.is_empty() {
            let unreadable = |error: String| Violation::Answer {
                what: format!("unreadable records of {topic}-{index}: {error}"),
            };
            let batch = RecordBatchView::parse(data).map_err(|e| unreadable(e.to_string()))?;
            if !batch.crc_is_valid() {
                return Err(unreadable("checksum".into()));
            }
            let records = Records::open(batch, RecordLimits::default())
                .map_err(|error| unreadable(error.to_string()))?;
            for record in records {
                let record = record.map_err(|error| unreadable(error.to_string()))?;
                if record.offset.0 < *position {
                    continue;
                }
                if record.offset.0 >= high_watermark {
                    return Err(unreadable("beyond the high watermark".into()));
                }
                let value = record
                    .value
                    .as_deref()
                    .and_then(|bytes| bytes.try_into().ok());
                let value = value
                    .map(u64::from_be_bytes)
                    .ok_or_else(|| unreadable("value".into()))?;
                model.observe(topic, index, *position, record.offset.0, value)?;
                *position += 1;
                let contents = self.contents.entry((topic.to_owned(), index)).or_default();
                contents.insert(record.offset.0, value);
            }
            data = &data[batch.size_bytes()..];
        }
        Ok(())
    }
}
