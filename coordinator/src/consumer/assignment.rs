//! Sets of partitions: what a member shall have, and what it has with the epochs at which it got
//! each, and how both look in records and answers.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::types::TopicId;

use crate::command::TopicPartitions;
use crate::records::OwnedTopic;

/// What a member shall have. No topic is without partitions.
pub(crate) type Target = BTreeMap<TopicId, BTreeSet<i32>>;

/// What a member has: each partition with the epoch at which it was assigned. No topic is without
/// partitions.
pub(crate) type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

pub(crate) fn target_of(topics: &[TopicPartitions]) -> Target {
    let mut target = Target::new();
    for topic in topics {
        if !topic.partitions.is_empty() {
            target
                .entry(topic.topic_id)
                .or_default()
                .extend(&topic.partitions);
        }
    }
    target
}

pub(crate) fn of_target(target: &Target) -> Vec<TopicPartitions> {
    let topics = target.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    });
    topics.collect()
}

/// Without epochs of their own, all have been assigned at `epoch`.
pub(crate) fn owned_of(topics: &[OwnedTopic], epoch: i32) -> Owned {
    let since = epoch.max(0);
    let mut owned = Owned::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let has_epochs = topic.epochs.len() == topic.partitions.len();
        let partitions = owned.entry(topic.topic_id).or_default();
        for (at, partition) in topic.partitions.iter().enumerate() {
            let of_its_own = topic.epochs.get(at).filter(|_| has_epochs);
            partitions.insert(*partition, of_its_own.copied().unwrap_or(since));
        }
    }
    owned
}

pub(crate) fn of_owned(owned: &Owned) -> Vec<OwnedTopic> {
    let topics = owned.iter().map(|(topic_id, partitions)| OwnedTopic {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        epochs: partitions.values().copied().collect(),
    });
    topics.collect()
}

/// As it is told to a member.
pub(crate) fn told(owned: &Owned) -> Vec<TopicPartitions> {
    let topics = owned.iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
    });
    topics.collect()
}

pub(crate) fn partitions(owned: &Owned) -> impl Iterator<Item = (TopicId, i32)> + '_ {
    owned.iter().flat_map(|(topic_id, partitions)| {
        partitions.keys().map(|partition| (*topic_id, *partition))
    })
}

pub(crate) fn epoch_of(owned: &Owned, topic_id: TopicId, partition: i32) -> Option<i32> {
    owned.get(&topic_id)?.get(&partition).copied()
}

/// The client names nothing that is not in `owned`.
pub(crate) fn holds_all(owned: &Owned, named: &[TopicPartitions]) -> bool {
    named.iter().all(|topic| {
        owned.get(&topic.topic_id).is_some_and(|partitions| {
            let known = |partition| partitions.contains_key(partition);
            topic.partitions.iter().all(known)
        })
    })
}

/// The client names something that is in `owned`.
pub(crate) fn holds_any(owned: &Owned, named: &[TopicPartitions]) -> bool {
    named.iter().any(|topic| {
        owned.get(&topic.topic_id).is_some_and(|partitions| {
            let known = |partition| partitions.contains_key(partition);
            topic.partitions.iter().any(known)
        })
    })
}
