//! Members that go: by LeaveGroup, by silence, or as ids that were never used.

use ottla_protocol::error::ErrorCode;

use super::{At, Group};
use crate::command::{JoinReply, LeavingMember, LeftMember, SyncReply};
use crate::turn::{Answer, GroupEvent, RebalanceCause, RemovalCause};

impl Group {
    /// Each member's result, and one rebalance for all of them.
    pub(crate) fn leave(
        &mut self,
        at: &mut At<'_, '_>,
        leaving: Vec<LeavingMember>,
    ) -> Vec<LeftMember> {
        let mut gone = Vec::new();
        let members_before = self.members.len();
        let left = leaving.into_iter().map(|member| {
            let error = match self.leave_one(at, &member) {
                Ok(()) => {
                    let why = member.reason.as_deref().unwrap_or("not given");
                    let who = member.instance_id.as_ref().unwrap_or(&member.member_id);
                    gone.push(format!("{who} leaves (its reason: {why})"));
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
        let left: Vec<LeftMember> = left.collect();
        if self.members.len() < members_before {
            self.changed_by_leaving(at, RebalanceCause::MemberLeft, &gone.join(", "));
        } else {
            // Only ids that were never used: nobody has to join again because of them.
            self.end_join_phase_if_complete(at);
        }
        left
    }

    fn leave_one(&mut self, at: &mut At<'_, '_>, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let member_id = match &leaving.instance_id {
            Some(instance_id) if leaving.member_id.is_empty() => self
                .static_members
                .get(instance_id)
                .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
                .clone(),
            _ => leaving.member_id.clone(),
        };
        if leaving.instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            return Ok(());
        }
        self.check_member(&member_id, leaving.instance_id.as_deref())?;
        self.remove(at, &member_id);
        Ok(())
    }

    /// A group without members and without a generation has nothing to rebalance.
    fn changed_by_leaving(&mut self, at: &mut At<'_, '_>, cause: RebalanceCause, reason: &str) {
        if self.state != super::State::Empty {
            self.rebalance(at, cause, reason);
        }
    }

    /// Takes a member out; whatever it waits for is answered.
    pub(super) fn remove(&mut self, at: &mut At<'_, '_>, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.count_protocols(&member.protocols, false);
        self.pending_sync.remove(member_id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.leader.as_deref() == Some(member_id) {
            let first = self.members.values().min_by_key(|member| member.arrival);
            self.leader = first.map(|member| member.id.clone());
        }
        let error = ErrorCode::UNKNOWN_MEMBER_ID;
        if let Some(token) = member.awaiting_join {
            self.waiting_joins -= 1;
            let reply = JoinReply::error(error, member_id);
            at.turn.answer(token, Answer::Join(reply));
        }
        if let Some(token) = member.awaiting_sync {
            at.turn.answer(token, Answer::Sync(SyncReply::error(error)));
        }
    }

    pub(crate) fn session_timer_fired(&mut self, at: &mut At<'_, '_>, at_ms: i64, member_id: &str) {
        let times = (at_ms, at.now_ms());
        let lost = self
            .members
            .get_mut(member_id)
            .is_some_and(|member| member.is_lost(&self.id, times, at.timers));
        if !lost {
            return;
        }
        self.remove(at, member_id);
        at.turn.events.push(GroupEvent::MemberExpired {
            group: self.id.to_string(),
            member: member_id.to_owned(),
            cause: RemovalCause::Session,
            reason: "nothing was heard of it for its session timeout",
        });
        let reason = format!("{member_id} was silent for its session timeout");
        self.changed_by_leaving(at, RebalanceCause::MemberRemoved, &reason);
    }

    pub(crate) fn pending_timer_fired(&mut self, at: &mut At<'_, '_>, member_id: &str) {
        let now_ms = at.now_ms();
        if self
            .pending
            .get(member_id)
            .is_some_and(|lapses| *lapses <= now_ms)
        {
            self.pending.remove(member_id);
            self.end_join_phase_if_complete(at);
        }
    }
}
