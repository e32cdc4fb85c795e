//! One connection that writes a batch to each of very many partitions, in requests of many.
//!
//! What a partition refuses is sent again until it is taken, and counted: a broker may have
//! acknowledged a topic before it can serve it.

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Produce v8 names topics and is not flexible.
const PRODUCE: i16 = 0;
const PRODUCE_VERSION: i16 = 8;
/// A broker that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(300);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Topics `NAME-0` to `NAME-(topics - 1)` of so many partitions each.
#[derive(Clone, Debug)]
pub struct Topics {
    pub name: String,
    pub topics: i32,
    pub partitions: i32,
}

impl Topics {
    pub fn names(&self) -> Vec<String> {
        let name = |index| format!("{}-{index}", self.name);
        (0..self.topics).map(name).collect()
    }
}

/// What came of a pass over all partitions.
#[derive(Debug)]
pub struct Outcome {
    pub elapsed: Duration,
    /// Writes that were refused at first.
    pub refused: u64,
}

/// Writes one batch to each partition, one request per topic, one request on the way.
pub fn write_each(bootstrap: &str, topics: &Topics, batch: &[u8]) -> Result<Outcome> {
    let mut stream = TcpStream::connect(bootstrap)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let started = Instant::now();
    let mut refused = 0;
    for topic in topics.names() {
        let mut missing: Vec<i32> = (0..topics.partitions).collect();
        loop {
            stream.write_all(&frame(&topic, &missing, batch)?)?;
            missing = refusals(&mut stream)?;
            if missing.is_empty() {
                break;
            }
            refused += missing.len() as u64;
            ensure!(
                started.elapsed() < LIMIT,
                "{topic}: {} refuse",
                missing.len()
            );
            std::thread::sleep(RETRY_AFTER);
        }
    }
    Ok(Outcome {
        elapsed: started.elapsed(),
        refused,
    })
}

fn frame(topic: &str, partitions: &[i32], batch: &[u8]) -> Result<Bytes> {
    let client_id = b"ottla-bench";
    let mut buf = BytesMut::with_capacity(partitions.len() * (batch.len() + 8) + 128);
    buf.put_i32(0);
    buf.put_i16(PRODUCE);
    buf.put_i16(PRODUCE_VERSION);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(client_id.len())?);
    buf.put_slice(client_id);
    buf.put_i16(-1); // no transaction
    buf.put_i16(-1); // acks=all
    buf.put_i32(30_000);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(topic.len())?);
    buf.put_slice(topic.as_bytes());
    buf.put_i32(i32::try_from(partitions.len())?);
    for partition in partitions {
        buf.put_i32(*partition);
        buf.put_i32(i32::try_from(batch.len())?);
        buf.put_slice(batch);
    }
    let length = i32::try_from(buf.len() - 4)?;
    buf[..4].copy_from_slice(&length.to_be_bytes());
    Ok(buf.freeze())
}

/// Reads one answer; the partitions in it that did not take their batch.
fn refusals(stream: &mut TcpStream) -> Result<Vec<i32>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length))?];
    stream.read_exact(&mut body)?;
    parse(Bytes::from(body)).context("a Produce answer")
}

fn parse(mut body: Bytes) -> Result<Vec<i32>> {
    let mut refused = Vec::new();
    body.advance(4); // correlation id
    for _ in 0..body.try_get_i32()? {
        skip_string(&mut body)?;
        for _ in 0..body.try_get_i32()? {
            let partition = body.try_get_i32()?;
            if body.try_get_i16()? != 0 {
                refused.push(partition);
            }
            // Base offset, append time, log start.
            for _ in 0..3 {
                body.try_get_i64()?;
            }
            for _ in 0..body.try_get_i32()? {
                body.try_get_i32()?;
                skip_string(&mut body)?;
            }
            skip_string(&mut body)?;
        }
    }
    Ok(refused)
}

fn skip_string(body: &mut Bytes) -> Result<()> {
    let length = usize::try_from(body.try_get_i16()?.max(0))?;
    ensure!(body.len() >= length, "a string beyond the end");
    body.advance(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_partitions_are_found_in_an_answer() {
        let mut body = BytesMut::new();
        body.put_i32(1);
        body.put_i32(1);
        body.put_i16(1);
        body.put_slice(b"t");
        body.put_i32(2);
        for (partition, code, message) in [(7, 0, None), (8, 6, Some(b"no"))] {
            body.put_i32(partition);
            body.put_i16(code);
            body.put_bytes(0, 24);
            body.put_i32(0);
            body.put_i16(message.map_or(-1, |text: &[u8; 2]| text.len() as i16));
            body.put_slice(message.map_or(&[], |text| text));
        }
        body.put_i32(0);
        assert_eq!(parse(body.freeze()).unwrap(), [8]);
    }
}
