//! The past of the cluster: the image at any position of the metadata log that is kept, and what
//! differs between two images, in words.
//!
//! Reconstruction is the only way an image is ever made: a snapshot and the entries after it. This
//! file adds nothing to that but a place to stop. `History` (read from disk by `raft/history.rs`)
//! says how far back it goes: to the oldest snapshot that is kept.

use std::fmt;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, Offset, ProducerId, TopicId};

use crate::delta::MetadataDelta;
use crate::image::{BrokerImage, MetadataImage, PartitionImage};
use crate::record::{ConfigResource, MetadataRecord};

pub use crate::raft::History;

#[cfg(test)]
mod tests;

/// One entry of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryEntry {
    pub position: Offset,
    /// Raft's term.
    pub term: u64,
    /// The leader's wall time; `None` for entries that the quorum itself made.
    pub proposed_at_ms: Option<i64>,
    pub records: Vec<MetadataRecord>,
}

/// The image that the entries make of an earlier one.
pub fn replay<'a>(
    from: &MetadataImage,
    entries: impl IntoIterator<Item = &'a HistoryEntry>,
) -> MetadataImage {
    let mut image = from.clone();
    for entry in entries {
        entry.records.iter().for_each(|record| image.apply(record));
        image.applied = entry.position;
        image.term = entry.term;
    }
    image
}

/// One thing that is otherwise in the second of two images. `None` is: not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    ClusterId {
        before: Arc<str>,
        after: Arc<str>,
    },
    TopicCreated {
        id: TopicId,
        name: Arc<str>,
    },
    TopicDeleted {
        id: TopicId,
        name: Arc<str>,
    },
    /// Partitions go only with their topic, unless images are compared backwards.
    Partition {
        topic: Arc<str>,
        partition: i32,
        before: Option<PartitionImage>,
        after: Option<PartitionImage>,
    },
    Config {
        resource: ConfigResource,
        name: Arc<str>,
        before: Option<Arc<str>>,
        after: Option<Arc<str>>,
    },
    Broker {
        id: BrokerId,
        before: Option<Arc<BrokerImage>>,
        after: Option<Arc<BrokerImage>>,
    },
    /// Level 0 is: not finalised.
    Feature {
        name: Arc<str>,
        before: i16,
        after: i16,
    },
    FeatureEpoch {
        before: i64,
        after: i64,
    },
    ProducerIds {
        before: ProducerId,
        after: ProducerId,
    },
}

/// Everything that differs, in a fixed order; empty exactly if the images hold the same.
pub fn diff(before: &MetadataImage, after: &MetadataImage) -> Vec<Difference> {
    let delta = MetadataDelta::between(before, after);
    let mut found = Vec::new();
    if delta.cluster_changed {
        let (before, after) = (before.cluster_id.clone(), after.cluster_id.clone());
        found.push(Difference::ClusterId { before, after });
    }
    diff_features(before, after, &mut found);
    for id in &delta.brokers_changed {
        let (before, after) = (before.brokers.get(*id), after.brokers.get(*id));
        let (before, after) = (before.cloned(), after.cloned());
        found.push(Difference::Broker {
            id: *id,
            before,
            after,
        });
    }
    for (id, name) in &delta.topics_deleted {
        found.push(Difference::TopicDeleted {
            id: *id,
            name: name.clone(),
        });
    }
    diff_partitions(&delta, before, after, &mut found);
    for resource in &delta.configs_changed {
        diff_configs(resource, before, after, &mut found);
    }
    if delta.producer_ids_changed {
        let (before, after) = (before.next_producer_id, after.next_producer_id);
        found.push(Difference::ProducerIds { before, after });
    }
    found
}

fn diff_features(before: &MetadataImage, after: &MetadataImage, found: &mut Vec<Difference>) {
    let (old, new) = (&before.features, &after.features);
    let gone = old.iter().filter(|(name, _)| new.level(name) == 0);
    for (name, _) in new.iter().chain(gone) {
        let (before, after) = (old.level(name), new.level(name));
        if before != after {
            found.push(Difference::Feature {
                name: name.clone(),
                before,
                after,
            });
        }
    }
    if old.epoch() != new.epoch() {
        found.push(Difference::FeatureEpoch {
            before: old.epoch(),
            after: new.epoch(),
        });
    }
}

