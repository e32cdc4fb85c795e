//! The drain: fetches a partition and lets the kernel throw the records away.
//!
//! The answer's header is read; the records are received with `MSG_TRUNC`, which counts bytes
//! without copying them. So it must know how the log is built: equal batches, as [`crate::replay`]
//! made them.

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use rustix::net::{RecvFlags, recv};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Fetch v11 names topics and is not flexible.
const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 11;
const MAX_WAIT_MS: i32 = 500;

/// What is fetched.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    pub topic: String,
    pub partition: i32,
    /// The most that one answer brings.
    pub fetch_bytes: i32,
    /// Stop after this much, starting again at the beginning as often as needed.
    pub total_bytes: u64,
    /// The log is made of batches of this size and number of records, from offset 0 to the end.
    pub batch_bytes: usize,
    pub batch_records: u32,
    pub end_offset: i64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub bytes: u64,
    pub records: u64,
    pub elapsed: Duration,
}

pub fn run(load: &Load) -> Result<Outcome> {
    let mut stream = TcpStream::connect(&load.bootstrap)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let started = Instant::now();
    let mut outcome = Outcome {
        bytes: 0,
        records: 0,
        elapsed: Duration::ZERO,
    };
    let mut offset = 0;
    while outcome.bytes < load.total_bytes {
        stream.write_all(&frame(load, offset)?)?;
        let records_bytes = receive(&mut stream, &load.topic)?;
        // Kafka may cut the last batch short; only whole ones count and move the offset.
        let batches = records_bytes / load.batch_bytes as u64;
        ensure!(
            batches > 0,
            "no batch at offset {offset}, {records_bytes} bytes"
        );
        outcome.bytes += batches * load.batch_bytes as u64;
        outcome.records += batches * u64::from(load.batch_records);
        offset += i64::try_from(batches * u64::from(load.batch_records))?;
        if offset >= load.end_offset {
            offset = 0;
        }
    }
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

fn frame(load: &Load, offset: i64) -> Result<Bytes> {
    let client_id = b"ottla-bench";
    let mut buf = BytesMut::with_capacity(160);
    buf.put_i32(0);
    buf.put_i16(FETCH);
    buf.put_i16(FETCH_VERSION);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(client_id.len())?);
    buf.put_slice(client_id);
    buf.put_i32(-1); // a consumer
    buf.put_i32(MAX_WAIT_MS);
    buf.put_i32(1); // min bytes
    buf.put_i32(load.fetch_bytes);
    buf.put_i8(0); // read uncommitted
    buf.put_i32(0); // no session
    buf.put_i32(-1);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(load.topic.len())?);
    buf.put_slice(load.topic.as_bytes());
    buf.put_i32(1);
    buf.put_i32(load.partition);
    buf.put_i32(-1); // no leader epoch
    buf.put_i64(offset);
    buf.put_i64(-1); // log start offset: followers only
    buf.put_i32(load.fetch_bytes);
    buf.put_i32(0); // nothing forgotten
    buf.put_i16(0); // no rack
    let length = i32::try_from(buf.len() - 4)?;
    buf[..4].copy_from_slice(&length.to_be_bytes());
    Ok(buf.freeze())
}

/// Reads one answer: its header, then its records unseen. Returns how many bytes of records.
fn receive(stream: &mut TcpStream, topic: &str) -> Result<u64> {
    // Length, correlation id, throttle time, error code, session id, one topic, its name, one
    // partition, its index; then what is looked at: error code, three offsets, aborted
    // transactions, preferred replica, length of the records.
    let before = 4 + 4 + 4 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4;
    let mut head = vec![0; before + 2 + 3 * 8 + 4];
    stream.read_exact(&mut head)?;
    let frame = u64::from(u32::from_be_bytes(four(&head, 0)?));
    let request_code = i16::from_be_bytes([head[12], head[13]]);
    let code = i16::from_be_bytes([head[before], head[before + 1]]);
    ensure!(
        request_code == 0 && code == 0,
        "fetch: error {request_code}, partition {code}"
    );
    let aborted = i32::from_be_bytes(four(&head, before + 26)?).max(0);
    let mut rest = vec![0; aborted as usize * 16 + 8];
    stream.read_exact(&mut rest)?;
    let records = u64::from(u32::from_be_bytes(four(&rest, rest.len() - 4)?));
    let expected = head.len() as u64 + rest.len() as u64 + records - 4;
    ensure!(
        frame == expected,
        "a frame of {frame} bytes with {records} of records"
    );
    discard(stream, records)?;
    Ok(records)
}

fn four(bytes: &[u8], at: usize) -> Result<[u8; 4]> {
    Ok(bytes
        .get(at..at + 4)
        .context("inside the buffer")?
        .try_into()?)
}

fn discard(stream: &TcpStream, mut count: u64) -> Result<()> {
    let mut unused = vec![0; 256 << 10];
    while count > 0 {
        let wanted = usize::try_from(count)?.min(unused.len());
        let (_, received) = recv(stream, &mut unused[..wanted], RecvFlags::TRUNC)?;
        ensure!(
            received > 0,
            "the broker closed the connection, {count} bytes were missing"
        );
        count -= received as u64;
    }
    Ok(())
}
