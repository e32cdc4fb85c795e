//! The raw replayer: one Produce request, encoded once, sent again and again over blocking sockets.
//!
//! It costs about a tenth of a CPU-second per GB, so that a broker reaches its limit first. Without
//! idempotence nothing in the request changes from one to the next; the broker gives the offsets.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use hdrhistogram::Histogram;
use ottla_protocol::batch::BatchBuilder;
use rand::{RngCore as _, SeedableRng as _};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Produce v8 names topics and is not flexible: short, and served by every broker since 2.4.
const PRODUCE: i16 = 0;
const PRODUCE_VERSION: i16 = 8;

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    pub topic: String,
    /// One connection each; connection i writes to partition i modulo this topic's partitions.
    pub connections: usize,
    pub partitions: i32,
    pub record_bytes: usize,
    pub batch_bytes: usize,
    /// Requests on the way per connection.
    pub in_flight: usize,
    /// In total, over all connections.
    pub total_bytes: u64,
    /// 1, or -1 for all.
    pub acks: i16,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub bytes: u64,
    pub records: u64,
    pub elapsed: Duration,
    /// From the request's first byte to its answer, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// A batch of random records, as close to `batch_bytes` as whole records come.
pub fn batch(batch_bytes: usize, record_bytes: usize) -> Result<(Bytes, u32)> {
    ensure!(
        record_bytes >= 1 && batch_bytes >= record_bytes,
        "a batch holds at least one record"
    );
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let now_ms = i64::try_from(now_ms)?;
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut value = vec![0; record_bytes];
    let mut builder = BatchBuilder::new();
    let count = u32::try_from((batch_bytes / (record_bytes + 8)).max(1))?;
    for _ in 0..count {
        rng.fill_bytes(&mut value);
        builder.append(now_ms, None, Some(&value), &[]);
    }
    Ok((builder.build()?.freeze(), count))
}

/// The whole frame of one request.
pub(crate) fn frame(topic: &str, partition: i32, acks: i16, batch: &[u8]) -> Result<Bytes> {
    let client_id = b"ottla-bench";
    let mut buf = BytesMut::with_capacity(batch.len() + 128);
    buf.put_i32(0);
    buf.put_i16(PRODUCE);
    buf.put_i16(PRODUCE_VERSION);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(client_id.len())?);
    buf.put_slice(client_id);
    buf.put_i16(-1); // no transaction
    buf.put_i16(acks);
    buf.put_i32(30_000);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(topic.len())?);
    buf.put_slice(topic.as_bytes());
    buf.put_i32(1);
    buf.put_i32(partition);
    buf.put_i32(i32::try_from(batch.len())?);
    buf.put_slice(batch);
    let length = i32::try_from(buf.len() - 4)?;
    buf[..4].copy_from_slice(&length.to_be_bytes());
    Ok(buf.freeze())
}

/// From a microsecond to a minute.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Sends the whole load and waits for every answer.
pub fn run(load: &Load) -> Result<Outcome> {
    let (batch, records) = batch(load.batch_bytes, load.record_bytes)?;
    let per_connection = load.total_bytes / load.connections as u64;
    let requests = per_connection.div_ceil(batch.len() as u64).max(1);
    let started = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..load.connections)
            .map(|index| {
                let partition = index as i32 % load.partitions;
                let batch = &batch;
                scope.spawn(move || send(load, partition, batch, requests))
            })
            .collect();
        let join = |sender: std::thread::ScopedJoinHandle<'_, _>| match sender.join() {
            Ok(result) => result,
            Err(_) => bail!("a sender panicked"),
        };
        senders
            .into_iter()
            .map(join)
            .collect::<Result<Vec<Histogram<u64>>>>()
    })?;
    let elapsed = started.elapsed();
    let mut latency_us = histogram()?;
    for latency in latencies {
        latency_us.add(latency)?;
    }
    let sent = requests * load.connections as u64;
    Ok(Outcome {
        bytes: sent * batch.len() as u64,
        records: sent * u64::from(records),
        elapsed,
        latency_us,
    })
}

fn send(load: &Load, partition: i32, batch: &[u8], requests: u64) -> Result<Histogram<u64>> {
    let frame = frame(&load.topic, partition, load.acks, batch)?;
    let mut stream = TcpStream::connect(&load.bootstrap)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut on_the_way: VecDeque<Instant> = VecDeque::with_capacity(load.in_flight);
    let mut latency_us = histogram()?;
    let mut answer = Vec::new();
    for _ in 0..requests {
        if on_the_way.len() == load.in_flight {
            receive(&mut stream, &load.topic, &mut answer)?;
            record(&mut latency_us, on_the_way.pop_front());
        }
        on_the_way.push_back(Instant::now());
        stream.write_all(&frame)?;
    }
    while let Some(sent) = on_the_way.pop_front() {
        receive(&mut stream, &load.topic, &mut answer)?;
        record(&mut latency_us, Some(sent));
    }
    Ok(latency_us)
}

fn record(latency_us: &mut Histogram<u64>, sent: Option<Instant>) {
    if let Some(sent) = sent {
        // Resizes itself: nothing to clamp, and no latency is beyond u64.
        let _ = latency_us.record(sent.elapsed().as_micros() as u64);
    }
}

/// Reads one answer and fails on its error code.
pub(crate) fn receive(stream: &mut TcpStream, topic: &str, answer: &mut Vec<u8>) -> Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length < 1 << 20, "a Produce answer of {length} bytes");
    answer.resize(length, 0);
    stream.read_exact(answer)?;
    // Correlation id, one topic with its name, one partition with its index; then the code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let code = answer.get(at..at + 2).context("a short answer")?;
    let code = i16::from_be_bytes([code[0], code[1]]);
    ensure!(code == 0, "produce: error {code}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::batch::RecordBatchView;

    #[test]
    fn a_batch_has_about_the_wanted_size_and_a_right_checksum() {
        for (batch_bytes, record_bytes) in [(16_384, 1000), (1_000_000, 1000), (16_384, 100)] {
            let (batch, records) = batch(batch_bytes, record_bytes).unwrap();
            let view = RecordBatchView::parse(&batch).unwrap();
            assert!(view.crc_is_valid() && view.size_bytes() == batch.len());
            assert_eq!(view.header().record_count, records as i32);
            let (low, high) = (batch_bytes * 9 / 10, batch_bytes * 102 / 100);
            assert!((low..=high).contains(&batch.len()), "{}", batch.len());
        }
    }
}
