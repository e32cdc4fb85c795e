//! OffsetFetch: what groups have committed, of one group, or from version 8 of several. What is
//! told is committed itself: a crash cannot take it back.

use std::collections::BTreeMap;

use ottla_coordinator::command::FetchedOffset;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::groups::{group_id, owned_text};
use super::wire::{text, wire_name};
use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Ends, when_committed};
use crate::reply::Reply;

/// From here one request asks for several groups.
const GROUPS_FROM: i16 = 8;
/// From here a null list of topics means all; before it means none, as an empty list does.
const ALL_TOPICS_FROM: i16 = 2;
/// From here there is an error for the whole group; before only for each partition.
const GROUP_ERROR_FROM: i16 = 2;

/// A group and what is wanted of it; `None`: everything.
type Wanted = (String, Option<Vec<(String, i32)>>);

struct Found {
    group: String,
    asked: Vec<(String, i32)>,
    read: Result<Vec<FetchedOffset>, ErrorCode>,
}

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    request: OffsetFetchRequest,
) -> Reply<OffsetFetchResponse> {
    let version = ctx.version;
    let mut ends: Ends = Vec::new();
    let mut found = Vec::new();
    for (group, partitions) in wanted(version, &request) {
        let read = match groups.coordinators.of(&group) {
            Ok(shard) => {
                let read = groups.coordinators.read(&shard, |machine| {
                    machine.fetch_offsets(&group, partitions.as_deref())
                });
                ends.push((shard, read.end));
                Ok(read.result)
            }
            Err(error) => Err(error),
        };
        found.push(Found {
            group,
            asked: partitions.unwrap_or_default(),
            read,
        });
    }
    let asked: Vec<_> = found
        .iter()
        .map(|found| (found.group.clone(), found.asked.clone()))
        .collect();
    let answer = response(version, found);
    when_committed(ctx, ends, answer, move |_, error| {
        let lost = asked.into_iter().map(|(group, asked)| Found {
            group,
            asked,
            read: Err(error),
        });
        response(version, lost.collect())
    })
}

fn wanted(version: i16, request: &OffsetFetchRequest) -> Vec<Wanted> {
    if version >= GROUPS_FROM {
        let groups = request.groups.iter().map(|asked| {
            let partitions = asked.topics.as_ref().map(|topics| {
                let all = topics.iter().flat_map(|topic| {
                    let name = owned_text(&topic.name.0);
                    let indexes = topic.partition_indexes.iter();
                    indexes.map(move |index| (name.clone(), *index))
                });
                all.collect()
            });
            (owned_text(&asked.group_id.0), partitions)
        });
        return groups.collect();
    }
    let topics = match &request.topics {
        None if version >= ALL_TOPICS_FROM => None,
        topics => Some(topics.as_deref().unwrap_or_default()),
    };
    let partitions = topics.map(|topics| {
        let all = topics.iter().flat_map(|topic| {
            let name = owned_text(&topic.name.0);
            let indexes = topic.partition_indexes.iter();
            indexes.map(move |index| (name.clone(), *index))
        });
        all.collect()
    });
    vec![(owned_text(&request.group_id.0), partitions)]
}

fn response(version: i16, found: Vec<Found>) -> OffsetFetchResponse {
    if version >= GROUPS_FROM {
        let groups = found.into_iter().map(|found| {
            let group = group_id(&found.group);
            let response = OffsetFetchResponseGroup::default().with_group_id(group);
            match found.read {
                Ok(offsets) => response.with_topics(topics_of_group(offsets)),
                Err(error) => response.with_error_code(error.0),
            }
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let response = OffsetFetchResponse::default();
    let Some(found) = found.into_iter().next() else {
        return response;
    };
    match found.read {
        Ok(offsets) => response.with_topics(topics(offsets, ErrorCode::NONE)),
        Err(error) if version >= GROUP_ERROR_FROM => response.with_error_code(error.0),
        Err(error) => {
            let nothing = found
                .asked
                .into_iter()
                .map(|(topic, partition)| FetchedOffset {
                    topic,
                    partition,
                    committed: None,
                });
            response.with_topics(topics(nothing.collect(), error))
        }
    }
}

/// By topic, in the order of their names.
fn by_topic(offsets: Vec<FetchedOffset>) -> BTreeMap<String, Vec<FetchedOffset>> {
    let mut topics: BTreeMap<String, Vec<FetchedOffset>> = BTreeMap::new();
    for offset in offsets {
        topics.entry(offset.topic.clone()).or_default().push(offset);
    }
    topics
}

/// Offset, epoch and metadata of a partition; nothing committed is not an error.
fn told_of(fetched: &FetchedOffset) -> (i64, i32, &str) {
    match &fetched.committed {
        Some(committed) => (
            committed.offset.0,
            committed.leader_epoch.0,
            &committed.metadata,
        ),
        None => (-1, -1, ""),
    }
}

fn topics(offsets: Vec<FetchedOffset>, error: ErrorCode) -> Vec<OffsetFetchResponseTopic> {
    let topics = by_topic(offsets).into_iter().map(|(name, offsets)| {
        let partitions = offsets.iter().map(|fetched| {
            let (offset, epoch, metadata) = told_of(fetched);
            OffsetFetchResponsePartition::default()
                .with_partition_index(fetched.partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(text(metadata)))
                .with_error_code(error.0)
        });
        OffsetFetchResponseTopic::default()
            .with_name(wire_name(&name))
            .with_partitions(partitions.collect())
    });
    topics.collect()
}

fn topics_of_group(offsets: Vec<FetchedOffset>) -> Vec<OffsetFetchResponseTopics> {
    let topics = by_topic(offsets).into_iter().map(|(name, offsets)| {
        let partitions = offsets.iter().map(|fetched| {
            let (offset, epoch, metadata) = told_of(fetched);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(fetched.partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(text(metadata)))
        });
        OffsetFetchResponseTopics::default()
            .with_name(wire_name(&name))
            .with_partitions(partitions.collect())
    });
    topics.collect()
}
