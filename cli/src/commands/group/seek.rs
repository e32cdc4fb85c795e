//! `ottla group seek`: looks, plans, shows the plan, and commits it unless `--dry-run`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};
use ottla_protocol::messages as api;
use serde_json::json;

use super::plan::{Marks, Move, Target, from_csv};
use super::refused;
use super::view::{GroupView, committed};
use crate::arguments::ClientArgs;
use crate::client::offsets::{At, EARLIEST, LATEST};
use crate::client::{Cluster, str_bytes, topic_name};
use crate::commands::scope;
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};
use crate::values::{epoch_ms, time_ms};

const OFFSET_COMMIT_VERSION_MAX: i16 = 9;
/// Kafka's error for a group that has members.
const NON_EMPTY_GROUP: i16 = 68;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["to", "by", "ago", "from_file"])))]
pub(crate) struct SeekArgs {
    /// Name of the group
    group: String,
    /// To start, end, current, an offset, or the first record at or after a time such as
    /// 2026-11-24T09:00 or @1700000000
    #[arg(long, value_name = "WHERE")]
    to: Option<String>,
    /// By so many records from what is committed; backwards with a minus
    #[arg(
        long,
        visible_alias = "shift-by",
        value_name = "RECORDS",
        allow_hyphen_values = true
    )]
    by: Option<i64>,
    /// To the first record that is at most this old, for example 2h
    #[arg(
        long,
        visible_alias = "by-duration",
        value_name = "DURATION",
        value_parser = humantime::parse_duration
    )]
    ago: Option<Duration>,
    /// To what a CSV file says: topic,partition,offset, or what --dry-run -o csv printed; - reads
    /// standard input
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Only this topic, or some of its partitions; may be repeated
    #[arg(short, long, value_name = "TOPIC[:P,P]")]
    topic: Vec<String>,
    /// Show what would be moved
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &SeekArgs, client: &ClientArgs) -> Outcome {
    let scope = scope::parse(&args.topic)?;
    let target = target(args)?;
    let mut cluster = client.connect()?;
    must_be_empty(&mut cluster, args)?;
    let current = committed(&mut cluster, &args.group)?;
    let partitions = match (&target, scope.is_empty()) {
        (Target::Each(offsets), true) => offsets.keys().cloned().collect(),
        (Target::Each(offsets), false) => {
            let mut wanted = scope::partitions(&mut cluster, &scope)?;
            wanted.retain(|at| offsets.contains_key(at));
            wanted
        }
        (_, true) => current.keys().cloned().collect(),
        (_, false) => scope::partitions(&mut cluster, &scope)?,
    };
    if partitions.is_empty() {
        let what = format!("group \"{}\" has nothing to move", args.group);
        return Err(Fault::new("E1213", Exit::NotFound, what)
            .why("no offset is committed, and no topic was named")
            .hint("name topics with --topic"));
    }
    let moves = plan(&mut cluster, &target, &partitions, &current)?;
    if !args.dry_run {
        commit(&mut cluster, &args.group, &moves)?;
    }
    show(args, client.output, &moves);
    Ok(())
}

fn target(args: &SeekArgs) -> Outcome<Target> {
    let now = SystemTime::now();
    if let Some(by) = args.by {
        return Ok(Target::Shift(by));
    }
    if let Some(ago) = args.ago {
        let then = now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        return Ok(Target::TimeMs(epoch_ms(then)));
    }
    if let Some(path) = &args.from_file {
        return from_csv(&read(path)?, &args.group).map(Target::Each);
    }
    parse_to(args.to.as_deref().unwrap_or_default(), now)
}

fn parse_to(text: &str, now: SystemTime) -> Outcome<Target> {
    match text {
        "start" | "beginning" | "earliest" => return Ok(Target::Start),
        "end" | "latest" => return Ok(Target::End),
        "current" => return Ok(Target::Current),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return time_ms(time, now).map(Target::TimeMs);
    }
    if let Ok(offset) = text.parse::<i64>() {
        return Ok(Target::Offset(offset));
    }
    time_ms(text, now).map(Target::TimeMs).map_err(|_| {
        Fault::usage(format!("\"{text}\" is no place to go to"))
            .hint("write start, end, current, an offset, 2026-11-24T09:00 or @1700000000")
    })
}

fn read(path: &Path) -> Outcome<String> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        let what = format!("cannot read {}", path.display());
        Fault::new("E1002", Exit::NotFound, what).why(error.to_string())
    })
}

