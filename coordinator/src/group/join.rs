//! JoinGroup: new members, pending ones, and members that come again.

use ottla_protocol::error::ErrorCode;

use super::{At, Group, Member, State};
use crate::command::{JoinGroup, JoinReply};
use crate::coordinator::PREFIX_MAX_BYTES;
use crate::timers::Kind;
use crate::turn::{Answer, RebalanceCause, Token};

/// A new member may not know its id yet, so it cannot send heartbeats while it waits.
pub(super) const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1_000;

impl Group {
    pub(crate) fn join(&mut self, at: &mut At<'_, '_>, token: Token, request: JoinGroup) {
        let refused = if !self.accepts(&request.member_id, at.turn.limits.max_size) {
            self.turn_away(at, &request.member_id);
            Some(ErrorCode::GROUP_MAX_SIZE_REACHED)
        } else if !self.supports(&request.protocol_type, &request.protocols) {
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            None
        };
        if let Some(error) = refused {
            let reply = JoinReply::error(error, request.member_id);
            return at.turn.answer(token, Answer::Join(reply));
        }
        if request.member_id.is_empty() {
            self.join_new(at, token, &request);
        } else {
            self.join_known(at, token, &request);
        }
    }

    /// There is room, or the member has its place already.
    fn accepts(&self, member_id: &str, max_size: usize) -> bool {
        let known = self.members.get(member_id);
        match self.state {
            State::Empty => max_size > 0,
            State::Preparing => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.waiting_joins < max_size
            }
            State::Completing | State::Stable => known.is_some() || self.members.len() < max_size,
        }
    }

    /// Others took its place: nobody waits for it any more.
    fn turn_away(&mut self, at: &mut At<'_, '_>, member_id: &str) {
        self.pending.remove(member_id);
        self.remove(at, member_id);
        self.end_join_phase_if_complete(at);
    }

    fn join_new(&mut self, at: &mut At<'_, '_>, token: Token, request: &JoinGroup) {
        let name = request.instance_id.as_ref().unwrap_or(&request.client.id);
        let end = name.floor_char_boundary(PREFIX_MAX_BYTES);
        let prefix = &name[..end];
        let member_id = format!("{prefix}-{}", (at.turn.new_id)());
        if let Some(instance_id) = &request.instance_id {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(at, token, request, &old_id, member_id),
                None => self.add(at, token, request, member_id),
            };
        }
        if !request.requires_known_member_id {
            return self.add(at, token, request, member_id);
        }
        let lapses_ms = at.now_ms() + i64::from(request.session_timeout_ms);
        self.pending.insert(member_id.clone(), lapses_ms);
        at.timers
            .add(lapses_ms, &self.id, Kind::Pending(member_id.clone()));
        let reply = JoinReply::error(ErrorCode::MEMBER_ID_REQUIRED, member_id);
        at.turn.answer(token, Answer::Join(reply));
    }

    fn join_known(&mut self, at: &mut At<'_, '_>, token: Token, request: &JoinGroup) {
        let member_id = &request.member_id;
        if self.pending.contains_key(member_id) && request.instance_id.is_none() {
            self.pending.remove(member_id);
            return self.add(at, token, request, member_id.clone());
        }
        if let Err(error) = self.check_member(member_id, request.instance_id.as_deref()) {
            let reply = JoinReply::error(error, member_id.clone());
            return at.turn.answer(token, Answer::Join(reply));
        }
        let member = &self.members[member_id];
        let unchanged = member.protocols == request.protocols;
        let leads = self.leader.as_ref() == Some(member_id);
        let why = request.reason.as_deref().unwrap_or("not given");
        match self.state {
            State::Preparing => {
                self.update(at, token, request);
                self.end_join_phase_if_complete(at);
            }
            State::Stable if leads => {
                self.update(at, token, request);
                let reason = format!("the leader {member_id} joins again (its reason: {why})");
                self.rebalance(at, RebalanceCause::LeaderRejoined, &reason);
            }
            State::Completing | State::Stable if unchanged => {
                let reply = self.join_reply(member_id);
                at.turn.answer(token, Answer::Join(reply));
            }
            State::Completing | State::Stable => {
                self.update(at, token, request);
                let reason = format!("{member_id} changed what it reads (its reason: {why})");
                self.rebalance(at, RebalanceCause::SubscriptionChanged, &reason);
            }
            State::Empty => {
                let reply = JoinReply::error(ErrorCode::UNKNOWN_MEMBER_ID, member_id.clone());
                at.turn.answer(token, Answer::Join(reply));
            }
        }
    }

    /// A member that was not there before waits for the next generation.
    fn add(&mut self, at: &mut At<'_, '_>, token: Token, request: &JoinGroup, member_id: String) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        let mut member = Member::join(member_id.clone(), request, token);
        member.arm(&self.id, at.now_ms() + NEW_MEMBER_TIMEOUT_MS, at.timers);
        self.insert(member);
        // The one that begins the initial delay does not extend it: there is no phase yet.
        self.note_new_member();
        let why = request.reason.as_deref().unwrap_or("not given");
        let reason = format!("{member_id} joins (its reason: {why})");
        self.rebalance(at, RebalanceCause::MemberJoined, &reason);
    }

    /// What a known member says now; it waits for the next generation.
    pub(super) fn update(&mut self, at: &mut At<'_, '_>, token: Token, request: &JoinGroup) {
        let Some(mut member) = self.members.remove(&request.member_id) else {
            return;
        };
        self.count_protocols(&member.protocols, false);
        member.protocols.clone_from(&request.protocols);
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        self.count_protocols(&member.protocols, true);
        match member.awaiting_join.replace(token) {
            None => self.waiting_joins += 1,
            // The member gave the first request up; its answer must not be the one that counts.
            Some(given_up) => {
                let error = ErrorCode::REBALANCE_IN_PROGRESS;
                let reply = JoinReply::error(error, member.id.clone());
                at.turn.answer(given_up, Answer::Join(reply));
            }
        }
        self.members.insert(member.id.clone(), member);
    }
}
