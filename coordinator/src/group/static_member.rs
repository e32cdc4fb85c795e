//! Static members (KIP-345): an instance that comes back under a new member id takes the place of
//! the old one. If nothing changed and the group is Stable, nobody else notices.

use std::collections::BTreeMap;

use ottla_protocol::error::ErrorCode;

use super::{At, Group, State};
use crate::command::{JoinGroup, JoinReply, SyncReply};
use crate::turn::{Answer, Token};

impl Group {
    pub(super) fn replace_static(
        &mut self,
        at: &mut At<'_, '_>,
        token: Token,
        request: &JoinGroup,
        old_id: &str,
        new_id: String,
    ) {
        let led = self.leader.as_deref() == Some(old_id);
        let unchanged = self.members[old_id].protocols == request.protocols;
        self.fence(at, old_id);
        self.rename(old_id, &new_id);
        let request = JoinGroup {
            member_id: new_id.clone(),
            ..request.clone()
        };
        if self.state == State::Stable && unchanged {
            return self.resume_static(at, token, &request, (old_id, led));
        }
        self.update(at, token, &request);
        if let Some(member) = self.members.get_mut(&new_id) {
            member.is_new = true;
            let deadline_ms = at.now_ms() + super::join::NEW_MEMBER_TIMEOUT_MS;
            member.arm(&self.id, deadline_ms, at.timers);
        }
        let instance = request.instance_id.as_deref().unwrap_or_default();
        self.rebalance(
            at,
            &format!("the static member {instance} came back changed"),
        );
    }

    /// The old id's waiting calls end, so that the older of two processes stops.
    fn fence(&mut self, at: &mut At<'_, '_>, old_id: &str) {
        let Some(member) = self.members.get_mut(old_id) else {
            return;
        };
        let error = ErrorCode::FENCED_INSTANCE_ID;
        if let Some(token) = member.awaiting_join.take() {
            self.waiting_joins -= 1;
            let reply = JoinReply::error(error, old_id);
            at.turn.answer(token, Answer::Join(reply));
        }
        if let Some(token) = member.awaiting_sync.take() {
            at.turn.answer(token, Answer::Sync(SyncReply::error(error)));
        }
    }

    fn rename(&mut self, old_id: &str, new_id: &str) {
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        member.rename(new_id.to_owned());
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.to_owned());
        }
    }

    /// The generation goes on with the new id. If that cannot be written, the old id stays.
    fn resume_static(
        &mut self,
        at: &mut At<'_, '_>,
        token: Token,
        request: &JoinGroup,
        (old_id, led): (&str, bool),
    ) {
        let new_id = &request.member_id;
        let record = self.record(at.now_ms(), &BTreeMap::new());
        if let Err(error) = at.turn.journal.append(&[record]) {
            self.rename(new_id, old_id);
            self.hear_of(at, old_id);
            let reply = JoinReply::error(error.0, "");
            return at.turn.answer(token, Answer::Join(reply));
        }
        self.state_since_ms = at.now_ms();
        if let Some(member) = self.members.get_mut(new_id) {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
            member.client.clone_from(&request.client);
        }
        self.hear_of(at, new_id);
        let mut reply = self.join_reply(new_id);
        if led && request.supports_skipping_assignment {
            reply.skip_assignment = true;
        } else if led {
            // An old client that is told it leads would assign again: it is told that the id it
            // had before leads.
            old_id.clone_into(&mut reply.leader);
            reply.members.clear();
        }
        at.turn.answer(token, Answer::Join(reply));
    }
}
