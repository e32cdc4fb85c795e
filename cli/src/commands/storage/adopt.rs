//! `ottla storage adopt`: a directory that Apache Kafka wrote becomes ours, in place.
//!
//! Everything is read and judged first; Kafka can still start on the directory until the stamp is
//! written (`ottla_storage::layout::adopt`). What is done before that is sound for Kafka, too:
//! torn ends are cut off and wrong indexes written anew, as its own recovery would.

use std::path::PathBuf;

use clap::Args;
use ottla_broker::config::{broker_key, topic_key};
use ottla_controller::kafka::{Adopted, KafkaMetadata};
use ottla_controller::raft::metadata_files;
use ottla_protocol::types::{Offset, TopicId, TopicPartition};
use ottla_storage::checkpoint::{self, PartitionOffsets};
use ottla_storage::disk::Disk;
use ottla_storage::layout::{self, Identity, Owner};
use ottla_storage::log::inspect::{self, Checkpoints, Expected, PartitionCheck, Severity};
use ottla_storage::log::repair::{OnDamage, RepairOptions, repair};
use serde_json::json;

use super::directory::{Directory, Progress, disk_fault};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// A data directory (log.dirs) of one Kafka node that is stopped
    dir: PathBuf,
    /// Say what would be taken over, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take over the rest although access control lists, quotas, credentials or tokens are lost
    #[arg(long)]
    leave_out: bool,
    /// Bytes between two entries of an index that is written anew (log.index.interval.bytes)
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    index_interval: u32,
}

/// One partition that is taken over.
struct Taken {
    partition: TopicPartition,
    expected: Expected,
    check: PartitionCheck,
}

pub(crate) fn run(args: &AdoptArgs, output: OutputFormat) -> Outcome {
    let directory = Directory::lock(&args.dir)?;
    let disk: &dyn Disk = &*directory.disk;
    let identity = kafkas(disk, args)?;
    let metadata = KafkaMetadata::read(disk).map_err(|error| {
        Fault::new("E1508", Exit::Failed, "Kafka's metadata cannot be read").why(error.to_string())
    })?;
    let mut adopted = metadata.adopt(
        identity.node_id,
        &identity.cluster_id,
        &is_known,
        args.leave_out,
    );
    let taken = look(disk, &metadata, &identity, &mut adopted)?;
    show(&taken, output);
    for note in &adopted.notes {
        say(&format!("note: {note}"));
    }
    if let Some(first) = adopted.refusals.first() {
        adopted.refusals[1..]
            .iter()
            .for_each(|refusal| say(refusal));
        let what = "this directory cannot be adopted; nothing was changed";
        return Err(Fault::new("E1509", Exit::Failed, what).why(first.as_str()));
    }
    if args.dry_run {
        say("nothing was changed; without --dry-run this directory would be adopted");
        return Ok(());
    }
    mend(disk, &taken, args.index_interval)?;
    let files = metadata_files(identity.node_id, &adopted.records);
    let files = files.map_err(|error| disk_fault(&error))?;
    layout::adopt(disk, &files).map_err(|error| disk_fault(&error))?;
    say(&format!(
        "adopted: {} topics, {} partitions of cluster {}; start it with `ottla server` and node.id={}",
        metadata.topics.len(),
        taken.len(),
        identity.cluster_id,
        identity.node_id
    ));
    Ok(())
}

fn kafkas(disk: &dyn Disk, args: &AdoptArgs) -> Outcome<Identity> {
    let place = args.dir.display();
    match layout::owner(disk).map_err(|error| disk_fault(&error))? {
        Owner::Kafka(identity) => Ok(identity),
        Owner::Ours(_) => {
            let what = format!("{place} belongs to Ottla already");
            Err(Fault::new("E1507", Exit::Conflict, what)
                .hint("`ottla server` also completes an adoption that was interrupted"))
        }
        Owner::Nobody => {
            let what = format!("{place} has no meta.properties");
            Err(Fault::new("E1501", Exit::NotFound, what)
                .hint("name the folder that log.dirs of Kafka's configuration names"))
        }
    }
}

fn is_known(topic: bool, name: &str) -> bool {
    match topic {
        true => topic_key(name).is_some(),
        false => broker_key(name).is_some(),
    }
}

