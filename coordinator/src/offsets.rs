//! Committed offsets of all groups of a coordinator: what a commit writes, what is read back,
//! and what is dropped when.
//!
//! Nothing here changes but through [`Offsets::apply`]: commands only make records, which the
//! coordinator appends and then applies. Topic names are shared between the groups.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, TopicId};

use crate::command::{CommitOffsets, CommittedOffset, FetchedOffset};
use crate::records::{GroupRecord, OffsetValue};
use crate::turn::GroupLimits;

/// What the record can hold, whatever is configured.
const METADATA_MAX_BYTES: usize = 32_767;

/// From when on the offsets of a group age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpiryBasis<'a> {
    /// The group uses them.
    Never,
    /// Since the group has been empty. A later commit counts from itself, so that offsets which
    /// somebody sets in a group that has been empty for long are kept (in Kafka they are not).
    Since(i64),
    CommitTime,
    /// By their commit, but not those of topics that the group reads.
    CommitTimeExcept(&'a BTreeSet<String>),
}

type OfGroup = BTreeMap<Arc<str>, BTreeMap<i32, OffsetValue>>;

#[derive(Debug, Default)]
pub(crate) struct Offsets {
    groups: BTreeMap<Arc<str>, OfGroup>,
    topics: HashSet<Arc<str>>,
    count: usize,
}

impl Offsets {
    pub(crate) fn apply(
        &mut self,
        group: &str,
        (topic, partition): (&str, i32),
        value: Option<&OffsetValue>,
    ) {
        match value {
            Some(value) => self.put(group, topic, partition, value.clone()),
            None => self.drop_one(group, topic, partition),
        }
    }

