//! Very many partitions on one broker: to create them, to write to each, to hold them idle, to
//! start again with them.
//!
//! The broker writes its checkpoints every few seconds here, on both sides, so that the idle
//! figures are those of a broker that was left alone for minutes.

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

use crate::peer::{Kind, Peer, Places};
use crate::process;
use crate::replay;
use crate::report::Report;
use crate::spread::{self, Topics};
use crate::watcher::Watcher;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: Places,
    pub kinds: Vec<Kind>,
    pub topics: Topics,
    /// Passes of one batch to each partition, after the first.
    pub rounds: u32,
    /// How long a broker is left alone before it is looked at.
    pub settle: Duration,
    /// How long its idle CPU time is counted.
    pub idle: Duration,
    /// Settings of the topics on Ottla.
    pub ottla_topic: Vec<(String, String)>,
}

const RECORD_BYTES: usize = 100;
const SETTINGS: [&str; 1] = ["log.flush.offset.checkpoint.interval.ms=10000"];
const MB: f64 = 1e6;

pub fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    for kind in &plan.kinds {
        let count = plan.topics.topics * plan.topics.partitions;
        eprintln!("-- {}: {count} partitions", kind.name());
        // What was measured before it is worth having.
        if let Err(error) = turn(plan, *kind, &mut report) {
            eprintln!("{} ends here: {error:#}", kind.name());
        }
    }
    Ok(report)
}

/// What one broker is asked for, and the figures of it.
struct Turn<'a> {
    plan: &'a Plan,
    peer: Peer,
    report: &'a mut Report,
    /// Passes that were written to each partition so far: its log end.
    written: i64,
}

fn turn(plan: &Plan, kind: Kind, report: &mut Report) -> Result<()> {
    let mut turn = Turn {
        plan,
        peer: Peer::start_with(kind, &plan.places, &SETTINGS)?,
        report,
        written: 0,
    };
    std::thread::sleep(Duration::from_secs(2));
    let base = turn.resident()?;
    turn.add("resident before, MB", base);
    turn.create()?;
    turn.write()?;
    turn.idle(base)?;
    turn.clean_restart()?;
    turn.killed()?;
    turn.peer.stop()?;
    Ok(())
}

