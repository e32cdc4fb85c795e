//! A member of a consumer group: what it told about itself, and where it stands.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::assignment::{Owned, Target, of_owned, owned_of, partitions};
use crate::command::Client;
use crate::records::{ClassicValue, ConsumerMemberValue, ConsumerRecord, CurrentValue};

/// The epoch of a member that leaves for good, and of one that is gone.
pub(crate) const LEFT_EPOCH: i32 = -1;
/// The epoch of a static member that leaves for a while.
pub(crate) const AWAY_EPOCH: i32 = -2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has what it shall have at its epoch.
    Stable,
    /// It must give partitions back before it reaches the next epoch.
    Unrevoked,
    /// Partitions that it shall have are still with others.
    Unreleased,
    /// Written by a newer coordinator.
    Unknown(i8),
}

impl MemberState {
    fn of(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            other => MemberState::Unknown(other),
        }
    }

    fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
            MemberState::Unknown(code) => code,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(super) id: Arc<str>,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) client: Client,
    pub(super) names: BTreeSet<String>,
    /// Empty: none.
    pub(super) regex: String,
    pub(super) assignor: Option<String>,
    pub(super) state: MemberState,
    pub(super) assigned: Owned,
    pub(super) revoking: Owned,
    /// It speaks the classic protocol.
    pub(super) classic: Option<ClassicValue>,
}

impl Member {
    pub(super) fn new(id: &str) -> Member {
        Member {
            id: Arc::from(id),
            epoch: 0,
            previous_epoch: -1,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: -1,
            client: Client::default(),
            names: BTreeSet::new(),
            regex: String::new(),
            assignor: None,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
            classic: None,
        }
    }

    /// The same member under another id, before it has joined.
    pub(super) fn renamed(&self, id: &str) -> Member {
        Member {
            id: Arc::from(id),
            epoch: 0,
            previous_epoch: 0,
            ..self.clone()
        }
    }

    /// With what it has not given back yet.
    pub(super) fn may_have(&self) -> Target {
        let mut all = Target::new();
        for (topic_id, partition) in partitions(&self.assigned).chain(partitions(&self.revoking)) {
            all.entry(topic_id).or_default().insert(partition);
        }
        all
    }

    pub(super) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    pub(super) fn move_to(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }

    /// The regular expression, if it has one.
    pub(super) fn regex(&self) -> Option<&str> {
        (!self.regex.is_empty()).then_some(self.regex.as_str())
    }

    /// The name and metadata of the classic protocol that it prefers.
    pub(super) fn preferred_protocol(&self) -> Option<&(String, Bytes)> {
        self.classic.as_ref()?.protocols.first()
    }

    pub(super) fn update(&mut self, value: &ConsumerMemberValue) {
        self.instance_id.clone_from(&value.instance_id);
        self.rack_id.clone_from(&value.rack_id);
        self.client = Client {
            id: value.client_id.clone(),
            host: value.client_host.clone(),
        };
        self.names = value.subscribed_topic_names.iter().cloned().collect();
        self.regex = value.subscribed_topic_regex.clone().unwrap_or_default();
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor.clone_from(&value.server_assignor);
        self.classic.clone_from(&value.classic);
    }

    pub(super) fn update_current(&mut self, value: &CurrentValue) {
        self.epoch = value.epoch;
        self.previous_epoch = value.previous_epoch;
        self.state = MemberState::of(value.state);
        self.assigned = owned_of(&value.assigned, value.epoch);
        self.revoking = owned_of(&value.pending_revocation, value.epoch);
    }

    /// It has left: it holds nothing any more.
    pub(super) fn clear_current(&mut self) {
        self.epoch = LEFT_EPOCH;
        self.previous_epoch = LEFT_EPOCH;
        self.assigned.clear();
        self.revoking.clear();
    }

    pub(super) fn record(&self) -> ConsumerRecord {
        ConsumerRecord::Member {
            member_id: self.id.to_string(),
            value: Some(ConsumerMemberValue {
                instance_id: self.instance_id.clone(),
                rack_id: self.rack_id.clone(),
                client_id: self.client.id.clone(),
                client_host: self.client.host.clone(),
                subscribed_topic_names: self.names.iter().cloned().collect(),
                subscribed_topic_regex: Some(self.regex.clone()),
                rebalance_timeout_ms: self.rebalance_timeout_ms,
                server_assignor: self.assignor.clone(),
                classic: self.classic.clone(),
            }),
        }
    }

    pub(super) fn current_record(&self) -> ConsumerRecord {
        ConsumerRecord::Current {
            member_id: self.id.to_string(),
            value: Some(CurrentValue {
                epoch: self.epoch,
                previous_epoch: self.previous_epoch,
                state: self.state.code(),
                assigned: of_owned(&self.assigned),
                pending_revocation: of_owned(&self.revoking),
            }),
        }
    }
}

/// Tombstones for all that is written of a member.
pub(super) fn gone(member_id: &str) -> [ConsumerRecord; 3] {
    [
        ConsumerRecord::Current {
            member_id: member_id.to_owned(),
            value: None,
        },
        ConsumerRecord::Target {
            member_id: member_id.to_owned(),
            value: None,
        },
        ConsumerRecord::Member {
            member_id: member_id.to_owned(),
            value: None,
        },
    ]
}
