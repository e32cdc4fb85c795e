//! Requests made by hand, byte by byte: what no client would send, and the few it would.
//!
//! Old, non-flexible versions only; they are short and every broker serves them.

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// No answer takes longer than this from a broker that is alive.
pub const READ_LIMIT: Duration = Duration::from_secs(20);

/// A connection that sends and receives whole frames.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub fn connect(bootstrap: &str) -> Result<Raw> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_write_timeout(Some(READ_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream })
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next answer without its length.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).context("a negative length")?;
        ensure!(length < 100 << 20, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    pub fn call(&mut self, frame: &[u8]) -> Result<Vec<u8>> {
        self.send(frame)?;
        self.receive()
    }

    /// Whether the broker closes this connection instead of answering.
    pub fn is_closed_by_peer(&mut self) -> bool {
        let mut byte = [0; 1];
        // A reset is a close, too; only a timeout is none.
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        }
    }
}

/// Bytes with Kafka's big-endian types.
#[derive(Clone, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn i8(mut self, value: i8) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i16(mut self, value: i16) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i32(mut self, value: i32) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn i64(mut self, value: i64) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn string(self, value: &str) -> Bytes {
        self.i16(value.len() as i16).raw(value.as_bytes())
    }

    pub fn raw(mut self, value: &[u8]) -> Bytes {
        self.0.extend(value);
        self
    }

    /// A signed variable-length integer, as in records.
    pub fn varint(mut self, value: i64) -> Bytes {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    /// The bytes with their length in front.
    pub fn framed(&self) -> Vec<u8> {
        Bytes::default().i32(self.0.len() as i32).raw(&self.0).0
    }
}

/// A request header of version 1.
pub fn header(key: i16, version: i16, correlation_id: i32) -> Bytes {
    Bytes::default()
        .i16(key)
        .i16(version)
        .i32(correlation_id)
        .string("compat")
}

pub fn api_versions_request(version: i16) -> Vec<u8> {
    let header = header(API_VERSIONS, version, 7);
    if version < 3 {
        return header.framed();
    }
    // Flexible: tagged fields end the header; a name and a version of the client, tagged fields.
    header.i8(0).i8(2).raw(b"n").i8(2).raw(b"v").i8(0).framed()
}

/// Metadata v1 about nothing: brokers and controller only.
pub fn metadata_request(correlation_id: i32) -> Vec<u8> {
    header(METADATA, 1, correlation_id).i32(0).framed()
}

/// Metadata v1 whose array claims `count` topics and brings none.
pub fn metadata_request_claiming(count: i32) -> Vec<u8> {
    header(METADATA, 1, 7).i32(count).framed()
}

/// The (key, min, max) rows of an ApiVersions v0 answer.
pub fn api_versions(bootstrap: &str) -> Result<Vec<(i16, i16, i16)>> {
    let body = Raw::connect(bootstrap)?.call(&api_versions_request(0))?;
    parse_api_versions(&body)
}

/// Reads an ApiVersions v0 answer; the error code is not looked at.
pub fn parse_api_versions(body: &[u8]) -> Result<Vec<(i16, i16, i16)>> {
    let rows = body.get(10..).context("a short answer")?;
    let i16_at = |row: &[u8], at: usize| i16::from_be_bytes([row[at], row[at + 1]]);
    let rows = rows.chunks_exact(6);
    Ok(rows
        .map(|row| (i16_at(row, 0), i16_at(row, 2), i16_at(row, 4)))
        .collect())
}

/// The error code of an ApiVersions v0 answer.
pub fn api_versions_error(body: &[u8]) -> Result<i16> {
    let code = body.get(4..6).context("a short answer")?;
    Ok(i16::from_be_bytes([code[0], code[1]]))
}

/// A v2 record batch of values, with the right checksum.
pub fn record_batch(values: &[&[u8]]) -> Vec<u8> {
    let mut records = Bytes::default();
    for (index, value) in values.iter().enumerate() {
        let record = Bytes::default()
            .i8(0)
            .varint(0)
            .varint(index as i64)
            .varint(-1);
        let record = record.varint(value.len() as i64).raw(value).varint(0);
        records = records.varint(record.0.len() as i64).raw(&record.0);
    }
    let count = values.len() as i32;
    let now_ms = crate::rust_client::an_hour_ago_ms();
    let after_crc = Bytes::default()
        .i16(0)
        .i32(count - 1)
        .i64(now_ms)
        .i64(now_ms);
    let after_crc = after_crc
        .i64(-1)
        .i16(-1)
        .i32(-1)
        .i32(count)
        .raw(&records.0)
        .0;
    let length = (after_crc.len() + 9) as i32;
    let head = Bytes::default().i64(0).i32(length).i32(-1).i8(2);
    head.i32(crc32c::crc32c(&after_crc) as i32)
        .raw(&after_crc)
        .0
}

/// Produce v3 of one batch to one partition, acks=all.
pub fn produce_request(topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
    let body = header(PRODUCE, 3, 7).i16(-1).i16(-1).i32(10_000);
    let body = body.i32(1).string(topic).i32(1).i32(partition);
    body.i32(batch.len() as i32).raw(batch).framed()
}

/// The error code and base offset of a Produce v3 answer about one partition.
pub fn produce_result(body: &[u8], topic: &str) -> Result<(i16, i64)> {
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let code = body.get(at..at + 2).context("a short answer")?;
    let offset = body.get(at + 2..at + 10).context("a short answer")?;
    Ok((
        i16::from_be_bytes(code.try_into()?),
        i64::from_be_bytes(offset.try_into()?),
    ))
}
