//! The phase in which everybody joins: how it begins, how long it waits, how it ends.

use std::collections::BTreeMap;

use ottla_protocol::error::ErrorCode;

use super::{At, Group, Initial, JoinPhase, State};
use crate::command::{JoinReply, JoinedMember, SyncReply};
use crate::timers::Kind;
use crate::turn::{Answer, GroupEvent, RebalanceCause, RemovalCause};

/// Clients choose the rebalance timeout, even 0: a group of which everybody is away must not be
/// looked at all the time.
const AWAY_WAIT_MIN_MS: i64 = 1_000;

impl Group {
    /// Something changed for which the members must join again; or, if they are joining already,
    /// for which the phase may be over.
    pub(super) fn rebalance(&mut self, at: &mut At<'_, '_>, cause: RebalanceCause, reason: &str) {
        if self.state == State::Preparing {
            self.end_join_phase_if_complete(at);
        } else {
            self.begin_join_phase(at, cause, reason);
        }
    }

    fn begin_join_phase(&mut self, at: &mut At<'_, '_>, cause: RebalanceCause, reason: &str) {
        if self.state == State::Completing {
            self.refuse_waiting_syncs(at, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        at.turn.events.push(GroupEvent::RebalanceStarted {
            group: self.id.to_string(),
            cause,
            reason: reason.to_owned(),
        });
        self.sync_deadline_ms = None;
        self.pending_sync.clear();
        let timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = i64::from(at.turn.limits.initial_rebalance_delay_ms.max(0));
        let initial = (self.state == State::Empty && delay_ms > 0).then(|| Initial {
            remaining_ms: (timeout_ms - delay_ms).max(0),
            new_member: false,
        });
        let wait_ms = if initial.is_some() {
            delay_ms
        } else {
            timeout_ms
        };
        self.state = State::Preparing;
        self.wait_for_joins(at, wait_ms, initial);
        self.end_join_phase_if_complete(at);
    }

    fn wait_for_joins(&mut self, at: &mut At<'_, '_>, wait_ms: i64, initial: Option<Initial>) {
        let deadline_ms = at.now_ms() + wait_ms;
        self.join_phase = Some(JoinPhase {
            deadline_ms,
            initial,
        });
        at.timers.add(deadline_ms, &self.id, Kind::Join);
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.members.values().map(|m| m.rebalance_timeout_ms);
        i64::from(timeouts.max().unwrap_or(0).max(0))
    }

    /// A new member extends the initial delay.
    pub(super) fn note_new_member(&mut self) {
        if let Some(JoinPhase {
            initial: Some(initial),
            ..
        }) = &mut self.join_phase
        {
            initial.new_member = true;
        }
    }

    pub(super) fn end_join_phase_if_complete(&mut self, at: &mut At<'_, '_>) {
        let Some(phase) = &self.join_phase else {
            return;
        };
        let all = self.waiting_joins == self.members.len() && self.pending.is_empty();
        // During the initial delay more members are expected; without any left nobody is.
        if all && (phase.initial.is_none() || self.members.is_empty()) {
            self.end_join_phase(at);
        }
    }

    pub(crate) fn join_timer_fired(&mut self, at: &mut At<'_, '_>) {
        let now_ms = at.now_ms();
        let Some(phase) = self.join_phase.as_mut().filter(|p| p.deadline_ms <= now_ms) else {
            return;
        };
        if let Some(initial) = &phase.initial
            && initial.new_member
            && initial.remaining_ms > 0
        {
            let delay_ms = i64::from(at.turn.limits.initial_rebalance_delay_ms.max(0));
            let extend_ms = delay_ms.min(initial.remaining_ms);
            let next = Initial {
                remaining_ms: (initial.remaining_ms - delay_ms).max(0),
                new_member: false,
            };
            self.wait_for_joins(at, extend_ms, Some(next));
            return;
        }
        self.end_join_phase(at);
    }

    /// The next generation: without the dynamic members that did not come back.
    fn end_join_phase(&mut self, at: &mut At<'_, '_>) {
        self.remove_absent(at);
        if !self.members.is_empty() && !self.leader_is_here() {
            // Only static members that are away: wait for them.
            let wait_ms = self.rebalance_timeout_ms().max(AWAY_WAIT_MIN_MS);
            self.wait_for_joins(at, wait_ms, None);
            return;
        }
        self.join_phase = None;
        self.generation += 1;
        if self.members.is_empty() {
            self.become_empty(at);
        } else {
            self.begin_sync_phase(at);
        }
        at.turn.events.push(GroupEvent::GenerationCompleted {
            group: self.id.to_string(),
            generation: self.generation,
            members: self.members.len(),
        });
    }

    fn remove_absent(&mut self, at: &mut At<'_, '_>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for member_id in absent {
            self.remove(at, &member_id);
            at.turn.events.push(GroupEvent::MemberExpired {
                group: self.id.to_string(),
                member: member_id,
                cause: RemovalCause::Rebalance,
                reason: "it did not join again within the rebalance timeout",
            });
        }
    }

    /// The leader has joined, or somebody who has is made leader.
    fn leader_is_here(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(|leader| leader.awaiting_join.is_some()) {
            return true;
        }
        let joined = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_some());
        let Some(first) = joined.min_by_key(|member| member.arrival) else {
            return false;
        };
        self.leader = Some(first.id.clone());
        true
    }

    fn become_empty(&mut self, at: &mut At<'_, '_>) {
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.subscribed = None;
        self.state_since_ms = at.now_ms();
        // If it cannot be written, a restart finds the last generation, whose members are silent
        // and are removed again; and it is tried again when offsets are looked at for their age.
        let _ = self.append(at.turn.journal, at.turn.now_ms, &BTreeMap::new());
    }

    fn begin_sync_phase(&mut self, at: &mut At<'_, '_>) {
        self.state = State::Completing;
        self.protocol = self.choose_protocol();
        self.compute_subscribed();
        let now_ms = at.now_ms();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let reply = self.join_reply(id);
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            let Some(token) = member.awaiting_join.take() else {
                continue;
            };
            self.waiting_joins -= 1;
            member.is_new = false;
            let deadline_ms = now_ms + i64::from(member.session_timeout_ms);
            member.arm(&self.id, deadline_ms, at.timers);
            at.turn.answer(token, Answer::Join(reply));
        }
        self.pending_sync = ids.into_iter().collect();
        let deadline_ms = now_ms + self.rebalance_timeout_ms();
        self.sync_deadline_ms = Some(deadline_ms);
        at.timers.add(deadline_ms, &self.id, Kind::Sync);
    }

    /// The generation as a member is told it.
    pub(super) fn join_reply(&self, member_id: &str) -> JoinReply {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let leads = self.leader.as_deref() == Some(member_id);
        let joined = |member: &super::Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        JoinReply {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if leads {
                self.in_order().into_iter().map(joined).collect()
            } else {
                Vec::new()
            },
        }
    }

    pub(super) fn refuse_waiting_syncs(&mut self, at: &mut At<'_, '_>, error: ErrorCode) {
        let now_ms = at.now_ms();
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(token) = member.awaiting_sync.take() {
                let deadline_ms = now_ms + i64::from(member.session_timeout_ms);
                member.arm(&self.id, deadline_ms, at.timers);
                at.turn.answer(token, Answer::Sync(SyncReply::error(error)));
            }
        }
    }
}
