//! ConsumerGroupHeartbeat of a member that joins or stays: it is put down, the group moves to a new
//! epoch if what is read has changed, a target is computed for that, and the member takes a step
//! towards it.

use ottla_protocol::error::ErrorCode;

use super::assignment::{holds_all, told};
use super::member::{AWAY_EPOCH, Member, gone};
use super::reconcile::Goal;
use super::subscribe::{Draft, RegexChange};
use super::{ConsumerGroup, Scene};
use crate::command::{ConsumerHeartbeat, ConsumerHeartbeatReply, Refusal, TopicPartitions};
use crate::records::ConsumerRecord;
use crate::timers::Timers;

/// What a heartbeat comes to, when its records are written.
pub(crate) struct Plan {
    pub(crate) records: Vec<ConsumerRecord>,
    pub(crate) reply: ConsumerHeartbeatReply,
    pub(crate) member_id: String,
    /// The member's assignment changed, so its timer for giving back does.
    moved: bool,
    session_timeout_ms: i32,
    /// The version of the topics that were compared.
    compared: Option<u64>,
    /// The group moved to this epoch.
    pub(crate) bumped: Option<i32>,
}

impl ConsumerGroup {
    pub(crate) fn plan_heartbeat(
        &self,
        scene: &mut Scene<'_>,
        request: &ConsumerHeartbeat,
        member_id: &str,
    ) -> Result<Plan, Refusal> {
        self.check_size(scene.limits.consumer.max_size, member_id)?;
        let mut draft = match &request.instance_id {
            None => self.dynamic(request, member_id)?,
            Some(instance_id) => self.fixed(request, member_id, instance_id)?,
        };
        draft.member.take_words(request);
        let names_changed = draft.put_member();
        let regex = draft.put_regex()?;
        draft.put_epoch(scene, names_changed || regex == RegexChange::Resolved);
        let (target_epoch, target) = draft.put_target(scene);
        let goal = Goal {
            epoch: target_epoch,
            target: &target,
            owned: request.owned.as_deref(),
            subscription_changed: names_changed || regex != RegexChange::No,
            topics: scene.topics,
        };
        let moved = draft.put_current(&goal)?;
        Ok(draft.plan(scene, request, moved))
    }

    pub(super) fn check_size(&self, max_size: usize, member_id: &str) -> Result<(), Refusal> {
        if self.members.len() < max_size || self.has_member(member_id) {
            return Ok(());
        }
        let message =
            format!("The consumer group has reached its maximum capacity of {max_size} members.");
        Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, message))
    }

    fn dynamic(&self, request: &ConsumerHeartbeat, member_id: &str) -> Result<Draft<'_>, Refusal> {
        let member = match self.members.get(member_id) {
            Some(member) => member.clone(),
            None if request.member_epoch == 0 => Member::new(member_id),
            None => return Err(self.not_a_member(member_id)),
        };
        member.check_epoch(request)?;
        Ok(Draft::new(self, member))
    }

    fn fixed(
        &self,
        request: &ConsumerHeartbeat,
        member_id: &str,
        instance_id: &str,
    ) -> Result<Draft<'_>, Refusal> {
        let known = self.static_member(instance_id);
        if request.member_epoch != 0 {
            let known = self.check_instance(known, member_id, instance_id)?;
            known.check_epoch(request)?;
            return Ok(Draft::new(self, known.clone()));
        }
        let Some(known) = known else {
            let member = self.members.get(member_id).cloned();
            let member = member.unwrap_or_else(|| Member::new(member_id));
            return Ok(Draft::new(self, member));
        };
        if known.classic.is_none() && known.epoch != AWAY_EPOCH {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} cannot join the group \
                 because the instance id is owned by {} member.",
                known.id
            );
            return Err(Refusal::new(ErrorCode::UNRELEASED_INSTANCE_ID, message));
        }
        Ok(self.replacing(known, member_id))
    }

    /// The static member comes again under another id.
    pub(super) fn replacing(&self, known: &Member, member_id: &str) -> Draft<'_> {
        let member = known.renamed(member_id);
        let target = self.targets.get(&*known.id).cloned().unwrap_or_default();
        let mut draft = Draft::new(self, member);
        draft.replaced = Some(known.id.to_string());
        draft.records.extend(gone(&known.id));
        draft.records.push(draft.member.record());
        draft.records.push(ConsumerRecord::Target {
            member_id: member_id.to_owned(),
            value: Some(super::assignment::of_target(&target)),
        });
        draft.records.push(draft.member.current_record());
        draft
    }

    pub(super) fn not_a_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
    }

    /// The static member exists and is the one it says it is.
    pub(super) fn check_instance<'m>(
        &self,
        known: Option<&'m Member>,
        member_id: &str,
        instance_id: &str,
    ) -> Result<&'m Member, Refusal> {
        let Some(known) = known else {
            let message = format!("Instance id {instance_id} is unknown.");
            return Err(Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message));
        };
        if *known.id != *member_id {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {}.",
                known.id
            );
            return Err(Refusal::new(ErrorCode::FENCED_INSTANCE_ID, message));
        }
        Ok(known)
    }

    /// The records of `plan` are written and applied.
    pub(crate) fn finish_heartbeat(&mut self, timers: &mut Timers, plan: &Plan, now_ms: i64) {
        if plan.compared.is_some() {
            self.seen_topics = plan.compared;
        }
        if plan.moved {
            self.watch_revocation(timers, &plan.member_id, now_ms);
        }
        let until_ms = now_ms.saturating_add(i64::from(plan.session_timeout_ms));
        self.hear_of(timers, &plan.member_id, until_ms);
        self.forget_classic(&plan.member_id);
    }
}

