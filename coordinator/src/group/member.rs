//! A member of a classic group.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Client, JoinGroup};
use crate::records::MemberValue;
use crate::timers::{Kind, Timers};
use crate::turn::Token;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(super) client: Client,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In the order it prefers them.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<Token>,
    pub(super) awaiting_sync: Option<Token>,
    /// It has not yet seen an answer with its id, so waiting does not prove that it lives.
    pub(super) is_new: bool,
    pub(super) arrival: u64,
    /// When it is lost unless it is heard of.
    deadline_ms: i64,
    /// The timer that will look at the deadline.
    armed_ms: Option<i64>,
}

impl Member {
    pub(super) fn join(id: String, request: &JoinGroup, token: Token) -> Member {
        Member {
            id,
            instance_id: request.instance_id.clone(),
            client: request.client.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            arrival: 0,
            deadline_ms: 0,
            armed_ms: None,
        }
    }

    pub(super) fn load(value: &MemberValue, protocol: String) -> Member {
        Member {
            id: value.member_id.clone(),
            instance_id: value.instance_id.clone(),
            client: Client {
                id: value.client_id.clone(),
                host: value.client_host.clone(),
            },
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: vec![(protocol, value.subscription.clone())],
            assignment: value.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            arrival: 0,
            deadline_ms: 0,
            armed_ms: None,
        }
    }

    pub(super) fn value(&self, protocol: &str, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client.id.clone(),
            client_host: self.client.host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// What it says about itself under `protocol`; empty if it does not know that.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// It must be heard of before `deadline_ms`.
    pub(super) fn arm(&mut self, group: &Arc<str>, deadline_ms: i64, timers: &mut Timers) {
        self.deadline_ms = deadline_ms;
        if self.armed_ms.is_none_or(|armed_ms| deadline_ms < armed_ms) {
            timers.add(deadline_ms, group, Kind::Session(self.id.clone()));
            self.armed_ms = Some(deadline_ms);
        }
    }

    /// The timer of `at_ms` fired: true if the member is lost.
    pub(super) fn is_lost(
        &mut self,
        group: &Arc<str>,
        (at_ms, now_ms): (i64, i64),
        timers: &mut Timers,
    ) -> bool {
        if self.armed_ms != Some(at_ms) {
            return false;
        }
        self.armed_ms = None;
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        if waits && !self.is_new {
            return false;
        }
        if self.deadline_ms > now_ms {
            self.arm(group, self.deadline_ms, timers);
            return false;
        }
        true
    }

    /// Its silence would be noticed.
    pub(super) fn is_watched(&self) -> bool {
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        self.armed_ms.is_some() || (waits && !self.is_new)
    }

    /// A static member that came back under another id.
    pub(super) fn rename(&mut self, id: String) {
        self.id = id;
        // The old timer looks for the old id.
        self.armed_ms = None;
    }
}
