//! `ottla group describe`, `lag` and `members`: one look, or one every so often with `-w`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use ottla_protocol::consumer_protocol::Assignment;
use serde_json::{Value, json};

use super::lag::{self, LagRow};
use super::rebalance::{self, LastRebalance};
use super::resolve;
use super::view::{GroupView, MemberView};
use crate::arguments::ClientArgs;
use crate::client::Cluster;
use crate::commands::first_of;
use crate::fault::Outcome;
use crate::output::{OutputFormat, Table, put};

const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

#[derive(Debug, Args)]
pub(crate) struct GroupNames {
    /// Names of the groups
    #[arg(required = true)]
    groups: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'e', long)]
    regex: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Look again and again [default interval: 2s]
    #[arg(
        short,
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = humantime::parse_duration
    )]
    watch: Option<Duration>,
    /// With --watch, end after so many looks
    #[arg(long, value_name = "COUNT", requires = "watch")]
    looks: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    names: GroupNames,
    #[command(flatten)]
    watch: Watch,
    /// HTTP listener of the coordinating Ottla broker, which knows why the group last rebalanced
    /// [default: what the broker's configuration says, if that can be reached]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LagArgs {
    #[command(flatten)]
    names: GroupNames,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    names: GroupNames,
}

/// One group with its lag, at one moment.
struct Seen {
    view: GroupView,
    rows: Vec<LagRow>,
    /// Records that the lag fell by per second since the look before.
    drained_per_second: Option<f64>,
    last_rebalance: Option<LastRebalance>,
}

pub(super) fn describe(args: &DescribeArgs, client: &ClientArgs) -> Outcome {
    let http = args.http.as_deref();
    look(
        &args.names,
        &args.watch,
        client,
        Some(http),
        |seen, output| match output {
            OutputFormat::Table => seen.iter().map(described).collect::<Vec<_>>().join("\n"),
            OutputFormat::Csv => lag_table(seen).text(output),
            OutputFormat::Json => {
                let all: Vec<Value> = seen.iter().map(document).collect();
                serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
            }
            OutputFormat::Ndjson => seen
                .iter()
                .map(|seen| format!("{}\n", document(seen)))
                .collect(),
        },
    )
}

pub(super) fn lag(args: &LagArgs, client: &ClientArgs) -> Outcome {
    look(&args.names, &args.watch, client, None, |seen, output| {
        let mut text = String::new();
        if output == OutputFormat::Table {
            for one in seen {
                text.push_str(&headline(one));
                text.push('\n');
            }
        }
        text + &lag_table(seen).text(output)
    })
}

/// Looks once, or as often as `watch` says, and writes what `show` makes of it. `rebalances`: ask
/// for the last one too, at that address if there is one.
fn look(
    names: &GroupNames,
    watch: &Watch,
    client: &ClientArgs,
    rebalances: Option<Option<&str>>,
    show: impl Fn(&[Seen], OutputFormat) -> String,
) -> Outcome {
    let mut cluster = client.connect()?;
    let mut before: Vec<(String, i64, Instant)> = Vec::new();
    let mut looks = 0;
    loop {
        let groups = resolve(&mut cluster, &names.groups, names.regex)?;
        let mut seen = Vec::new();
        let mut failures = Vec::new();
        for group in &groups {
            match see(&mut cluster, group, rebalances, client.timeout) {
                Ok(one) => seen.push(one),
                Err(fault) => failures.push(fault),
            }
        }
        let now = Instant::now();
        for one in &mut seen {
            let earlier = before.iter().find(|(group, ..)| *group == one.view.group);
            one.drained_per_second = earlier.map(|(_, lag, at)| {
                let seconds = now.duration_since(*at).as_secs_f64().max(0.001);
                (lag - lag::total(&one.rows)) as f64 / seconds
            });
        }
        let total = |one: &Seen| (one.view.group.clone(), lag::total(&one.rows), now);
        before = seen.iter().map(total).collect();
        if !seen.is_empty() {
            let text = show(&seen, client.output);
            put(&screen(watch, looks, client.output, text));
        }
        first_of(failures, groups.len())?;
        looks += 1;
        match watch.watch {
            Some(interval) if watch.looks.is_none_or(|most| looks < most) => {
                std::thread::sleep(interval);
            }
            _ => return Ok(()),
        }
    }
}

