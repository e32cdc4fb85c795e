//! `ottla storage adopt`: a directory that Apache Kafka wrote becomes ours, in place.
//!
//! Everything is read and judged first; Kafka can still start on the directory until the stamp is
//! written (`ottla_storage::layout::adopt`). What is done before that is sound for Kafka, too:
//! torn ends are cut off and wrong indexes written anew, as its own recovery would.
//!
//! Of several directories the one with the metadata is stamped last: until then Kafka starts on all
//! of them, whatever was stamped before, and a second call goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use ottla_broker::config::{broker_key, topic_key};
use ottla_controller::kafka::{Adopted, KafkaMetadata};
use ottla_controller::raft::metadata_files;
use ottla_protocol::types::{Offset, TopicId, TopicPartition};
use ottla_storage::checkpoint::{self, PartitionOffsets};
use ottla_storage::disk::Disk;
use ottla_storage::layout::{self, DirectoryId, Identity, Owner};
use ottla_storage::log::inspect::{self, Checkpoints, Expected, PartitionCheck, Severity};
use ottla_storage::log::repair::{OnDamage, RepairOptions, repair};
use serde_json::json;

use super::directory::{Directory, Progress, disk_fault};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The data directories of one Kafka node that is stopped: all that log.dirs names
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
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

/// One of the directories.
struct LogDir {
    path: PathBuf,
    directory: Directory,
    identity: Identity,
    partitions: Vec<TopicPartition>,
    checkpoints: Checkpoints,
}

/// One partition that is taken over.
struct Taken {
    partition: TopicPartition,
    /// Which of the directories has it.
    dir: usize,
    expected: Expected,
    check: PartitionCheck,
}

pub(crate) fn run(args: &AdoptArgs, output: OutputFormat) -> Outcome {
    let (home, dirs) = open(args)?;
    let disk: &dyn Disk = &*dirs[home].directory.disk;
    let identity = &dirs[home].identity;
    let metadata = KafkaMetadata::read(disk).map_err(|error| {
        Fault::new("E1508", Exit::Failed, "Kafka's metadata cannot be read").why(error.to_string())
    })?;
    let mut adopted = metadata.adopt(
        identity.node_id,
        &identity.cluster_id,
        &is_known,
        args.leave_out,
    );
    let taken = look(&dirs, &metadata, &mut adopted)?;
    show(&dirs, &taken, output);
    for note in &adopted.notes {
        say(&format!("note: {note}"));
    }
    if let Some(first) = adopted.refusals.first() {
        adopted.refusals[1..]
            .iter()
            .for_each(|refusal| say(refusal));
        let what = "nothing is adopted; nothing was changed";
        return Err(Fault::new("E1509", Exit::Failed, what).why(first.as_str()));
    }
    if args.dry_run {
        say("nothing was changed; without --dry-run all of this would be adopted");
        return Ok(());
    }
    for (number, dir) in dirs.iter().enumerate() {
        let here = taken.iter().filter(|one| one.dir == number);
        mend(&*dir.directory.disk, here, args.index_interval)?;
    }
    let files = metadata_files(identity.node_id, &adopted.records);
    let files = files.map_err(|error| disk_fault(&error))?;
    let others = dirs
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != home);
    for (_, other) in others {
        layout::adopt_beside(&*other.directory.disk).map_err(|error| disk_fault(&error))?;
    }
    layout::adopt(disk, &files).map_err(|error| disk_fault(&error))?;
    say(&format!(
        "adopted: {} topics, {} partitions of cluster {}; start it with `ottla server`, the same \
         log.dirs and node.id={}",
        metadata.topics.len(),
        taken.len(),
        identity.cluster_id,
        identity.node_id
    ));
    Ok(())
}

/// The directories, locked, and which of them has the metadata.
fn open(args: &AdoptArgs) -> Outcome<(usize, Vec<LogDir>)> {
    let mut opened = Vec::new();
    for path in &args.dirs {
        let directory = Directory::lock(path)?;
        let owner = layout::owner(&*directory.disk).map_err(|error| disk_fault(&error))?;
        opened.push((path, directory, owner));
    }
    let has_metadata = |directory: &Directory| directory.disk.exists(layout::KAFKA_METADATA_DIR);
    let kafkas = |owner: &Owner| matches!(owner, Owner::Kafka(_));
    let home = opened.iter().position(|(_, directory, owner)| {
        kafkas(owner) && has_metadata(directory).unwrap_or(false)
    });
    let Some(home) = home else {
        return Err(not_kafkas(&opened[0].0.display().to_string(), &opened[0].2));
    };
    let mut dirs: Vec<LogDir> = Vec::new();
    for (path, directory, owner) in opened {
        // Ours: stamped by a call that was interrupted.
        let (Owner::Kafka(identity) | Owner::Ours(identity)) = owner else {
            return Err(not_kafkas(&path.display().to_string(), &owner));
        };
        let partitions = inspect::partitions(&*directory.disk);
        dirs.push(LogDir {
            path: path.clone(),
            partitions: partitions.map_err(|error| disk_fault(&error))?,
            checkpoints: Checkpoints::read(&*directory.disk),
            directory,
            identity,
        });
    }
    let node = |dir: &LogDir| (dir.identity.cluster_id.clone(), dir.identity.node_id);
    let first = node(&dirs[home]);
    if let Some(stranger) = dirs.iter().find(|dir| node(dir) != first) {
        let (cluster_id, node_id) = node(stranger);
        let what = format!("{} is of another node", stranger.path.display());
        let why = format!(
            "node {node_id} of cluster {cluster_id}, and {} is of node {} of cluster {}",
            dirs[home].path.display(),
            first.1,
            first.0
        );
        return Err(Fault::new("E1507", Exit::Conflict, what).why(why));
    }
    Ok((home, dirs))
}

