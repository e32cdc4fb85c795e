//! Requests of the classic protocol to consumer groups, and groups that change their kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;

use super::GroupCoordinator;
use crate::command::{JoinGroup, JoinReply};
use crate::consumer::Scene;
use crate::group::{At, Group};
use crate::records::GroupRecord;
use crate::turn::{Answer, GroupEvent, RebalanceCause, Token, Turn};

impl GroupCoordinator {
    /// Appends and applies records that may turn a classic group into another kind: whoever waits
    /// there is answered.
    pub(super) fn write_converting(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        records: &[GroupRecord],
    ) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        turn.journal.append(records).map_err(|error| error.0)?;
        if let Some(mut classic) = self.groups.remove(id) {
            let had_members = !classic.is_empty();
            classic.abandon(&mut At {
                turn,
                timers: &mut self.timers,
            });
            if had_members {
                turn.events.push(GroupEvent::Converted {
                    group: id.to_string(),
                    to: "consumer",
                });
            }
        }
        for record in records {
            self.replay(record);
        }
        if let Some(group) = self.consumers.get_mut(id) {
            group.watch_classic(&mut self.timers, turn.now_ms);
        }
        Ok(())
    }

    /// The consumer group goes on as the classic `group`; with a reason everybody joins again.
    pub(super) fn become_classic(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        (mut group, records): (Group, Vec<GroupRecord>),
        rebalance: Option<(RebalanceCause, &str)>,
    ) -> Result<(), ErrorCode> {
        self.write(turn, &records)?;
        turn.events.push(GroupEvent::Converted {
            group: id.to_string(),
            to: "classic",
        });
        group.finish_loading(turn.now_ms, &mut self.timers);
        if let Some((cause, reason)) = rebalance {
            let mut at = At {
                turn,
                timers: &mut self.timers,
            };
            group.begin_anew(&mut at, cause, reason);
        }
        // In place of what was made of the record: that knows one protocol of each member.
        self.groups.insert(Arc::clone(id), group);
        Ok(())
    }

    /// An empty consumer group gives way to a classic one.
    pub(super) fn make_way(&mut self, turn: &mut Turn<'_>, group: &str) -> Result<(), ErrorCode> {
        let records = self.consumer_gone_records(group);
        self.write(turn, &records)
    }

    /// JoinGroup to a consumer group with members.
    pub(super) fn join_consumer(&mut self, turn: &mut Turn<'_>, request: &JoinGroup) -> JoinReply {
        let member_id = match request.member_id.is_empty() {
            true => TopicId((turn.new_id)()).to_string(),
            false => request.member_id.clone(),
        };
        match self.try_join_consumer(turn, request, &member_id) {
            Ok(reply) => reply,
            Err(error) if error == ErrorCode::MEMBER_ID_REQUIRED => {
                JoinReply::error(error, member_id)
            }
            Err(error) => JoinReply::error(error, request.member_id.clone()),
        }
    }

    fn try_join_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        request: &JoinGroup,
        member_id: &str,
    ) -> Result<JoinReply, ErrorCode> {
        let id: Arc<str> = Arc::from(request.group.as_str());
        let group = self
            .consumers
            .get(&id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let mut scene = Scene::of(turn, &id, &mut self.hashes);
        let plan = group.plan_join(&mut scene, request, member_id)?;
        let mut records = group.named(plan.records.clone());
        let leaving = BTreeSet::new();
        let converted = plan.downgrade.as_ref().and_then(|downgrade| {
            let now = (turn.now_ms, turn.topics);
            let (classic, gone) = group.to_classic(now, &leaving, Some(downgrade))?;
            Some((classic, gone, downgrade.rebalance))
        });
        if let Some((classic, gone, rebalance)) = converted {
            records.extend(gone);
            let reason = rebalance.then_some((
                RebalanceCause::SubscriptionChanged,
                "it is a classic group again, with other topics",
            ));
            self.become_classic(turn, &id, (classic, records), reason)?;
            return Ok(plan.reply);
        }
        self.write(turn, &records)?;
        if let Some(group) = self.consumers.get_mut(&id) {
            group.finish_join(&mut self.timers, &plan, turn.now_ms);
        }
        if let Some(epoch) = plan.bumped {
            turn.events.push(GroupEvent::RebalanceStarted {
                group: id.to_string(),
                cause: RebalanceCause::MemberJoined,
                reason: format!("epoch {epoch}: {member_id} joins with the classic protocol"),
            });
        }
        Ok(plan.reply)
    }

    pub(super) fn answer_join_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        request: &JoinGroup,
    ) {
        let reply = self.join_consumer(turn, request);
        turn.answer(token, Answer::Join(reply));
    }
}