/// On a terminal a new look takes the place of the old one.
fn screen(watch: &Watch, looks: u64, output: OutputFormat, text: String) -> String {
    let is_table = output == OutputFormat::Table;
    if watch.watch.is_some() && is_table && std::io::stdout().is_terminal() {
        format!("{CLEAR_SCREEN}{text}")
    } else if looks > 0 && is_table {
        format!("\n{text}")
    } else {
        text
    }
}

fn see(
    cluster: &mut Cluster,
    group: &str,
    rebalances: Option<Option<&str>>,
    timeout: Duration,
) -> Outcome<Seen> {
    let view = GroupView::of(cluster, group)?;
    let rows = lag::rows(cluster, &view)?;
    let last_rebalance = match rebalances {
        Some(http) => rebalance::last(cluster, &view, http, timeout)?,
        None => None,
    };
    Ok(Seen {
        view,
        rows,
        drained_per_second: None,
        last_rebalance,
    })
}

/// `GROUP billing  STATE Stable  MEMBERS 3  TOTAL LAG 12480 (41.2 s behind, draining 310/s)`
fn headline(seen: &Seen) -> String {
    let view = &seen.view;
    let (group, state, members) = (&view.group, &view.state, view.members.len());
    format!(
        "GROUP {group}  STATE {state}  MEMBERS {members}  TOTAL LAG {}",
        total_text(seen)
    )
}

fn total_text(seen: &Seen) -> String {
    let mut notes = Vec::new();
    if let Some(seconds) = lag::max_seconds(&seen.rows).filter(|seconds| *seconds > 0.0) {
        notes.push(format!("{seconds:.1} s behind"));
    }
    match seen.drained_per_second {
        Some(rate) if rate >= 0.5 => notes.push(format!("draining {rate:.0}/s")),
        Some(rate) if rate <= -0.5 => notes.push(format!("growing {:.0}/s", -rate)),
        _ => {}
    }
    let total = lag::total(&seen.rows);
    if notes.is_empty() {
        total.to_string()
    } else {
        format!("{total} ({})", notes.join(", "))
    }
}

fn described(seen: &Seen) -> String {
    let view = &seen.view;
    let coordinator = format!("{} ({})", view.coordinator, view.coordinator_address);
    let dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut lines = vec![
        ("GROUP", view.group.clone()),
        ("STATE", view.state.clone()),
        (
            "TYPE",
            format!("{} ({})", view.kind, dash(&view.protocol_type)),
        ),
        ("ASSIGNOR", dash(&view.protocol)),
        ("COORDINATOR", coordinator),
        ("MEMBERS", view.members.len().to_string()),
        ("TOTAL LAG", total_text(seen)),
    ];
    if let Some((group, assignment)) = view.epochs {
        lines.insert(
            4,
            ("EPOCHS", format!("group {group}, assignment {assignment}")),
        );
    }
    let last = seen.last_rebalance.as_ref();
    lines.push((
        "REBALANCED",
        last.map_or_else(|| "-".to_owned(), LastRebalance::text),
    ));
    let mut text: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<12} {value}\n"))
        .collect();
    if !seen.rows.is_empty() {
        text.push('\n');
        text.push_str(&lag_table(std::slice::from_ref(seen)).text(OutputFormat::Table));
    }
    if !view.members.is_empty() {
        text.push('\n');
        text.push_str(&members_table(std::slice::from_ref(view)).text(OutputFormat::Table));
    }
    text
}

