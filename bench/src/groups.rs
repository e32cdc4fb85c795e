//! Large groups and many of them: how long until a thousand members are stable, again after a tenth
//! of them left, and what a hundred thousand groups cost.

use anyhow::{Context as _, Result, bail, ensure};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commits;
use crate::member::{self, Membership, Standing, Wish};
use crate::peer::{Kind, Peer, Places};
use crate::process;
use crate::report::Report;

/// Both brokers from nothing, in turns.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub pairs: u32,
    pub members: usize,
    pub partitions: i32,
    pub heartbeat_every: Duration,
    /// Groups with one committed offset each.
    pub groups: usize,
}

/// What Kafka waits by default for more members of a new group.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=3000"];
const TOPIC: &str = "grouped";
/// A rebalance that takes longer than this does not end.
const LIMIT: Duration = Duration::from_secs(180);

pub fn compare(plan: &Plan) -> Result<Report> {
    Report::of_pairs(plan.pairs, &plan.kinds, |kind, report| {
        turn(plan, kind, report)
    })
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut peer = Peer::start_with(kind, &plan.places, SETTINGS)?;
    peer.client()?.create_topic(TOPIC, plan.partitions, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    // A JVM compiles while it warms up: a first group is not counted.
    peer.client()?.find_coordinator("warm-up")?;
    runtime.block_on(large_group(plan, &peer, "warm-up", plan.members / 5))?;
    peer.client()?.find_coordinator("measured")?;
    let (times, cpu, _) =
        peer.cpu_of(|| runtime.block_on(large_group(plan, &peer, "measured", plan.members)))?;
    let members = plan.members;
    let mut row = |name: &str, value: f64| report.add(kind, name, value);
    row(
        &format!("{members} members until stable, s"),
        times.0.as_secs_f64(),
    );
    row("a tenth leaves, until stable, s", times.1.as_secs_f64());
    row("broker CPU-s of both", cpu);
    many_groups(plan, &peer, report)?;
    peer.stop()?;
    Ok(())
}

/// Members that run, and how to talk to them.
struct Crowd {
    standing: Vec<watch::Receiver<Standing>>,
    wishes: Vec<watch::Sender<Wish>>,
    tasks: JoinSet<Result<()>>,
}

/// The times until all are stable, and until those that stay are after a tenth has left.
async fn large_group(
    plan: &Plan,
    peer: &Peer,
    group: &str,
    members: usize,
) -> Result<(Duration, Duration)> {
    let membership = Membership {
        bootstrap: peer.bootstrap.clone(),
        group: group.to_owned(),
        topic: TOPIC.to_owned(),
        partitions: plan.partitions,
        heartbeat_every: plan.heartbeat_every,
    };
    let started = Instant::now();
    let mut crowd = Crowd {
        standing: Vec::new(),
        wishes: Vec::new(),
        tasks: JoinSet::new(),
    };
    for _ in 0..members {
        let (standing, told) = watch::channel(Standing::Joining);
        let (wish, wished) = watch::channel(Wish::Stay);
        crowd.standing.push(told);
        crowd.wishes.push(wish);
        crowd
            .tasks
            .spawn(member::run(membership.clone(), standing, wished));
    }
    let generation = crowd.stable(plan.partitions, 0).await?;
    let stable = started.elapsed();
    let left = Instant::now();
    let leaving = (members / 10).max(1);
    for wish in &crowd.wishes[..leaving] {
        wish.send_replace(Wish::Leave);
    }
    crowd.standing.drain(..leaving);
    crowd.stable(plan.partitions, generation).await?;
    let stable_again = left.elapsed();
    for wish in &crowd.wishes {
        wish.send_replace(Wish::End);
    }
    while let Some(ended) = crowd.tasks.join_next().await {
        ended??;
    }
    Ok((stable, stable_again))
}

impl Crowd {
    /// Waits until all are in one generation after `after` and share all partitions.
    async fn stable(&mut self, partitions: i32, after: i32) -> Result<i32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(generation) = self.generation(partitions)
                && generation > after
            {
                return Ok(generation);
            }
            while let Some(ended) = self.tasks.try_join_next() {
                ended?.context("a member")?;
            }
            if Instant::now() > deadline {
                bail!("the group is not stable after {LIMIT:?}");
            }
        }
    }

    fn generation(&self, partitions: i32) -> Option<i32> {
        let (mut common, mut total) = (None, 0);
        for standing in &self.standing {
            let Standing::Assigned {
                generation,
                partitions,
            } = *standing.borrow()
            else {
                return None;
            };
            if common.is_some_and(|common| common != generation) {
                return None;
            }
            common = Some(generation);
            total += partitions;
        }
        common.filter(|_| i32::try_from(total) == Ok(partitions))
    }
}

/// One offset for each of many groups, and then all of them are listed.
fn many_groups(plan: &Plan, peer: &Peer, report: &mut Report) -> Result<()> {
    if plan.groups == 0 {
        return Ok(());
    }
    let before = process::resident_bytes(peer.pid())?;
    commits::one_each(&peer.bootstrap, plan.groups)?;
    let after = process::resident_bytes(peer.pid())?;
    let mut client = peer.client()?;
    // Once for whoever compiles; the second is counted.
    client.list_groups()?;
    let started = Instant::now();
    let listed = client.list_groups()?;
    let took = started.elapsed();
    ensure!(
        listed >= plan.groups,
        "{listed} of {} groups are listed",
        plan.groups
    );
    let groups = plan.groups;
    let mut row = |name: &str, value: f64| report.add(peer.kind, name, value);
    row(
        &format!("{groups} groups: listed in, ms"),
        took.as_secs_f64() * 1000.0,
    );
    row(
        &format!("{groups} groups: memory they added, MB"),
        (after as f64 - before as f64) / 1e6,
    );
    Ok(())
}