    fn put(&mut self, group: &str, topic: &str, partition: i32, value: OffsetValue) {
        if !self.groups.contains_key(group) {
            self.groups.insert(Arc::from(group), OfGroup::new());
        }
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        let partitions = match topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => {
                let name = shared(&mut self.topics, topic);
                topics.entry(name).or_default()
            }
        };
        if partitions.insert(partition, value).is_none() {
            self.count += 1;
        }
    }

    fn drop_one(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        let Some(partitions) = topics.get_mut(topic) else {
            return;
        };
        if partitions.remove(&partition).is_some() {
            self.count -= 1;
        }
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn has_any(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The groups with offsets, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// What a commit writes, and each partition's result.
    pub(crate) fn commit_records(
        now_ms: i64,
        limits: &GroupLimits,
        request: &CommitOffsets,
    ) -> (Vec<GroupRecord>, Vec<ErrorCode>) {
        let mut records = Vec::with_capacity(request.offsets.len());
        let mut results = Vec::with_capacity(request.offsets.len());
        let expire_timestamp_ms = request
            .retention_ms
            .map(|retention_ms| now_ms.saturating_add(retention_ms));
        for (key, committed) in &request.offsets {
            if is_too_large(&committed.metadata, limits) {
                results.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            results.push(ErrorCode::NONE);
            records.push(GroupRecord::Offset {
                group: request.group.clone(),
                topic: key.topic.clone(),
                partition: key.partition,
                value: Some(value(now_ms, expire_timestamp_ms, key.topic_id, committed)),
            });
        }
        (records, results)
    }

    /// `None` asks for everything that is committed.
    pub(crate) fn fetch(
        &self,
        group: &str,
        partitions: Option<&[(String, i32)]>,
    ) -> Vec<FetchedOffset> {
        let topics = self.groups.get(group);
        let Some(asked) = partitions else {
            let all = topics
                .into_iter()
                .flatten()
                .flat_map(|(topic, partitions)| {
                    partitions.iter().map(|(partition, value)| FetchedOffset {
                        topic: topic.to_string(),
                        partition: *partition,
                        committed: Some(committed(value)),
                    })
                });
            return all.collect();
        };
        asked
            .iter()
            .map(|(topic, partition)| {
                let value = topics.and_then(|topics| topics.get(topic.as_str())?.get(partition));
                FetchedOffset {
                    topic: topic.clone(),
                    partition: *partition,
                    committed: value.map(committed),
                }
            })
            .collect()
    }

    /// Tombstones for what of `partitions` is committed.
    pub(crate) fn delete_records(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Vec<GroupRecord> {
        let committed = self.fetch(group, Some(partitions)).into_iter();
        committed
            .filter(|fetched| fetched.committed.is_some())
            .map(|fetched| tombstone(group, &fetched.topic, fetched.partition))
            .collect()
    }

    /// Tombstones for everything of the group.
    pub(crate) fn delete_group_records(&self, group: &str) -> Vec<GroupRecord> {
        self.records(group, |_, _| true)
    }

    /// Tombstones for everything of these topics, in all groups.
    pub(crate) fn topics_deleted_records(&self, topics: &[String]) -> Vec<GroupRecord> {
        let gone: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
        self.groups
            .keys()
            .flat_map(|group| self.records(group, |topic, _| gone.contains(topic)))
            .collect()
    }

    /// Tombstones for what is older than its retention.
    pub(crate) fn expired_records(
        &self,
        group: &str,
        now_ms: i64,
        retention_ms: i64,
        basis: ExpiryBasis<'_>,
    ) -> Vec<GroupRecord> {
        if basis == ExpiryBasis::Never {
            return Vec::new();
        }
        self.records(group, |topic, value| {
            if let ExpiryBasis::CommitTimeExcept(topics) = basis
                && topics.contains(topic)
            {
                return false;
            }
            let expires_ms = value.expire_timestamp_ms.unwrap_or_else(|| {
                let since_ms = match basis {
                    ExpiryBasis::Since(since_ms) => since_ms.max(value.commit_timestamp_ms),
                    _ => value.commit_timestamp_ms,
                };
                since_ms.saturating_add(retention_ms)
            });
            expires_ms <= now_ms
        })
    }

    fn records(
        &self,
        group: &str,
        wanted: impl Fn(&str, &OffsetValue) -> bool,
    ) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            for (partition, value) in partitions {
                if wanted(topic, value) {
                    records.push(tombstone(group, topic, *partition));
                }
            }
        }
        records
    }

    pub(crate) fn snapshot(&self) -> Vec<GroupRecord> {
        let mut records = Vec::with_capacity(self.count);
        for (group, topics) in &self.groups {
            for (topic, partitions) in topics {
                for (partition, value) in partitions {
                    records.push(GroupRecord::Offset {
                        group: group.to_string(),
                        topic: topic.to_string(),
                        partition: *partition,
                        value: Some(value.clone()),
                    });
                }
            }
        }
        records
    }
}

/// Kafka counts UTF-16 units, whatever its key is called; the record counts bytes.
fn is_too_large(metadata: &str, limits: &GroupLimits) -> bool {
    let max = limits.offset_metadata_max_bytes;
    metadata.len() > METADATA_MAX_BYTES
        || (metadata.len() > max && metadata.encode_utf16().count() > max)
}

/// With an expiry of its own an offset has neither epoch nor topic id: its record holds none, and
/// the clients that ask for it know none.
fn value(
    now_ms: i64,
    expire_timestamp_ms: Option<i64>,
    topic_id: TopicId,
    committed: &CommittedOffset,
) -> OffsetValue {
    let plain = expire_timestamp_ms.is_none();
    OffsetValue {
        offset: committed.offset,
        leader_epoch: if plain {
            committed.leader_epoch
        } else {
            LeaderEpoch::NONE
        },
        metadata: committed.metadata.clone(),
        commit_timestamp_ms: now_ms,
        expire_timestamp_ms,
        topic_id: if plain { topic_id } else { TopicId::ZERO },
    }
}

fn shared(topics: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = topics.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = Arc::from(name);
    topics.insert(Arc::clone(&name));
    name
}

fn committed(value: &OffsetValue) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.clone(),
    }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    GroupRecord::Offset {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
        value: None,
    }
}
