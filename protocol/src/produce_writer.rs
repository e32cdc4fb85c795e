//! Writes a Produce response, versions 3 to 13, straight into the frame.
//!
//! The caller announces the number of topics and of each topic's partitions, then writes them in
//! the order of the request.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::frame::FRAME_LEN_BYTES;
use crate::header::write_response_header;
use crate::leader_hint::{put_current_leader, put_endpoints_section};
use crate::types::{Offset, TopicId};
use crate::wire::{put_array_len, put_no_tags, put_nullable_string, put_string};

pub use crate::leader_hint::{CurrentLeader, NodeEndpoint};

const FLEXIBLE_FROM: i16 = 9;
const LOG_START_OFFSET_FROM: i16 = 5;
const RECORD_ERRORS_FROM: i16 = 8;
const CURRENT_LEADER_FROM: i16 = 10;
const TOPIC_ID_FROM: i16 = 13;

/// What happened to one partition's batch.
#[derive(Clone, Copy, Debug)]
pub struct ProducePartitionResponse<'a> {
    pub index: i32,
    pub error: ErrorCode,
    /// -1 on an error.
    pub base_offset: Offset,
    /// -1 unless the topic has LogAppendTime.
    pub log_append_time_ms: i64,
    /// -1 if unknown; from version 5.
    pub log_start_offset: Offset,
    /// The records at fault, by their index in the batch; from version 8.
    pub record_errors: &'a [(i32, Option<&'a str>)],
    /// From version 8.
    pub error_message: Option<&'a str>,
    /// From version 10.
    pub current_leader: Option<CurrentLeader>,
}

impl ProducePartitionResponse<'_> {
    /// The answer for a batch that was not appended.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        ProducePartitionResponse {
            index,
            error,
            base_offset: Offset(-1),
            log_append_time_ms: -1,
            log_start_offset: Offset(-1),
            record_errors: &[],
            error_message: None,
            current_leader: None,
        }
    }
}

/// A response being written.
#[derive(Debug)]
pub struct ProduceWriter {
    version: i16,
    flexible: bool,
    in_topic: bool,
    buf: BytesMut,
}

impl ProduceWriter {
    pub fn new(correlation_id: i32, version: i16, topic_count: usize) -> ProduceWriter {
        let flexible = version >= FLEXIBLE_FROM;
        let mut buf = BytesMut::with_capacity(128);
        buf.put_i32(0);
        write_response_header(&mut buf, correlation_id, flexible);
        put_array_len(&mut buf, flexible, topic_count);
        ProduceWriter {
            version,
            flexible,
            in_topic: false,
            buf,
        }
    }

    /// Starts a topic; `name` is written up to version 12 and `topic_id` from version 13.
    pub fn topic(&mut self, name: &str, topic_id: TopicId, partition_count: usize) {
        self.end_topic();
        self.in_topic = true;
        if self.version >= TOPIC_ID_FROM {
            self.buf.put_slice(topic_id.0.as_bytes());
        } else {
            put_string(&mut self.buf, self.flexible, name);
        }
        put_array_len(&mut self.buf, self.flexible, partition_count);
    }

    /// One partition of the topic started last.
    pub fn partition(&mut self, partition: &ProducePartitionResponse<'_>) {
        let (buf, version) = (&mut self.buf, self.version);
        buf.put_i32(partition.index);
        buf.put_i16(partition.error.code());
        buf.put_i64(partition.base_offset.0);
        buf.put_i64(partition.log_append_time_ms);
        if version >= LOG_START_OFFSET_FROM {
            buf.put_i64(partition.log_start_offset.0);
        }
        if version >= RECORD_ERRORS_FROM {
            put_array_len(buf, self.flexible, partition.record_errors.len());
            for (batch_index, message) in partition.record_errors {
                buf.put_i32(*batch_index);
                put_nullable_string(buf, self.flexible, *message);
                put_no_tags(buf, self.flexible);
            }
            put_nullable_string(buf, self.flexible, partition.error_message);
        }
        match partition.current_leader {
            Some(leader) if version >= CURRENT_LEADER_FROM => {
                buf.put_u8(1);
                put_current_leader(buf, 0, leader);
            }
            _ => put_no_tags(buf, self.flexible),
        }
    }

    fn end_topic(&mut self) {
        if std::mem::take(&mut self.in_topic) {
            put_no_tags(&mut self.buf, self.flexible);
        }
    }

    /// The whole frame. `endpoints` are those of the leaders named, from version 10.
    pub fn finish(mut self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>]) -> Bytes {
        self.end_topic();
        self.buf.put_i32(throttle_time_ms);
        if self.version >= CURRENT_LEADER_FROM {
            put_endpoints_section(&mut self.buf, endpoints);
        } else {
            put_no_tags(&mut self.buf, self.flexible);
        }
        let len = (self.buf.len() - FRAME_LEN_BYTES) as i32;
        self.buf[..FRAME_LEN_BYTES].copy_from_slice(&len.to_be_bytes());
        self.buf.freeze()
    }
}
