//! `ottla storage repair`: mends what a check finds. Nothing is dropped: what leaves a log is kept
//! in the `quarantine` folder of its partition.

use std::path::PathBuf;

use clap::Args;
use ottla_storage::checkpoint::CheckpointError;
use ottla_storage::disk::Disk;
use ottla_storage::layout;
use ottla_storage::log::inspect::{self, Checkpoints};
use ottla_storage::log::repair::{
    OnDamage, RepairError, RepairOptions, Repaired, Step, clamp_checkpoints, repair,
};
use serde_json::{Value, json};

use super::directory::{Directory, Progress, disk_fault};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// The data directory (log.dirs) of a broker that is stopped
    dir: PathBuf,
    /// Only these topics, or some of their partitions
    #[arg(short, long = "topic", value_name = "TOPIC[:P,P]")]
    topics: Vec<String>,
    /// End a damaged log before its first damage; what comes after is set aside
    #[arg(long, conflicts_with = "skip_damaged")]
    truncate: bool,
    /// Put an empty batch in the place of damaged ones; everything else stays readable
    #[arg(long)]
    skip_damaged: bool,
    /// Bytes between two entries of an index that is written anew (log.index.interval.bytes)
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    index_interval: u32,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &RepairArgs, output: OutputFormat) -> Outcome {
    let directory = Directory::lock(&args.dir)?;
    let disk: &dyn Disk = &*directory.disk;
    let partitions = directory.partitions(&args.topics)?;
    let checkpoints = Checkpoints::read(disk);
    let mut progress = Progress::new(disk, &partitions)?;
    let options = RepairOptions {
        on_damage: match (args.truncate, args.skip_damaged) {
            (true, _) => OnDamage::Truncate,
            (_, true) => OnDamage::Skip,
            _ => OnDamage::Refuse,
        },
        index_interval_bytes: args.index_interval,
        dry_run: args.dry_run,
        seal: false,
    };
    let mut table = table();
    set_checkpoints_aside(disk, &checkpoints, args.dry_run, &mut table)?;
    let (mut refused, mut mended) = (Vec::new(), 0);
    for partition in &partitions {
        let dir = layout::partition_dir(partition);
        let expected = checkpoints.expected(partition);
        let mut tell = |bytes| progress.add(bytes, &dir);
        let check = inspect::check_partition(disk, &dir, expected, &mut tell)
            .map_err(|error| disk_fault(&error))?;
        match repair(disk, &dir, expected, &check, options) {
            Ok(repaired) => {
                mended += u64::from(!repaired.steps.is_empty());
                add(&mut table, &dir, &repaired);
                if !args.dry_run && !repaired.steps.is_empty() {
                    clamp_checkpoints(disk, partition, repaired.end_offset)
                        .map_err(|error: CheckpointError| disk_fault(&error))?;
                }
            }
            Err(RepairError::Log(error)) => return Err(disk_fault(&error)),
            Err(error) => refused.push(error.to_string()),
        }
    }
    table.print(output);
    let done = if args.dry_run { "would be" } else { "were" };
    say(&format!(
        "{mended} of {} partitions {done} repaired",
        partitions.len()
    ));
    unrepaired(&refused, mended > 0 && !args.dry_run)
}

fn unrepaired(refused: &[String], others: bool) -> Outcome {
    let Some(first) = refused.first() else {
        return Ok(());
    };
    refused[1..].iter().for_each(|one| say(one));
    let exit = if others {
        Exit::Partial
    } else {
        Exit::Unhealthy
    };
    let what = format!(
        "{} partitions have damaged records, and are as they were",
        refused.len()
    );
    Err(Fault::new("E1506", exit, what).why(first.as_str()).hint(
        "--skip-damaged keeps all that can be read; --truncate ends the log before the damage",
    ))
}

/// A checkpoint that cannot be read promises nothing; a start does without, and writes it anew.
fn set_checkpoints_aside(
    disk: &dyn Disk,
    checkpoints: &Checkpoints,
    dry_run: bool,
    table: &mut Table,
) -> Outcome {
    for finding in &checkpoints.findings {
        let kept = format!("{}.damaged", finding.path);
        if !dry_run {
            let moved = disk
                .rename(&finding.path, &kept)
                .and_then(|()| disk.sync_dir(""));
            moved.map_err(|error| disk_fault(&error))?;
        }
        let what = "cannot be read; the next start checks every log and writes it anew";
        table.row(vec![
            json!("-"),
            json!(finding.path),
            json!(what),
            json!(kept),
        ]);
    }
    Ok(())
}

pub(super) fn table() -> Table {
    Table::new(&["partition", "file", "what", "kept"])
}

pub(super) fn add(table: &mut Table, dir: &str, repaired: &Repaired) {
    for step in &repaired.steps {
        table.row(row(dir, step));
    }
}

fn row(dir: &str, step: &Step) -> Vec<Value> {
    vec![
        json!(dir),
        json!(step.path),
        json!(step.what),
        json!(step.kept),
    ]
}
