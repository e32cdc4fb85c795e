//! The records inside a batch, read one by one and with bounded memory.
//!
//! [`Records::next_ref`] lends each record from the batch itself, or, when the batch is compressed,
//! from one reused buffer; the [`Iterator`] yields owned copies. There are never more records than
//! the batch header says, never more plain bytes than [`RecordLimits`] allow, and a batch that ends
//! early, goes on after its last record or contains a malformed one ends in an error, once.
//! Duplicate header keys are legal and kept in order. Keys and header keys are bytes: whether a
//! header key is UTF-8 is the business of whoever shows it.

use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

use crate::batch::{BatchError, BatchHeader, Compression, RecordBatchView, TimestampType};
use crate::error::DecodeError;
use crate::types::Offset;
use crate::wire::Reader;

pub(crate) mod codec;
mod rewrite;
#[cfg(test)]
mod tests;

pub use codec::Codec;
pub use rewrite::{RecordHead, RewriteError, inspect, rewrite};

use codec::Decompressor;

/// How far a batch may grow when it is opened: the larger of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Always allowed.
    pub plain_bytes: u64,
    /// Allowed per compressed byte.
    pub ratio: u64,
}

impl Default for RecordLimits {
    fn default() -> Self {
        RecordLimits {
            plain_bytes: 16 << 20,
            ratio: 64,
        }
    }
}

impl RecordLimits {
    /// How far so many bytes of compressed records may grow.
    pub fn for_compressed(self, len: usize) -> u64 {
        self.plain_bytes.max(self.ratio.saturating_mul(len as u64))
    }
}

/// Why the records of a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("a record is malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the {} data is damaged", codec.name())]
    Decompress { codec: Compression },
    #[error("the batch decompresses to more than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("{trailing} bytes follow the fields of a record")]
    RecordTrailing { trailing: usize },
    #[error("bytes follow the last record of the batch")]
    BatchTrailing,
    #[error("the record count {count} is negative")]
    Count { count: i32 },
    #[error("a record's offset is out of range")]
    OffsetRange,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record lent by [`Records::next_ref`].
#[derive(Clone, Debug)]
pub struct RecordRef<'r> {
    pub offset: Offset,
    pub offset_delta: i32,
    pub timestamp: i64,
    body: &'r [u8],
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers_at: usize,
    header_count: usize,
}

impl<'r> RecordRef<'r> {
    pub fn key(&self) -> Option<&'r [u8]> {
        self.key.clone().map(|range| &self.body[range])
    }

    pub fn value(&self) -> Option<&'r [u8]> {
        self.value.clone().map(|range| &self.body[range])
    }

    /// The record as it is encoded in the batch, without its length prefix.
    pub fn body(&self) -> &'r [u8] {
        self.body
    }

    /// The size without its length prefix.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// The headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + use<'r> {
        let body = self.body;
        self.header_ranges()
            .map(move |(key, value)| (&body[key], value.map(|range| &body[range])))
    }

    // They were walked once when the record was parsed, so nothing can fail here.
    fn header_ranges(
        &self,
    ) -> impl Iterator<Item = (Range<usize>, Option<Range<usize>>)> + use<'r> {
        let mut reader = Reader::at(self.body, self.headers_at);
        (0..self.header_count).map_while(move |_| header(&mut reader).ok())
    }

    pub fn to_owned(&self) -> Record {
        let body = Bytes::copy_from_slice(self.body);
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.clone().map(|range| body.slice(range)),
            value: self.value.clone().map(|range| body.slice(range)),
            headers: self
                .header_ranges()
                .map(|(key, value)| (body.slice(key), value.map(|range| body.slice(range))))
                .collect(),
        }
    }
}

/// Reads the records of one batch in order.
pub struct Records<'a> {
    header: BatchHeader,
    source: Source<'a>,
    codec: Compression,
    left: i32,
    ended: bool,
    buffer: Vec<u8>,
}

