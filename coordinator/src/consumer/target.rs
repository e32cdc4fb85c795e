//! The target assignment: what everybody shall have at an epoch of the group, computed when that
//! is newer than the target and the last one is long enough ago.

use std::collections::BTreeMap;

use super::assignment::{Target, of_target};
use super::assignor::{Assignor, Reader, Subscription};
use super::index::{less, more};
use super::member::Member;
use super::subscribe::Draft;
use super::{ConsumerGroup, Scene};
use crate::records::{ConsumerRecord, TargetEpochValue};
use crate::topics::Topics;

impl ConsumerGroup {
    /// What a member shall have: what it had under another id, when it is a static one.
    pub(super) fn target_of(&self, member: &Member) -> Target {
        let id = match &member.instance_id {
            None => Some(&*member.id),
            Some(instance_id) => self.index.statics.get(instance_id).map(|id| &**id),
        };
        id.and_then(|id| self.targets.get(id))
            .cloned()
            .unwrap_or_default()
    }

    /// Too many assignments in short order would only move partitions to and fro.
    fn may_assign(&self, scene: &Scene<'_>) -> bool {
        let interval_ms = i64::from(scene.assignment_interval_ms());
        self.target_timestamp_ms == 0
            || interval_ms == 0
            // The clock was set back: unlike Kafka, nobody waits until it has come there again.
            || scene.now_ms < self.target_timestamp_ms
            || scene.now_ms >= self.target_timestamp_ms.saturating_add(interval_ms)
    }
}

impl Draft<'_> {
    /// The target's epoch and what the member shall have, after this.
    pub(super) fn put_target(&mut self, scene: &Scene<'_>) -> (i32, Target) {
        let group = self.group;
        if group.target_epoch >= self.epoch || !group.may_assign(scene) {
            return (group.target_epoch, group.target_of(&self.member));
        }
        let mut asked = group.index.assignors.clone();
        if let Some(name) = self.base.assignor.as_deref().filter(|_| self.is_counted()) {
            less(&mut asked, name);
        }
        if let Some(name) = self.member.assignor.clone() {
            more(&mut asked, name);
        }
        let assignor = Assignor::preferred(&asked, &scene.limits.consumer);
        let targets = self.assign(assignor, scene.topics);
        let mut mine = Target::new();
        for (member_id, target) in targets {
            if *member_id == *self.member.id {
                mine.clone_from(&target);
            }
            // A member that takes another's place has a target of its own only by the records.
            if group.targets.get(&member_id) != Some(&target) {
                self.records.push(ConsumerRecord::Target {
                    member_id,
                    value: Some(of_target(&target)),
                });
            }
        }
        self.records
            .push(ConsumerRecord::TargetEpoch(Some(TargetEpochValue {
                epoch: self.epoch,
                timestamp_ms: scene.now_ms,
            })));
        (self.epoch, mine)
    }

    /// The group counts the member as it was before.
    pub(super) fn is_counted(&self) -> bool {
        self.group.has_member(&self.base.id) || self.replaced.is_some()
    }

    fn assign(&self, assignor: Assignor, topics: &dyn Topics) -> Vec<(String, Target)> {
        let group = self.group;
        let leaves = |id: &str| *id == *self.member.id || self.replaced.as_deref() == Some(id);
        let others = group.members.values().filter(|member| !leaves(&member.id));
        let mine = self.replaced.as_deref().unwrap_or(&self.member.id);
        let mut subscriptions = Subscriptions::default();
        let mut readers: Vec<Reader<'_>> = others
            .chain([&self.member])
            .map(|member| Reader {
                id: &member.id,
                instance_id: member.instance_id.as_deref(),
                subscription: subscriptions.of(group, topics, member),
                before: group.targets.get(if member.id == self.member.id {
                    mine
                } else {
                    &member.id
                }),
            })
            .collect();
        readers.sort_by_key(|reader| reader.id);
        let targets = assignor.assign(&readers, &subscriptions.all);
        let ids = readers.iter().map(|reader| reader.id.to_owned());
        ids.zip(targets).collect()
    }
}

/// What the members read, each kind once.
#[derive(Default)]
struct Subscriptions<'a> {
    all: Vec<Subscription>,
    by_words: BTreeMap<(&'a std::collections::BTreeSet<String>, &'a str), usize>,
}

impl<'a> Subscriptions<'a> {
    fn of(&mut self, group: &ConsumerGroup, topics: &dyn Topics, member: &'a Member) -> usize {
        let words = (&member.names, member.regex.as_str());
        if let Some(known) = self.by_words.get(&words) {
            return *known;
        }
        let resolved = member.regex().and_then(|regex| group.resolved.get(regex));
        let matched = resolved.into_iter().flat_map(|value| &value.topics);
        let names = member.names.iter().chain(matched);
        let found = names.filter_map(|name| topics.by_name(name));
        let mut reads: Subscription = found.map(|topic| (topic.id, topic.partitions)).collect();
        reads.sort_unstable();
        reads.dedup();
        let same = self.all.iter().position(|known| *known == reads);
        let at = same.unwrap_or_else(|| {
            self.all.push(reads);
            self.all.len() - 1
        });
        self.by_words.insert(words, at);
        at
    }
}
