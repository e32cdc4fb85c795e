//! A consumer group (KIP-848): members that the coordinator itself assigns partitions to.
//!
//! Three epochs move it: the group's, which grows with every change of what is read or by whom;
//! the target's, which is the group epoch that the target assignment was computed for; and each
//! member's, which is the last epoch it has reached. A member reaches the target's epoch by giving
//! back what it shall not have any more (`reconcile.rs`), so that a partition is never with two.
//!
//! The durable part is what the records say and changes only through [`ConsumerGroup::apply`]:
//! commands make records from it. Timers and what was last seen of the topics are soft.
//!
//! One file per command or concern; this one holds the fields and how records change them.
//! Deliberately absent: offsets, and groups of the classic protocol (`group/`).

mod assignment;
mod assignor;
mod classic;
mod commit;
mod describe;
mod embedded;
mod fence;
mod heartbeat;
mod index;
mod join;
mod member;
mod metadata;
mod migrate;
mod re2;
mod reconcile;
mod regex;
mod subscribe;
mod target;
mod validate;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::types::TopicId;

use crate::records::{ConsumerRecord, GroupEpochValue, GroupRecord, RegexValue, TargetEpochValue};
use crate::topics::Topics;
use crate::turn::{GroupConfig, GroupLimits, Turn};
use assignment::{Target, of_target, target_of};
use index::Index;
use member::Member;
use watch::Watch;

pub(crate) use metadata::TopicHashes;
pub(crate) use validate::check_heartbeat;

/// A group begins here, and its target assignment too: nobody has one.
const FIRST_EPOCH: i32 = 1;

/// What a command sees of its turn.
pub(crate) struct Scene<'a> {
    pub(crate) now_ms: i64,
    pub(crate) limits: &'a GroupLimits,
    pub(crate) config: GroupConfig,
    pub(crate) topics: &'a dyn Topics,
    pub(crate) hashes: &'a mut TopicHashes,
}

impl<'a> Scene<'a> {
    pub(crate) fn of<'t: 'a>(
        turn: &Turn<'t>,
        group: &str,
        hashes: &'a mut TopicHashes,
    ) -> Scene<'a> {
        Scene {
            now_ms: turn.now_ms,
            limits: turn.limits,
            config: (turn.configs)(group),
            topics: turn.topics,
            hashes,
        }
    }

    pub(crate) fn session_timeout_ms(&self) -> i32 {
        let configured = self.config.session_timeout_ms;
        configured.unwrap_or(self.limits.consumer.session_timeout_ms)
    }

    fn heartbeat_interval_ms(&self) -> i32 {
        let configured = self.config.heartbeat_interval_ms;
        configured.unwrap_or(self.limits.consumer.heartbeat_interval_ms)
    }

    fn assignment_interval_ms(&self) -> i32 {
        let configured = self.config.assignment_interval_ms;
        configured.unwrap_or(self.limits.consumer.assignment_interval_ms)
    }
}

#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: Arc<str>,
    epoch: i32,
    /// Of the topics at this epoch.
    metadata_hash: i64,
    target_epoch: i32,
    /// When the target was computed; 0: unknown.
    target_timestamp_ms: i64,
    members: BTreeMap<Arc<str>, Member>,
    /// By member; what a member that has left shall have is gone with it.
    targets: BTreeMap<String, Target>,
    resolved: BTreeMap<String, RegexValue>,
    /// Of Kafka before 4.1: deleted at the next occasion.
    partition_metadata: Option<Bytes>,
    index: Index,
    watches: BTreeMap<Arc<str>, Watch>,
    /// The version of the topics for which the hash holds; `None`: not compared yet.
    seen_topics: Option<u64>,
    /// When the regular expressions were last resolved, and against which version of the topics;
    /// `None`: not here.
    refreshed: Option<(i64, u64)>,
}

impl ConsumerGroup {
    pub(crate) fn new(id: Arc<str>) -> ConsumerGroup {
        ConsumerGroup {
            id,
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            target_epoch: FIRST_EPOCH,
            target_timestamp_ms: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            resolved: BTreeMap::new(),
            partition_metadata: None,
            index: Index::default(),
            watches: BTreeMap::new(),
            seen_topics: None,
            refreshed: None,
        }
    }

