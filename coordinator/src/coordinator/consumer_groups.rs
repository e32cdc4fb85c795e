//! The commands of consumer groups: found, planned, written, finished.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;

use super::GroupCoordinator;
use crate::command::{
    ConsumerHeartbeat, ConsumerHeartbeatReply, DescribedConsumerGroup, LeaveGroup, LeftMember,
    Refusal,
};
use crate::consumer::{ConsumerGroup, Scene, check_heartbeat};
use crate::records::{ConsumerRecord, GroupRecord};
use crate::timers::Kind;
use crate::topics::Topics;
use crate::turn::{ConsumerLimits, GroupEvent, GroupLimits, RebalanceCause, RemovalCause, Turn};

/// The epoch of a static member that leaves for a while.
const AWAY_EPOCH: i32 = -2;
const SUBSCRIPTION_OR_TOPICS: &str = "changed what it reads, or the topics have changed";

fn not_found(message: String) -> Refusal {
    Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
}

fn not_written(error: ErrorCode) -> Refusal {
    Refusal::new(error, "The group could not be written.")
}

impl GroupCoordinator {
    pub(super) fn replay_consumer(&mut self, group: &str, record: &ConsumerRecord) {
        if *record == ConsumerRecord::GroupEpoch(None) {
            self.consumers.remove(group);
            return;
        }
        if let Some(known) = self.consumers.get_mut(group) {
            return known.apply(record);
        }
        if record.is_tombstone() {
            return;
        }
        // What a group is, its later records say.
        self.groups.remove(group);
        let id: Arc<str> = Arc::from(group);
        let mut known = ConsumerGroup::new(Arc::clone(&id));
        known.apply(record);
        self.consumers.insert(id, known);
    }

    pub(super) fn finish_loading_consumers(&mut self, now_ms: i64) {
        // Replaced as soon as there is a turn that knows the limits.
        let timeout_ms = ConsumerLimits::default().session_timeout_ms;
        for group in self.consumers.values_mut() {
            group.finish_loading(&mut self.timers, (now_ms, timeout_ms));
            self.timers.add(now_ms, &group.id, Kind::Loaded);
        }
    }

