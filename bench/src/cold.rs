//! A consumer that catches up on data which only the disk has, while a producer goes on.
//!
//! The page cache is emptied of the old data by telling the kernel so for each file, after a sync;
//! what the broker then reads from the disk is counted, as the proof that it was cold.

use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use crate::paced::{Load as PacedLoad, Paced, quantile_ms};
use crate::peer::{Kind, Peer, Places};
use crate::report::Report;
use crate::{drain, process, replay};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    /// Old data.
    pub gigabytes: f64,
    /// What the producer writes meanwhile.
    pub megabytes_per_second: f64,
    /// How long it is measured without the other.
    pub alone: Duration,
    /// Settings of the topics on Ottla.
    pub ottla_topic: Vec<(String, String)>,
}

const OLD: &str = "old";
const LIVE: &str = "live";
const BATCH_BYTES: usize = 262_144;
const RECORD_BYTES: usize = 1000;
const MB: f64 = 1e6;

pub fn run(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    let configs = match kind {
        Kind::Ottla => plan.ottla_topic.clone(),
        Kind::ApacheKafka => Vec::new(),
    };
    for topic in [OLD, LIVE] {
        peer.client()?.create_topic(topic, 1, &configs)?;
    }
    let total = (plan.gigabytes * 1e9) as u64;
    fill(&peer, total)?;
    let live = PacedLoad {
        bootstrap: peer.bootstrap.clone(),
        topic: LIVE.to_owned(),
        record_bytes: RECORD_BYTES,
        batch_bytes: 16_384,
        bytes_per_second: plan.megabytes_per_second * MB,
    };
    // Not counted: code that runs for the first time.
    Paced::during(&live, || nap(plan.alone / 2))?;
    let ((), alone) = Paced::during(&live, || nap(plan.alone))?;
    chill(&peer.folder().join("data").join(format!("{OLD}-0")))?;
    let old = old_data(&peer, total)?;
    let before = process::read_bytes(peer.pid())?;
    let (measured, meanwhile) = Paced::during(&live, || peer.cpu_of(|| drain::run(&old)))?;
    let (read, cpu, _) = measured;
    let from_disk = process::read_bytes(peer.pid())? - before;
    let mut add = |figure: &str, value: f64| report.add(kind, figure, value);
    let gigabytes = read.bytes as f64 / 1e9;
    add(
        "catch-up, MB/s",
        gigabytes * 1000.0 / read.elapsed.as_secs_f64(),
    );
    add(
        "catch-up: of it read from the disk, %",
        from_disk as f64 / read.bytes as f64 * 100.0,
    );
    add(
        "catch-up: broker CPU-s/GB, the producer's included",
        cpu / gigabytes,
    );
    for (name, latency_us) in [("alone", &alone), ("during the catch-up", &meanwhile)] {
        for (text, quantile) in [("median", 0.5), ("99th percentile", 0.99)] {
            let ms = quantile_ms(latency_us, quantile);
            add(&format!("produce {name}, ms: {text}"), ms);
        }
    }
    peer.stop()?;
    Ok(())
}

fn fill(peer: &Peer, total_bytes: u64) -> Result<()> {
    replay::run(&replay::Load {
        bootstrap: peer.bootstrap.clone(),
        topic: OLD.to_owned(),
        connections: 1,
        partitions: 1,
        record_bytes: RECORD_BYTES,
        batch_bytes: BATCH_BYTES,
        in_flight: 5,
        total_bytes,
        acks: 1,
    })?;
    Ok(())
}

fn old_data(peer: &Peer, total_bytes: u64) -> Result<drain::Load> {
    let (batch, batch_records) = replay::batch(BATCH_BYTES, RECORD_BYTES)?;
    Ok(drain::Load {
        bootstrap: peer.bootstrap.clone(),
        topic: OLD.to_owned(),
        partition: 0,
        fetch_bytes: 1 << 20,
        total_bytes,
        batch_bytes: batch.len(),
        batch_records,
        end_offset: peer.client()?.end_offset(OLD, 0)?,
    })
}

fn nap(span: Duration) -> Result<()> {
    std::thread::sleep(span);
    Ok(())
}

/// Leaves nothing of a folder's files in memory.
fn chill(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
