//! Ottla and Apache Kafka from nothing, in turns, under the same load.
//!
//! Each turn starts a broker on an empty folder, warms it up with load that is not counted (a JVM
//! compiles while it warms up), and then takes every figure. Pairs of turns give ratios; the result
//! is the median over the pairs. The main figure is CPU-seconds of the broker per GB, because wall
//! time on a shared machine says more about the neighbours.

use crate::peer::{Kind, Peer, Places};
use crate::report::Report;
use crate::{drain, process, replay};
use anyhow::Result;
use std::time::Duration;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub pairs: u32,
    /// How much each measured row moves.
    pub gigabytes: f64,
    /// How much is moved before anything is counted.
    pub warm_up_gigabytes: f64,
    /// Settings of the topic on Ottla, for example the durability class.
    pub ottla_topic: Vec<(String, String)>,
    /// Settings of the topic on Kafka that make the same promise.
    pub kafka_topic: Vec<(String, String)>,
    pub kinds: Vec<Kind>,
    /// Messages of 100 bytes through librdkafka, if this program was built with it.
    pub messages: u64,
}

const GB: f64 = 1e9;
const RECORD_BYTES: usize = 1000;

/// The two sizes of batches: what a client sends when hurried, and when allowed to wait.
const BATCHES: [(&str, usize); 2] = [("16 KB", 16_384), ("1 MB", 1_000_000)];

pub fn run(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

/// One broker's turn: start, idle figures, warm-up, every row, end.
fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    report.add(
        kind,
        "ready on an empty folder, ms",
        peer.ready.as_secs_f64() * 1000.0,
    );
    std::thread::sleep(Duration::from_secs(2));
    let idle = process::resident_bytes(peer.pid())? as f64 / 1e6;
    report.add(kind, "resident when idle, MB", idle);
    let (_, cpu, _) = peer.cpu_of(|| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    report.add(kind, "CPU when idle, % of a core", cpu / 5.0 * 100.0);
    for (name, batch_bytes) in BATCHES {
        let warm_up = plan.warm_up_gigabytes * GB;
        produce(
            plan,
            &peer,
            &format!("warm-{batch_bytes}"),
            batch_bytes,
            warm_up,
        )?;
        fetch(&peer, &format!("warm-{batch_bytes}"), batch_bytes, warm_up)?;
        batches(plan, &peer, (name, batch_bytes), report)?;
    }
    messages(plan, &peer, report)?;
    let peak = process::peak_resident_bytes(peer.pid())? as f64 / 1e6;
    report.add(kind, "most resident memory, MB", peak);
    peer.stop()?;
    Ok(())
}

/// The rows of one size of batches: produce a topic, then fetch it while it is warm.
fn batches(
    plan: &Plan,
    peer: &Peer,
    (name, batch_bytes): (&str, usize),
    report: &mut Report,
) -> Result<()> {
    let topic = format!("measured-{batch_bytes}");
    let total = plan.gigabytes * GB;
    let mut rows = |row: &str, bytes: u64, elapsed: Duration, cpu: f64, own: f64| {
        let gigabytes = bytes as f64 / GB;
        let row = format!("{row} {name}");
        report.add(
            peer.kind,
            &format!("{row}: broker CPU-s/GB"),
            cpu / gigabytes,
        );
        report.add(
            peer.kind,
            &format!("{row}: client CPU-s/GB"),
            own / gigabytes,
        );
        let rate = gigabytes * 1000.0 / elapsed.as_secs_f64();
        report.add(peer.kind, &format!("{row}: MB/s"), rate);
    };
    let (written, cpu, own) = peer.cpu_of(|| produce(plan, peer, &topic, batch_bytes, total))?;
    rows("produce", written.bytes, written.elapsed, cpu, own);
    let (read, cpu, own) = peer.cpu_of(|| fetch(peer, &topic, batch_bytes, total))?;
    rows("fetch", read.bytes, read.elapsed, cpu, own);
    let p99_ms = written.latency_us.value_at_quantile(0.99) as f64 / 1000.0;
    report.add(
        peer.kind,
        &format!("produce {name}: p99 of an answer, ms"),
        p99_ms,
    );
    Ok(())
}

fn create(plan: &Plan, peer: &Peer, topic: &str) -> Result<()> {
    let configs = match peer.kind {
        Kind::Ottla => &plan.ottla_topic,
        Kind::ApacheKafka => &plan.kafka_topic,
    };
    peer.client()?.create_topic(topic, 1, configs)
}

fn produce(
    plan: &Plan,
    peer: &Peer,
    topic: &str,
    batch_bytes: usize,
    total_bytes: f64,
) -> Result<replay::Outcome> {
    create(plan, peer, topic)?;
    replay::run(&replay::Load {
        bootstrap: peer.bootstrap.clone(),
        topic: topic.to_owned(),
        connections: 1,
        partitions: 1,
        record_bytes: RECORD_BYTES,
        batch_bytes,
        in_flight: 5,
        total_bytes: total_bytes as u64,
        acks: 1,
    })
}

/// Reads back what [`produce`] has written.
fn fetch(peer: &Peer, topic: &str, batch_bytes: usize, total: f64) -> Result<drain::Outcome> {
    let (batch, batch_records) = replay::batch(batch_bytes, RECORD_BYTES)?;
    drain::run(&drain::Load {
        bootstrap: peer.bootstrap.clone(),
        topic: topic.to_owned(),
        partition: 0,
        fetch_bytes: 4 << 20,
        total_bytes: total as u64,
        batch_bytes: batch.len(),
        batch_records,
        end_offset: peer.client()?.end_offset(topic, 0)?,
    })
}

#[cfg(feature = "librdkafka")]
fn messages(plan: &Plan, peer: &Peer, report: &mut Report) -> Result<()> {
    use crate::real_client;
    create(plan, peer, "messages")?;
    real_client::produce(&peer.bootstrap, "messages", plan.messages / 2, 100)?;
    let (elapsed, cpu, own) =
        peer.cpu_of(|| real_client::produce(&peer.bootstrap, "messages", plan.messages, 100))?;
    let millions = plan.messages as f64 / 1e6;
    let rate = plan.messages as f64 / elapsed.as_secs_f64();
    report.add(peer.kind, "librdkafka 100 B: messages/s", rate);
    report.add(
        peer.kind,
        "librdkafka 100 B: broker CPU-s/M messages",
        cpu / millions,
    );
    report.add(
        peer.kind,
        "librdkafka 100 B: client CPU-s/M messages",
        own / millions,
    );
    report.add(
        peer.kind,
        "librdkafka 100 B: messages/s per broker core",
        1e6 / (cpu / millions),
    );
    Ok(())
}

#[cfg(not(feature = "librdkafka"))]
fn messages(_: &Plan, _: &Peer, _: &mut Report) -> Result<()> {
    Ok(())
}