    /// One record of the log. Only the last record of a key may be left of it, so each is taken
    /// by itself: nothing is expected to have come before. Deleting the group is the
    /// coordinator's.
    pub(crate) fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::GroupEpoch(value) => {
                let value = value.clone().unwrap_or(GroupEpochValue {
                    epoch: FIRST_EPOCH,
                    metadata_hash: 0,
                });
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            ConsumerRecord::PartitionMetadata(value) => self.partition_metadata.clone_from(value),
            ConsumerRecord::Member { member_id, value } => match value {
                Some(value) => self.change(member_id, |member| member.update(value)),
                None => self.forget(member_id),
            },
            ConsumerRecord::TargetEpoch(value) => {
                let value = value.clone().unwrap_or(TargetEpochValue {
                    epoch: -1,
                    timestamp_ms: 0,
                });
                self.target_epoch = value.epoch;
                self.target_timestamp_ms = value.timestamp_ms;
            }
            ConsumerRecord::Target { member_id, value } => match value {
                Some(value) => {
                    self.targets.insert(member_id.clone(), target_of(value));
                }
                None => {
                    self.targets.remove(member_id);
                }
            },
            ConsumerRecord::Current { member_id, value } => match value {
                Some(value) => self.change(member_id, |member| member.update_current(value)),
                None if self.has_member(member_id) => self.change(member_id, Member::clear_current),
                None => {}
            },
            ConsumerRecord::Regex { regex, value } => self.apply_regex(regex, value.as_ref()),
        }
    }

    fn change(&mut self, member_id: &str, change: impl FnOnce(&mut Member)) {
        let old = self.members.remove(member_id);
        let mut new = old.clone().unwrap_or_else(|| Member::new(member_id));
        change(&mut new);
        self.index.replace(old.as_ref(), Some(&new));
        self.members.insert(Arc::clone(&new.id), new);
    }

    fn count_anew(&mut self) {
        let mut index = Index::default();
        for member in self.members.values() {
            index.replace(None, Some(member));
        }
        for value in self.resolved.values() {
            index.replace_matches(&[], &value.topics);
        }
        self.index = index;
    }

    fn forget(&mut self, member_id: &str) {
        if let Some(old) = self.members.remove(member_id) {
            self.index.replace(Some(&old), None);
        }
        self.watches.remove(member_id);
    }

    fn apply_regex(&mut self, regex: &str, value: Option<&RegexValue>) {
        let old = match value {
            Some(value) => self.resolved.insert(regex.to_owned(), value.clone()),
            None => self.resolved.remove(regex),
        };
        let topics = |value: Option<&RegexValue>| {
            value.map(|value| value.topics.clone()).unwrap_or_default()
        };
        let (old, new) = (topics(old.as_ref()), topics(value));
        self.index.replace_matches(&old, &new);
    }

    /// What the log must say for an equal group.
    pub(crate) fn snapshot(&self) -> Vec<GroupRecord> {
        let mut records: Vec<ConsumerRecord> = self.members.values().map(Member::record).collect();
        records.push(self.epoch_record(self.epoch, self.metadata_hash));
        if let Some(value) = &self.partition_metadata {
            records.push(ConsumerRecord::PartitionMetadata(Some(value.clone())));
        }
        let targets = self
            .targets
            .iter()
            .map(|(member_id, target)| ConsumerRecord::Target {
                member_id: member_id.clone(),
                value: Some(of_target(target)),
            });
        records.extend(targets);
        records.push(ConsumerRecord::TargetEpoch(Some(TargetEpochValue {
            epoch: self.target_epoch,
            timestamp_ms: self.target_timestamp_ms,
        })));
        records.extend(self.members.values().map(Member::current_record));
        let regexes = self
            .resolved
            .iter()
            .map(|(regex, value)| ConsumerRecord::Regex {
                regex: regex.clone(),
                value: Some(value.clone()),
            });
        records.extend(regexes);
        self.named(records)
    }

    /// The same records as those of this group.
    pub(crate) fn named(&self, records: Vec<ConsumerRecord>) -> Vec<GroupRecord> {
        let named = records.into_iter().map(|record| GroupRecord::Consumer {
            group: self.id.to_string(),
            record,
        });
        named.collect()
    }

    fn epoch_record(&self, epoch: i32, metadata_hash: i64) -> ConsumerRecord {
        ConsumerRecord::GroupEpoch(Some(GroupEpochValue {
            epoch,
            metadata_hash,
        }))
    }

    /// Tombstones for the whole group, in the order in which Kafka can replay them.
    pub(crate) fn gone_records(&self) -> Vec<ConsumerRecord> {
        let ids = || self.members.keys().map(ToString::to_string);
        let mut records = Vec::new();
        records.extend(ids().map(|member_id| ConsumerRecord::Current {
            member_id,
            value: None,
        }));
        records.extend(self.targets.keys().map(|member_id| ConsumerRecord::Target {
            member_id: member_id.clone(),
            value: None,
        }));
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(ids().map(|member_id| ConsumerRecord::Member {
            member_id,
            value: None,
        }));
        records.extend(self.resolved.keys().map(|regex| ConsumerRecord::Regex {
            regex: regex.clone(),
            value: None,
        }));
        records.push(ConsumerRecord::PartitionMetadata(None));
        records.push(ConsumerRecord::GroupEpoch(None));
        records
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn has_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    fn static_member(&self, instance_id: &str) -> Option<&Member> {
        self.members.get(self.index.statics.get(instance_id)?)
    }

    fn owner(&self, topic_id: TopicId, partition: i32) -> Option<&Arc<str>> {
        self.index.owners.get(&(topic_id, partition))
    }

    /// A member reads `topic`.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.index.topics.contains_key(topic)
    }

    pub(crate) fn subscribed_topics(&self) -> std::collections::BTreeSet<String> {
        self.index.topics.keys().cloned().collect()
    }

    /// What always holds; called in tests after every command.
    pub(crate) fn check_invariants(&self) {
        let mut expected = Index::default();
        let mut owned = 0;
        for (id, member) in &self.members {
            assert_eq!(id, &member.id);
            expected.replace(None, Some(member));
            owned += assignment::partitions(&member.assigned).count();
            owned += assignment::partitions(&member.revoking).count();
            assert!(
                member.epoch <= self.target_epoch.max(self.epoch),
                "{member:?} is ahead of its group"
            );
            assert!(
                self.watches.get(id).is_some_and(Watch::is_watching),
                "nobody would miss {id} if it fell silent"
            );
        }
        for value in self.resolved.values() {
            expected.replace_matches(&[], &value.topics);
        }
        assert_eq!(self.index, expected);
        assert_eq!(owned, self.index.owners.len(), "a partition has two owners");
        assert!(self.target_epoch <= self.epoch, "a target of no epoch");
        for id in self.watches.keys() {
            assert!(self.has_member(id), "{id} is watched and not there");
        }
    }
}
