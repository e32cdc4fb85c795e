//! Offset commits: one OffsetCommit request per offset, pipelined over many connections.
//!
//! Each connection speaks for a group of its own (or shares one) and commits growing offsets of one
//! partition. The request is encoded once; only its numbers change, so that the generator costs
//! little. At the end the broker is asked what it has, which must be what it acknowledged last.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, BytesMut};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::peer::{Kind, Peer, Places};
use crate::process;
use crate::report::Report;
use crate::wire::Client;

/// OffsetCommit v7 names topics and is not flexible: short, and served since Kafka 2.3.
const OFFSET_COMMIT: i16 = 8;
const OFFSET_COMMIT_VERSION: i16 = 7;
const TOPIC: &str = "committed";

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    pub connections: usize,
    /// Connection i commits for group i modulo this.
    pub groups: usize,
    /// Requests on the way per connection.
    pub in_flight: usize,
    /// Of one offset each, over all connections.
    pub commits: u64,
    /// The first offset that is committed; every later one is larger.
    pub first_offset: i64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub commits: u64,
    pub elapsed: Duration,
    /// From the request to its answer, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// Partitions of the topic that is said to be consumed.
const PARTITIONS: i32 = 100;

fn group(index: usize) -> String {
    format!("bench-group-{index}")
}

/// A request whose numbers are filled in before each sending.
struct Template {
    frame: BytesMut,
    offset_at: usize,
}

impl Template {
    fn new(group: &str, topic: &str, partition: i32) -> Template {
        let client_id = "ottla-bench";
        let mut frame = BytesMut::with_capacity(128);
        let text = |frame: &mut BytesMut, text: &str| {
            frame.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
            frame.put_slice(text.as_bytes());
        };
        frame.put_i32(0);
        frame.put_i16(OFFSET_COMMIT);
        frame.put_i16(OFFSET_COMMIT_VERSION);
        frame.put_i32(0);
        text(&mut frame, client_id);
        text(&mut frame, group);
        frame.put_i32(-1); // no generation: a consumer that assigns itself
        text(&mut frame, "");
        frame.put_i16(-1); // no instance
        frame.put_i32(1);
        text(&mut frame, topic);
        frame.put_i32(1);
        frame.put_i32(partition);
        let offset_at = frame.len();
        frame.put_i64(0);
        frame.put_i32(-1); // no leader epoch
        text(&mut frame, "");
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Template { frame, offset_at }
    }

    /// Appends one request to `out`.
    fn write(&mut self, offset: i64, out: &mut Vec<u8>) {
        let at = self.offset_at;
        self.frame[at..at + 8].copy_from_slice(&offset.to_be_bytes());
        let correlation_id = (offset as i32).to_be_bytes();
        self.frame[8..12].copy_from_slice(&correlation_id);
        out.extend_from_slice(&self.frame);
    }
}

/// The error code of an answer about one offset, without its length.
fn code(answer: &[u8], topic: &str) -> Result<i16> {
    // Correlation id, throttle time, one topic with its name, one partition with its index.
    let at = 4 + 4 + 4 + 2 + topic.len() + 4 + 4;
    let code = answer.get(at..at + 2).context("a short answer")?;
    Ok(i16::from_be_bytes([code[0], code[1]]))
}

/// Takes whole answers off the front of `received`; returns how many.
fn take_answers(received: &mut Vec<u8>) -> Result<usize> {
    let (mut at, mut count) = (0, 0);
    while let Some(length) = received[at..].first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length))?;
        let Some(answer) = received.get(at + 4..at + 4 + length) else {
            break;
        };
        let code = code(answer, TOPIC)?;
        ensure!(code == 0, "commit: error {code}");
        at += 4 + length;
        count += 1;
    }
    received.drain(..at);
    Ok(count)
}

struct Sender {
    stream: TcpStream,
    template: Template,
    in_flight: usize,
    sent: VecDeque<Instant>,
    latency_us: Histogram<u64>,
}

impl Sender {
    fn connect(load: &Load, index: usize) -> Result<Sender> {
        let stream = TcpStream::connect(&load.bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let partition = index as i32 % PARTITIONS;
        Ok(Sender {
            stream,
            template: Template::new(&group(index % load.groups), TOPIC, partition),
            in_flight: load.in_flight,
            sent: VecDeque::with_capacity(load.in_flight),
            latency_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        })
    }

    /// Keeps the pipeline full until everything is acknowledged.
    fn run(mut self, first_offset: i64, commits: u64) -> Result<Histogram<u64>> {
        let mut out = Vec::with_capacity(self.in_flight * 128);
        let mut received = Vec::with_capacity(1 << 16);
        let mut chunk = vec![0; 1 << 16];
        let (mut next, end) = (first_offset, first_offset + commits as i64);
        while next < end || !self.sent.is_empty() {
            out.clear();
            let now = Instant::now();
            while next < end && self.sent.len() < self.in_flight {
                self.template.write(next, &mut out);
                self.sent.push_back(now);
                next += 1;
            }
            self.stream.write_all(&out)?;
            let count = self.stream.read(&mut chunk)?;
            ensure!(count > 0, "the broker closed the connection");
            received.extend_from_slice(&chunk[..count]);
            for _ in 0..take_answers(&mut received)? {
                let sent = self.sent.pop_front().context("an answer to nothing")?;
                let _ = self.latency_us.record(sent.elapsed().as_micros() as u64);
            }
        }
        Ok(self.latency_us)
    }
}

/// The topic and a coordinator for every group exist, and a first commit of each has worked.
pub fn prepare(bootstrap: &str, groups: usize) -> Result<()> {
    let mut client = Client::connect(bootstrap)?;
    if client.end_offset(TOPIC, 0).is_err() {
        client.create_topic(TOPIC, PARTITIONS, &[])?;
    }
    for index in 0..groups {
        client.find_coordinator(&group(index))?;
        client.commit(&group(index), TOPIC, 0, 0)?;
    }
    Ok(())
}

/// Sends the whole load, waits for every answer, and checks what was kept.
pub fn run(load: &Load) -> Result<Outcome> {
    let each = load.commits.div_ceil(load.connections as u64).max(1);
    let senders = (0..load.connections).map(|index| Sender::connect(load, index));
    let senders = senders.collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let start = |sender: Sender| scope.spawn(move || sender.run(load.first_offset, each));
        let running: Vec<_> = senders.into_iter().map(start).collect();
        let join = |sender: std::thread::ScopedJoinHandle<'_, _>| match sender.join() {
            Ok(result) => result,
            Err(_) => bail!("a sender panicked"),
        };
        running.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let elapsed = started.elapsed();
    let mut latency_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for latency in latencies {
        latency_us.add(latency)?;
    }
    check(load, load.first_offset + each as i64 - 1)?;
    let commits = each * load.connections as u64;
    Ok(Outcome {
        commits,
        elapsed,
        latency_us,
    })
}

