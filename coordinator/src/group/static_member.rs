//! Static members (KIP-345): an instance that comes back under a new member id takes the place of
//! the old one. If nothing changed and the group is Stable, nobody else notices.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use super::subscription::topics_of_all;
use super::{At, Group, State};
use crate::command::{Client, JoinGroup, JoinReply, SyncReply};
use crate::turn::{Answer, RebalanceCause, Token};

/// What a member says about itself when it joins.
struct Terms {
    protocols: Vec<(String, Bytes)>,
    client: Client,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
}

impl Terms {
    fn of(request: &JoinGroup) -> Terms {
        Terms {
            protocols: request.protocols.clone(),
            client: request.client.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
        }
    }
}

/// A member that took its own place again.
struct Resumed<'a> {
    old_id: &'a str,
    new_id: &'a str,
    /// It is the leader.
    led: bool,
    before: Terms,
}

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
        self.fence(at, old_id);
        self.rename(old_id, &new_id);
        let before = self.swap_terms(&new_id, Terms::of(request));
        if self.state == State::Stable && self.goes_on_with(&new_id, &before) {
            let resumed = Resumed {
                old_id,
                new_id: &new_id,
                led,
                before,
            };
            return self.resume_static(at, token, request, resumed);
        }
        let request = JoinGroup {
            member_id: new_id.clone(),
            ..request.clone()
        };
        self.hear_of(at, &new_id);
        self.update(at, token, &request);
        let instance = request.instance_id.as_deref().unwrap_or_default();
        self.rebalance(
            at,
            RebalanceCause::SubscriptionChanged,
            &format!("the static member {instance} came back changed"),
        );
    }

    /// The generation still suits the member: the protocol would be chosen again, and it reads
    /// what it read before. What else is in its metadata (such as the partitions that it owned)
    /// is always different after a restart.
    fn goes_on_with(&self, member_id: &str, before: &Terms) -> bool {
        let (Some(protocol), Some(member)) = (&self.protocol, self.members.get(member_id)) else {
            return false;
        };
        let metadata = |of: &[(String, Bytes)]| {
            let found = of.iter().find(|(name, _)| name == protocol);
            found.map(|(_, metadata)| metadata.clone())
        };
        let (was, is) = (metadata(&before.protocols), metadata(&member.protocols));
        let topics = |metadata: &Option<Bytes>| {
            let consumes = self.protocol_type.as_deref() == Some(super::CONSUMER);
            topics_of_all(metadata.clone().filter(|_| consumes).into_iter())
                .filter(|_| consumes && metadata.is_some())
        };
        self.choose_protocol().as_ref() == Some(protocol)
            && (was == is || (topics(&was).is_some() && topics(&was) == topics(&is)))
    }

    /// Gives the member new terms and takes its old ones.
    fn swap_terms(&mut self, member_id: &str, terms: Terms) -> Terms {
        let Some(mut member) = self.members.remove(member_id) else {
            return terms;
        };
        self.count_protocols(&member.protocols, false);
        let before = Terms {
            protocols: std::mem::replace(&mut member.protocols, terms.protocols),
            client: std::mem::replace(&mut member.client, terms.client),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
        };
        member.rebalance_timeout_ms = terms.rebalance_timeout_ms;
        member.session_timeout_ms = terms.session_timeout_ms;
        self.count_protocols(&member.protocols, true);
        self.members.insert(member_id.to_owned(), member);
        before
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
        resumed: Resumed<'_>,
    ) {
        let Resumed {
            old_id,
            new_id,
            led,
            before,
        } = resumed;
        if let Err(error) = self.append(at.turn.journal, at.turn.now_ms, &BTreeMap::new()) {
            self.swap_terms(new_id, before);
            self.rename(new_id, old_id);
            self.hear_of(at, old_id);
            let reply = JoinReply::error(error.0, "");
            return at.turn.answer(token, Answer::Join(reply));
        }
        self.state_since_ms = at.now_ms();
        self.compute_subscribed();
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
