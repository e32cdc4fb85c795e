//! `ottla topic list` and `ottla topic describe`.

use std::collections::BTreeMap;

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use super::resolve;
use crate::arguments::ClientArgs;
use crate::client::{Cluster, topic_name};
use crate::commands::consume::Start;
use crate::commands::name_of;
use crate::fault::Outcome;
use crate::output::{OutputFormat, Table, say};

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only topics whose whole name matches this regular expression
    #[arg(short = 'e', long)]
    regex: Option<String>,
    /// Show internal topics too
    #[arg(short, long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'e', long)]
    regex: bool,
}

pub(crate) fn list(args: &ListArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let wanted = match &args.regex {
        Some(pattern) => Some(resolve(&mut cluster, std::slice::from_ref(pattern), true)?),
        None => None,
    };
    let mut topics = cluster.metadata(None, false)?.topics;
    topics.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    let mut table = Table::new(&["topic", "partitions", "replicas", "internal"]);
    for topic in &topics {
        let name = name_of(topic);
        let hidden = topic.is_internal && !args.internal;
        if hidden
            || wanted
                .as_ref()
                .is_some_and(|wanted| !wanted.iter().any(|w| w == name))
        {
            continue;
        }
        let replicas = topic
            .partitions
            .iter()
            .map(|p| p.replica_nodes.len())
            .max()
            .unwrap_or(0);
        table.row(vec![
            json!(name),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(topic.is_internal),
        ]);
    }
    let nothing = table.is_empty();
    table.print(client.output);
    if nothing && client.output == OutputFormat::Table {
        say("no topics yet; `ottla topic create NAME` makes one");
    }
    Ok(())
}

pub(crate) fn describe(args: &DescribeArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let names = resolve(&mut cluster, &args.topics, args.regex)?;
    let mut topics = cluster.existing_topics(&names)?;
    let mut table = Table::new(&[
        "topic",
        "partition",
        "leader",
        "epoch",
        "replicas",
        "isr",
        "start_offset",
        "end_offset",
    ]);
    for topic in &mut topics {
        topic
            .partitions
            .sort_by_key(|partition| partition.partition_index);
        let start = offsets(&mut cluster, topic, EARLIEST)?;
        let end = offsets(&mut cluster, topic, LATEST)?;
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let ids =
                |nodes: &[api::BrokerId]| json!(nodes.iter().map(|n| n.0).collect::<Vec<_>>());
            let led = partition.leader_id.0 >= 0;
            table.row(vec![
                json!(name_of(topic)),
                json!(index),
                if led {
                    json!(partition.leader_id.0)
                } else {
                    json!(null)
                },
                json!(partition.leader_epoch),
                ids(&partition.replica_nodes),
                ids(&partition.isr_nodes),
                json!(start.get(&index)),
                json!(end.get(&index)),
            ]);
        }
    }
    table.print(client.output);
    Ok(())
}

/// The offset of each partition at `timestamp` (or -1 latest, -2 earliest); partitions without
/// leader are left out.
pub(crate) fn offsets(
    cluster: &mut Cluster,
    topic: &api::metadata_response::MetadataResponseTopic,
    timestamp: i64,
) -> Outcome<BTreeMap<i32, i64>> {
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in topic
        .partitions
        .iter()
        .filter(|partition| partition.leader_id.0 >= 0)
    {
        by_leader
            .entry(partition.leader_id.0)
            .or_default()
            .push(partition.partition_index);
    }
    let mut found = BTreeMap::new();
    for (leader, partitions) in by_leader {
        let response = cluster.on_broker(leader, 7, |_version| {
            let mut asked = api::list_offsets_request::ListOffsetsTopic::default();
            asked.name = topic_name(name_of(topic));
            asked.partitions = partitions
                .iter()
                .map(|index| {
                    let mut p = api::list_offsets_request::ListOffsetsPartition::default();
                    p.partition_index = *index;
                    p.timestamp = timestamp;
                    p
                })
                .collect();
            let mut request = api::ListOffsetsRequest::default();
            request.replica_id = api::BrokerId(-1);
            request.topics = vec![asked];
            request
        })?;
        for answered in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if answered.error_code == 0 {
                found.insert(answered.partition_index, answered.offset);
            }
        }
    }
    Ok(found)
}

/// Per partition: the offset where `start` is, and the end. Never before the log start, never past
/// the end.
pub(crate) fn offsets_of(
    cluster: &mut Cluster,
    topic: &api::metadata_response::MetadataResponseTopic,
    start: Start,
) -> Outcome<(BTreeMap<i32, i64>, BTreeMap<i32, i64>)> {
    let first = offsets(cluster, topic, EARLIEST)?;
    let end = offsets(cluster, topic, LATEST)?;
    let begin = match start {
        Start::Beginning => first,
        Start::End => end.clone(),
        Start::Offset(offset) => end.keys().map(|index| (*index, offset)).collect(),
        Start::Last(count) => end
            .iter()
            .map(|(index, end)| {
                let first = first.get(index).copied().unwrap_or(0);
                (*index, end.saturating_sub(count).max(first))
            })
            .collect(),
        Start::TimeMs(time) => {
            let mut found = offsets(cluster, topic, time)?;
            // -1: nothing that late yet, so begin with what comes next.
            for (index, offset) in &mut found {
                if *offset < 0 {
                    *offset = end.get(index).copied().unwrap_or(0);
                }
            }
            found
        }
    };
    Ok((begin, end))
}
