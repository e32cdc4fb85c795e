//! How long a broker is away: a first start, a clean restart with many partitions, and one after
//! `kill -9`.

use crate::peer::{Kind, Peer, Places};
use crate::replay;
use crate::report::Report;
use anyhow::{Result, ensure};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    /// Partitions of the clean restart; each holds one batch.
    pub partitions: i32,
    /// Data in the logs when the broker is killed.
    pub gigabytes: f64,
}

const KILLED_PARTITIONS: i32 = 20;

pub fn run(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        clean_restart(plan, kind, report)?;
        killed(plan, kind, report)
    })
}

fn load(peer: &Peer, topic: &str, partitions: i32, total_bytes: u64, batch: usize) -> replay::Load {
    replay::Load {
        bootstrap: peer.bootstrap.clone(),
        topic: topic.to_owned(),
        connections: partitions as usize,
        partitions,
        record_bytes: 1000,
        batch_bytes: batch,
        in_flight: 5,
        total_bytes,
        acks: -1,
    }
}

fn clean_restart(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    let started = std::time::Instant::now();
    peer.client()?.create_topic("first", 1, &[])?;
    replay::run(&load(&peer, "first", 1, 1, 2000))?;
    let first_ack = peer.ready + started.elapsed();
    report.add(
        kind,
        "start on an empty folder to the first acknowledged record, ms",
        first_ack.as_secs_f64() * 1000.0,
    );
    let partitions = plan.partitions;
    let create = std::time::Instant::now();
    peer.client()?.create_topic("many", partitions, &[])?;
    let seconds = create.elapsed().as_secs_f64();
    report.add(kind, &format!("create {partitions} partitions, s"), seconds);
    let first = std::time::Instant::now();
    replay::run(&load(&peer, "many", partitions, 1, 2000))?;
    let seconds = first.elapsed().as_secs_f64();
    report.add(kind, "first batch into each of them, s", seconds);
    let stopped = peer.stop()?.as_secs_f64();
    report.add(kind, "clean shutdown with them, s", stopped);
    let ready = peer.start_again()?.as_secs_f64();
    report.add(kind, "start again with them, s", ready);
    let resident = crate::process::resident_bytes(peer.pid())? as f64 / 1e6;
    report.add(kind, "resident memory with them, MB", resident);
    let ends = peer.client()?.wait_for_ends("many", partitions)?;
    let empty = ends.iter().filter(|end| **end == 0).count();
    ensure!(empty == 0, "{empty} partitions are empty after the restart");
    peer.stop()?;
    Ok(())
}

fn killed(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    peer.client()?
        .create_topic("killed", KILLED_PARTITIONS, &[])?;
    let total = (plan.gigabytes * 1e9) as u64;
    let written = replay::run(&load(&peer, "killed", KILLED_PARTITIONS, total, 262_144))?;
    let rate = written.bytes as f64 / 1e6 / written.elapsed.as_secs_f64();
    report.add(kind, "acks=all, 256 KB batches: MB/s", rate);
    peer.kill()?;
    let ready = peer.start_again()?.as_secs_f64();
    let gigabytes = plan.gigabytes;
    report.add(
        kind,
        &format!("start after kill -9 with {gigabytes} GB, s"),
        ready,
    );
    let ends = peer.client()?.wait_for_ends("killed", KILLED_PARTITIONS)?;
    let records = u64::try_from(ends.iter().sum::<i64>())?;
    // Kafka acknowledges before the disk has it, but a kill alone does not empty the page cache.
    ensure!(
        records == written.records,
        "{records} of {} records are left",
        written.records
    );
    let again = std::time::Instant::now();
    replay::run(&load(&peer, "killed", 1, 1, 2000))?;
    report.add(
        kind,
        "first produce after that, ms",
        again.elapsed().as_secs_f64() * 1000.0,
    );
    peer.stop()?;
    Ok(())
}
