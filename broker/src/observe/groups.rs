//! Groups as `/metrics` and an administrator see them: states, members, offsets and lag.
//!
//! Nothing is kept: a look visits the coordinators of this broker one after another and holds each
//! for a moment per group. Lag is counted to the high watermark; partitions that other brokers lead
//! have none here.

use std::collections::{BTreeMap, BTreeSet};

use ottla_controller::MetadataImage;
use ottla_coordinator::command::{
    DescribedConsumerGroup, DescribedConsumerMember, DescribedGroup, DescribedMember, FetchOffsets,
    ListFilter,
};
use ottla_protocol::consumer_protocol::{self, Assignment};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;

use super::unread;
use crate::broker::Broker;
use crate::metrics::{GroupBounds, GroupSample, GroupsSample, OffsetSample};

/// The protocol type whose subscriptions and assignments are understood.
const CONSUMER: &str = "consumer";
const STABLE: &str = "Stable";
const EMPTY: &str = "Empty";

/// One group as its coordinator has it.
pub(super) struct Look {
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) members: Vec<Member>,
    /// What is committed, ordered by topic and partition.
    pub(super) offsets: BTreeMap<(String, i32), i64>,
}

pub(super) struct Member {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    /// Topics by name; those that a regular expression matches are not among them.
    pub(super) subscribed: Vec<String>,
    pub(super) assigned: Assignment,
}

impl Look {
    /// The partitions that somebody has committed for or reads.
    pub(super) fn partitions(&self) -> BTreeSet<(String, i32)> {
        let mut partitions: BTreeSet<(String, i32)> = self.offsets.keys().cloned().collect();
        for member in &self.members {
            for (topic, of_topic) in &member.assigned {
                partitions.extend(of_topic.iter().map(|index| (topic.clone(), *index)));
            }
        }
        partitions
    }

    /// Partitions of topics that a stable group reads and none of its members has.
    fn unowned(&self, image: &MetadataImage) -> usize {
        if self.state != STABLE || self.protocol_type != CONSUMER {
            return 0;
        }
        let topics: BTreeSet<&String> = self.members.iter().flat_map(|m| &m.subscribed).collect();
        let of_topic = |name: &String| {
            let partitions = image.topics.by_name(name).map_or(0, |t| t.partitions.len());
            let owners = self.members.iter().filter_map(|m| m.assigned.get(name));
            let owned: BTreeSet<i32> = owners.flatten().copied().collect();
            partitions.saturating_sub(owned.len())
        };
        topics.into_iter().map(of_topic).sum()
    }
}

enum Described {
    Classic(DescribedGroup),
    Consumer(DescribedConsumerGroup),
}

/// `None`: there is no such group. An error: its coordinator is not here.
pub(super) fn look(broker: &Broker, group: &str) -> Result<Option<Look>, ErrorCode> {
    let shard = broker.coordinators.of(group)?;
    let asked = FetchOffsets {
        group: group.to_owned(),
        member_epoch: -1,
        ..FetchOffsets::default()
    };
    let coordinators = &broker.coordinators;
    let read = coordinators.read(&shard, |machine| {
        let offsets = machine.fetch_offsets(&asked).unwrap_or_default();
        (machine.describe(group), offsets)
    });
    let (classic, fetched) = read.result;
    let described = match classic {
        Ok(classic) => Described::Classic(classic),
        Err(_) => match coordinators.describe_consumer(broker, &shard, group).result {
            Ok(consumer) => Described::Consumer(consumer),
            Err(_) => return Ok(None),
        },
    };
    let offsets = fetched.into_iter().filter_map(|fetched| {
        let committed = fetched.committed?;
        Some(((fetched.topic, fetched.partition), committed.offset.0))
    });
    let offsets = offsets.collect();
    Ok(Some(match described {
        Described::Classic(group) => of_classic(group, offsets),
        Described::Consumer(consumer) => Look {
            kind: "consumer",
            state: consumer.state,
            protocol_type: CONSUMER.to_owned(),
            protocol: consumer.assignor,
            members: consumer.members.into_iter().map(consumer_member).collect(),
            offsets,
        },
    }))
}

