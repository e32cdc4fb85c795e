//! How a member gets from what it has to what it shall have.
//!
//! It first gives back what it shall not have, at its old epoch (Unrevoked). When it has, it moves
//! to the target's epoch and gets what is free; while others still hold the rest it is Unreleased
//! and asks again with every heartbeat. A partition becomes free when its owner has given it back
//! or is gone.

use std::collections::BTreeSet;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;

use super::ConsumerGroup;
use super::assignment::{Owned, Target, holds_any};
use super::member::{Member, MemberState};
use crate::command::{Refusal, TopicPartitions};
use crate::topics::Topics;

/// What a member is to become.
pub(super) struct Goal<'a> {
    pub(super) epoch: i32,
    pub(super) target: &'a Target,
    /// What the client says it has; `None`: unchanged.
    pub(super) owned: Option<&'a [TopicPartitions]>,
    /// What it does not read any more must go even if the target did not change.
    pub(super) subscription_changed: bool,
    pub(super) topics: &'a dyn Topics,
}

impl Goal<'_> {
    /// Without word from the client everything is still with it.
    fn still_has(&self, revoking: &Owned) -> bool {
        self.owned.is_none_or(|owned| holds_any(revoking, owned))
    }
}

impl ConsumerGroup {
    /// The member after one step towards its goal; equal if there is none to take.
    pub(super) fn reconcile(&self, member: &Member, goal: &Goal<'_>) -> Result<Member, Refusal> {
        match member.state {
            MemberState::Stable if member.epoch != goal.epoch => Ok(self.next(member, goal)),
            MemberState::Unrevoked if goal.still_has(&member.revoking) => {
                Ok(self.shrunk_if_changed(member, goal))
            }
            MemberState::Stable => Ok(self.shrunk_if_changed(member, goal)),
            MemberState::Unrevoked | MemberState::Unreleased => Ok(self.next(member, goal)),
            MemberState::Unknown(_) if goal.owned.is_none_or(|owned| !owned.is_empty()) => {
                let message = "The consumer group member is in a unknown state. The member must \
                               abandon all its partitions and rejoin.";
                Err(Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message))
            }
            MemberState::Unknown(_) => {
                let mut member = member.clone();
                member.epoch = goal.epoch;
                Ok(self.next(&member, goal))
            }
        }
    }

    /// The ids of the topics that the member reads.
    fn topic_ids(&self, member: &Member, topics: &dyn Topics) -> BTreeSet<TopicId> {
        let resolved = member.regex().and_then(|regex| self.resolved.get(regex));
        let matched = resolved.into_iter().flat_map(|value| &value.topics);
        let names = member.names.iter().chain(matched);
        names
            .filter_map(|name| Some(topics.by_name(name)?.id))
            .collect()
    }

    /// Takes topics away that the member does not read any more.
    fn shrunk_if_changed(&self, member: &Member, goal: &Goal<'_>) -> Member {
        if !goal.subscription_changed {
            return member.clone();
        }
        let reads = self.topic_ids(member, goal.topics);
        let mut next = member.clone();
        next.assigned.retain(|topic_id, _| reads.contains(topic_id));
        if next.assigned.len() == member.assigned.len() {
            return next;
        }
        next.move_to(member.epoch);
        let mut revoking = member.revoking.clone();
        for (topic_id, partitions) in &member.assigned {
            if !reads.contains(topic_id) {
                revoking.entry(*topic_id).or_default().extend(partitions);
            }
        }
        if goal.still_has(&revoking) {
            next.state = MemberState::Unrevoked;
            next.revoking = revoking;
        }
        next
    }

    fn next(&self, member: &Member, goal: &Goal<'_>) -> Member {
        let reads = self.topic_ids(member, goal.topics);
        let shall_have = |topic_id: &TopicId| {
            goal.target
                .get(topic_id)
                .filter(|_| reads.contains(topic_id))
        };
        let mut next = member.clone();
        let mut revoking = Owned::new();
        for (topic_id, partitions) in &mut next.assigned {
            let target = shall_have(topic_id);
            partitions.retain(|partition, epoch| {
                let keeps = target.is_some_and(|target| target.contains(partition));
                if !keeps {
                    revoking
                        .entry(*topic_id)
                        .or_default()
                        .insert(*partition, *epoch);
                }
                keeps
            });
        }
        next.assigned.retain(|_, partitions| !partitions.is_empty());
        if !revoking.is_empty() && goal.still_has(&revoking) {
            next.state = MemberState::Unrevoked;
            next.revoking = revoking;
            next.move_to(member.epoch);
            return next;
        }
        next.state = MemberState::Stable;
        next.revoking.clear();
        next.move_to(goal.epoch);
        for topic_id in goal.target.keys() {
            let Some(target) = shall_have(topic_id) else {
                continue;
            };
            for partition in target {
                let has = |owned: &Owned| {
                    owned
                        .get(topic_id)
                        .is_some_and(|owned| owned.contains_key(partition))
                };
                if has(&next.assigned) {
                    continue;
                }
                // What it is about to give back is its own.
                if self.owner(*topic_id, *partition).is_some() && !has(&member.revoking) {
                    next.state = MemberState::Unreleased;
                } else {
                    let owned = next.assigned.entry(*topic_id).or_default();
                    owned.insert(*partition, goal.epoch);
                }
            }
        }
        next
    }
}
