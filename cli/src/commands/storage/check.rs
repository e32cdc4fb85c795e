//! `ottla storage check`: reads every batch of every partition and the cluster's metadata, and says
//! what is wrong where. Images are not looked at: a start makes them anew when they do not fit.

use std::path::PathBuf;

use clap::Args;
use ottla_controller::raft::examine;
use ottla_storage::disk::Disk;
use ottla_storage::layout;
use ottla_storage::log::inspect::{self, Checkpoints, Finding, PartitionCheck, Severity, Subject};
use serde_json::{Value, json};

use super::directory::{Directory, Progress, disk_fault};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The data directory (log.dirs) of a broker that is stopped
    dir: PathBuf,
    /// Only these topics, or some of their partitions
    #[arg(short, long = "topic", value_name = "TOPIC[:P,P]")]
    topics: Vec<String>,
    /// Show a line for every partition, also for the sound ones; findings go to standard error
    #[arg(long)]
    all: bool,
}

/// What was seen in all.
#[derive(Default)]
struct Sum {
    partitions: u64,
    segments: u64,
    batches: u64,
    bytes: u64,
    worst: Option<Severity>,
    /// No broker starts on its metadata.
    no_start: bool,
}

impl Sum {
    fn add(&mut self, check: &PartitionCheck) {
        self.partitions += 1;
        self.segments += check.segments;
        self.batches += check.batches;
        self.bytes += check.bytes;
        self.worst = self.worst.max(check.severity());
    }
}

pub(crate) fn run(args: &CheckArgs, output: OutputFormat) -> Outcome {
    let directory = Directory::lock(&args.dir)?;
    let disk: &dyn Disk = &*directory.disk;
    let partitions = directory.partitions(&args.topics)?;
    let checkpoints = Checkpoints::read(disk);
    let mut progress = Progress::new(disk, &partitions)?;
    let mut sum = Sum::default();
    let mut findings = table();
    for finding in &checkpoints.findings {
        sum.worst = sum.worst.max(Some(finding.severity));
        findings.row(row("-", finding));
    }
    if args.topics.is_empty() {
        for finding in &metadata(disk)? {
            sum.worst = sum.worst.max(Some(finding.severity));
            sum.no_start |= finding.severity == Severity::Damage;
            findings.row(row("-", finding));
        }
    }
    let mut sound = overview();
    for partition in &partitions {
        let dir = layout::partition_dir(partition);
        let expected = checkpoints.expected(partition);
        let mut tell = |bytes| progress.add(bytes, &dir);
        let check = inspect::check_partition(disk, &dir, expected, &mut tell)
            .map_err(|error| disk_fault(&error))?;
        sum.add(&check);
        sound.row(line(&dir, &check));
        for finding in &check.findings {
            findings.row(row(&dir, finding));
            if args.all {
                say(&format!("{}: {finding}", finding.severity.name()));
            }
        }
    }
    match args.all {
        true => sound.print(output),
        false => findings.print(output),
    }
    judge(&sum)
}

/// What is wrong with the cluster's metadata, if it is in this directory.
fn metadata(disk: &dyn Disk) -> Outcome<Vec<Finding>> {
    let finding = |path: String, severity, what| Finding {
        path,
        severity,
        subject: Subject::Metadata,
        bytes: None,
        offsets: None,
        readable_after: None,
        what,
    };
    let examined = examine(disk).map_err(|error| disk_fault(&error))?;
    let Some(examined) = examined else {
        return Ok(Vec::new());
    };
    let damaged = examined.damaged.into_iter();
    let mut findings: Vec<_> = damaged
        .map(|(path, why)| finding(path, Severity::Note, format!("{why}; an older one is used")))
        .collect();
    if let Some(why) = examined.fatal {
        let causes = std::iter::successors(Some(&why as &dyn std::error::Error), |e| e.source());
        let why: Vec<_> = causes.map(ToString::to_string).collect();
        let what = format!("no broker starts on this metadata: {}", why.join(": "));
        findings.push(finding("ottla-metadata".to_owned(), Severity::Damage, what));
    }
    Ok(findings)
}

/// Exit 8 for everything that a start alone does not mend.
fn judge(sum: &Sum) -> Outcome {
    let verdict = sum.worst.map_or("sound", Severity::name);
    say(&format!(
        "{} partitions, {} segments, {} batches, {} bytes: {verdict}",
        sum.partitions, sum.segments, sum.batches, sum.bytes
    ));
    match sum.worst {
        None | Some(Severity::Note | Severity::TornTail) => Ok(()),
        Some(Severity::Derived) => {
            let what = "indexes, snapshots or checkpoints do not agree with the log";
            Err(Fault::new("E1504", Exit::Unhealthy, what)
                .hint("no record is lost; `ottla storage repair DIR` rebuilds them"))
        }
        Some(Severity::Damage) if sum.no_start => {
            let what = "the cluster's metadata is damaged";
            Err(Fault::new("E1510", Exit::Unhealthy, what)
                .hint("the partitions are checked as well; put a copy of ottla-metadata back"))
        }
        Some(Severity::Damage) => {
            let what = "records are damaged or missing";
            Err(Fault::new("E1505", Exit::Unhealthy, what)
                .hint("`ottla storage repair DIR --dry-run` shows what can be done"))
        }
    }
}

pub(super) fn table() -> Table {
    Table::new(&[
        "partition",
        "severity",
        "file",
        "position",
        "until",
        "first_offset",
        "until_offset",
        "readable_after",
        "what",
    ])
}

pub(super) fn row(partition: &str, finding: &Finding) -> Vec<Value> {
    let offsets = finding.offsets;
    vec![
        json!(partition),
        json!(finding.severity.name()),
        json!(finding.path),
        json!(finding.bytes.map(|bytes| bytes.0)),
        json!(finding.bytes.map(|bytes| bytes.1)),
        json!(offsets.map(|offsets| offsets.0.0)),
        json!(offsets.and_then(|offsets| offsets.1).map(|until| until.0)),
        json!(finding.readable_after),
        json!(finding.what),
    ]
}

fn overview() -> Table {
    Table::new(&[
        "partition",
        "start_offset",
        "end_offset",
        "segments",
        "batches",
        "records",
        "bytes",
        "leader_epoch",
        "producers",
        "open_transactions",
        "verdict",
    ])
}

fn line(dir: &str, check: &PartitionCheck) -> Vec<Value> {
    vec![
        json!(dir),
        json!(check.start_offset.0),
        json!(check.end_offset.0),
        json!(check.segments),
        json!(check.batches),
        json!(check.records),
        json!(check.bytes),
        json!(check.latest_epoch.map(|epoch| epoch.0)),
        json!(check.producers),
        json!(check.open_transactions.len()),
        json!(check.severity().map_or("sound", Severity::name)),
    ]
}
