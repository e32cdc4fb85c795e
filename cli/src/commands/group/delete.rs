//! `ottla group delete` and `ottla group offset-delete`.

use std::collections::BTreeMap;

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use super::view::{GroupView, committed};
use super::{refused, resolve};
use crate::arguments::ClientArgs;
use crate::client::offsets::At;
use crate::client::{Cluster, str_bytes, topic_name};
use crate::commands::{first_of, scope};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{Table, confirmed};

const NON_EMPTY_GROUP: i16 = 68;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of the groups
    #[arg(required = true)]
    groups: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'e', long)]
    regex: bool,
    /// Show what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OffsetDeleteArgs {
    /// Name of the group
    group: String,
    /// The topic, or some of its partitions; may be repeated
    #[arg(short, long, value_name = "TOPIC[:P,P]", required = true)]
    topic: Vec<String>,
    /// Show what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn delete(args: &DeleteArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let names = resolve(&mut cluster, &args.groups, args.regex)?;
    let question = format!("Delete group {} with its offsets?", names.join(", "));
    if !args.dry_run && !args.yes && !confirmed(&question) {
        return Err(Fault::usage("nothing was deleted").hint("add --yes to delete without asking"));
    }
    let mut table = Table::new(&["group", "status"]);
    let mut failures = Vec::new();
    for name in &names {
        let outcome = if args.dry_run {
            may_be_deleted(&mut cluster, name)
        } else {
            delete_one(&mut cluster, name)
        };
        let status = match (&outcome, args.dry_run) {
            (Ok(()), true) => "WOULD BE DELETED",
            (Ok(()), false) => "DELETED",
            (Err(_), _) => "FAILED",
        };
        table.row(vec![json!(name), json!(status)]);
        failures.extend(outcome.err());
    }
    table.print(client.output);
    first_of(failures, names.len())
}

fn may_be_deleted(cluster: &mut Cluster, group: &str) -> Outcome {
    let view = GroupView::of(cluster, group)?;
    match view.members.is_empty() {
        true => Ok(()),
        false => Err(refused(cluster, group, "deletion", NON_EMPTY_GROUP)),
    }
}

fn delete_one(cluster: &mut Cluster, group: &str) -> Outcome {
    let error = |response: &api::DeleteGroupsResponse| {
        response
            .results
            .first()
            .map_or(0, |result| result.error_code)
    };
    let response = cluster.on_coordinator(
        group,
        i16::MAX,
        |_version| {
            let mut request = api::DeleteGroupsRequest::default();
            request.groups_names = vec![api::GroupId(str_bytes(group))];
            request
        },
        error,
    )?;
    match error(&response) {
        0 => Ok(()),
        code => Err(refused(cluster, group, "deletion", code)),
    }
}

pub(super) fn delete_offsets(args: &OffsetDeleteArgs, client: &ClientArgs) -> Outcome {
    let scope = scope::parse(&args.topic)?;
    let mut cluster = client.connect()?;
    let group = args.group.as_str();
    GroupView::of(&mut cluster, group)?;
    let mut offsets = committed(&mut cluster, group)?;
    offsets.retain(|(topic, index), _| match scope.get(topic) {
        Some(Some(partitions)) => partitions.contains(index),
        Some(None) => true,
        None => false,
    });
    if offsets.is_empty() {
        let what = format!("group \"{group}\" has no such offset");
        return Err(Fault::new("E1213", Exit::NotFound, what).hint(format!(
            "`ottla group lag {group}` shows what it has committed"
        )));
    }
    let question = format!("Delete {} offsets of group {group}?", offsets.len());
    if !args.dry_run && !args.yes && !confirmed(&question) {
        return Err(Fault::usage("nothing was deleted").hint("add --yes to delete without asking"));
    }
    let codes = if args.dry_run {
        offsets.keys().map(|at| (at.clone(), 0)).collect()
    } else {
        ask_to_delete(&mut cluster, group, &offsets)?
    };
    let done = if args.dry_run {
        "WOULD BE DELETED"
    } else {
        "DELETED"
    };
    let mut table = Table::new(&["group", "topic", "partition", "offset", "status"]);
    let mut failures = Vec::new();
    for (at, offset) in &offsets {
        let code = codes.get(at).copied().unwrap_or_default();
        let status = if code == 0 { done } else { "FAILED" };
        let (topic, partition) = at;
        table.row(vec![
            json!(group),
            json!(topic),
            json!(partition),
            json!(offset),
            json!(status),
        ]);
        if code != 0 {
            failures.push(refused(&mut cluster, group, "deleting offsets", code));
        }
    }
    table.print(client.output);
    first_of(failures, offsets.len())
}

/// The error code of each partition.
fn ask_to_delete(
    cluster: &mut Cluster,
    group: &str,
    offsets: &BTreeMap<At, i64>,
) -> Outcome<BTreeMap<At, i16>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in offsets.keys() {
        topics.entry(topic).or_default().push(*partition);
    }
    let response = cluster.on_coordinator(
        group,
        i16::MAX,
        |_version| {
            let topics = topics.iter().map(|(name, partitions)| {
                let mut topic = api::offset_delete_request::OffsetDeleteRequestTopic::default();
                topic.name = topic_name(name);
                topic.partitions = partitions
                    .iter()
                    .map(|index| {
                        let mut p =
                            api::offset_delete_request::OffsetDeleteRequestPartition::default();
                        p.partition_index = *index;
                        p
                    })
                    .collect();
                topic
            });
            let mut request = api::OffsetDeleteRequest::default();
            request.group_id = api::GroupId(str_bytes(group));
            request.topics = topics.collect();
            request
        },
        |response: &api::OffsetDeleteResponse| response.error_code,
    )?;
    if response.error_code != 0 {
        return Err(refused(
            cluster,
            group,
            "deleting offsets",
            response.error_code,
        ));
    }
    let mut codes = BTreeMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            let at = (topic.name.0.to_string(), partition.partition_index);
            codes.insert(at, partition.error_code);
        }
    }
    Ok(codes)
}