/// Commits one offset for each of so many groups, pipelined over one connection.
pub fn one_each(bootstrap: &str, groups: usize) -> Result<()> {
    prepare(bootstrap, 1)?;
    let mut stream = TcpStream::connect(bootstrap)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut received, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    let all: Vec<usize> = (0..groups).collect();
    for some in all.chunks(500) {
        let mut out = Vec::new();
        for index in some {
            Template::new(&group(*index), TOPIC, 0).write(1, &mut out);
        }
        stream.write_all(&out)?;
        let mut answered = 0;
        while answered < some.len() {
            let count = stream.read(&mut chunk)?;
            ensure!(count > 0, "the broker closed the connection");
            received.extend_from_slice(&chunk[..count]);
            answered += take_answers(&mut received)?;
        }
    }
    Ok(())
}

/// Every group has what was acknowledged to it last.
fn check(load: &Load, last: i64) -> Result<()> {
    let mut client = Client::connect(&load.bootstrap)?;
    for index in 0..load.connections {
        let (group, partition) = (group(index % load.groups), index as i32 % PARTITIONS);
        let committed = client.committed(&group, TOPIC, partition)?;
        ensure!(
            committed == last,
            "{group} has {committed}, and {last} was acknowledged"
        );
    }
    Ok(())
}

/// Both brokers from nothing, in turns.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    pub connections: usize,
    pub groups: usize,
    pub in_flight: usize,
    pub commits: u64,
    /// Settings of the topic `__consumer_offsets` on Ottla and on Kafka.
    pub ottla_topic: Vec<(String, String)>,
    pub kafka_topic: Vec<(String, String)>,
}

pub fn compare(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    prepare(&peer.bootstrap, plan.groups)?;
    let settings = match kind {
        Kind::Ottla => &plan.ottla_topic,
        Kind::ApacheKafka => &plan.kafka_topic,
    };
    peer.client()?.set_topic("__consumer_offsets", settings)?;
    let mut load = Load {
        bootstrap: peer.bootstrap.clone(),
        connections: plan.connections,
        groups: plan.groups,
        in_flight: plan.in_flight,
        commits: plan.commits / 2,
        first_offset: 1,
    };
    // A JVM compiles while it warms up.
    run(&load)?;
    load.first_offset += plan.commits as i64;
    load.commits = plan.commits;
    let (done, cpu, own) = peer.cpu_of(|| run(&load))?;
    let millions = done.commits as f64 / 1e6;
    let mut row = |name: &str, value: f64| report.add(kind, name, value);
    row(
        "commits (requests)/s",
        done.commits as f64 / done.elapsed.as_secs_f64(),
    );
    row("broker CPU-s per million", cpu / millions);
    row("commits/s per broker core", 1e6 / (cpu / millions));
    row("client CPU-s per million", own / millions);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let ms = done.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        row(&format!("{name} of an answer, ms"), ms);
    }
    row(
        "resident after it, MB",
        process::resident_bytes(peer.pid())? as f64 / 1e6,
    );
    peer.stop()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::messages::{OffsetCommitRequest, decode_request};

    #[test]
    fn a_request_is_what_its_version_says() {
        let mut template = Template::new("g", "topic", 7);
        let mut out = Vec::new();
        template.write(42, &mut out);
        template.write(43, &mut out);
        let (first, second) = out.split_at(out.len() / 2);
        assert_eq!(first.len(), second.len());
        let length = i32::from_be_bytes(second[..4].try_into().unwrap());
        assert_eq!(length as usize, second.len() - 4);
        // Key, version, correlation id and client id come first.
        let body = second[4 + 8 + 2 + 11..].to_vec();
        let request: OffsetCommitRequest = decode_request(body.into(), 7).unwrap();
        assert_eq!(request.group_id.0.as_str(), "g");
        assert_eq!(request.generation_id_or_member_epoch, -1);
        let asked = &request.topics[0].partitions[0];
        assert_eq!((asked.partition_index, asked.committed_offset), (7, 43));
    }
}
