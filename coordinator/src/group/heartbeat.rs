//! Heartbeat, and the signs of life in other requests.

use ottla_protocol::error::ErrorCode;

use super::{At, Group, State};
use crate::command::MemberRef;

impl Group {
    pub(crate) fn heartbeat(&mut self, at: &mut At<'_, '_>, member: &MemberRef) -> ErrorCode {
        if let Err(error) = self.check_generation(member) {
            return error;
        }
        if self.state == State::Empty {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.hear_of(at, &member.member_id);
        match self.state {
            State::Preparing => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        }
    }

    /// The member lives: its session begins anew.
    pub(crate) fn hear_of(&mut self, at: &mut At<'_, '_>, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline_ms = at.now_ms() + i64::from(member.session_timeout_ms);
            member.arm(&self.id, deadline_ms, at.timers);
        }
    }
}
