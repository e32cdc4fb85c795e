//! OffsetFetch: what groups have committed, of one group, or from version 8 of several. What is
//! told is committed itself: a crash cannot take it back. From version 10 topics are named by their
//! ids; the coordinators know them by name.

use std::collections::BTreeMap;

use ottla_controller::MetadataImage;
use ottla_coordinator::command::{FetchOffsets, FetchedOffset};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::types::TopicId;

use super::groups::{group_id, optional_text, owned_text};
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
/// From here topics have ids and no names.
const TOPIC_IDS_FROM: i16 = 10;

struct Found {
    group: String,
    asked: Vec<(String, i32)>,
    read: Result<Vec<FetchedOffset>, ErrorCode>,
}

pub fn handle(
    groups: Groups<'_>,
    ctx: &RequestContext<'_>,
    mut request: OffsetFetchRequest,
) -> Reply<OffsetFetchResponse> {
    let version = ctx.version;
    let image = groups.metadata.image();
    let unknown = match version {
        TOPIC_IDS_FROM.. => name_topics(&image, &mut request),
        _ => Vec::new(),
    };
    let mut ends: Ends = Vec::new();
    let mut found = Vec::new();
    for wanted in wanted(version, &request) {
        let read = match groups.coordinators.of(&wanted.group) {
            Ok(shard) => {
                let read = groups
                    .coordinators
                    .read(&shard, |machine| machine.fetch_offsets(&wanted));
                ends.push((shard, read.end));
                read.result
            }
            Err(error) => Err(error),
        };
        found.push(Found {
            group: wanted.group,
            asked: wanted.partitions.unwrap_or_default(),
            read,
        });
    }
    let asked: Vec<_> = found
        .iter()
        .map(|found| (found.group.clone(), found.asked.clone()))
        .collect();
    let mut answer = response(version, found);
    if version >= TOPIC_IDS_FROM {
        identify_topics(&image, &mut answer, unknown);
    }
    when_committed(ctx, ends, answer, move |_, error| {
        let lost = asked.into_iter().map(|(group, asked)| Found {
            group,
            asked,
            read: Err(error),
        });
        response(version, lost.collect())
    })
}

/// Gives the topics of the request their names. Those that nobody has are taken out, and given back
/// by group, as they are answered.
fn name_topics(
    image: &MetadataImage,
    request: &mut OffsetFetchRequest,
) -> Vec<Vec<OffsetFetchResponseTopics>> {
    let groups = request.groups.iter_mut().map(|group| {
        let mut unknown = Vec::new();
        if let Some(topics) = &mut group.topics {
            topics.retain_mut(|topic| match image.topics.by_id(TopicId(topic.topic_id)) {
                Some(known) => {
                    topic.name = wire_name(&known.name);
                    true
                }
                None => {
                    unknown.push(unknown_topic(topic));
                    false
                }
            });
        }
        unknown
    });
    groups.collect()
}

fn unknown_topic(asked: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = asked.partition_indexes.iter().map(|index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(text("")))
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
    });
    OffsetFetchResponseTopics::default()
        .with_topic_id(asked.topic_id)
        .with_partitions(partitions.collect())
}

/// Gives the topics of the answer their ids; of topics that were deleted nothing is told.
fn identify_topics(
    image: &MetadataImage,
    response: &mut OffsetFetchResponse,
    unknown: Vec<Vec<OffsetFetchResponseTopics>>,
) {
    for (group, unknown) in response.groups.iter_mut().zip(unknown) {
        group.topics.retain_mut(|topic| {
            let known = image.topics.by_name(&topic.name.0);
            topic.topic_id = known.map_or(topic.topic_id, |known| known.id.0);
            known.is_some()
        });
        if group.error_code == ErrorCode::NONE.0 {
            group.topics.extend(unknown);
        }
    }
}

fn wanted(version: i16, request: &OffsetFetchRequest) -> Vec<FetchOffsets> {
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
            FetchOffsets {
                group: owned_text(&asked.group_id.0),
                member_id: optional_text(asked.member_id.as_ref()),
                member_epoch: asked.member_epoch,
                partitions,
            }
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
    vec![FetchOffsets {
        group: owned_text(&request.group_id.0),
        member_id: None,
        member_epoch: -1,
        partitions,
    }]
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
