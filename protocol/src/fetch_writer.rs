//! Writes a Fetch response, versions 4 to 18, as encoded chunks with record data between them.
//!
//! The encoded bytes go into one buffer; bodies (slices of memory or ranges of files) are only
//! listed, with the place where they belong. A partition without records gets an empty, non-null
//! field: clients refuse null there. The caller announces the number of topics and of each topic's
//! partitions.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::frame::{Body, FRAME_LEN_BYTES, Piece};
use crate::header::write_response_header;
use crate::leader_hint::{put_current_leader, put_endpoints_section};
use crate::types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};
use crate::wire::{put_array_len, put_no_tags, put_null_array, put_string, put_unsigned_varint};

pub use crate::leader_hint::{CurrentLeader, NodeEndpoint};

const LOG_START_OFFSET_FROM: i16 = 5;
const SESSION_FROM: i16 = 7;
const PREFERRED_REPLICA_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_ID_FROM: i16 = 13;
const ENDPOINTS_FROM: i16 = 16;

/// A transaction whose records a read-committed consumer must drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
}

/// Where a follower's log and ours part; from version 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// The answer for one partition, apart from its records.
#[derive(Clone, Copy, Debug)]
pub struct FetchPartitionResponse<'a> {
    pub partition_index: i32,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    /// -1 if unknown.
    pub last_stable_offset: Offset,
    /// -1 if unknown; from version 5.
    pub log_start_offset: Offset,
    /// `None` is null: the request was read-uncommitted.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// From version 11.
    pub preferred_read_replica: BrokerId,
    pub diverging_epoch: Option<DivergingEpoch>,
    /// From version 12.
    pub current_leader: Option<CurrentLeader>,
}

impl FetchPartitionResponse<'_> {
    /// The answer for a partition that cannot be read.
    pub fn failed(partition_index: i32, error: ErrorCode) -> Self {
        FetchPartitionResponse {
            partition_index,
            error,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            aborted_transactions: None,
            preferred_read_replica: BrokerId::NONE,
            diverging_epoch: None,
            current_leader: None,
        }
    }
}

/// The head of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchResponseHead {
    pub throttle_time_ms: i32,
    /// 0 is none; from version 7.
    pub error_code: i16,
    /// From version 7.
    pub session_id: i32,
}

/// A response being written. `B` is what record data is made of.
#[derive(Debug)]
pub struct FetchWriter<B> {
    version: i16,
    flexible: bool,
    in_topic: bool,
    buf: BytesMut,
    /// Each body with the position in `buf` it follows, ascending.
    bodies: Vec<(usize, B)>,
    body_bytes: usize,
}

impl<B: Body> FetchWriter<B> {
    pub fn new(
        correlation_id: i32,
        version: i16,
        head: FetchResponseHead,
        topic_count: usize,
    ) -> FetchWriter<B> {
        let flexible = version >= FLEXIBLE_FROM;
        let mut buf = BytesMut::with_capacity(256);
        buf.put_i32(0);
        write_response_header(&mut buf, correlation_id, flexible);
        buf.put_i32(head.throttle_time_ms);
        if version >= SESSION_FROM {
            buf.put_i16(head.error_code);
            buf.put_i32(head.session_id);
        }
        put_array_len(&mut buf, flexible, topic_count);
        let bodies = Vec::new();
        FetchWriter {
            version,
            flexible,
            in_topic: false,
            buf,
            bodies,
            body_bytes: 0,
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

    /// One partition of the topic started last, with its records.
    pub fn partition(
        &mut self,
        partition: &FetchPartitionResponse<'_>,
        records: impl IntoIterator<Item = B>,
    ) {
        self.partition_head(partition);
        // The size comes before the data: list the bodies first, then correct their positions.
        let first = self.bodies.len();
        let mut records_len = 0;
        for body in records.into_iter().filter(|body| !body.is_empty()) {
            records_len += body.len();
            self.bodies.push((0, body));
        }
        if self.flexible {
            put_unsigned_varint(&mut self.buf, records_len as u32 + 1);
        } else {
            self.buf.put_i32(records_len as i32);
        }
        let position = self.buf.len();
        self.bodies[first..]
            .iter_mut()
            .for_each(|body| body.0 = position);
        self.body_bytes += records_len;
        if self.flexible {
            self.partition_tags(partition);
        }
    }

    fn partition_head(&mut self, partition: &FetchPartitionResponse<'_>) {
        let (buf, flexible) = (&mut self.buf, self.flexible);
        buf.put_i32(partition.partition_index);
        buf.put_i16(partition.error.code());
        buf.put_i64(partition.high_watermark.0);
        buf.put_i64(partition.last_stable_offset.0);
        if self.version >= LOG_START_OFFSET_FROM {
            buf.put_i64(partition.log_start_offset.0);
        }
        match partition.aborted_transactions {
            None => put_null_array(buf, flexible),
            Some(aborted) => {
                put_array_len(buf, flexible, aborted.len());
                for transaction in aborted {
                    buf.put_i64(transaction.producer_id.0);
                    buf.put_i64(transaction.first_offset.0);
                    put_no_tags(buf, flexible);
                }
            }
        }
        if self.version >= PREFERRED_REPLICA_FROM {
            buf.put_i32(partition.preferred_read_replica.0);
        }
    }

    fn partition_tags(&mut self, partition: &FetchPartitionResponse<'_>) {
        let count = u8::from(partition.diverging_epoch.is_some())
            + u8::from(partition.current_leader.is_some());
        self.buf.put_u8(count);
        if let Some(diverging) = partition.diverging_epoch {
            put_unsigned_varint(&mut self.buf, 0);
            put_unsigned_varint(&mut self.buf, 13);
            self.buf.put_i32(diverging.epoch.0);
            self.buf.put_i64(diverging.end_offset.0);
            self.buf.put_u8(0);
        }
        if let Some(leader) = partition.current_leader {
            put_current_leader(&mut self.buf, 1, leader);
        }
    }

    fn end_topic(&mut self) {
        if std::mem::take(&mut self.in_topic) {
            put_no_tags(&mut self.buf, self.flexible);
        }
    }

    /// Record bytes so far.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The whole frame in pieces. `endpoints` are those of the leaders named, from version 16.
    pub fn finish(mut self, endpoints: &[NodeEndpoint<'_>]) -> Vec<Piece<B>> {
        self.end_topic();
        if self.version >= ENDPOINTS_FROM {
            put_endpoints_section(&mut self.buf, endpoints);
        } else {
            put_no_tags(&mut self.buf, self.flexible);
        }
        let len = (self.buf.len() - FRAME_LEN_BYTES + self.body_bytes) as i32;
        self.buf[..FRAME_LEN_BYTES].copy_from_slice(&len.to_be_bytes());
        let mut rest: Bytes = self.buf.freeze();
        let mut pieces = Vec::with_capacity(2 * self.bodies.len() + 1);
        let mut written = 0;
        for (position, body) in self.bodies {
            if position > written {
                pieces.push(Piece::Bytes(rest.split_to(position - written)));
                written = position;
            }
            pieces.push(Piece::Body(body));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Bytes(rest));
        }
        pieces
    }
}