fn diff_partitions(
    delta: &MetadataDelta,
    before: &MetadataImage,
    after: &MetadataImage,
    found: &mut Vec<Difference>,
) {
    let created = delta
        .topics_created
        .iter()
        .filter_map(|id| after.topics.by_id(*id));
    found.extend(created.map(|topic| {
        let (id, name) = (topic.id, topic.name.clone());
        Difference::TopicCreated { id, name }
    }));
    for (id, partitions) in &delta.partitions_changed {
        let Some(topic) = after.topics.by_id(*id) else {
            continue;
        };
        let old = before.topics.by_id(*id);
        for partition in partitions {
            found.push(Difference::Partition {
                topic: topic.name.clone(),
                partition: *partition,
                before: old.and_then(|old| old.partition(*partition)).cloned(),
                after: topic.partition(*partition).cloned(),
            });
        }
    }
}

fn diff_configs(
    resource: &ConfigResource,
    before: &MetadataImage,
    after: &MetadataImage,
    found: &mut Vec<Difference>,
) {
    let (old, new) = (before.configs.of(resource), after.configs.of(resource));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    for name in new.keys().chain(gone) {
        let (before, after) = (old.get(name), new.get(name));
        if before != after {
            found.push(Difference::Config {
                resource: resource.clone(),
                name: name.clone(),
                before: before.cloned(),
                after: after.cloned(),
            });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::ClusterId { before, after } => {
                write!(f, "cluster id: '{before}' -> '{after}'")
            }
            Difference::TopicCreated { id, name } => write!(f, "topic {name}: created ({id})"),
            Difference::TopicDeleted { id, name } => write!(f, "topic {name}: deleted ({id})"),
            Difference::Partition {
                topic,
                partition,
                before,
                after,
            } => {
                write!(f, "partition {topic}-{partition}: ")?;
                match (before, after) {
                    (None, Some(new)) => write!(f, "new, {}", PartitionText(new)),
                    (Some(old), Some(new)) => {
                        write!(f, "{} -> {}", PartitionText(old), PartitionText(new))
                    }
                    (_, None) => f.write_str("gone"),
                }
            }
            Difference::Config {
                resource,
                name,
                before,
                after,
            } => {
                let text = |value: &Option<Arc<str>>| match value {
                    Some(value) => format!("'{value}'"),
                    None => "not set".to_owned(),
                };
                write!(f, "{resource}, {name}: {} -> {}", text(before), text(after))
            }
            Difference::Broker { id, before, after } => {
                let epoch = |broker: &Arc<BrokerImage>| broker.epoch.0;
                match (before.as_ref().map(epoch), after.as_ref().map(epoch)) {
                    (None, Some(new)) => write!(f, "broker {id}: registered, epoch {new}"),
                    (Some(old), Some(new)) => write!(f, "broker {id}: epoch {old} -> {new}"),
                    (_, None) => write!(f, "broker {id}: unregistered"),
                }
            }
            Difference::Feature {
                name,
                before,
                after,
            } => {
                write!(f, "feature {name}: level {before} -> {after}")
            }
            Difference::FeatureEpoch { before, after } => {
                write!(f, "feature epoch: {before} -> {after}")
            }
            Difference::ProducerIds { before, after } => {
                write!(f, "next producer id: {before} -> {after}")
            }
        }
    }
}

struct PartitionText<'a>(&'a PartitionImage);

impl fmt::Display for PartitionText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |brokers: &[BrokerId]| {
            brokers
                .iter()
                .map(BrokerId::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let PartitionImage {
            replicas,
            isr,
            leader,
            leader_epoch,
            partition_epoch,
        } = self.0;
        write!(
            f,
            "[leader {leader} epoch {leader_epoch} replicas {} isr {} partition epoch {}]",
            ids(replicas),
            ids(isr),
            partition_epoch.0
        )
    }
}
