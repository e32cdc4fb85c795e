//! DescribeLogDirs: where the partitions of this broker lie and how large they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::broker::Logs;
use crate::context::RequestContext;
use crate::handlers::wire::{text, wire_name};
use crate::log_dirs::LogDir;
use crate::partition::Partition;
use crate::partition::map::HostedTopic;
use crate::reply::Reply;

/// Topics and partitions asked for; `None`: all.
type Asked = Option<BTreeMap<String, BTreeSet<i32>>>;

pub fn handle(
    logs: Logs<'_>,
    _ctx: &RequestContext<'_>,
    request: DescribeLogDirsRequest,
) -> Reply<DescribeLogDirsResponse> {
    let asked: Asked = request.topics.map(|topics| {
        let mut asked = BTreeMap::<String, BTreeSet<i32>>::new();
        for topic in topics {
            asked
                .entry(topic.topic.0.to_string())
                .or_default()
                .extend(topic.partitions);
        }
        asked
    });
    let hosted = logs.partitions.topics();
    let results = logs.log_dirs.iter().map(|dir| {
        let topics = hosted.iter().filter_map(|topic| told(dir, topic, &asked));
        result(dir, topics.collect())
    });
    Reply::Now(DescribeLogDirsResponse::default().with_results(results.collect()))
}

fn result(dir: &LogDir, topics: Vec<DescribeLogDirsTopic>) -> DescribeLogDirsResult {
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(&dir.path))
        .with_is_cordoned(dir.is_cordoned())
        .with_topics(topics);
    if !dir.is_online() {
        // As Kafka: nothing else is known of it.
        return DescribeLogDirsResult::default()
            .with_log_dir(text(&dir.path))
            .with_error_code(ErrorCode::KAFKA_STORAGE_ERROR.0);
    }
    let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    match (dir.disk.total_bytes(), dir.disk.free_bytes()) {
        (Ok(total), Ok(free)) => result
            .with_total_bytes(bytes(total))
            .with_usable_bytes(bytes(free)),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(log_dir = %dir.path, %error, "the log directory cannot be examined");
            result.with_error_code(ErrorCode::KAFKA_STORAGE_ERROR.0)
        }
    }
}

fn told(dir: &Arc<LogDir>, topic: &HostedTopic, asked: &Asked) -> Option<DescribeLogDirsTopic> {
    let wanted = match asked {
        Some(asked) => Some(asked.get(&*topic.name)?),
        None => None,
    };
    let hosted = topic.partitions.iter().flatten();
    let wanted = hosted.filter(|p| wanted.is_none_or(|wanted| wanted.contains(&p.index)));
    let partitions: Vec<_> = wanted.filter_map(|one| told_partition(dir, one)).collect();
    (!partitions.is_empty()).then(|| {
        DescribeLogDirsTopic::default()
            .with_name(wire_name(&topic.name))
            .with_partitions(partitions)
    })
}

/// The partition, or its copy on the way there, if one of them is in the directory.
fn told_partition(dir: &Arc<LogDir>, partition: &Partition) -> Option<DescribeLogDirsPartition> {
    let size = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    let told = DescribeLogDirsPartition::default().with_partition_index(partition.index);
    if partition.is_in(dir) {
        return Some(told.with_partition_size(size(partition.size_bytes())));
    }
    let future = partition.future_in(dir)?;
    Some(
        told.with_partition_size(size(future.size_bytes))
            .with_offset_lag(future.lag)
            .with_is_future_key(true),
    )
}

#[cfg(test)]
mod tests;
