//! AlterReplicaLogDirs: moves replicas between the directories of this broker. The answer says that
//! the move was begun; DescribeLogDirs shows how far it has come.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDir;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use crate::broker::Logs;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::partition::PartitionError;
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
    let Some(dir) = logs.log_dirs.by_path(&dir.path) else {
        return ErrorCode::LOG_DIR_NOT_FOUND;
    };
    if !dir.is_online() {
        return ErrorCode::KAFKA_STORAGE_ERROR;
    }
    let Some(partition) = logs.partitions.get(topic, partition) else {
        return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    };
    if dir.is_cordoned() && !partition.is_in(dir) {
        return ErrorCode::INVALID_REPLICA_ASSIGNMENT;
    }
    match logs.mover.ask(&partition, dir) {
        Ok(()) => ErrorCode::NONE,
        // As Kafka tells it here.
        Err(PartitionError::NotHosted | PartitionError::Moving) => ErrorCode::REPLICA_NOT_AVAILABLE,
        Err(error) => error.error_code(),
    }
}
