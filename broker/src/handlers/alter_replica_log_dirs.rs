//! AlterReplicaLogDirs: moves replicas between the directories of this broker. All of them live in
//! the first; asking for that one is granted, another one of ours is refused, an unknown one is not
//! found.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDir;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use crate::broker::Logs;
use crate::context::RequestContext;
use crate::reply::Reply;

pub fn handle(
    logs: Logs<'_>,
    _ctx: &RequestContext<'_>,
    request: AlterReplicaLogDirsRequest,
) -> Reply<AlterReplicaLogDirsResponse> {
    let mut results = Vec::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let partitions = topic.partitions.iter().map(|&partition| {
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(partition)
                    .with_error_code(decide(&logs, dir, &topic.name.0, partition).0)
            });
            results.push(
                AlterReplicaLogDirTopicResult::default()
                    .with_topic_name(topic.name.clone())
                    .with_partitions(partitions.collect()),
            );
        }
    }
    Reply::Now(AlterReplicaLogDirsResponse::default().with_results(results))
}

fn decide(logs: &Logs<'_>, dir: &AlterReplicaLogDir, topic: &str, partition: i32) -> ErrorCode {
    let ours = logs.log_dirs.by_path(&dir.path);
    match (ours, logs.partitions.get(topic, partition)) {
        (None, _) => ErrorCode::LOG_DIR_NOT_FOUND,
        (Some(_), None) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        (Some(dir), Some(partition)) if partition.is_in(dir) => ErrorCode::NONE,
        (Some(_), Some(_)) => ErrorCode::UNSUPPORTED_VERSION,
    }
}