/// Checks every partition, and adds what stands against taking it.
fn look(
    disk: &dyn Disk,
    metadata: &KafkaMetadata,
    identity: &Identity,
    adopted: &mut Adopted,
) -> Outcome<Vec<Taken>> {
    let there = inspect::partitions(disk).map_err(|error| disk_fault(&error))?;
    let checkpoints = Checkpoints::read(disk);
    for finding in &checkpoints.findings {
        adopted
            .notes
            .push(format!("{finding}; every log is read from its start"));
    }
    let mut progress = Progress::new(disk, &there)?;
    let mut taken = Vec::new();
    for (id, (name, partitions)) in &metadata.topics {
        for (index, assigned) in partitions {
            let partition = TopicPartition::new(name.as_str(), *index);
            let home = TopicId(identity.directory_id.0);
            // Two low numbers stand for "not assigned yet" and "lost".
            let elsewhere = |id: &TopicId| *id != home && id.0.as_u128() > 99;
            if assigned.directories.iter().any(elsewhere) {
                let refusal = format!("{partition} lies in another log directory of the node");
                adopted.refusals.push(refusal);
            } else if there.contains(&partition) {
                let expected = checkpoints.expected(&partition);
                let dir = layout::partition_dir(&partition);
                let mut tell = |bytes| progress.add(bytes, &dir);
                let check = inspect::check_partition(disk, &dir, expected, &mut tell);
                let check = check.map_err(|error| disk_fault(&error))?;
                judge(disk, &partition, *id, &check, adopted)?;
                taken.push(Taken {
                    partition,
                    expected,
                    check,
                });
            } else if checkpoints.expected(&partition).recovery_point > Offset::ZERO {
                adopted
                    .refusals
                    .push(format!("the folder of {partition} is missing"));
            }
        }
    }
    for other in there
        .iter()
        .filter(|one| !taken.iter().any(|taken| taken.partition == **one))
    {
        if layout::partition_dir(other) != layout::KAFKA_METADATA_DIR {
            let note = format!("{other} belongs to no topic; the server will set it aside");
            adopted.notes.push(note);
        }
    }
    Ok(taken)
}

fn judge(
    disk: &dyn Disk,
    partition: &TopicPartition,
    id: TopicId,
    check: &PartitionCheck,
    adopted: &mut Adopted,
) -> Outcome {
    let dir = layout::partition_dir(partition);
    let written =
        layout::read_partition_metadata(disk, &dir).map_err(|error| disk_fault(&error))?;
    if written.is_some_and(|written| written != id) {
        let refusal = format!("{dir} belongs to another topic of that name");
        adopted.refusals.push(refusal);
    }
    for finding in &check.findings {
        if finding.severity == Severity::Damage {
            let refusal = format!("{finding}; `ottla storage repair` comes first");
            adopted.refusals.push(refusal);
        }
    }
    // Its own topic's records are never part of a client's transaction.
    for open in &check.open_transactions {
        adopted.refusals.push(format!(
            "{partition}: the transaction of producer {} from offset {} on is open; end it first",
            open.producer_id, open.first_offset
        ));
    }
    Ok(())
}

fn show(taken: &[Taken], output: OutputFormat) {
    let columns = [
        "topic",
        "partition",
        "start_offset",
        "end_offset",
        "records",
        "leader_epoch",
        "producers",
        "findings",
    ];
    let mut table = Table::new(&columns);
    for Taken {
        partition, check, ..
    } in taken
    {
        let findings = check
            .findings
            .iter()
            .filter(|one| one.severity > Severity::Note);
        table.row(vec![
            json!(&*partition.topic),
            json!(partition.partition),
            json!(check.start_offset.0),
            json!(check.end_offset.0),
            json!(check.records),
            json!(check.latest_epoch.map(|epoch| epoch.0)),
            json!(check.producers),
            json!(findings.map(ToString::to_string).collect::<Vec<_>>()),
        ]);
    }
    table.print(output);
}

/// Leaves every log whole, durable and described to its end, so that the first start has nothing
/// to recover.
fn mend(disk: &dyn Disk, taken: &[Taken], index_interval_bytes: u32) -> Outcome {
    let options = RepairOptions {
        on_damage: OnDamage::Refuse,
        index_interval_bytes,
        dry_run: false,
        seal: true,
    };
    let mut ends = PartitionOffsets::new();
    for Taken {
        partition,
        expected,
        check,
    } in taken
    {
        let dir = layout::partition_dir(partition);
        let repaired = repair(disk, &dir, *expected, check, options);
        let repaired = repaired.map_err(|error| disk_fault(&error))?;
        for step in &repaired.steps {
            let kept = step.kept.as_ref().map(|kept| format!(" (kept as {kept})"));
            say(&format!(
                "{} {}{}",
                step.path,
                step.what,
                kept.unwrap_or_default()
            ));
        }
        ends.insert(partition.clone(), repaired.end_offset);
    }
    checkpoint::write_offsets(disk, checkpoint::RECOVERY_POINTS, &ends)
        .map_err(|error| disk_fault(&error))
}