impl Turn<'_> {
    fn add(&mut self, figure: &str, value: f64) {
        self.report.add(self.peer.kind, figure, value);
    }

    fn resident(&self) -> Result<f64> {
        Ok(process::resident_bytes(self.peer.pid())? as f64 / MB)
    }

    /// In one request if the broker takes it, else in as few as halving finds.
    fn create(&mut self) -> Result<()> {
        let configs = match self.peer.kind {
            Kind::Ottla => self.plan.ottla_topic.clone(),
            Kind::ApacheKafka => Vec::new(),
        };
        let mut client = self.peer.client()?;
        let partitions = self.plan.topics.partitions;
        let mut batches = vec![self.plan.topics.names()];
        let (mut requests, began) = (0, Instant::now());
        while let Some(names) = batches.pop() {
            let refused = client.create_topics(&names, partitions, &configs)?;
            requests += 1;
            if refused.is_empty() {
                continue;
            }
            ensure!(
                names.len() > 1 && refused.len() == names.len(),
                "create: {refused:?}"
            );
            eprintln!("{} topics in one request: {}", names.len(), refused[0]);
            let half = names.len() / 2;
            batches.push(names[half..].to_vec());
            batches.push(names[..half].to_vec());
        }
        self.add("created: answered after, s", began.elapsed().as_secs_f64());
        self.add("created: CreateTopics requests", f64::from(requests));
        Ok(())
    }

    /// A first batch to each, right after the creation, then some more.
    fn write(&mut self) -> Result<()> {
        let first = self.pass()?;
        self.add("first write to each, s", first.0);
        self.add("first write to each: refused at first", first.1);
        self.add("first write to each: broker CPU, s", first.2);
        let mut sums = (0.0, 0.0);
        for _ in 0..self.plan.rounds {
            let (seconds, _, cpu) = self.pass()?;
            sums = (sums.0 + seconds, sums.1 + cpu);
        }
        let rounds = f64::from(self.plan.rounds);
        self.add("a later write to each, s", sums.0 / rounds);
        self.add("a later write to each: broker CPU, s", sums.1 / rounds);
        let resident = self.resident()?;
        self.add("resident after the writes, MB", resident);
        Ok(())
    }

    /// Seconds, refusals, CPU-seconds of the broker.
    fn pass(&mut self) -> Result<(f64, f64, f64)> {
        let (batch, _) = replay::batch(RECORD_BYTES, RECORD_BYTES)?;
        let work = || spread::write_each(&self.peer.bootstrap, &self.plan.topics, &batch);
        let (outcome, cpu, _) = self.peer.cpu_of(work)?;
        self.written += 1;
        Ok((outcome.elapsed.as_secs_f64(), outcome.refused as f64, cpu))
    }

    fn idle(&mut self, base: f64) -> Result<()> {
        std::thread::sleep(self.plan.settle);
        let pid = self.peer.pid();
        let resident = self.resident()?;
        self.add("idle: resident, MB", resident);
        self.add("idle: resident beyond the base, MB", resident - base);
        self.add("idle: descriptors", process::open_descriptors(pid)? as f64);
        self.add("idle: maps", process::maps(pid)? as f64);
        self.add("idle: threads", process::threads(pid)? as f64);
        let data = process::allocated_bytes(&self.peer.folder().join("data"))?;
        self.add("idle: disk space, MB", data as f64 / MB);
        let span = self.plan.idle;
        let (_, cpu, _) = self.peer.cpu_of(|| {
            std::thread::sleep(span);
            Ok(())
        })?;
        let percent = 100.0 / span.as_secs_f64();
        self.add("idle: CPU, % of a core", cpu * percent);
        let opened = Watcher::open(&self.peer.bootstrap, &self.plan.topics, self.written);
        let mut watcher = match opened {
            Ok(watcher) => watcher,
            Err(error) => {
                eprintln!("no fetch session over all of them: {error:#}");
                return Ok(());
            }
        };
        let until = Instant::now() + span;
        let (polls, cpu, _) = self.peer.cpu_of(|| {
            let mut polls = 0;
            while Instant::now() < until {
                watcher.poll()?;
                polls += 1;
            }
            Ok(polls)
        })?;
        ensure!(
            f64::from(polls) <= span.as_secs_f64() * 2.0 + 2.0,
            "polls found something"
        );
        self.add("idle, one consumer of all: CPU, % of a core", cpu * percent);
        Ok(())
    }

    fn clean_restart(&mut self) -> Result<()> {
        let stopped = self.peer.stop()?.as_secs_f64();
        self.add("clean stop, s", stopped);
        self.start_again("after a clean stop")?;
        let resident = self.resident()?;
        self.add("after a clean stop: resident, MB", resident);
        Ok(())
    }

    /// `kill -9` right after one more write to each.
    fn killed(&mut self) -> Result<()> {
        self.pass()?;
        self.peer.kill()?;
        self.start_again("after kill -9")
    }

    /// Until every partition is served; each must have all of its records.
    fn start_again(&mut self, when: &str) -> Result<()> {
        let began = Instant::now();
        let ready = self.peer.start_again()?.as_secs_f64();
        let mut client = self.peer.client()?;
        let (names, partitions) = (self.plan.topics.names(), self.plan.topics.partitions);
        let mut ends = Vec::new();
        for topic in &names {
            ends.push(client.wait_for_ends(topic, partitions)?);
        }
        self.add(&format!("{when}: ready again, s"), ready);
        self.add(
            &format!("{when}: every partition is served, s"),
            began.elapsed().as_secs_f64(),
        );
        let cpu = process::cpu_seconds(self.peer.pid())?;
        self.add(&format!("{when}: broker CPU until then, s"), cpu);
        for (topic, ends) in names.iter().zip(ends) {
            let lost = ends.iter().position(|end| *end != self.written);
            ensure!(
                lost.is_none(),
                "{topic}: {lost:?} does not end at {}",
                self.written
            );
        }
        Ok(())
    }
}
