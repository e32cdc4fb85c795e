//! `ottla cluster logdirs`: each broker is asked by DescribeLogDirs what its directories hold.
//!
//! Room and cordons are told since DescribeLogDirs 4 and 5; older brokers leave the cells empty.

use clap::Args;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages as api;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use serde_json::{Value, json};

use crate::arguments::ClientArgs;
use crate::client::Cluster;
use crate::commands::first_of;
use crate::fault::{Fault, Outcome};
use crate::output::Table;

#[derive(Debug, Args)]
pub(crate) struct LogDirsArgs {
    /// One line per partition, the largest first
    #[arg(long)]
    partitions: bool,
    /// Only these brokers, separated by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    broker: Vec<i32>,
}

pub(super) fn run(args: &LogDirsArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let known: Vec<i32> = cluster
        .metadata(Some(&[]), false)?
        .brokers
        .iter()
        .map(|b| b.node_id.0)
        .collect();
    let brokers = if args.broker.is_empty() {
        known
    } else {
        args.broker.clone()
    };
    let (mut described, mut failures) = (Vec::new(), Vec::new());
    for broker in &brokers {
        match ask(&mut cluster, *broker) {
            Ok(dirs) => described.extend(dirs.into_iter().map(|dir| (*broker, dir))),
            Err(fault) => failures.push(fault),
        }
    }
    let table = match args.partitions {
        true => partitions(&described),
        false => directories(&described),
    };
    table.print(client.output);
    first_of(failures, brokers.len())
}

fn ask(cluster: &mut Cluster, broker: i32) -> Outcome<Vec<DescribeLogDirsResult>> {
    let response = cluster.on_broker(broker, i16::MAX, |_version| {
        api::DescribeLogDirsRequest::default().with_topics(None)
    })?;
    match response.error_code {
        0 => Ok(response.results),
        code => Err(Fault::broker(
            &format!("asking broker {broker}"),
            code,
            None,
        )),
    }
}

fn state(dir: &DescribeLogDirsResult) -> String {
    match (ErrorCode(dir.error_code), dir.is_cordoned) {
        (ErrorCode::NONE, false) => "online".to_owned(),
        (ErrorCode::NONE, true) => "cordoned".to_owned(),
        (ErrorCode::KAFKA_STORAGE_ERROR, _) => "offline".to_owned(),
        (error, _) => error.name().to_owned(),
    }
}

/// -1: not told.
fn bytes(told: i64) -> Value {
    if told < 0 { Value::Null } else { json!(told) }
}

fn directories(described: &[(i32, DescribeLogDirsResult)]) -> Table {
    let mut table = Table::new(&[
        "broker",
        "log_dir",
        "state",
        "partitions",
        "log_bytes",
        "free_bytes",
        "total_bytes",
    ]);
    for (broker, dir) in described {
        let all = || dir.topics.iter().flat_map(|topic| &topic.partitions);
        let log_bytes: i64 = all()
            .map(|one| one.partition_size)
            .fold(0, i64::saturating_add);
        let unknown = dir.error_code != 0;
        table.row(vec![
            json!(broker),
            json!(dir.log_dir.as_str()),
            json!(state(dir)),
            if unknown {
                Value::Null
            } else {
                json!(all().count())
            },
            if unknown {
                Value::Null
            } else {
                json!(log_bytes)
            },
            bytes(dir.usable_bytes),
            bytes(dir.total_bytes),
        ]);
    }
    table
}

fn partitions(described: &[(i32, DescribeLogDirsResult)]) -> Table {
    let mut rows = Vec::new();
    for (broker, dir) in described {
        for topic in &dir.topics {
            rows.extend(topic.partitions.iter().map(|one| (broker, dir, topic, one)));
        }
    }
    rows.sort_by_key(|(broker, _, topic, one)| {
        let size = std::cmp::Reverse(one.partition_size);
        (
            size,
            topic.name.0.to_string(),
            one.partition_index,
            **broker,
        )
    });
    let mut table = Table::new(&[
        "topic",
        "partition",
        "broker",
        "log_dir",
        "log_bytes",
        "moving_here",
        "offset_lag",
    ]);
    for (broker, dir, topic, one) in rows {
        table.row(vec![
            json!(topic.name.0.as_str()),
            json!(one.partition_index),
            json!(broker),
            json!(dir.log_dir.as_str()),
            json!(one.partition_size),
            json!(one.is_future_key),
            json!(one.offset_lag),
        ]);
    }
    table
}
