//! What a classic group and a consumer group hand over to each other (`consumer/migrate.rs`).

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use super::{At, CONSUMER, Group, Member, State};
use crate::command::{Client, JoinGroup, JoinReply, SyncReply};
use crate::turn::{Answer, RebalanceCause, Token};

/// A classic member on its way.
pub(crate) struct Migrant {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client: Client,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Of the group's protocol.
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

impl Group {
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn migrants(&self) -> Vec<Migrant> {
        // Before the first generation none is chosen yet.
        let chosen = self.protocol.clone().or_else(|| self.choose_protocol());
        let protocol = chosen.unwrap_or_default();
        let members = self.in_order().into_iter().map(|member| Migrant {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client: member.client.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            metadata: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        members.collect()
    }

    /// Whoever waits is told to join again: the group is another one now.
    pub(crate) fn abandon(&mut self, at: &mut At<'_, '_>) {
        let error = ErrorCode::REBALANCE_IN_PROGRESS;
        for member in self.members.values_mut() {
            if let Some(token) = member.awaiting_join.take() {
                let reply = JoinReply::error(error, member.id.clone());
                at.turn.answer(token, Answer::Join(reply));
            }
            if let Some(token) = member.awaiting_sync.take() {
                at.turn.answer(token, Answer::Sync(SyncReply::error(error)));
            }
        }
    }

    /// A stable group of these members; `None` when they share no protocol.
    pub(crate) fn of_migrants(
        id: &Arc<str>,
        (now_ms, generation): (i64, i32),
        migrants: Vec<Migrant>,
    ) -> Option<Group> {
        let mut group = Group::new(Arc::clone(id), now_ms);
        group.generation = generation;
        group.protocol_type = Some(CONSUMER.to_owned());
        for migrant in migrants {
            let request = JoinGroup {
                group: id.to_string(),
                member_id: migrant.member_id.clone(),
                instance_id: migrant.instance_id,
                client: migrant.client,
                protocol_type: CONSUMER.to_owned(),
                protocols: migrant.protocols,
                session_timeout_ms: migrant.session_timeout_ms,
                rebalance_timeout_ms: migrant.rebalance_timeout_ms,
                requires_known_member_id: false,
                supports_skipping_assignment: false,
                reason: None,
            };
            let mut member = Member::join(migrant.member_id, &request, Token(0));
            member.awaiting_join = None;
            member.is_new = false;
            group.insert(member);
        }
        group.protocol = Some(group.choose_protocol()?);
        group.state = State::Stable;
        group.compute_subscribed();
        Some(group)
    }

    /// Gives each member what `assignment` says, by its id and its metadata. The group is as
    /// durable as its snapshot.
    pub(crate) fn assign(&mut self, assignment: impl Fn(&str, &Bytes) -> Bytes) {
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in self.members.values_mut() {
            member.assignment = assignment(&member.id, &member.metadata(&protocol));
        }
        self.durable = Some(self.value(self.state_since_ms, &std::collections::BTreeMap::new()));
    }

    /// Everybody must join again.
    pub(crate) fn begin_anew(&mut self, at: &mut At<'_, '_>, cause: RebalanceCause, reason: &str) {
        self.rebalance(at, cause, reason);
    }
}
