//! Many producers of one small record each, with a sync before every acknowledgement.

use anyhow::Result;

use crate::paced::quantile_ms;
use crate::peer::{Kind, Peer, Places};
use crate::replay::{self, Load};
use crate::report::Report;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    pub producers: usize,
    pub partitions: i32,
    /// How long the measured part lasts, about.
    pub seconds: f64,
}

const TOPIC: &str = "synced";
const RECORD_BYTES: usize = 1000;
/// Records of each producer before anything is counted.
const WARM_UP: u64 = 100;

pub fn run(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start(kind, &plan.places)?;
    let (key, value) = match kind {
        Kind::Ottla => ("ottla.durability", "commit"),
        Kind::ApacheKafka => ("flush.messages", "1"),
    };
    let settings = [(key.to_owned(), value.to_owned())];
    peer.client()?
        .create_topic(TOPIC, plan.partitions, &settings)?;
    let load = |per_producer: u64| Load {
        bootstrap: peer.bootstrap.clone(),
        topic: TOPIC.to_owned(),
        connections: plan.producers,
        partitions: plan.partitions,
        record_bytes: RECORD_BYTES,
        batch_bytes: RECORD_BYTES,
        in_flight: 1,
        total_bytes: per_producer * (RECORD_BYTES * plan.producers) as u64,
        acks: -1,
    };
    let warm = replay::run(&load(WARM_UP))?;
    let per_second = warm.records as f64 / plan.producers as f64 / warm.elapsed.as_secs_f64();
    let wanted = (per_second * plan.seconds) as u64;
    let (done, cpu, _) = peer.cpu_of(|| replay::run(&load(wanted.max(WARM_UP))))?;
    let mut add = |figure: &str, value: f64| report.add(kind, figure, value);
    let rate = done.records as f64 / done.elapsed.as_secs_f64();
    add("acknowledgements/s", rate);
    add("answers in, ms: median", quantile_ms(&done.latency_us, 0.5));
    add(
        "answers in, ms: 99th percentile",
        quantile_ms(&done.latency_us, 0.99),
    );
    add(
        "broker CPU, s per 1,000 records",
        cpu / done.records as f64 * 1000.0,
    );
    peer.stop()?;
    Ok(())
}