fn lag_table(seen: &[Seen]) -> Table {
    let mut table = Table::new(&[
        "group",
        "topic",
        "partition",
        "committed",
        "end",
        "lag",
        "lag_seconds",
        "member_id",
        "host",
        "client_id",
    ]);
    for one in seen {
        for row in &one.rows {
            let owner = one.view.owner(&row.topic, row.partition);
            table.row(vec![
                json!(one.view.group),
                json!(row.topic),
                json!(row.partition),
                json!(row.committed),
                json!(row.end),
                json!(row.lag),
                json!(row.lag_seconds),
                json!(owner.map(|member| &member.member_id)),
                json!(owner.map(|member| &member.host)),
                json!(owner.map(|member| &member.client_id)),
            ]);
        }
    }
    table
}

pub(super) fn members(args: &MembersArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let groups = resolve(&mut cluster, &args.names.groups, args.names.regex)?;
    let mut views = Vec::new();
    let mut failures = Vec::new();
    for group in &groups {
        match GroupView::of(&mut cluster, group) {
            Ok(view) => views.push(view),
            Err(fault) => failures.push(fault),
        }
    }
    if !views.is_empty() {
        members_table(&views).print(client.output);
    }
    first_of(failures, groups.len())
}

fn members_table(views: &[GroupView]) -> Table {
    let mut table = Table::new(&[
        "group",
        "member_id",
        "instance_id",
        "client_id",
        "host",
        "protocol",
        "epoch",
        "partitions",
        "assignment",
    ]);
    for view in views {
        for member in &view.members {
            let assigned = member.assigned.as_ref();
            let partitions = |all: &Assignment| all.values().map(|one| one.len()).sum::<usize>();
            table.row(vec![
                json!(view.group),
                json!(member.member_id),
                json!(member.instance_id),
                json!(member.client_id),
                json!(member.host),
                json!(member.protocol),
                json!(member.epoch),
                json!(assigned.map(partitions)),
                assigned.map_or(Value::Null, names),
            ]);
        }
    }
    table
}

/// `orders:0,2` for each topic.
fn names(assignment: &Assignment) -> Value {
    let topics = assignment.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        json!(format!("{topic}:{}", partitions.join(",")))
    });
    match topics.collect::<Vec<Value>>() {
        none if none.is_empty() => Value::Null,
        topics => Value::Array(topics),
    }
}

fn partitions_json(assignment: Option<&Assignment>) -> Value {
    let Some(assignment) = assignment else {
        return Value::Null;
    };
    let topics = assignment
        .iter()
        .map(|(topic, partitions)| json!({ "topic": topic, "partitions": partitions }));
    Value::Array(topics.collect())
}

fn member_json(member: &MemberView) -> Value {
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "host": member.host,
        "protocol": member.protocol,
        "epoch": member.epoch,
        "subscribed_topics": member.subscribed,
        "subscribed_regex": member.subscribed_regex,
        "assignment": partitions_json(member.assigned.as_ref()),
        "target_assignment": partitions_json(member.target.as_ref()),
    })
}

fn document(seen: &Seen) -> Value {
    let view = &seen.view;
    let offsets = seen.rows.iter().map(|row| {
        let owner = view.owner(&row.topic, row.partition);
        json!({
            "topic": row.topic,
            "partition": row.partition,
            "committed": row.committed,
            "start": row.start,
            "end": row.end,
            "lag": row.lag,
            "lag_seconds": row.lag_seconds,
            "member_id": owner.map(|member| &member.member_id),
        })
    });
    json!({
        "group": view.group,
        "state": view.state,
        "type": view.kind,
        "protocol_type": view.protocol_type,
        "assignor": view.protocol,
        "coordinator": { "id": view.coordinator, "address": view.coordinator_address },
        "group_epoch": view.epochs.map(|(group, _)| group),
        "assignment_epoch": view.epochs.map(|(_, assignment)| assignment),
        "lag": lag::total(&seen.rows),
        "lag_seconds": lag::max_seconds(&seen.rows),
        "last_rebalance": seen.last_rebalance.as_ref().map(LastRebalance::json),
        "members": view.members.iter().map(member_json).collect::<Vec<_>>(),
        "offsets": offsets.collect::<Vec<_>>(),
    })
}
