//! DescribeTopicPartitions: topics in the order of their names, a bounded number of partitions at a
//! time, with a cursor to go on from.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_controller::image::{PartitionImage, TopicImage};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use ottla_protocol::topic_name;

use crate::broker::Topics;
use crate::config::ListenerName;
use crate::context::RequestContext;
use crate::errors::ToErrorCode;
use crate::handlers::metadata::Leader;
use crate::handlers::wire::{
    ALL_TOPIC_OPERATIONS, broker_id, broker_ids, is_internal, owned, wire_name,
};
use crate::reply::Reply;

/// The version of Metadata that knows every error code used here.
const LIKE_METADATA_VERSION: i16 = 12;

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: DescribeTopicPartitionsRequest,
) -> Reply<DescribeTopicPartitionsResponse> {
    let image = topics.metadata.image();
    let server_limit = topics.config.max_request_partition_size_limit;
    let limit = i64::from(request.response_partition_limit)
        .min(i64::from(server_limit))
        .max(1);
    let start = match Start::of(&request) {
        Ok(start) => start,
        Err(InvalidCursor) => return Reply::Now(refuse_all(&request)),
    };
    let names = names(&image, &request, &start);
    let page = Page {
        image: &image,
        listener: ctx.listener,
        start: &start,
    };
    Reply::Now(page.fill(names, usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// Where to begin: the cursor, or the first partition of everything.
struct Start {
    topic: Arc<str>,
    partition: usize,
}

struct InvalidCursor;

impl Start {
    fn of(request: &DescribeTopicPartitionsRequest) -> Result<Start, InvalidCursor> {
        let Some(cursor) = &request.cursor else {
            return Ok(Start {
                topic: owned(""),
                partition: 0,
            });
        };
        let named = |name: &str| request.topics.iter().any(|topic| &*topic.name.0 == name);
        if !request.topics.is_empty() && !named(&cursor.topic_name.0) {
            return Err(InvalidCursor);
        }
        let partition = usize::try_from(cursor.partition_index).map_err(|_| InvalidCursor)?;
        Ok(Start {
            topic: owned(&cursor.topic_name.0),
            partition,
        })
    }

    /// The first partition of `topic` to be told.
    fn partition_of(&self, topic: &str) -> usize {
        if *self.topic == *topic {
            self.partition
        } else {
            0
        }
    }
}

fn names(
    image: &MetadataImage,
    request: &DescribeTopicPartitionsRequest,
    start: &Start,
) -> BTreeSet<Arc<str>> {
    if request.topics.is_empty() {
        return image
            .topics
            .iter_from(&start.topic)
            .map(|topic| topic.name.clone())
            .collect();
    }
    let names = request.topics.iter().map(|topic| owned(&topic.name.0));
    names.filter(|name| *name >= start.topic).collect()
}

fn refuse_all(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let refused = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(ErrorCode::INVALID_REQUEST.0)
            .with_name(Some(topic.name.clone()))
    });
    DescribeTopicPartitionsResponse::default().with_topics(refused.collect())
}

struct Page<'a> {
    image: &'a MetadataImage,
    listener: &'a ListenerName,
    start: &'a Start,
}

impl Page<'_> {
    /// Topics until `limit` partitions are told. A topic without partitions to tell costs nothing.
    fn fill(&self, names: BTreeSet<Arc<str>>, limit: usize) -> DescribeTopicPartitionsResponse {
        let mut told = Vec::new();
        let mut left = limit;
        for name in names {
            if left == 0 {
                return answer(told, Some(cursor(&name, 0)));
            }
            let Some(topic) = self.image.topics.by_name(&name) else {
                told.push(missing(&name));
                continue;
            };
            let first = self.start.partition_of(&name);
            let after = topic.partitions.len().min(first.saturating_add(left));
            told.push(self.topic(topic, first, after));
            left -= after.saturating_sub(first);
            if after < topic.partitions.len() {
                return answer(told, Some(cursor(&name, after)));
            }
        }
        answer(told, None)
    }

    /// Partitions `first` to `after`, exclusive.
    fn topic(
        &self,
        topic: &TopicImage,
        first: usize,
        after: usize,
    ) -> DescribeTopicPartitionsResponseTopic {
        let partitions = (0i32..).zip(&topic.partitions).take(after).skip(first);
        DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(wire_name(&topic.name)))
            .with_topic_id(topic.id.0)
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(
                partitions
                    .map(|(index, p)| self.partition(index, p))
                    .collect(),
            )
            .with_topic_authorized_operations(ALL_TOPIC_OPERATIONS)
    }

    fn partition(
        &self,
        index: i32,
        partition: &PartitionImage,
    ) -> DescribeTopicPartitionsResponsePartition {
        let leader = Leader::of(self.image, partition, self.listener);
        let offline = partition
            .replicas
            .iter()
            .filter(|id| !self.image.brokers.is_alive(**id));
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(leader.error_code(LIKE_METADATA_VERSION).0)
            .with_partition_index(index)
            .with_leader_id(leader.wire_id())
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(offline.copied().map(broker_id).collect())
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match topic_name::validate(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(error) => error.error_code(),
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.0)
        .with_name(Some(wire_name(name)))
        .with_is_internal(is_internal(name))
        .with_topic_authorized_operations(ALL_TOPIC_OPERATIONS)
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(wire_name(topic))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn answer(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
) -> DescribeTopicPartitionsResponse {
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

#[cfg(test)]
mod tests;