fn not_kafkas(place: &str, owner: &Owner) -> Fault {
    match owner {
        Owner::Ours(_) => {
            let what = format!("{place} belongs to Ottla already");
            Fault::new("E1507", Exit::Conflict, what)
                .hint("`ottla server` also completes an adoption that was interrupted")
        }
        Owner::Nobody => {
            let what = format!("{place} has no meta.properties");
            Fault::new("E1501", Exit::NotFound, what)
                .hint("name the folders that log.dirs of Kafka's configuration names")
        }
        Owner::Kafka(_) => {
            let what = format!("{place} has no {}", layout::KAFKA_METADATA_DIR);
            Fault::new("E1501", Exit::NotFound, what)
                .hint("name all folders of log.dirs, and of metadata.log.dir: one has the metadata")
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
fn look(dirs: &[LogDir], metadata: &KafkaMetadata, adopted: &mut Adopted) -> Outcome<Vec<Taken>> {
    let mut found = find(dirs, adopted)?;
    let mut progress = Progress::default();
    for dir in dirs {
        progress.expect(&*dir.directory.disk, &dir.partitions)?;
    }
    let mut taken = Vec::new();
    for (id, (name, partitions)) in &metadata.topics {
        for (index, assigned) in partitions {
            let partition = TopicPartition::new(name.as_str(), *index);
            let Some(number) = found.remove(&partition) else {
                adopted
                    .refusals
                    .extend(missing(dirs, &assigned.directories, &partition));
                continue;
            };
            let dir = &dirs[number];
            let disk: &dyn Disk = &*dir.directory.disk;
            let expected = dir.checkpoints.expected(&partition);
            let folder = layout::partition_dir(&partition);
            let mut tell = |bytes| progress.add(bytes, &folder);
            let check = inspect::check_partition(disk, &folder, expected, &mut tell);
            let check = check.map_err(|error| disk_fault(&error))?;
            judge(disk, &partition, *id, &check, adopted)?;
            taken.push(Taken {
                partition,
                dir: number,
                expected,
                check,
            });
        }
    }
    for other in found.into_keys() {
        let note = format!("{other} belongs to no topic; the server will set it aside");
        adopted.notes.push(note);
    }
    Ok(taken)
}

/// Which directory has the folder of each partition.
fn find(dirs: &[LogDir], adopted: &mut Adopted) -> Outcome<BTreeMap<TopicPartition, usize>> {
    let mut found = BTreeMap::new();
    for (number, dir) in dirs.iter().enumerate() {
        for finding in &dir.checkpoints.findings {
            let place = dir.path.display();
            let note = format!("{place}: {finding}; every log is read from its start");
            adopted.notes.push(note);
        }
        for partition in &dir.partitions {
            if layout::partition_dir(partition) == layout::KAFKA_METADATA_DIR {
                continue;
            }
            if let Some(other) = found.insert(partition.clone(), number) {
                let (first, second) = (dirs[other].path.display(), dir.path.display());
                let refusal = format!(
                    "{partition} lies in {first} and in {second}; start Kafka once to settle it"
                );
                adopted.refusals.push(refusal);
            }
        }
    }
    Ok(found)
}

/// Why a partition without a folder stands against the adoption, unless it has never had one.
fn missing(dirs: &[LogDir], assigned: &[TopicId], partition: &TopicPartition) -> Option<String> {
    let named = |id: &TopicId| dirs.iter().any(|dir| dir.identity.directory_id.0 == id.0);
    // Two low numbers stand for "not assigned yet" and "lost".
    let elsewhere = |id: &&TopicId| !named(id) && id.0.as_u128() > 99;
    if let Some(id) = assigned.iter().find(elsewhere) {
        let id = DirectoryId(id.0);
        return Some(format!(
            "{partition} lies in log directory {id} of the node: name all of log.dirs"
        ));
    }
    let written = |dir: &LogDir| dir.checkpoints.expected(partition).recovery_point > Offset::ZERO;
    dirs.iter()
        .any(written)
        .then(|| format!("the folder of {partition} is missing"))
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
            "{partition}: the transaction of producer {} from offset {} on is open; Kafka aborts it \
             by itself while it runs (transaction.timeout.ms of the producer, 15 minutes at most \
             by default): start it once more and stop it then",
            open.producer_id, open.first_offset
        ));
    }
    Ok(())
}

fn show(dirs: &[LogDir], taken: &[Taken], output: OutputFormat) {
    let columns = [
        "topic",
        "partition",
        "log_dir",
        "start_offset",
        "end_offset",
        "records",
        "leader_epoch",
        "producers",
        "findings",
    ];
    let mut table = Table::new(&columns);
    for Taken {
        partition,
        dir,
        check,
        ..
    } in taken
    {
        let findings = check
            .findings
            .iter()
            .filter(|one| one.severity > Severity::Note);
        table.row(vec![
            json!(&*partition.topic),
            json!(partition.partition),
            json!(dirs[*dir].path.display().to_string()),
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
fn mend<'a>(
    disk: &dyn Disk,
    taken: impl Iterator<Item = &'a Taken>,
    index_interval_bytes: u32,
) -> Outcome {
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
        ..
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
