//! What changed between two images, so that a broker touches only the partitions, configurations
//! and brokers that did. Filled while records are replayed, or by comparing two images when a
//! snapshot replaced the records between.
//!
//! A delta names everything that differs between its two images; it may also name what was changed
//! and changed back. It holds names, not values: the values are in the new image, the old ones in
//! the old.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, TopicId};

use crate::image::{MetadataImage, TopicImage};
use crate::record::{ConfigResource, MetadataRecord};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetadataDelta {
    pub topics_created: BTreeSet<TopicId>,
    /// Topics of the old image that the new one does not have, with their names.
    pub topics_deleted: BTreeMap<TopicId, Arc<str>>,
    /// Partitions that are new or changed, those of created topics included, those of deleted
    /// topics not.
    pub partitions_changed: BTreeMap<TopicId, BTreeSet<i32>>,
    pub configs_changed: BTreeSet<ConfigResource>,
    /// Brokers registered, changed or unregistered.
    pub brokers_changed: BTreeSet<BrokerId>,
    pub features_changed: bool,
    pub producer_ids_changed: bool,
    pub cluster_changed: bool,
}

impl MetadataDelta {
    pub fn is_empty(&self) -> bool {
        *self == MetadataDelta::default()
    }

    /// Adds what changed afterwards.
    pub fn merge(&mut self, later: MetadataDelta) {
        for id in later.topics_created {
            self.topics_created.insert(id);
        }
        for (id, name) in later.topics_deleted {
            self.partitions_changed.remove(&id);
            // A topic that came and went within one delta was never there.
            if !self.topics_created.remove(&id) {
                self.topics_deleted.insert(id, name);
            }
        }
        for (id, partitions) in later.partitions_changed {
            self.partitions_changed
                .entry(id)
                .or_default()
                .extend(partitions);
        }
        self.configs_changed.extend(later.configs_changed);
        self.brokers_changed.extend(later.brokers_changed);
        self.features_changed |= later.features_changed;
        self.producer_ids_changed |= later.producer_ids_changed;
        self.cluster_changed |= later.cluster_changed;
    }

    /// Applies the record to `image` and notes what it changes.
    pub fn replay(&mut self, image: &mut MetadataImage, record: &MetadataRecord) {
        self.note(image, record);
        image.apply(record);
    }

    fn note(&mut self, before: &MetadataImage, record: &MetadataRecord) {
        match record {
            MetadataRecord::Cluster { .. } => self.cluster_changed = true,
            MetadataRecord::Feature { .. } => self.features_changed = true,
            MetadataRecord::BrokerRegistration(r) => {
                self.brokers_changed.insert(r.broker_id);
            }
            MetadataRecord::BrokerUnregistered { broker_id } => {
                self.brokers_changed.insert(*broker_id);
            }
            MetadataRecord::LeaderEpochsBumped { broker_id } => {
                for topic in before.topics.iter() {
                    self.note_led_by(topic, *broker_id);
                }
            }
            MetadataRecord::Topic { topic_id, .. } => {
                self.topics_created.insert(*topic_id);
            }
            MetadataRecord::RemoveTopic { topic_id } => self.note_removed(before, *topic_id),
            MetadataRecord::Partition(r) => self.note_partition(r.topic_id, r.partition),
            MetadataRecord::PartitionChange(r) => self.note_partition(r.topic_id, r.partition),
            MetadataRecord::Config { resource, .. } => {
                self.configs_changed.insert(resource.clone());
            }
            MetadataRecord::ProducerIds { .. } => self.producer_ids_changed = true,
        }
    }

    fn note_partition(&mut self, topic_id: TopicId, partition: i32) {
        self.partitions_changed
            .entry(topic_id)
            .or_default()
            .insert(partition);
    }

    fn note_led_by(&mut self, topic: &TopicImage, broker: BrokerId) {
        for (partition, p) in (0i32..).zip(&topic.partitions) {
            if p.leader == broker {
                self.note_partition(topic.id, partition);
            }
        }
    }

    fn note_removed(&mut self, before: &MetadataImage, topic_id: TopicId) {
        let Some(topic) = before.topics.by_id(topic_id) else {
            return;
        };
        self.partitions_changed.remove(&topic_id);
        // A topic that came and went within one delta was never there.
        if !self.topics_created.remove(&topic_id) {
            self.topics_deleted.insert(topic_id, topic.name.clone());
        }
        let resource = ConfigResource::Topic(topic.name.clone());
        if !before.configs.of(&resource).is_empty() {
            self.configs_changed.insert(resource);
        }
    }

    /// Exactly what differs between two images, whatever lies between them.
    pub fn between(before: &MetadataImage, after: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta {
            features_changed: before.features != after.features,
            producer_ids_changed: before.next_producer_id != after.next_producer_id,
            cluster_changed: before.cluster_id != after.cluster_id,
            ..MetadataDelta::default()
        };
        for topic in after.topics.iter() {
            delta.compare_topic(before.topics.by_id(topic.id), topic);
        }
        for topic in before.topics.iter() {
            if after.topics.by_id(topic.id).is_none() {
                delta.topics_deleted.insert(topic.id, topic.name.clone());
            }
        }
        for broker in before.brokers.iter().chain(after.brokers.iter()) {
            if before.brokers.get(broker.id) != after.brokers.get(broker.id) {
                delta.brokers_changed.insert(broker.id);
            }
        }
        for resource in before.configs.resources().chain(after.configs.resources()) {
            if before.configs.of(resource) != after.configs.of(resource) {
                delta.configs_changed.insert(resource.clone());
            }
        }
        delta
    }

    fn compare_topic(&mut self, before: Option<&Arc<TopicImage>>, after: &Arc<TopicImage>) {
        let old_partitions = match before {
            Some(before) if Arc::ptr_eq(before, after) => return,
            Some(before) => before.partitions.as_slice(),
            None => {
                self.topics_created.insert(after.id);
                &[]
            }
        };
        // Partitions do not go away, but images may be compared backwards.
        let count = after.partitions.len().max(old_partitions.len());
        for (index, partition) in (0..count).zip(0i32..) {
            if old_partitions.get(index) != after.partitions.get(index) {
                self.note_partition(after.id, partition);
            }
        }
    }

    /// Whether everything that `other` names is named here too.
    pub fn covers(&self, other: &MetadataDelta) -> bool {
        let empty = BTreeSet::new();
        other.topics_created.is_subset(&self.topics_created)
            && other
                .topics_deleted
                .iter()
                .all(|(id, name)| self.topics_deleted.get(id) == Some(name))
            && other.partitions_changed.iter().all(|(id, partitions)| {
                partitions.is_subset(self.partitions_changed.get(id).unwrap_or(&empty))
            })
            && other.configs_changed.is_subset(&self.configs_changed)
            && other.brokers_changed.is_subset(&self.brokers_changed)
            && self.features_changed >= other.features_changed
            && self.producer_ids_changed >= other.producer_ids_changed
            && self.cluster_changed >= other.cluster_changed
    }
}
