//! Record batches (magic 2): the header, a view over bytes, and one owned batch.
//!
//! A batch is the same on the wire and on disk, so it is never decoded and encoded again: the
//! broker reads its 61-byte header, and patches the base offset and leader epoch in place. Those
//! two lie outside the CRC. Records stay closed here; `record.rs` opens them. Only magic 2 exists.
//!
//! The bytes may come from a client or from a damaged disk: [`RecordBatchView::parse`] checks
//! length and magic and nothing else, so that the caller decides in which order further faults are
//! reported and when to pay for the CRC.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::types::{LeaderEpoch, Offset, ProducerId};

mod builder;
pub use builder::BatchBuilder;

#[cfg(test)]
mod tests;

/// The header's size, and so the smallest batch.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Base offset and batch length: what `batch_length` does not count.
pub const BATCH_PREFIX_BYTES: usize = 12;
/// The only batch format there is.
pub const MAGIC: i8 = 2;

const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The CRC covers everything from here on.
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION_MASK: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Why bytes are not a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("the batch needs {needed} bytes, {available} are there")]
    Truncated { needed: usize, available: usize },
    #[error("the batch length {batch_length} is smaller than a batch header")]
    Length { batch_length: i32 },
    #[error("the batch has magic {magic}, only 2 is supported")]
    Magic { magic: i8 },
    #[error("{trailing} bytes follow the batch")]
    Trailing { trailing: usize },
    #[error("compression codec {codec} does not exist")]
    Codec { codec: i16 },
    #[error("the batch is larger than {} bytes", i32::MAX)]
    TooLarge,
    #[error("the {} codec failed", codec.name())]
    Compress { codec: Compression },
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec named by the low attribute bits.
    pub fn from_attributes(attributes: i16) -> Result<Compression, BatchError> {
        let codec = attributes & COMPRESSION_MASK;
        Self::ALL
            .get(codec as usize)
            .copied()
            .ok_or(BatchError::Codec { codec })
    }

    /// The name in configurations: `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    pub fn from_name(name: &str) -> Option<Compression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// Who set a record's timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// The 61 bytes in front of the records, as numbers. Untrusted: any value is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after this field; the batch has twelve more.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    fn read(bytes: &[u8; BATCH_HEADER_BYTES]) -> BatchHeader {
        let mut buf = &bytes[..];
        BatchHeader {
            base_offset: Offset(buf.get_i64()),
            batch_length: buf.get_i32(),
            leader_epoch: LeaderEpoch(buf.get_i32()),
            magic: buf.get_i8(),
            crc: buf.get_u32(),
            attributes: buf.get_i16(),
            last_offset_delta: buf.get_i32(),
            base_timestamp: buf.get_i64(),
            max_timestamp: buf.get_i64(),
            producer_id: ProducerId(buf.get_i64()),
            producer_epoch: buf.get_i16(),
            base_sequence: buf.get_i32(),
            record_count: buf.get_i32(),
        }
    }

    /// Reads and checks a header alone, when the records are not at hand.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let available = bytes.len();
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            // Older formats have the magic in the same place but another header.
            return Err(BatchError::Magic { magic: magic as i8 });
        }
        let needed = BATCH_HEADER_BYTES;
        let header = bytes
            .first_chunk()
            .ok_or(BatchError::Truncated { needed, available })?;
        let header = BatchHeader::read(header);
        if header.batch_length < (BATCH_HEADER_BYTES - BATCH_PREFIX_BYTES) as i32 {
            return Err(BatchError::Length {
                batch_length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// The whole batch: header and records.
    pub fn size_bytes(&self) -> usize {
        BATCH_PREFIX_BYTES + self.batch_length.max(0) as usize
    }

    /// The offset of the last record the batch was written with (compaction may have removed it).
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(i64::from(self.last_offset_delta)),
        )
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_attributes(self.attributes)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// True if the base timestamp is the time after which compaction may drop tombstones.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// The sequence number of the last record; sequences wrap after `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// A whole batch borrowed from a longer run of bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatchView<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> RecordBatchView<'a> {
    /// The batch at the start of `bytes`, which may go on after it.
    pub fn parse(bytes: &'a [u8]) -> Result<RecordBatchView<'a>, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_bytes();
        let available = bytes.len();
        let bytes = bytes
            .get(..needed)
            .ok_or(BatchError::Truncated { needed, available })?;
        Ok(RecordBatchView { bytes, header })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed as one block if the batch is.
    pub fn records(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Reads the whole batch, so the caller decides when to pay.
    pub fn crc_is_valid(&self) -> bool {
        crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]) == self.header.crc
    }

    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        self.header.compression()
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.header.timestamp_type()
    }

    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }

    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }
}

/// Exactly one batch, owned; often still inside the buffer of the frame it came in.
#[derive(Debug)]
pub struct RecordBatch {
    bytes: BytesMut,
    header: BatchHeader,
}

impl RecordBatch {
    /// Takes bytes that are one batch and nothing else.
    pub fn from_bytes(bytes: BytesMut) -> Result<RecordBatch, BatchError> {
        let view = RecordBatchView::parse(&bytes)?;
        let trailing = bytes.len() - view.size_bytes();
        if trailing > 0 {
            return Err(BatchError::Trailing { trailing });
        }
        let header = *view.header();
        Ok(RecordBatch { bytes, header })
    }

    pub fn view(&self) -> RecordBatchView<'_> {
        RecordBatchView {
            bytes: &self.bytes,
            header: self.header,
        }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes what the leader decides. Both fields lie outside the CRC.
    pub fn stamp(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        self.bytes[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.0.to_be_bytes());
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }

    /// Corrects the header's maximum timestamp; computes the CRC anew.
    pub fn set_max_timestamp(&mut self, max_timestamp: i64) {
        self.set_timestamps(self.header.attributes, max_timestamp);
    }

    /// Gives all records the broker's time; computes the CRC anew.
    pub fn set_log_append_time(&mut self, now_ms: i64) {
        self.set_timestamps(self.header.attributes | LOG_APPEND_TIME_BIT, now_ms);
    }

    fn set_timestamps(&mut self, attributes: i16, max_timestamp: i64) {
        self.bytes[ATTRIBUTES_AT..][..2].copy_from_slice(&attributes.to_be_bytes());
        self.bytes[MAX_TIMESTAMP_AT..][..8].copy_from_slice(&max_timestamp.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        self.header.attributes = attributes;
        self.header.max_timestamp = max_timestamp;
        self.header.crc = crc;
    }

    /// The batch for readers. It keeps the buffer it came in alive.
    pub fn freeze(self) -> Bytes {
        self.bytes.freeze()
    }

    pub fn into_bytes_mut(self) -> BytesMut {
        self.bytes
    }
}
