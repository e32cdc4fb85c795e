//! One pass over the records of a batch, in which no record is ever held whole: to look at each,
//! and to store them in another codec.
//!
//! Keys, values and headers stream from the decompressor to the compressor in pieces of a few
//! kilobytes, so what a batch takes in memory is what its codecs take, however far it expands. The
//! records come out as Kafka's broker writes them: deltas dense and relative to the first record,
//! the attributes of each zero, keys, values and headers byte for byte.

use std::io::{BufWriter, Write};

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::codec::{Compressor, Decompressor, Output};
use super::{Codec, RecordError, RecordLimits};
use crate::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, Compression, RecordBatch,
    RecordBatchView, TimestampType,
};
use crate::error::DecodeError;
use crate::wire::{Reader, put_varint, put_varlong, varint_size, varlong_size};

const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

/// What comes before a record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The place in the batch.
    pub index: u32,
    pub offset_delta: i32,
    pub timestamp: i64,
    pub has_key: bool,
}

/// Why a batch was not read or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RewriteError {
    #[error("record {index}: {error}")]
    Record { index: u32, error: RecordError },
    #[error("the batch would have more than {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Shows the head of every record and checks that the batch is well formed to its end.
pub fn inspect(
    view: RecordBatchView<'_>,
    limits: RecordLimits,
    each: impl FnMut(&RecordHead),
) -> Result<(), RewriteError> {
    let mut pass = Pass::open(view, limits)?;
    pass.all(each, &mut Discard)
}

/// The same records in another codec: a batch from a client, not yet stamped, of at most
/// `max_bytes`.
pub fn rewrite(
    view: RecordBatchView<'_>,
    limits: RecordLimits,
    codec: Codec,
    max_bytes: usize,
    mut each: impl FnMut(&RecordHead),
) -> Result<RecordBatch, RewriteError> {
    let header = *view.header();
    let failed = BatchError::Compress {
        codec: codec.compression,
    };
    let mut pass = Pass::open(view, limits)?;
    let mut bytes = BytesMut::with_capacity(view.size_bytes().min(max_bytes));
    bytes.put_bytes(0, BATCH_HEADER_BYTES);
    let mut output = Output::new(&mut bytes, max_bytes);
    let compressor = Compressor::new(codec, &mut output).map_err(|_| failed)?;
    let mut encoder = Encoder {
        out: BufWriter::with_capacity(8 << 10, compressor),
        head: BytesMut::new(),
        base_timestamp: None,
        max_timestamp: -1,
        failed: false,
    };
    let passed = pass.all(&mut each, &mut encoder);
    let (base, max) = (encoder.base_timestamp, encoder.max_timestamp);
    let written = encoder.finish();
    if output.exceeded() {
        return Err(RewriteError::TooLarge { max_bytes });
    }
    passed?;
    if !written {
        return Err(failed.into());
    }
    let mut builder = BatchBuilder::new()
        .compression(codec.compression)
        .base_offset(header.base_offset)
        .leader_epoch(header.leader_epoch)
        .producer(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        )
        .transactional(header.is_transactional());
    builder.describe(header.record_count, (base.unwrap_or(-1), max));
    Ok(builder.seal(bytes)?)
}

/// Where the records of a pass go.
trait Sink {
    /// A record begins; `rest` bytes follow the length of its key. False: no more is wanted.
    fn begin(&mut self, head: &RecordHead, key_len: i32, rest: usize) -> bool;
    fn piece(&mut self, bytes: &[u8]);
}

struct Discard;

impl Sink for Discard {
    fn begin(&mut self, _: &RecordHead, _: i32, _: usize) -> bool {
        true
    }

    fn piece(&mut self, _: &[u8]) {}
}

/// Encodes records anew, relative to the first one.
struct Encoder<W: Write> {
    out: BufWriter<Compressor<W>>,
    head: BytesMut,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    failed: bool,
}

impl<W: Write> Encoder<W> {
    /// False when something could not be written.
    fn finish(self) -> bool {
        let failed = self.failed;
        let finished = self.out.into_inner().map(Compressor::finish);
        !failed && matches!(finished, Ok(Ok(())))
    }

    fn write(&mut self, bytes: &[u8]) {
        self.failed = self.failed || self.out.write_all(bytes).is_err();
    }
}

impl<W: Write> Sink for Encoder<W> {
    fn begin(&mut self, head: &RecordHead, key_len: i32, rest: usize) -> bool {
        let base = *self.base_timestamp.get_or_insert(head.timestamp);
        self.max_timestamp = self.max_timestamp.max(head.timestamp);
        let timestamp_delta = head.timestamp.wrapping_sub(base);
        let offset_delta = head.index as i32;
        let size = 1
            + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + varint_size(key_len)
            + rest;
        let mut bytes = std::mem::take(&mut self.head);
        bytes.clear();
        put_varint(&mut bytes, size as i32);
        bytes.put_i8(0);
        put_varlong(&mut bytes, timestamp_delta);
        put_varint(&mut bytes, offset_delta);
        put_varint(&mut bytes, key_len);
        self.write(&bytes);
        self.head = bytes;
        !self.failed
    }

    fn piece(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }
}

/// Reads a batch front to back.
struct Pass<'a> {
    header: BatchHeader,
    codec: Compression,
    stream: Decompressor<'a>,
    /// Bytes of the present record that are not read yet.
    left: usize,
}

