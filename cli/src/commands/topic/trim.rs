//! `ottla topic trim`: deletes the oldest records of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use crate::arguments::ClientArgs;
use crate::client::offsets::{At, EARLIEST, LATEST, Leaders};
use crate::client::{Cluster, topic_name};
use crate::commands::{first_of, scope};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{Table, confirmed};
use crate::values::time_ms;

const POLICY_VIOLATION: i16 = 44;
const OFFSET_OUT_OF_RANGE: i16 = 1;

#[derive(Debug, Args)]
pub(crate) struct TrimArgs {
    /// The topics, or some of their partitions
    #[arg(required = true, value_name = "TOPIC[:P,P]")]
    topics: Vec<String>,
    /// Where to: end, an offset, or a time such as 2026-11-24T09:00 or @1700000000; everything
    /// before is deleted
    #[arg(long, value_name = "WHERE")]
    before: String,
    /// Show what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    End,
    Offset(i64),
    TimeMs(i64),
}

fn parse(text: &str, now: SystemTime) -> Outcome<Before> {
    if matches!(text, "end" | "latest") {
        return Ok(Before::End);
    }
    if let Some(time) = text.strip_prefix('@') {
        return time_ms(time, now).map(Before::TimeMs);
    }
    if let Ok(offset) = text.parse::<i64>() {
        return Ok(Before::Offset(offset));
    }
    time_ms(text, now).map(Before::TimeMs).map_err(|_| {
        Fault::usage(format!("\"{text}\" is no place in a topic"))
            .hint("write end, an offset, 2026-11-24T09:00 or @1700000000")
    })
}

/// One partition: where it begins, and where it will.
struct Cut {
    start: i64,
    new_start: i64,
}

pub(super) fn run(args: &TrimArgs, client: &ClientArgs) -> Outcome {
    let before = parse(&args.before, SystemTime::now())?;
    let scope = scope::parse(&args.topics)?;
    let mut cluster = client.connect()?;
    let partitions = scope::partitions(&mut cluster, &scope)?;
    let leaders = cluster.leaders(&scope.keys().cloned().collect())?;
    let mut cuts = plan(&mut cluster, &leaders, &partitions, before)?;
    let records: i64 = cuts.values().map(|cut| cut.new_start - cut.start).sum();
    let question = format!("Delete {records} records of {}?", args.topics.join(", "));
    if !args.dry_run && !args.yes && !confirmed(&question) {
        return Err(Fault::usage("nothing was deleted").hint("add --yes to delete without asking"));
    }
    let mut failures = BTreeMap::new();
    if !args.dry_run {
        failures = delete(&mut cluster, &leaders, &mut cuts)?;
    }
    let mut table = Table::new(&[
        "topic",
        "partition",
        "start_offset",
        "new_start_offset",
        "status",
    ]);
    for (at, cut) in &cuts {
        let status = match (failures.contains_key(at), args.dry_run) {
            (true, _) => "FAILED",
            (false, true) => "WOULD BE TRIMMED",
            (false, false) => "TRIMMED",
        };
        table.row(vec![
            json!(at.0),
            json!(at.1),
            json!(cut.start),
            json!(cut.new_start),
            json!(status),
        ]);
    }
    table.print(client.output);
    first_of(failures.into_values().collect(), cuts.len())
}

fn plan(
    cluster: &mut Cluster,
    leaders: &Leaders,
    partitions: &BTreeSet<At>,
    before: Before,
) -> Outcome<BTreeMap<At, Cut>> {
    let starts = cluster.list_offsets_at(leaders, partitions, EARLIEST)?;
    let ends = cluster.list_offsets_at(leaders, partitions, LATEST)?;
    let times = match before {
        Before::TimeMs(time) => cluster.list_offsets_at(leaders, partitions, time)?,
        Before::End | Before::Offset(_) => BTreeMap::new(),
    };
    let mut cuts = BTreeMap::new();
    for at in partitions {
        let (Some(start), Some(end)) = (starts.get(at), ends.get(at)) else {
            let what = format!("{} partition {} has no leader", at.0, at.1);
            return Err(Fault::new("E1204", Exit::NotFound, what).why("nothing was deleted"));
        };
        let wanted = match before {
            Before::End => *end,
            Before::Offset(offset) => offset,
            Before::TimeMs(_) => times.get(at).copied().filter(|at| *at >= 0).unwrap_or(*end),
        };
        let (start, new_start) = (*start, wanted.max(*start));
        cuts.insert(at.clone(), Cut { start, new_start });
    }
    Ok(cuts)
}

/// Puts into the cuts where the partitions begin now; the failures by partition.
fn delete(
    cluster: &mut Cluster,
    leaders: &Leaders,
    cuts: &mut BTreeMap<At, Cut>,
) -> Outcome<BTreeMap<At, Fault>> {
    let mut by_leader: BTreeMap<i32, BTreeMap<String, Vec<(i32, i64)>>> = BTreeMap::new();
    for (at, cut) in cuts.iter() {
        let leader = leaders.get(at).copied().unwrap_or(-1);
        let topics = by_leader.entry(leader).or_default();
        let partitions = topics.entry(at.0.clone()).or_default();
        partitions.push((at.1, cut.new_start));
    }
    let timeout_ms = cluster.timeout_ms();
    let mut failures = BTreeMap::new();
    for (leader, topics) in by_leader {
        let response =
            cluster.on_broker(leader, i16::MAX, |_version| request(&topics, timeout_ms))?;
        for topic in &response.topics {
            for result in &topic.partitions {
                let at = (topic.name.0.to_string(), result.partition_index);
                if result.error_code == 0 {
                    if let Some(cut) = cuts.get_mut(&at) {
                        cut.new_start = result.low_watermark;
                    }
                } else {
                    let fault = not_deleted(&at, result.error_code);
                    failures.insert(at, fault);
                }
            }
        }
    }
    Ok(failures)
}

fn request(
    topics: &BTreeMap<String, Vec<(i32, i64)>>,
    timeout_ms: i32,
) -> api::DeleteRecordsRequest {
    let topics = topics.iter().map(|(name, partitions)| {
        let mut topic = api::delete_records_request::DeleteRecordsTopic::default();
        topic.name = topic_name(name);
        topic.partitions = partitions
            .iter()
            .map(|(index, offset)| {
                let mut p = api::delete_records_request::DeleteRecordsPartition::default();
                p.partition_index = *index;
                p.offset = *offset;
                p
            })
            .collect();
        topic
    });
    let mut request = api::DeleteRecordsRequest::default();
    request.topics = topics.collect();
    request.timeout_ms = timeout_ms;
    request
}

fn not_deleted((topic, partition): &At, code: i16) -> Fault {
    let fault = Fault::broker(
        &format!("trimming {topic} partition {partition}"),
        code,
        None,
    );
    match code {
        POLICY_VIOLATION => fault.hint(
            "only topics whose cleanup.policy has \"delete\" can be trimmed; \
             `ottla topic config` changes it",
        ),
        OFFSET_OUT_OF_RANGE => fault.hint(format!(
            "`ottla topic describe {topic}` shows where its partitions end"
        )),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_end_an_offset_or_a_time() {
        let parse = |text| parse(text, SystemTime::UNIX_EPOCH);
        assert_eq!(parse("end").unwrap(), Before::End);
        assert_eq!(parse("7").unwrap(), Before::Offset(7));
        assert_eq!(parse("1970-01-02").unwrap(), Before::TimeMs(86_400_000));
        assert_eq!(
            parse("@1700000000").unwrap(),
            Before::TimeMs(1_700_000_000_000)
        );
        assert!(parse("start").is_err());
    }
}