    /// A member of a consumer group (KIP-848) joins, lives, acknowledges or leaves.
    pub fn consumer_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: ConsumerHeartbeat,
    ) -> ConsumerHeartbeatReply {
        let reply = match check_heartbeat(&request, &turn.limits.consumer) {
            Ok(()) if request.member_epoch < 0 => self.consumer_leave(turn, &request),
            Ok(()) => self.consumer_live(turn, request),
            Err(refusal) => Err(refusal),
        };
        reply.unwrap_or_else(ConsumerHeartbeatReply::from)
    }

    fn consumer_live(
        &mut self,
        turn: &mut Turn<'_>,
        request: ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let id: Arc<str> = Arc::from(request.group.as_str());
        let member_id = match request.member_id.is_empty() {
            true => TopicId((turn.new_id)()).to_string(),
            false => request.member_id.clone(),
        };
        let mut scene = Scene::of(turn, &id, &mut self.hashes);
        let mut made = None;
        let mut records = Vec::new();
        let group = match self.consumers.get(&id) {
            Some(group) => group,
            None => {
                let classic = self.groups.get(&id);
                if request.member_epoch != 0 {
                    return Err(not_found(match classic {
                        Some(_) => format!("Group {id} is not a consumer group."),
                        None => format!("Consumer group {id} not found."),
                    }));
                }
                let (group, conversion) = match classic {
                    Some(classic) if !classic.is_empty() => {
                        ConsumerGroup::of_classic(classic, &mut scene)?
                    }
                    other => (
                        ConsumerGroup::new(Arc::clone(&id)),
                        other
                            .map(|classic| classic.gone_record())
                            .into_iter()
                            .collect(),
                    ),
                };
                records = conversion;
                made.insert(group)
            }
        };
        let plan = group.plan_heartbeat(&mut scene, &request, &member_id)?;
        records.extend(group.named(plan.records.clone()));
        self.write_converting(turn, &id, &records)
            .map_err(not_written)?;
        if let Some(group) = self.consumers.get_mut(&id) {
            group.finish_heartbeat(&mut self.timers, &plan, turn.now_ms);
        }
        if let Some(epoch) = plan.bumped {
            let changed = request.subscribed_topic_names.is_some()
                || request.subscribed_topic_regex.is_some();
            let (cause, why) = match (request.member_epoch, changed) {
                (0, _) => (RebalanceCause::MemberJoined, "joins"),
                (_, true) => (RebalanceCause::SubscriptionChanged, SUBSCRIPTION_OR_TOPICS),
                (_, false) => (RebalanceCause::TopicsChanged, SUBSCRIPTION_OR_TOPICS),
            };
            let reason = format!("epoch {epoch}: {member_id} {why}");
            tell_rebalance(turn, &id, cause, reason);
        }
        self.refresh_regexes(turn, &id);
        Ok(plan.reply)
    }

    /// Kafka resolves regular expressions beside its coordinator, and so the heartbeat that asks
    /// for one is answered without it. Here it follows in the same turn.
    fn refresh_regexes(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let interval_ms = turn.limits.consumer.regex_refresh_interval_ms;
        let version = turn.topics.version();
        let Some(group) = self.consumers.get(id) else {
            return;
        };
        if !group.wants_refresh(turn.now_ms, version, interval_ms) {
            return;
        }
        let mut scene = Scene::of(turn, id, &mut self.hashes);
        let records = group.plan_refresh(&mut scene);
        let bumped = records.iter().find_map(|record| match record {
            ConsumerRecord::GroupEpoch(Some(value)) => Some(value.epoch),
            _ => None,
        });
        let records = group.named(records);
        // What cannot be written now is looked for again with the next heartbeat.
        if self.write(turn, &records).is_err() {
            return;
        }
        if let Some(group) = self.consumers.get_mut(id) {
            group.refreshed(turn.now_ms, version);
        }
        if let Some(epoch) = bumped {
            let reason = format!("epoch {epoch}: its regular expressions match other topics");
            tell_rebalance(turn, id, RebalanceCause::TopicsChanged, reason);
        }
    }

    fn consumer_leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Refusal> {
        let id: Arc<str> = Arc::from(request.group.as_str());
        let Some(group) = self.consumers.get(&id) else {
            return Err(match self.knows(&id) {
                true => not_found(format!("Group {id} is not a consumer group.")),
                false => super::group_not_found(&id),
            });
        };
        let member_id = group.leaving(request)?.to_owned();
        if request.member_epoch == AWAY_EPOCH && request.instance_id.is_some() {
            let records = group.named(group.plan_away(&member_id));
            self.write(turn, &records).map_err(not_written)?;
        } else {
            let leaving = BTreeSet::from([member_id.clone()]);
            let reason = format!("{member_id} leaves");
            self.fence(turn, &id, &leaving, (RebalanceCause::MemberLeft, &reason))
                .map_err(not_written)?;
        }
        Ok(ConsumerHeartbeatReply {
            error: ErrorCode::NONE,
            message: None,
            member_id: Some(member_id),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Takes members out of a consumer group; those that are left may become a classic group.
    pub(super) fn fence(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        leaving: &BTreeSet<String>,
        (cause, reason): (RebalanceCause, &str),
    ) -> Result<(), ErrorCode> {
        let Some(group) = self.consumers.get(id).filter(|_| !leaving.is_empty()) else {
            return Ok(());
        };
        if group.downgrades_without(turn.limits, leaving)
            && let Some(converted) = group.to_classic((turn.now_ms, turn.topics), leaving, None)
        {
            let reason = format!("it is a classic group again: {reason}");
            return self.become_classic(turn, id, converted, Some((cause, &reason)));
        }
        let mut scene = Scene::of(turn, id, &mut self.hashes);
        let records = group.named(group.plan_fence(&mut scene, leaving));
        self.write(turn, &records)?;
        tell_rebalance(turn, id, cause, reason.to_owned());
        Ok(())
    }

    /// Members of the new protocol can be removed by LeaveGroup too.
    pub(super) fn leave_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        request: LeaveGroup,
    ) -> Result<Vec<LeftMember>, ErrorCode> {
        let id: Arc<str> = Arc::from(request.group.as_str());
        let Some(group) = self.consumers.get(&id) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let (left, leaving) = group.leaving_classic(request.members);
        let who: Vec<&str> = leaving.iter().map(String::as_str).collect();
        let reason = format!("{} leaves", who.join(", "));
        self.fence(turn, &id, &leaving, (RebalanceCause::MemberLeft, &reason))?;
        Ok(left)
    }

    pub(super) fn consumer_timer_fired(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        at_ms: i64,
        kind: Kind,
    ) {
        let timeout_ms = Scene::of(turn, id, &mut self.hashes).session_timeout_ms();
        let Some(group) = self.consumers.get_mut(id) else {
            return;
        };
        if kind == Kind::Loaded {
            return group.finish_loading(&mut self.timers, (turn.now_ms, timeout_ms));
        }
        let times = (at_ms, turn.now_ms);
        let Some((member_id, reason)) = group.overdue(&mut self.timers, times, &kind) else {
            return;
        };
        let leaving = BTreeSet::from([member_id.clone()]);
        let why = format!("{member_id} is removed: {reason}");
        let cause = match kind {
            Kind::MemberSession(_) => RemovalCause::Session,
            Kind::MemberSync(_) => RemovalCause::Sync,
            _ => RemovalCause::Rebalance,
        };
        let because = (RebalanceCause::MemberRemoved, why.as_str());
        if self.fence(turn, id, &leaving, because).is_err() {
            if let Some(group) = self.consumers.get_mut(id) {
                group.try_again(&mut self.timers, turn.now_ms, kind);
            }
            return;
        }
        turn.events.push(GroupEvent::MemberExpired {
            group: id.to_string(),
            member: member_id,
            cause,
            reason,
        });
    }

    /// A consumer group; refused (69) when nobody knows it or it is of another kind. Topics are
    /// named after `topics`.
    pub fn describe_consumer(
        &self,
        topics: &dyn Topics,
        limits: &GroupLimits,
        group: &str,
    ) -> Result<DescribedConsumerGroup, Refusal> {
        match self.consumers.get(group) {
            Some(known) => Ok(known.described(topics, limits)),
            None if self.knows(group) => {
                Err(not_found(format!("Group {group} is not a consumer group.")))
            }
            None => Err(super::group_not_found(group)),
        }
    }

    /// Tombstones for a consumer group without members.
    pub(super) fn consumer_gone_records(&self, group: &str) -> Vec<GroupRecord> {
        let known = self.consumers.get(group);
        known
            .map(|group| group.named(group.gone_records()))
            .unwrap_or_default()
    }
}

fn tell_rebalance(turn: &mut Turn<'_>, group: &str, cause: RebalanceCause, reason: String) {
    turn.events.push(GroupEvent::RebalanceStarted {
        group: group.to_owned(),
        cause,
        reason,
    });
}