enum Source<'a> {
    Plain(Reader<'a>),
    Stream(Decompressor<'a>),
}

impl<'a> Records<'a> {
    pub fn open(
        view: RecordBatchView<'a>,
        limits: RecordLimits,
    ) -> Result<Records<'a>, RecordError> {
        let header = *view.header();
        if header.record_count < 0 {
            return Err(RecordError::Count {
                count: header.record_count,
            });
        }
        let codec = header.compression()?;
        let records = view.records();
        let source = match codec {
            Compression::None => Source::Plain(Reader::new(records)),
            // A batch emptied by compaction has no stream at all.
            _ if records.is_empty() => Source::Plain(Reader::new(records)),
            _ => Source::Stream(
                Decompressor::new(codec, records, limits)
                    .map_err(|_| RecordError::Decompress { codec })?,
            ),
        };
        let left = header.record_count;
        let buffer = Vec::new();
        Ok(Records {
            header,
            source,
            codec,
            left,
            ended: false,
            buffer,
        })
    }

    /// The next record, borrowed until the next call.
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, RecordError>> {
        if self.ended {
            return None;
        }
        if self.left == 0 {
            self.ended = true;
            return self.check_end().err().map(Err);
        }
        self.left -= 1;
        // Set on every way out but the last: an error is reported once.
        self.ended = true;
        if let Err(error) = self.read_body() {
            return Some(Err(error));
        }
        let body = match &mut self.source {
            Source::Plain(reader) => match plain_body(reader) {
                Ok(body) => body,
                Err(error) => return Some(Err(error.into())),
            },
            Source::Stream(_) => &self.buffer,
        };
        let parsed = parse_body(&self.header, body);
        self.ended = parsed.is_err();
        Some(parsed)
    }

    /// Brings the next record of a stream into the buffer.
    fn read_body(&mut self) -> Result<(), RecordError> {
        let Source::Stream(stream) = &mut self.source else {
            return Ok(());
        };
        let codec = self.codec;
        let failed = |stream: &Decompressor<'_>| match stream.exceeded() {
            true => RecordError::TooLarge {
                limit_bytes: stream.limit_bytes(),
            },
            false => RecordError::Decompress { codec },
        };
        let mut prefix = [0; 5];
        for len in 0..prefix.len() {
            let Ok(Some(byte)) = stream.byte() else {
                return Err(failed(stream));
            };
            prefix[len] = byte;
            if byte < 0x80 || len == prefix.len() - 1 {
                let body_len = record_len(&mut Reader::new(&prefix[..=len]))?;
                return stream
                    .fill(body_len, &mut self.buffer)
                    .map_err(|_| failed(stream));
            }
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), RecordError> {
        let codec = self.codec;
        match &mut self.source {
            Source::Plain(reader) if reader.remaining() == 0 => Ok(()),
            Source::Plain(_) => Err(RecordError::BatchTrailing),
            Source::Stream(stream) => match stream.byte() {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(RecordError::BatchTrailing),
                Err(_) if stream.exceeded() => Err(RecordError::BatchTrailing),
                Err(_) => Err(RecordError::Decompress { codec }),
            },
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_ref()
            .map(|record| record.map(|record| record.to_owned()))
    }
}

fn record_len(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    usize::try_from(reader.varint()?).map_err(|_| DecodeError::NegativeLength)
}

fn plain_body<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = record_len(reader)?;
    reader.take(len)
}

fn parse_body<'r>(header: &BatchHeader, body: &'r [u8]) -> Result<RecordRef<'r>, RecordError> {
    let mut reader = Reader::new(body);
    let _attributes = reader.i8()?;
    let timestamp_delta = reader.varlong()?;
    let offset_delta = reader.varint()?;
    let offset = header.base_offset.checked_add(i64::from(offset_delta));
    let offset = offset
        .filter(|_| offset_delta >= 0)
        .ok_or(RecordError::OffsetRange)?;
    let timestamp = match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
    };
    let key = nullable_field(&mut reader)?;
    let value = nullable_field(&mut reader)?;
    let header_count = record_len(&mut reader)?;
    let headers_at = reader.position();
    if header_count > reader.remaining() / 2 {
        return Err(DecodeError::CountBeyondBody {
            count: header_count,
        }
        .into());
    }
    for _ in 0..header_count {
        self::header(&mut reader)?;
    }
    if reader.remaining() > 0 {
        return Err(RecordError::RecordTrailing {
            trailing: reader.remaining(),
        });
    }
    Ok(RecordRef {
        offset,
        offset_delta,
        timestamp,
        body,
        key,
        value,
        headers_at,
        header_count,
    })
}

fn field(reader: &mut Reader<'_>, len: usize) -> Result<Range<usize>, DecodeError> {
    let start = reader.position();
    reader.take(len)?;
    Ok(start..start + len)
}

fn nullable_field(reader: &mut Reader<'_>) -> Result<Option<Range<usize>>, DecodeError> {
    match reader.varint()? {
        -1 => Ok(None),
        len => {
            let len = usize::try_from(len).map_err(|_| DecodeError::NegativeLength)?;
            field(reader, len).map(Some)
        }
    }
}

fn header(reader: &mut Reader<'_>) -> Result<(Range<usize>, Option<Range<usize>>), DecodeError> {
    let key_len = record_len(reader)?;
    Ok((field(reader, key_len)?, nullable_field(reader)?))
}
