//! JoinGroup to a consumer group: a member of the classic protocol joins, or joins again because it
//! was told to. It is answered at once; its generation is its epoch.

use ottla_protocol::error::ErrorCode;

use super::embedded::{self, Named};
use super::member::Member;
use super::reconcile::Goal;
use super::subscribe::{Draft, RegexChange};
use super::{ConsumerGroup, Scene};
use crate::command::{JoinGroup, JoinReply, TopicPartitions};
use crate::records::{ClassicValue, ConsumerRecord};
use crate::timers::Timers;
use crate::topics::Topics;

/// What a join comes to, when its records are written.
pub(crate) struct JoinPlan {
    pub(crate) records: Vec<ConsumerRecord>,
    pub(crate) reply: JoinReply,
    pub(crate) member_id: String,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    compared: Option<u64>,
    pub(crate) bumped: Option<i32>,
    /// The last member of the new protocol is replaced: the group becomes a classic one.
    pub(crate) downgrade: Option<Downgrade>,
}

pub(crate) struct Downgrade {
    /// Whose place the joining member takes.
    pub(crate) replaced: String,
    pub(super) joining: Member,
    /// The target is out of date: everybody must join again.
    pub(crate) rebalance: bool,
}

impl ConsumerGroup {
    /// `member_id`: of the request, or a new one.
    pub(crate) fn plan_join(
        &self,
        scene: &mut Scene<'_>,
        request: &JoinGroup,
        member_id: &str,
    ) -> Result<JoinPlan, ErrorCode> {
        self.check_size(scene.limits.consumer.max_size, member_id)
            .map_err(|refusal| refusal.error)?;
        let subscription = self.check_protocols(request)?;
        if request.requires_known_member_id
            && request.member_id.is_empty()
            && request.instance_id.is_none()
        {
            return Err(ErrorCode::MEMBER_ID_REQUIRED);
        }
        let mut draft = self.classic_draft(request, member_id)?;
        draft.member.take_classic_words(request, &subscription);
        let names_changed = draft.put_member();
        let regex = draft.put_regex().map_err(|refusal| refusal.error)?;
        let changed = names_changed || regex != RegexChange::No;
        draft.put_epoch(scene, changed);
        let owned = owned_of(&subscription.owned, scene.topics);
        let replaced = draft.replaced.clone();
        let downgrade = replaced.filter(|old| self.downgrades_with(scene, old));
        let (target_epoch, target) = match &downgrade {
            // Everybody joins again, so what it has now does not matter.
            Some(_) if self.target_epoch < draft.epoch => (self.target_epoch, None),
            Some(_) => (self.target_epoch, Some(self.target_of(&draft.member))),
            None => {
                let (epoch, target) = draft.put_target(scene);
                (epoch, Some(target))
            }
        };
        if let Some(target) = &target {
            let goal = Goal {
                epoch: target_epoch,
                target,
                owned: Some(&owned),
                subscription_changed: changed,
                topics: scene.topics,
            };
            draft.put_current(&goal).map_err(|refusal| refusal.error)?;
        }
        Ok(draft.join_plan(scene, request, downgrade))
    }

    /// What the member reads, if the classic members of the group can go on with it.
    fn check_protocols(&self, request: &JoinGroup) -> Result<embedded::Subscription, ErrorCode> {
        let error = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
        let all_know = |name: &str| {
            let known = self.index.protocols.get(name).copied().unwrap_or(0);
            known == self.index.classic_members
        };
        let suits = request.protocol_type == crate::group::CONSUMER
            && request.protocols.iter().any(|(name, _)| all_know(name));
        let first = request.protocols.first().filter(|_| suits).ok_or(error)?;
        // Kafka fails on bytes that are no subscription with an unknown error.
        embedded::subscription(&first.1).ok_or(error)
    }

    fn classic_draft(&self, request: &JoinGroup, member_id: &str) -> Result<Draft<'_>, ErrorCode> {
        let Some(instance_id) = &request.instance_id else {
            let member = self.members.get(member_id).cloned();
            let member = member.unwrap_or_else(|| Member::new(member_id));
            return Ok(Draft::new(self, member));
        };
        let known = self.static_member(instance_id);
        if !request.member_id.is_empty() {
            let known = self.check_instance(known, member_id, instance_id);
            let known = known.map_err(|refusal| refusal.error)?;
            return Ok(Draft::new(self, known.clone()));
        }
        Ok(match known {
            Some(known) => self.replacing(known, member_id),
            None => Draft::new(self, Member::new(member_id)),
        })
    }

    /// The records of `plan` are written and applied, and the group is still a consumer group.
    pub(crate) fn finish_join(&mut self, timers: &mut Timers, plan: &JoinPlan, now_ms: i64) {
        if plan.compared.is_some() {
            self.seen_topics = plan.compared;
        }
        let until_ms = now_ms.saturating_add(i64::from(plan.session_timeout_ms));
        self.hear_of(timers, &plan.member_id, until_ms);
        let wait = (now_ms, plan.rebalance_timeout_ms);
        self.expect_sync(timers, &plan.member_id, wait);
    }
}

/// By id, without topics that do not exist.
fn owned_of(named: &Named, topics: &dyn Topics) -> Vec<TopicPartitions> {
    let known = named.iter().filter_map(|(name, partitions)| {
        Some(TopicPartitions {
            topic_id: topics.by_name(name)?.id,
            partitions: partitions.clone(),
        })
    });
    known.collect()
}

impl Member {
    fn take_classic_words(&mut self, request: &JoinGroup, told: &embedded::Subscription) {
        if request.instance_id.is_some() {
            self.instance_id.clone_from(&request.instance_id);
        }
        if told.rack_id.is_some() {
            self.rack_id.clone_from(&told.rack_id);
        }
        if request.rebalance_timeout_ms != -1 {
            self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        self.names = told.topics.iter().cloned().collect();
        // The classic protocol has none.
        self.regex.clear();
        self.client.clone_from(&request.client);
        self.classic = Some(ClassicValue {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
        });
    }
}

impl Draft<'_> {
    fn join_plan(
        self,
        scene: &Scene<'_>,
        request: &JoinGroup,
        downgrade: Option<String>,
    ) -> JoinPlan {
        let protocol_name = self
            .member
            .preferred_protocol()
            .map(|(name, _)| name.clone());
        let reply = JoinReply {
            error: ErrorCode::NONE,
            generation: self.member.epoch,
            protocol_type: Some(crate::group::CONSUMER.to_owned()),
            protocol_name,
            leader: String::new(),
            skip_assignment: false,
            member_id: self.member.id.to_string(),
            members: Vec::new(),
        };
        JoinPlan {
            reply,
            member_id: self.member.id.to_string(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            compared: self.compared.then(|| scene.topics.version()),
            bumped: (self.epoch != self.group.epoch).then_some(self.epoch),
            downgrade: downgrade.map(|replaced| Downgrade {
                replaced,
                rebalance: self.group.target_epoch < self.epoch,
                joining: self.member,
            }),
            records: self.records,
        }
    }
}
