//! Builds a batch from records: for our own client, the internal logs, compaction and tests.
//!
//! The produce path never builds a batch; it keeps the client's bytes.

use bytes::{BufMut, BytesMut};

use super::{
    ATTRIBUTES_AT, BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchError, BatchHeader,
    COMPRESSION_MASK, CONTROL_BIT, CRC_AT, Compression, DELETE_HORIZON_BIT, LOG_APPEND_TIME_BIT,
    MAGIC, RecordBatch, TRANSACTIONAL_BIT, TimestampType,
};
use crate::record::Codec;
use crate::record::codec;
use crate::types::{LeaderEpoch, Offset, ProducerId};
use crate::wire::{put_varint, put_varlong, varint_size, varlong_size};

/// Collects records and writes one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    compression: Compression,
    attributes: i16,
    producer_id: ProducerId,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    /// In the header instead of the largest that was appended.
    max_timestamp_given: Option<i64>,
    last_offset_delta: i32,
    /// In the header instead of that of the last record.
    last_offset_delta_given: Option<i32>,
    record_count: i32,
    records: BytesMut,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// A batch as a client without idempotence sends it: offset 0, no epoch, no producer.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            compression: Compression::None,
            attributes: 0,
            producer_id: ProducerId::NONE,
            producer_epoch: -1,
            base_sequence: -1,
            base_timestamp: None,
            max_timestamp: -1,
            max_timestamp_given: None,
            last_offset_delta: -1,
            last_offset_delta_given: None,
            record_count: 0,
            records: BytesMut::new(),
        }
    }

    /// A batch in the place of another, without its records so far: the same offsets, base
    /// timestamp, attributes, codec and producer.
    pub fn like(header: &BatchHeader) -> Result<BatchBuilder, BatchError> {
        Ok(BatchBuilder {
            base_offset: header.base_offset,
            leader_epoch: header.leader_epoch,
            compression: header.compression()?,
            attributes: header.attributes & !COMPRESSION_MASK,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            base_timestamp: Some(header.base_timestamp),
            last_offset_delta_given: Some(header.last_offset_delta),
            ..BatchBuilder::new()
        })
    }

    /// The time from which compaction drops the tombstones; the records' times become relative to
    /// it. Before the first record.
    #[must_use]
    pub fn delete_horizon(mut self, horizon_ms: i64) -> Self {
        assert!(self.is_empty(), "timestamps would change");
        self.attributes |= DELETE_HORIZON_BIT;
        self.base_timestamp = Some(horizon_ms);
        self
    }

    /// What the header says, wherever the last record is: for a batch that lost records.
    #[must_use]
    pub fn last_offset_delta(mut self, last_offset_delta: i32) -> Self {
        self.last_offset_delta_given = Some(last_offset_delta);
        self
    }

    /// What the header says, whatever the records' times are.
    #[must_use]
    pub fn max_timestamp(mut self, max_timestamp: i64) -> Self {
        self.max_timestamp_given = Some(max_timestamp);
        self
    }

    /// Stored plain, and without a delete horizon: for a batch that is left without records.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.compression = Compression::None;
        self.attributes &= !DELETE_HORIZON_BIT;
        self
    }

    #[must_use]
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.set_bit(TRANSACTIONAL_BIT, transactional);
        self
    }

    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.set_bit(CONTROL_BIT, control);
        self
    }

    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.set_bit(
            LOG_APPEND_TIME_BIT,
            timestamp_type == TimestampType::LogAppendTime,
        );
        self
    }

    fn set_bit(&mut self, bit: i16, on: bool) {
        self.attributes = if on {
            self.attributes | bit
        } else {
            self.attributes & !bit
        };
    }

    /// Adds a record with the next offset.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut Self {
        self.append_at(self.last_offset_delta + 1, timestamp, key, value, headers)
    }

    /// Adds a record at a given distance from the base offset, further than the record before:
    /// a compacted batch has gaps.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut Self {
        assert!(
            offset_delta > self.last_offset_delta,
            "record offsets must grow"
        );
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(base);
        let size = 1
            + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + field_size(key)
            + field_size(value)
            + varint_size(headers.len() as i32)
            + headers
                .iter()
                .map(|(k, v)| field_size(Some(k)) + field_size(*v))
                .sum::<usize>();
        self.records.reserve(size + 5);
        put_varint(&mut self.records, size as i32);
        self.records.put_i8(0);
        put_varlong(&mut self.records, timestamp_delta);
        put_varint(&mut self.records, offset_delta);
        put_field(&mut self.records, key);
        put_field(&mut self.records, value);
        put_varint(&mut self.records, headers.len() as i32);
        for (key, value) in headers {
            put_field(&mut self.records, Some(key));
            put_field(&mut self.records, *value);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
        self
    }

    /// Adds a record as it was encoded in a batch with the same base timestamp and offset.
    pub fn append_encoded(&mut self, offset_delta: i32, timestamp: i64, body: &[u8]) -> &mut Self {
        assert!(
            offset_delta > self.last_offset_delta,
            "record offsets must grow"
        );
        self.records.reserve(body.len() + 5);
        put_varint(&mut self.records, body.len() as i32);
        self.records.put_slice(body);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
        self
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The size before compression.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Compresses, writes the header and its CRC.
    pub fn build(&self) -> Result<RecordBatch, BatchError> {
        let mut bytes = BytesMut::with_capacity(self.size_bytes());
        bytes.put_bytes(0, BATCH_HEADER_BYTES);
        // A batch without records has no compressed block either.
        if !self.records.is_empty() {
            codec::compress(Codec::of(self.compression), &self.records, &mut bytes).map_err(
                |_| BatchError::Compress {
                    codec: self.compression,
                },
            )?;
        }
        self.seal(bytes)
    }

    /// For records that somebody else has encoded in the form of `compression`: what the header
    /// says about them.
    pub(crate) fn describe(
        &mut self,
        record_count: i32,
        (base_timestamp, max_timestamp): (i64, i64),
    ) -> &mut Self {
        self.record_count = record_count;
        self.last_offset_delta = record_count - 1;
        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = max_timestamp;
        self
    }

    /// Writes the header in front of the records, for which `bytes` has room.
    pub(crate) fn seal(&self, mut bytes: BytesMut) -> Result<RecordBatch, BatchError> {
        let batch_length = i32::try_from(bytes.len() - BATCH_PREFIX_BYTES)
            .ok()
            .filter(|len| *len <= i32::MAX - BATCH_PREFIX_BYTES as i32)
            .ok_or(BatchError::TooLarge)?;
        let mut header = &mut bytes[..BATCH_HEADER_BYTES];
        header.put_i64(self.base_offset.0);
        header.put_i32(batch_length);
        header.put_i32(self.leader_epoch.0);
        header.put_i8(MAGIC);
        header.put_u32(0);
        header.put_i16(self.attributes | self.compression as i16);
        let last_offset_delta = self
            .last_offset_delta_given
            .unwrap_or_else(|| self.last_offset_delta.max(0));
        header.put_i32(last_offset_delta);
        header.put_i64(self.base_timestamp.unwrap_or(-1));
        let max_timestamp = self.max_timestamp_given.unwrap_or(self.max_timestamp);
        header.put_i64(max_timestamp);
        header.put_i64(self.producer_id.0);
        header.put_i16(self.producer_epoch);
        header.put_i32(self.base_sequence);
        header.put_i32(self.record_count);
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        RecordBatch::from_bytes(bytes)
    }
}

fn field_size(field: Option<&[u8]>) -> usize {
    match field {
        Some(bytes) => varint_size(bytes.len() as i32) + bytes.len(),
        None => varint_size(-1),
    }
}

fn put_field(buf: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            put_varint(buf, bytes.len() as i32);
            buf.put_slice(bytes);
        }
        None => put_varint(buf, -1),
    }
}