impl<'a> Pass<'a> {
    fn open(view: RecordBatchView<'a>, limits: RecordLimits) -> Result<Pass<'a>, RewriteError> {
        let header = *view.header();
        let at = |error| RewriteError::Record { index: 0, error };
        if header.record_count < 0 {
            let count = header.record_count;
            return Err(at(RecordError::Count { count }));
        }
        let codec = header.compression()?;
        let stream = Decompressor::new(codec, view.records(), limits)
            .map_err(|_| at(RecordError::Decompress { codec }))?;
        Ok(Pass {
            header,
            codec,
            stream,
            left: 0,
        })
    }

    fn all(
        &mut self,
        mut each: impl FnMut(&RecordHead),
        sink: &mut impl Sink,
    ) -> Result<(), RewriteError> {
        let count = self.header.record_count as u32;
        for index in 0..count {
            let at = |error| RewriteError::Record { index, error };
            let head = self.record(index, &mut each, sink).map_err(at)?;
            if !head {
                return Ok(());
            }
        }
        let end = match self.stream.chunk() {
            Ok([]) => Ok(()),
            Ok(_) => Err(RecordError::BatchTrailing),
            Err(_) => Err(self.failure()),
        };
        end.map_err(|error| RewriteError::Record {
            index: count.saturating_sub(1),
            error,
        })
    }

    /// False when the sink wants no more.
    fn record(
        &mut self,
        index: u32,
        each: &mut impl FnMut(&RecordHead),
        sink: &mut impl Sink,
    ) -> Result<bool, RecordError> {
        // The length is not part of what it counts.
        self.left = usize::MAX;
        self.left = length(self.varint()?)?;
        let _attributes = self.number::<1, _>(|reader| reader.i8())?;
        let timestamp_delta = self.number::<VARLONG_BYTES_MAX, _>(|reader| reader.varlong())?;
        let offset_delta = self.varint()?;
        if offset_delta < 0 {
            return Err(RecordError::OffsetRange);
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let key_len = self.varint()?;
        let head = RecordHead {
            index,
            offset_delta,
            timestamp,
            has_key: key_len >= 0,
        };
        each(&head);
        if !sink.begin(&head, key_len, self.left) {
            return Ok(false);
        }
        self.field(key_len, sink)?;
        let value_len = self.copied_varint(sink)?;
        self.field(value_len, sink)?;
        let header_count = length(self.copied_varint(sink)?)?;
        if header_count > self.left / 2 {
            let count = header_count;
            return Err(DecodeError::CountBeyondBody { count }.into());
        }
        for _ in 0..header_count {
            let key_len = length(self.copied_varint(sink)?)?;
            self.copy(key_len, sink)?;
            let value_len = self.copied_varint(sink)?;
            self.field(value_len, sink)?;
        }
        match self.left {
            0 => Ok(true),
            trailing => Err(RecordError::RecordTrailing { trailing }),
        }
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        self.number::<VARINT_BYTES_MAX, _>(|reader| reader.varint())
    }

    /// A number inside the record, which goes on as it is.
    fn copied_varint(&mut self, sink: &mut impl Sink) -> Result<i32, RecordError> {
        let (bytes, len) = self.number_bytes::<VARINT_BYTES_MAX>()?;
        sink.piece(&bytes[..len]);
        Ok(Reader::new(&bytes[..len]).varint()?)
    }

    fn number<const MAX: usize, T>(
        &mut self,
        parse: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, RecordError> {
        let (bytes, len) = self.number_bytes::<MAX>()?;
        Ok(parse(&mut Reader::new(&bytes[..len]))?)
    }

    /// Bytes up to the first without the bit that says that more follow.
    fn number_bytes<const MAX: usize>(&mut self) -> Result<([u8; MAX], usize), RecordError> {
        let mut bytes = [0; MAX];
        for len in 0..MAX {
            self.spend(1)?;
            let byte = match self.stream.byte() {
                Ok(Some(byte)) => byte,
                Ok(None) => return Err(self.cut_off()),
                Err(_) => return Err(self.failure()),
            };
            bytes[len] = byte;
            if byte < 0x80 || len == MAX - 1 {
                return Ok((bytes, len + 1));
            }
        }
        Err(DecodeError::VarintTooLong.into())
    }

    /// A field of so many bytes, or null.
    fn field(&mut self, len: i32, sink: &mut impl Sink) -> Result<(), RecordError> {
        match len {
            -1 => Ok(()),
            len => self.copy(length(len)?, sink),
        }
    }

    fn copy(&mut self, len: usize, sink: &mut impl Sink) -> Result<(), RecordError> {
        self.spend(len)?;
        let mut missing = len;
        while missing > 0 {
            let Ok(chunk) = self.stream.chunk() else {
                return Err(self.failure());
            };
            let taken = chunk.len().min(missing);
            if taken == 0 {
                return Err(self.cut_off());
            }
            sink.piece(&chunk[..taken]);
            self.stream.consume(taken);
            missing -= taken;
        }
        Ok(())
    }

    fn spend(&mut self, needed: usize) -> Result<(), RecordError> {
        let remaining = self.left;
        self.left = remaining
            .checked_sub(needed)
            .ok_or(DecodeError::Truncated { needed, remaining })?;
        Ok(())
    }

    /// The batch ends inside a record.
    fn cut_off(&self) -> RecordError {
        match self.codec {
            Compression::None => DecodeError::Truncated {
                needed: 1,
                remaining: 0,
            }
            .into(),
            codec => RecordError::Decompress { codec },
        }
    }

    fn failure(&self) -> RecordError {
        match self.stream.exceeded() {
            true => RecordError::TooLarge {
                limit_bytes: self.stream.limit_bytes(),
            },
            false => RecordError::Decompress { codec: self.codec },
        }
    }
}

fn length(len: i32) -> Result<usize, RecordError> {
    usize::try_from(len).map_err(|_| DecodeError::NegativeLength.into())
}

#[cfg(test)]
mod tests;
