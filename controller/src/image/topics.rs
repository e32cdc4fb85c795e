//! Topics and partitions of an image. Owns the lookups by name and by id, the total number of
//! partitions and the index that finds names that would collide in metric names (`a.b` and `a_b`).
//!
//! Partition ids of a topic are dense: partition `n` is element `n`. Epochs never decrease.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, LeaderEpoch, TopicId};

use crate::record::{MetadataRecord, PartitionChangeRecord, PartitionEpoch, PartitionRecord};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionImage {
    /// In order of preference: the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// `BrokerId::NONE` while nobody may lead.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    pub fn partition(&self, partition: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicsImage {
    by_id: BTreeMap<TopicId, Arc<TopicImage>>,
    by_name: BTreeMap<Arc<str>, TopicId>,
    /// Names with a `.` or `_`, spelled with `_` only.
    by_collision_key: BTreeMap<Arc<str>, TopicId>,
    partitions: usize,
}

impl TopicsImage {
    pub fn by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_id.get(self.by_name.get(name)?)
    }

    /// Topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// Topics in the order of their names, from the first name >= `name`.
    pub fn iter_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let from = std::ops::Bound::Included(name);
        let range = self
            .by_name
            .range::<str, _>((from, std::ops::Bound::Unbounded));
        range.filter_map(|(_, id)| self.by_id.get(id))
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// The topic whose name differs from `name` at most in `.` and `_`.
    pub fn colliding(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_id
            .get(self.by_collision_key.get(collision_key(name)?.as_str())?)
    }

    pub(super) fn create(&mut self, id: TopicId, name: &Arc<str>) {
        if self.by_id.contains_key(&id) || self.by_name.contains_key(name) {
            return;
        }
        self.by_name.insert(name.clone(), id);
        if let Some(key) = collision_key(name) {
            self.by_collision_key.insert(Arc::from(key), id);
        }
        let topic = TopicImage {
            id,
            name: name.clone(),
            partitions: Vec::new(),
        };
        self.by_id.insert(id, Arc::new(topic));
    }

    pub(super) fn remove(&mut self, id: TopicId) -> Option<Arc<str>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        if let Some(key) = collision_key(&topic.name) {
            self.by_collision_key.remove(key.as_str());
        }
        self.partitions -= topic.partitions.len();
        Some(topic.name.clone())
    }

    pub(super) fn set_partition(&mut self, r: &PartitionRecord) {
        let Some(topic) = self.by_id.get_mut(&r.topic_id) else {
            return;
        };
        let Ok(index) = usize::try_from(r.partition) else {
            return;
        };
        if index > topic.partitions.len() {
            return;
        }
        let partition = PartitionImage {
            replicas: r.replicas.clone(),
            isr: r.isr.clone(),
            leader: r.leader,
            leader_epoch: r.leader_epoch,
            partition_epoch: r.partition_epoch,
        };
        let partitions = &mut Arc::make_mut(topic).partitions;
        match partitions.get_mut(index) {
            Some(existing) => *existing = partition,
            None => {
                partitions.push(partition);
                self.partitions += 1;
            }
        }
    }

    pub(super) fn change_partition(&mut self, r: &PartitionChangeRecord) {
        let Some(topic) = self.by_id.get_mut(&r.topic_id) else {
            return;
        };
        let Ok(index) = usize::try_from(r.partition) else {
            return;
        };
        if index >= topic.partitions.len() {
            return;
        }
        let partition = &mut Arc::make_mut(topic).partitions[index];
        partition.isr.clone_from(&r.isr);
        partition.leader = r.leader;
        partition.leader_epoch = r.leader_epoch;
        partition.partition_epoch = r.partition_epoch;
    }

    pub(super) fn bump_leader_epochs(&mut self, broker: BrokerId) {
        for topic in self.by_id.values_mut() {
            if !topic.partitions.iter().any(|p| p.leader == broker) {
                continue;
            }
            for partition in &mut Arc::make_mut(topic).partitions {
                if partition.leader == broker {
                    partition.leader_epoch.0 = partition.leader_epoch.0.saturating_add(1);
                    partition.partition_epoch.0 = partition.partition_epoch.0.saturating_add(1);
                }
            }
        }
    }

    pub(super) fn snapshot(&self, records: &mut Vec<MetadataRecord>) {
        for topic in self.by_id.values() {
            let (topic_id, name) = (topic.id, topic.name.clone());
            records.push(MetadataRecord::Topic { topic_id, name });
            for (partition, p) in (0i32..).zip(&topic.partitions) {
                records.push(MetadataRecord::Partition(PartitionRecord {
                    topic_id,
                    partition,
                    replicas: p.replicas.clone(),
                    isr: p.isr.clone(),
                    leader: p.leader,
                    leader_epoch: p.leader_epoch,
                    partition_epoch: p.partition_epoch,
                }));
            }
        }
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_id.len(), self.by_name.len());
        let mut partitions = 0;
        for (id, topic) in &self.by_id {
            assert_eq!((*id, self.by_name.get(&topic.name)), (topic.id, Some(id)));
            partitions += topic.partitions.len();
            for partition in &topic.partitions {
                assert!(!partition.replicas.is_empty());
                assert!(
                    partition
                        .isr
                        .iter()
                        .all(|id| partition.replicas.contains(id))
                );
                assert!(
                    partition.leader == BrokerId::NONE || partition.isr.contains(&partition.leader)
                );
            }
        }
        assert_eq!(partitions, self.partitions);
    }
}

/// How a topic name looks in a metric name, for names where that loses something.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