impl Member {
    /// A member that is one epoch behind has not got the last answer, if it has nothing that it
    /// should not have.
    fn check_epoch(&self, request: &ConsumerHeartbeat) -> Result<(), Refusal> {
        let told = request.member_epoch;
        if told == 0 || told == self.epoch {
            return Ok(());
        }
        let owned: Option<&[TopicPartitions]> = request.owned.as_deref();
        let may_lag = told == self.previous_epoch
            && owned.is_some_and(|owned| holds_all(&self.assigned, owned));
        if told < self.epoch && may_lag {
            return Ok(());
        }
        let side = if told > self.epoch {
            "greater"
        } else {
            "smaller"
        };
        let message = format!(
            "The consumer group member has a {side} member epoch ({told}) than the one known by \
             the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            self.epoch
        );
        Err(Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message))
    }

    /// What the heartbeat tells; what it does not mention stays.
    fn take_words(&mut self, request: &ConsumerHeartbeat) {
        if request.instance_id.is_some() {
            self.instance_id.clone_from(&request.instance_id);
        }
        if request.rack_id.is_some() {
            self.rack_id.clone_from(&request.rack_id);
        }
        if request.rebalance_timeout_ms != -1 {
            self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if request.server_assignor.is_some() {
            self.assignor.clone_from(&request.server_assignor);
        }
        if let Some(names) = &request.subscribed_topic_names {
            self.names = names.iter().cloned().collect();
        }
        if let Some(regex) = &request.subscribed_topic_regex {
            self.regex.clone_from(regex);
        }
        self.client.clone_from(&request.client);
        self.classic = None;
    }
}

impl Draft<'_> {
    /// One step towards the goal; true if there was one to take.
    pub(super) fn put_current(&mut self, goal: &Goal<'_>) -> Result<bool, Refusal> {
        if !goal.subscription_changed && self.member.is_reconciled_to(goal.epoch) {
            return Ok(false);
        }
        let next = self.group.reconcile(&self.member, goal)?;
        if next == self.member {
            return Ok(false);
        }
        self.records.push(next.current_record());
        self.member = next;
        Ok(true)
    }

    fn plan(self, scene: &Scene<'_>, request: &ConsumerHeartbeat, moved: bool) -> Plan {
        let tells_all = request.rebalance_timeout_ms != -1
            && request.owned.is_some()
            && (request.subscribed_topic_names.is_some()
                || request.subscribed_topic_regex.is_some());
        let assignment =
            (request.member_epoch == 0 || tells_all || self.member.assigned != self.base.assigned)
                .then(|| told(&self.member.assigned));
        Plan {
            reply: ConsumerHeartbeatReply {
                error: ErrorCode::NONE,
                message: None,
                member_id: Some(self.member.id.to_string()),
                member_epoch: self.member.epoch,
                heartbeat_interval_ms: scene.heartbeat_interval_ms(),
                assignment,
            },
            member_id: self.member.id.to_string(),
            moved: moved || self.replaced.is_some(),
            session_timeout_ms: scene.session_timeout_ms(),
            compared: self.compared.then(|| scene.topics.version()),
            bumped: (self.epoch != self.group.epoch).then_some(self.epoch),
            records: self.records,
        }
    }
}
