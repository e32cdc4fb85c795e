//! SyncGroup: the leader's assignment is written and handed out.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use super::{At, Group, State};
use crate::command::{SyncGroup, SyncReply};
use crate::turn::{Answer, GroupEvent, RebalanceCause, RemovalCause, Token};

impl Group {
    pub(crate) fn sync(&mut self, at: &mut At<'_, '_>, token: Token, request: SyncGroup) {
        let member_id = request.member.member_id.clone();
        let error = match self.check_sync(&request) {
            Err(error) => Some(error),
            Ok(()) => match self.state {
                State::Empty => Some(ErrorCode::UNKNOWN_MEMBER_ID),
                State::Preparing => Some(ErrorCode::REBALANCE_IN_PROGRESS),
                State::Completing | State::Stable => None,
            },
        };
        if let Some(error) = error {
            return at.turn.answer(token, Answer::Sync(SyncReply::error(error)));
        }
        self.pending_sync.remove(&member_id);
        if self.state == State::Stable {
            return self.hand_out(at, &member_id, token);
        }
        if let Some(member) = self.members.get_mut(&member_id)
            && let Some(given_up) = member.awaiting_sync.replace(token)
        {
            let reply = SyncReply::error(ErrorCode::REBALANCE_IN_PROGRESS);
            at.turn.answer(given_up, Answer::Sync(reply));
        }
        if self.leader.as_ref() == Some(&member_id) {
            self.accept_assignment(at, request.assignments);
        }
    }

    fn check_sync(&self, request: &SyncGroup) -> Result<(), ErrorCode> {
        self.check_generation(&request.member)?;
        let differs = |asked: &Option<String>, ours: &Option<String>| {
            asked.is_some() && ours.is_some() && asked != ours
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn accept_assignment(&mut self, at: &mut At<'_, '_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for member_id in self.members.keys() {
            assignments.entry(member_id.clone()).or_default();
        }
        if let Err(error) = self.append(at.turn.journal, at.turn.now_ms, &assignments) {
            self.refuse_waiting_syncs(at, error.0);
            return self.rebalance(
                at,
                RebalanceCause::AssignmentLost,
                "the assignment could not be stored",
            );
        }
        self.state = State::Stable;
        self.state_since_ms = at.now_ms();
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            if let Some(token) = member.awaiting_sync.take() {
                waiting.push((member.id.clone(), token));
            }
        }
        for (member_id, token) in waiting {
            self.hand_out(at, &member_id, token);
        }
    }

    fn hand_out(&mut self, at: &mut At<'_, '_>, member_id: &str, token: Token) {
        self.hear_of(at, member_id);
        let member = self.members.get(member_id);
        let reply = SyncReply {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
        };
        at.turn.answer(token, Answer::Sync(reply));
    }

    /// Members that have not synced by now hold everybody up: they are removed.
    pub(crate) fn sync_timer_fired(&mut self, at: &mut At<'_, '_>) {
        let now_ms = at.now_ms();
        if self
            .sync_deadline_ms
            .is_none_or(|deadline| deadline > now_ms)
        {
            return;
        }
        self.sync_deadline_ms = None;
        let missing = std::mem::take(&mut self.pending_sync);
        if missing.is_empty() {
            return;
        }
        for member_id in &missing {
            self.remove(at, member_id);
            at.turn.events.push(GroupEvent::MemberExpired {
                group: self.id.to_string(),
                member: member_id.clone(),
                cause: RemovalCause::Sync,
                reason: "it joined but did not sync within the rebalance timeout",
            });
        }
        self.rebalance(
            at,
            RebalanceCause::MemberRemoved,
            "members did not sync in time",
        );
    }
}