fn of_classic(group: DescribedGroup, offsets: BTreeMap<(String, i32), i64>) -> Look {
    let is_consumer = group.protocol_type == CONSUMER;
    let member = |member: DescribedMember| {
        let subscribed = consumer_protocol::subscription(&member.metadata);
        let assigned = consumer_protocol::assignment(&member.assignment);
        Member {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client.id,
            host: member.client.host,
            subscribed: subscribed.filter(|_| is_consumer).unwrap_or_default(),
            assigned: assigned.filter(|_| is_consumer).unwrap_or_default(),
        }
    };
    Look {
        kind: "classic",
        state: group.state,
        protocol_type: group.protocol_type,
        protocol: group.protocol,
        members: group.members.into_iter().map(member).collect(),
        offsets,
    }
}

fn consumer_member(member: DescribedConsumerMember) -> Member {
    let mut assigned = Assignment::new();
    for topic in member.assignment {
        let partitions = assigned.entry(topic.topic).or_default();
        partitions.extend(topic.partitions);
    }
    Member {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client.id,
        host: member.client.host,
        subscribed: member.subscribed_topic_names,
        assigned,
    }
}

/// All groups of this broker: each is counted, `bounds` says how many are shown one by one. Those
/// that are not empty come first.
pub fn sample(broker: &Broker, bounds: GroupBounds) -> GroupsSample {
    let mut sample = GroupsSample::default();
    let mut names = Vec::new();
    let shards = broker.coordinators.all();
    for shard in shards.into_iter().filter(|shard| shard.answers()) {
        let listed = broker
            .coordinators
            .read(&shard, |machine| machine.list(&ListFilter::default()));
        for group in listed.result {
            let counted = (group.group_type, group.state);
            *sample.by_state.entry(counted).or_default() += 1;
            names.push((group.state == EMPTY, group.group));
        }
    }
    names.sort_unstable();
    sample.left_out = names.len().saturating_sub(bounds.groups);
    names.truncate(bounds.groups);
    let image = broker.metadata.image();
    for (_, name) in names {
        // A group that went away meanwhile is not shown.
        let Ok(Some(look)) = look(broker, &name) else {
            continue;
        };
        let unowned = look.unowned(&image);
        if broker.metrics.groups.note_unowned(&name, unowned) {
            tracing::warn!(
                group = name,
                unowned,
                "nobody in group {name} reads {unowned} partitions of the topics it subscribes to"
            );
        }
        sample.shown.push(GroupSample {
            members: look.members.len(),
            unowned,
            offsets: offsets(broker, &look),
            group: name,
        });
    }
    let series: usize = sample.shown.iter().map(|group| group.offsets.len()).sum();
    sample.in_detail = series <= bounds.offsets;
    if sample.in_detail {
        tell_seconds(broker, &mut sample);
    }
    sample
}

fn offsets(broker: &Broker, look: &Look) -> Vec<OffsetSample> {
    let partitions = look.partitions().into_iter();
    let sampled = partitions.map(|(topic, partition)| {
        let key = (topic, partition);
        let committed = look.offsets.get(&key).copied();
        let end = broker.partitions.get(&key.0, partition);
        let end = end.and_then(|partition| Some(partition.marks().ok()?.high_watermark.0));
        OffsetSample {
            lag: committed.zip(end).map(|(at, end)| (end - at).max(0)),
            committed: committed.unwrap_or(-1),
            lag_seconds: None,
            topic: key.0,
            partition,
        }
    });
    sampled.collect()
}

/// A batch of a partition is looked at once, however many groups stand there.
fn tell_seconds(broker: &Broker, sample: &mut GroupsSample) {
    let now_ms = broker.clock.wall_ms();
    let mut known: BTreeMap<(String, i32, i64), Option<i64>> = BTreeMap::new();
    let groups = sample.shown.iter_mut();
    for offset in groups.flat_map(|group| &mut group.offsets) {
        offset.lag_seconds = match offset.lag {
            None => None,
            Some(0) => Some(0.0),
            Some(_) => {
                let at = (offset.topic.clone(), offset.partition, offset.committed);
                let written = known.entry(at).or_insert_with(|| {
                    let partition = broker.partitions.get(&offset.topic, offset.partition)?;
                    unread::batch_time(&partition, Offset(offset.committed))
                });
                written.map(|written_ms| unread::seconds_since(written_ms, now_ms))
            }
        };
    }
}
