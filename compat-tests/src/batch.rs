//! Record batches made and read by hand, field by field, and the requests that carry them.
//!
//! What a client would never send can be built here; what a broker has stored is taken apart
//! without its help. Non-flexible versions only: Produce 8, Fetch 10.

use crate::wire::{Bytes, Raw, header};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::Write as _;

/// Kafka's numbers of the codecs, with the names of `compression.type`.
pub const CODECS: [(i16, &str); 5] = [
    (0, "uncompressed"),
    (1, "gzip"),
    (2, "snappy"),
    (3, "lz4"),
    (4, "zstd"),
];

/// One record before it is encoded.
#[derive(Clone, Debug, Default)]
pub struct Rec {
    pub timestamp_delta: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Instead of its place in the batch.
    pub offset_delta: Option<i64>,
}

/// Everything that a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// As they lie in the batch: compressed if it is.
    pub records: Vec<u8>,
}

fn field(bytes: Bytes, value: Option<&[u8]>) -> Bytes {
    match value {
        None => bytes.varint(-1),
        Some(value) => bytes.varint(value.len() as i64).raw(value),
    }
}

/// The records one after another, not compressed.
pub fn encode(records: &[Rec]) -> Vec<u8> {
    let mut all = Bytes::default();
    for (index, record) in records.iter().enumerate() {
        let mut one = Bytes::default()
            .i8(0)
            .varint(record.timestamp_delta)
            .varint(record.offset_delta.unwrap_or(index as i64));
        one = field(one, record.key.as_deref());
        one = field(one, record.value.as_deref());
        one = one.varint(record.headers.len() as i64);
        for (key, value) in &record.headers {
            one = field(one, Some(key));
            one = field(one, value.as_deref());
        }
        all = all.varint(one.0.len() as i64).raw(&one.0);
    }
    all.0
}

/// In the form that clients give a codec.
pub fn compress(codec: i16, plain: &[u8]) -> Result<Vec<u8>> {
    Ok(match codec {
        0 => plain.to_vec(),
        1 => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain)?;
            encoder.finish()?
        }
        2 => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for chunk in plain.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(chunk)?;
                out.extend((block.len() as i32).to_be_bytes());
                out.extend(block);
            }
            out
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain)?;
            encoder.finish()?
        }
        4 => zstd::encode_all(plain, 3)?,
        other => bail!("no codec {other}"),
    })
}

impl Batch {
    /// As a producer without idempotence sends it, an hour old.
    pub fn new(codec: i16, records: &[Rec]) -> Result<Batch> {
        let base_timestamp = crate::rust_client::an_hour_ago_ms();
        let deltas = records.iter().map(|record| record.timestamp_delta);
        let count = records.len() as i32;
        Ok(Batch {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: codec,
            last_offset_delta: count - 1,
            base_timestamp,
            max_timestamp: base_timestamp + deltas.max().unwrap_or(0),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            records: compress(codec, &encode(records))?,
        })
    }

    /// With the right length and checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let after_crc = Bytes::default()
            .i16(self.attributes)
            .i32(self.last_offset_delta)
            .i64(self.base_timestamp)
            .i64(self.max_timestamp)
            .i64(self.producer_id)
            .i16(self.producer_epoch)
            .i32(self.base_sequence)
            .i32(self.count)
            .raw(&self.records)
            .0;
        Bytes::default()
            .i64(self.base_offset)
            .i32(after_crc.len() as i32 + 9)
            .i32(self.leader_epoch)
            .i8(self.magic)
            .i32(crc32c::crc32c(&after_crc) as i32)
            .raw(&after_crc)
            .0
    }

    /// The batches that lie one after another in `bytes`, each with a right checksum.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Batch>> {
        let mut reader = Reader(bytes);
        let mut batches = Vec::new();
        while reader.0.len() > 12 {
            let base_offset = reader.i64()?;
            let length = reader.i32()? as usize;
            let mut body = Reader(reader.take(length)?);
            let (leader_epoch, magic) = (body.i32()?, body.i8()?);
            let crc = body.i32()? as u32;
            ensure!(
                crc == crc32c::crc32c(body.0),
                "a wrong checksum at {base_offset}"
            );
            batches.push(Batch {
                base_offset,
                leader_epoch,
                magic,
                attributes: body.i16()?,
                last_offset_delta: body.i32()?,
                base_timestamp: body.i64()?,
                max_timestamp: body.i64()?,
                producer_id: body.i64()?,
                producer_epoch: body.i16()?,
                base_sequence: body.i32()?,
                count: body.i32()?,
                records: body.0.to_vec(),
            });
        }
        Ok(batches)
    }
}

/// What a broker answers about one partition of a Produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
    pub log_append_time_ms: i64,
    /// The places of the records at fault.
    pub bad_records: Vec<i32>,
    pub message: Option<String>,
}

/// Produces bytes, whatever they are, to partition 0 with acks=all.
pub fn produce(connection: &mut Raw, topic: &str, batch: &[u8]) -> Result<Produced> {
    let request = header(0, 8, 1).i16(-1).i16(-1).i32(30_000);
    let request = request.i32(1).string(topic).i32(1).i32(0);
    let request = request.i32(batch.len() as i32).raw(batch).framed();
    let answer = connection.call(&request)?;
    let mut reader = Reader(&answer);
    reader.take(4 + 4)?;
    reader.string()?;
    reader.take(4 + 4)?;
    let (error, base_offset) = (reader.i16()?, reader.i64()?);
    let log_append_time_ms = reader.i64()?;
    let _log_start_offset = reader.i64()?;
    let mut bad_records = Vec::new();
    for _ in 0..reader.i32()? {
        bad_records.push(reader.i32()?);
        reader.string()?;
    }
    Ok(Produced {
        error,
        base_offset,
        log_append_time_ms,
        bad_records,
        message: reader.string()?,
    })
}

/// The bytes of partition 0 from `offset` on, as they are stored.
pub fn fetch(connection: &mut Raw, topic: &str, offset: i64) -> Result<Vec<u8>> {
    let request = header(1, 10, 1).i32(-1).i32(1_000).i32(1).i32(64 << 20);
    let request = request.i8(0).i32(0).i32(-1);
    let request = request.i32(1).string(topic).i32(1);
    let request = request.i32(0).i32(-1).i64(offset).i64(-1).i32(64 << 20);
    let answer = connection.call(&request.i32(0).framed())?;
    let mut reader = Reader(&answer);
    reader.take(4 + 4 + 2 + 4 + 4)?;
    reader.string()?;
    reader.take(4 + 4)?;
    let error = reader.i16()?;
    ensure!(error == 0, "fetching {topic}: error {error}");
    reader.take(3 * 8)?;
    let aborted = reader.i32()?.max(0) as usize;
    reader.take(aborted * 16)?;
    let length = reader.i32()?.max(0) as usize;
    Ok(reader.take(length)?.to_vec())
}

/// Big-endian fields, front to back.
struct Reader<'a>(&'a [u8]);

macro_rules! integers {
    ($($name:ident)*) => {$(
        fn $name(&mut self) -> Result<$name> {
            let bytes = self.take(size_of::<$name>())?;
            Ok($name::from_be_bytes(bytes.try_into()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    integers!(i8 i16 i32 i64);

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("a short answer")?;
        self.0 = rest;
        Ok(taken)
    }

    fn string(&mut self) -> Result<Option<String>> {
        let len = self.i16()?;
        if len < 0 {
            return Ok(None);
        }
        let bytes = self.take(len as usize)?;
        Ok(Some(String::from_utf8(bytes.to_vec())?))
    }
}
