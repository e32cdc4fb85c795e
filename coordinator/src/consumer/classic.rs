//! SyncGroup, Heartbeat and LeaveGroup of classic members in a consumer group.

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use super::ConsumerGroup;
use super::assignment::told;
use super::embedded::{self, Named};
use super::member::{Member, MemberState};
use crate::command::{LeavingMember, LeftMember, MemberRef, SyncGroup, SyncReply, TopicPartitions};
use crate::timers::Timers;
use crate::topics::Topics;

impl ConsumerGroup {
    /// The assignment of a member that has joined.
    pub(crate) fn sync(
        &mut self,
        timers: &mut Timers,
        (now_ms, topics): (i64, &dyn Topics),
        request: &SyncGroup,
    ) -> SyncReply {
        let member = match self.check_classic(&request.member) {
            Ok(member) => member,
            Err(error) => return SyncReply::error(error),
        };
        let differs = |asked: Option<&String>, is: Option<&str>| {
            asked.is_some_and(|asked| Some(asked.as_str()) != is)
        };
        let chosen = member.preferred_protocol().map(|(name, _)| name.as_str());
        if differs(request.protocol_type.as_ref(), Some(crate::group::CONSUMER))
            || differs(request.protocol_name.as_ref(), chosen)
        {
            return SyncReply::error(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let id = member.id.to_string();
        // One that gives partitions back has joined already and joins again when it has.
        if self.target_epoch > member.epoch && member.state != MemberState::Unrevoked {
            self.expect_join(timers, &id, now_ms);
            return SyncReply::error(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let assignment = assignment_for(member, &told(&member.assigned), topics);
        self.synced(&id);
        self.hear_of_classic(timers, &id, now_ms);
        SyncReply {
            error: ErrorCode::NONE,
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
        }
    }

    pub(crate) fn classic_heartbeat(
        &mut self,
        timers: &mut Timers,
        now_ms: i64,
        member: &MemberRef,
    ) -> ErrorCode {
        let member = match self.check_classic(member) {
            Ok(member) => member,
            Err(error) => return error,
        };
        let id = member.id.to_string();
        // Kafka leaves out the second: a group in which only classic members are left would never
        // assign what the others had.
        let must_join = member.epoch < self.target_epoch
            || (self.target_epoch < self.epoch && self.index.classic_members == self.members.len())
            || member.state == MemberState::Unrevoked
            || (member.state == MemberState::Unreleased && !self.waits_for_others(member));
        self.hear_of_classic(timers, &id, now_ms);
        if must_join {
            self.expect_join(timers, &id, now_ms);
            return ErrorCode::REBALANCE_IN_PROGRESS;
        }
        ErrorCode::NONE
    }

    fn hear_of_classic(&mut self, timers: &mut Timers, member_id: &str, now_ms: i64) {
        let classic = self
            .members
            .get(member_id)
            .and_then(|member| member.classic.as_ref());
        if let Some(timeout_ms) = classic.map(|classic| classic.session_timeout_ms) {
            self.hear_of(
                timers,
                member_id,
                now_ms.saturating_add(i64::from(timeout_ms)),
            );
        }
    }

    /// Something that it shall have is with another.
    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.targets.get(&*member.id);
        target.into_iter().flatten().any(|(topic_id, partitions)| {
            let mine = member.assigned.get(topic_id);
            partitions.iter().any(|partition| {
                let has = mine.is_some_and(|mine| mine.contains_key(partition));
                !has && self.owner(*topic_id, *partition).is_some()
            })
        })
    }

    fn check_classic(&self, named: &MemberRef) -> Result<&Member, ErrorCode> {
        let member = self.check_member(&named.member_id, named.instance_id.as_deref())?;
        if member.classic.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if member.epoch != named.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(member)
    }

    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<&Member, ErrorCode> {
        match instance_id {
            None => self.members.get(id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(instance_id) => self
                .check_instance(self.static_member(instance_id), id, instance_id)
                .map_err(|refusal| refusal.error),
        }
    }

    /// Who of those that want to leave is here; also members of the new protocol can be removed
    /// so. Each one's result, and who goes.
    pub(crate) fn leaving_classic(
        &self,
        members: Vec<LeavingMember>,
    ) -> (Vec<LeftMember>, std::collections::BTreeSet<String>) {
        let mut gone = std::collections::BTreeSet::new();
        let left = members.into_iter().map(|member| {
            let found = match &member.instance_id {
                // An administrator names only the instance.
                Some(instance_id) if member.member_id.is_empty() => self
                    .static_member(instance_id)
                    .ok_or(ErrorCode::UNKNOWN_MEMBER_ID),
                instance_id => self.check_member(&member.member_id, instance_id.as_deref()),
            };
            let error = match found {
                Ok(found) => {
                    gone.insert(found.id.to_string());
                    ErrorCode::NONE
                }
                Err(error) => error,
            };
            LeftMember {
                member_id: member.member_id,
                instance_id: member.instance_id,
                error,
            }
        });
        (left.collect(), gone)
    }
}

/// In the embedded protocol, in the version the member speaks. Topics that are gone are left out.
fn assignment_for(member: &Member, owned: &[TopicPartitions], topics: &dyn Topics) -> Bytes {
    let metadata = member.preferred_protocol().map(|(_, metadata)| metadata);
    let version = metadata.and_then(embedded::version).unwrap_or(0);
    embedded::put_assigned(version, &named(owned, topics))
}

/// In the order of the topics' names.
pub(super) fn named(partitions: &[TopicPartitions], topics: &dyn Topics) -> Named {
    let known = partitions.iter().filter_map(|topic| {
        let name = topics.by_id(topic.topic_id)?.name.to_owned();
        Some((name, topic.partitions.clone()))
    });
    let mut named: Named = known.collect();
    named.sort();
    named
}