/// A group that does not exist is empty: its first offsets may be set from outside.
fn must_be_empty(cluster: &mut Cluster, args: &SeekArgs) -> Outcome {
    match GroupView::of(cluster, &args.group) {
        Ok(view) if view.members.is_empty() => Ok(()),
        Ok(_) => Err(refused(
            cluster,
            &args.group,
            "moving offsets",
            NON_EMPTY_GROUP,
        )),
        Err(fault) if fault.id == "E1209" && !args.topic.is_empty() => Ok(()),
        Err(fault) if fault.id == "E1209" && args.from_file.is_some() => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn plan(
    cluster: &mut Cluster,
    target: &Target,
    partitions: &BTreeSet<At>,
    current: &BTreeMap<At, i64>,
) -> Outcome<BTreeMap<At, Move>> {
    let topics: BTreeSet<String> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    let leaders = cluster.leaders(&topics)?;
    let starts = cluster.list_offsets_at(&leaders, partitions, EARLIEST)?;
    let ends = cluster.list_offsets_at(&leaders, partitions, LATEST)?;
    let times = match target {
        Target::TimeMs(time) => cluster.list_offsets_at(&leaders, partitions, *time)?,
        _ => BTreeMap::new(),
    };
    let mut moves = BTreeMap::new();
    for at in partitions {
        let (Some(start), Some(end)) = (starts.get(at), ends.get(at)) else {
            let (topic, partition) = at;
            let what = format!("{topic} partition {partition} has no leader or does not exist");
            return Err(Fault::new("E1204", Exit::NotFound, what)
                .why("nothing was moved")
                .hint("leave it out with --topic"));
        };
        let marks = Marks {
            committed: current.get(at).copied(),
            start: *start,
            end: *end,
            at_time: times.get(at).copied().filter(|offset| *offset >= 0),
        };
        let planned = target.of(at, &marks)?;
        if planned.to != planned.wanted {
            say(&format!(
                "{} partition {}: {} is outside of {start} to {end}, so {} is taken",
                at.0, at.1, planned.wanted, planned.to
            ));
        }
        moves.insert(at.clone(), planned);
    }
    Ok(moves)
}

fn commit(cluster: &mut Cluster, group: &str, moves: &BTreeMap<At, Move>) -> Outcome {
    let mut topics: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
    for ((topic, partition), planned) in moves {
        topics
            .entry(topic)
            .or_default()
            .push((*partition, planned.to));
    }
    let response = cluster.on_coordinator(
        group,
        OFFSET_COMMIT_VERSION_MAX,
        |_version| {
            let topics = topics.iter().map(|(name, partitions)| {
                let partitions = partitions.iter().map(|(index, offset)| {
                    let mut p = api::offset_commit_request::OffsetCommitRequestPartition::default();
                    p.partition_index = *index;
                    p.committed_offset = *offset;
                    p.committed_metadata = Some(str_bytes(""));
                    p
                });
                api::offset_commit_request::OffsetCommitRequestTopic {
                    name: topic_name(name),
                    partitions: partitions.collect(),
                    ..Default::default()
                }
            });
            api::OffsetCommitRequest {
                group_id: api::GroupId(str_bytes(group)),
                generation_id_or_member_epoch: -1,
                topics: topics.collect(),
                ..Default::default()
            }
        },
        |response: &api::OffsetCommitResponse| {
            let first = response
                .topics
                .first()
                .and_then(|topic| topic.partitions.first());
            first.map_or(0, |partition| partition.error_code)
        },
    )?;
    let results = response.topics.iter().flat_map(|topic| &topic.partitions);
    match results
        .map(|result| result.error_code)
        .find(|code| *code != 0)
    {
        None => Ok(()),
        Some(code) => Err(refused(cluster, group, "moving offsets", code)),
    }
}

fn show(args: &SeekArgs, output: OutputFormat, moves: &BTreeMap<At, Move>) {
    let mut table = Table::new(&[
        "group",
        "topic",
        "partition",
        "current_offset",
        "new_offset",
    ]);
    for ((topic, partition), planned) in moves {
        table.row(vec![
            json!(args.group),
            json!(topic),
            json!(partition),
            json!(planned.from),
            json!(planned.to),
        ]);
    }
    table.print(output);
    if args.dry_run && output == OutputFormat::Table {
        say("nothing was moved; with -o csv this plan can be kept and given to --from-file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_an_offset_or_a_time() {
        let parse = |text| parse_to(text, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(parse("earliest"), Target::Start);
        assert_eq!(parse("end"), Target::End);
        assert_eq!(parse("current"), Target::Current);
        assert_eq!(parse("42"), Target::Offset(42));
        assert_eq!(parse("@1700000000"), Target::TimeMs(1_700_000_000_000));
        assert_eq!(parse("1970-01-02"), Target::TimeMs(86_400_000));
        assert!(parse_to("soon", SystemTime::UNIX_EPOCH).is_err());
    }
}
