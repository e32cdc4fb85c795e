//! Compaction: how fast a log with many superseded records is gone through, at what cost, and what
//! a producer on another topic notices of it.
//!
//! The log is written while a lag forbids its compaction; then the lag is taken away. It is over
//! when the broker's `cleaner-offset-checkpoint` (Kafka's file, on both) names the partition.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use ottla_protocol::batch::BatchBuilder;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::paced::{Load as PacedLoad, Paced, quantile_ms};
use crate::peer::{Kind, Peer, Places};
use crate::replay;
use crate::report::Report;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    pub gigabytes: f64,
    /// How often a key is written, on average.
    pub versions: u64,
    /// Settings of the topics on Ottla.
    pub ottla_topic: Vec<(String, String)>,
}

const TOPIC: &str = "compacted";
const LIVE: &str = "live";
const RECORD_BYTES: usize = 1000;
const BATCH_RECORDS: usize = 16;
const IN_FLIGHT: usize = 5;
const SEGMENT_BYTES: &str = "67108864";
const SETTINGS: [&str; 2] = [
    "log.cleaner.backoff.ms=100",
    "replica.high.watermark.checkpoint.interval.ms=100",
];
const ALONE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(180);

pub fn run(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    settings.iter().map(pair).collect()
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start_with(kind, &plan.places, &SETTINGS)?;
    create(plan, &peer)?;
    fill(plan, &peer)?;
    let live = PacedLoad {
        bootstrap: peer.bootstrap.clone(),
        topic: LIVE.to_owned(),
        record_bytes: RECORD_BYTES,
        batch_bytes: 16_384,
        bytes_per_second: 5e6,
    };
    // Not counted: code that runs for the first time.
    Paced::during(&live, || nap(ALONE / 2))?;
    let (((), base_cpu, _), alone) = Paced::during(&live, || peer.cpu_of(|| nap(ALONE)))?;
    let before = log_bytes(&peer)?;
    let now = owned(&[
        ("min.compaction.lag.ms", "0"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ]);
    let work = || {
        let began = Instant::now();
        peer.client()?.set_topic(TOPIC, &now)?;
        wait_until_compacted(&peer)?;
        Ok(began.elapsed())
    };
    let ((took, cpu, _), meanwhile) = Paced::during(&live, || peer.cpu_of(work))?;
    let cpu = cpu - base_cpu * took.as_secs_f64() / ALONE.as_secs_f64();
    let gigabytes = before as f64 / 1e9;
    let mut add = |figure: &str, value: f64| report.add(kind, figure, value);
    add(
        "compaction, MB/s of input",
        gigabytes * 1000.0 / took.as_secs_f64(),
    );
    add(
        "compaction: broker CPU-s/GB, less what the producer takes",
        cpu / gigabytes,
    );
    add(
        "compaction: what is left, %",
        log_bytes(&peer)? as f64 / before as f64 * 100.0,
    );
    for (name, latency_us) in [("alone", &alone), ("during the compaction", &meanwhile)] {
        for (text, quantile) in [("median", 0.5), ("99th percentile", 0.99)] {
            add(
                &format!("produce {name}, ms: {text}"),
                quantile_ms(latency_us, quantile),
            );
        }
    }
    peer.stop()?;
    Ok(())
}

fn create(plan: &Plan, peer: &Peer) -> Result<()> {
    let own = match peer.kind {
        Kind::Ottla => plan.ottla_topic.clone(),
        Kind::ApacheKafka => Vec::new(),
    };
    let mut compacted = owned(&[
        ("cleanup.policy", "compact"),
        ("segment.bytes", SEGMENT_BYTES),
        ("min.compaction.lag.ms", "86400000"),
    ]);
    compacted.extend(own.clone());
    peer.client()?.create_topic(TOPIC, 1, &compacted)?;
    peer.client()?.create_topic(LIVE, 1, &own)
}

fn nap(span: Duration) -> Result<()> {
    std::thread::sleep(span);
    Ok(())
}

/// Random keys, so that most records have a later one of their key.
fn fill(plan: &Plan, peer: &Peer) -> Result<()> {
    let records = (plan.gigabytes * 1e9) as u64 / RECORD_BYTES as u64;
    let keys = (records / plan.versions).max(1);
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut value = vec![0; RECORD_BYTES];
    let mut stream = TcpStream::connect(&peer.bootstrap)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut answer, mut on_the_way) = (Vec::new(), 0);
    for _ in 0..records.div_ceil(BATCH_RECORDS as u64) {
        let batch = batch(&mut rng, keys, &mut value)?;
        if on_the_way == IN_FLIGHT {
            replay::receive(&mut stream, TOPIC, &mut answer)?;
            on_the_way -= 1;
        }
        stream.write_all(&replay::frame(TOPIC, 0, 1, &batch)?)?;
        on_the_way += 1;
    }
    for _ in 0..on_the_way {
        replay::receive(&mut stream, TOPIC, &mut answer)?;
    }
    Ok(())
}

fn batch(rng: &mut rand::rngs::StdRng, keys: u64, value: &mut [u8]) -> Result<Bytes> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut builder = BatchBuilder::new();
    for _ in 0..BATCH_RECORDS {
        let key = rng.random_range(0..keys).to_be_bytes();
        rng.fill_bytes(&mut value[..64]);
        builder.append(i64::try_from(now_ms)?, Some(&key), Some(value), &[]);
    }
    Ok(builder.build()?.freeze())
}

fn wait_until_compacted(peer: &Peer) -> Result<()> {
    let file = peer.folder().join("data/cleaner-offset-checkpoint");
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(TOPIC));
        let offset = line.and_then(|rest| rest.split(' ').nth(2)?.parse::<i64>().ok());
        if offset.is_some_and(|offset| offset > 0) {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "{TOPIC} is not compacted: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Segments that are part of the log.
fn log_bytes(peer: &Peer) -> Result<u64> {
    let folder = peer.folder().join("data").join(format!("{TOPIC}-0"));
    let mut sum = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|end| end == "log") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
