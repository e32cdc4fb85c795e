//! A classic group: members, the generation, and the protocol they share.
//!
//! The durable part (generation, protocol, leader, members with their assignments) is what the
//! last [`GroupValue`] said; the rest is soft. States and their order are Kafka's:
//! Empty, PreparingRebalance (waiting for joins), CompletingRebalance (waiting for the leader's
//! assignment), Stable. A group that is deleted is simply gone.
//!
//! One file per command; this one holds the fields, what is derived from them, and their
//! invariants. Deliberately absent: offsets.

mod describe;
mod heartbeat;
mod join;
mod leave;
mod member;
mod migrate;
mod rebalance;
mod static_member;
mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use crate::command::MemberRef;
use crate::offsets::ExpiryBasis;
use crate::records::{GroupRecord, GroupValue};
use crate::timers::Timers;
use crate::turn::{Journal, JournalError, Turn};
pub(crate) use member::Member;
pub(crate) use migrate::Migrant;

/// The protocol type of consumers; only here are subscriptions understood.
pub(crate) const CONSUMER: &str = "consumer";

/// A turn and the coordinator's timers.
pub(crate) struct At<'t, 'a> {
    pub(crate) turn: &'t mut Turn<'a>,
    pub(crate) timers: &'t mut Timers,
}

impl At<'_, '_> {
    pub(crate) fn now_ms(&self) -> i64 {
        self.turn.now_ms
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Preparing => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// How the phase in which members join ends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct JoinPhase {
    deadline_ms: i64,
    /// The group was empty before: more members are expected soon.
    initial: Option<Initial>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Initial {
    /// By how much the delay may still be extended.
    remaining_ms: i64,
    new_member: bool,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    state: State,
    /// When the durable state last changed; -1 when unknown.
    state_since_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id -> member id.
    static_members: BTreeMap<String, String>,
    /// Ids given out with MEMBER_ID_REQUIRED, and when they lapse.
    pending: BTreeMap<String, i64>,
    /// Members of this generation that have not synced.
    pending_sync: BTreeSet<String>,
    /// How many members can use a protocol.
    support: BTreeMap<String, usize>,
    waiting_joins: usize,
    join_phase: Option<JoinPhase>,
    sync_deadline_ms: Option<i64>,
    /// Of all members; `None`: not a consumer group, or not understood.
    subscribed: Option<BTreeSet<String>>,
    /// Numbers the members in the order they came.
    arrivals: u64,
    /// What the log says last; `None`: nothing.
    durable: Option<GroupValue>,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now_ms: i64) -> Group {
        Group {
            id,
            state: State::Empty,
            state_since_ms: now_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            support: BTreeMap::new(),
            waiting_joins: 0,
            join_phase: None,
            sync_deadline_ms: None,
            subscribed: None,
            arrivals: 0,
            durable: None,
        }
    }

    /// As the log says: with members it is Stable, without it is Empty. Members that could not
    /// be told apart are left out: the log is not trusted.
    pub(crate) fn load(id: Arc<str>, value: &GroupValue) -> Group {
        let mut group = Group::new(id, value.current_state_timestamp_ms);
        let protocol_type = value.protocol_type.as_str();
        group.protocol_type = (!protocol_type.is_empty()).then(|| protocol_type.to_owned());
        group.generation = value.generation;
        group.protocol.clone_from(&value.protocol);
        group.durable = Some(value.clone());
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in &value.members {
            let instance_id = member.instance_id.as_ref();
            let known = group.members.contains_key(&member.member_id)
                || instance_id.is_some_and(|id| group.static_members.contains_key(id));
            if !known {
                group.insert(Member::load(member, protocol.clone()));
            }
        }
        if group.members.is_empty() {
            return group;
        }
        let led = value.leader.as_ref().filter(|id| group.has_member(id));
        if let Some(leader) = led {
            group.leader = Some(leader.clone());
        }
        group.state = State::Stable;
        group.protocol = Some(protocol);
        group.compute_subscribed();
        group
    }

    /// Its members count as heard of now.
    pub(crate) fn finish_loading(&mut self, now_ms: i64, timers: &mut Timers) {
        for member in self.members.values_mut() {
            let deadline_ms = now_ms + i64::from(member.session_timeout_ms);
            member.arm(&self.id, deadline_ms, timers);
        }
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// No members; ids may be pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Nothing is known of it that would have to be kept.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.is_empty() && self.pending.is_empty()
    }

    /// The log knows about it.
    pub(crate) fn is_persistent(&self) -> bool {
        self.durable.is_some()
    }

    pub(crate) fn has_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    /// Writes down what must survive. With an error the log says what it said before.
    fn append(
        &mut self,
        journal: &mut dyn Journal,
        since_ms: i64,
        assignments: &BTreeMap<String, Bytes>,
    ) -> Result<(), JournalError> {
        let value = self.value(since_ms, assignments);
        let record = self.record_of(value.clone());
        journal.append(&[record])?;
        self.durable = Some(value);
        Ok(())
    }

    /// The record that says it is empty, if the log still names the members it had.
    pub(crate) fn append_if_owed(&mut self, journal: &mut dyn Journal) -> Result<(), JournalError> {
        let names_members = |value: &GroupValue| !value.members.is_empty();
        if self.is_empty() && self.durable.as_ref().is_some_and(names_members) {
            self.append(journal, self.state_since_ms, &BTreeMap::new())?;
        }
        Ok(())
    }

    fn record_of(&self, value: GroupValue) -> GroupRecord {
        GroupRecord::Group {
            group: self.id.to_string(),
            value: Some(value),
        }
    }

    fn value(&self, since_ms: i64, assignments: &BTreeMap<String, Bytes>) -> GroupValue {
        let members = self.in_order().into_iter().map(|member| {
            let assignment = assignments.get(&member.id).unwrap_or(&member.assignment);
            let protocol = self.protocol.as_deref().unwrap_or_default();
            member.value(protocol, assignment.clone())
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp_ms: since_ms,
            members: members.collect(),
        }
    }

    /// The durable part as a record: during a rebalance still the generation before.
    pub(crate) fn snapshot(&self) -> Option<GroupRecord> {
        self.durable.clone().map(|value| self.record_of(value))
    }

    pub(crate) fn gone_record(&self) -> GroupRecord {
        GroupRecord::Group {
            group: self.id.to_string(),
            value: None,
        }
    }

    fn in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_by_key(|member| member.arrival);
        members
    }

    /// Adds a member, new or loaded.
    fn insert(&mut self, mut member: Member) {
        self.arrivals += 1;
        member.arrival = self.arrivals;
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            let before = self
                .static_members
                .insert(instance_id.clone(), member.id.clone());
            debug_assert!(before.is_none(), "two members of one instance id");
        }
        self.count_protocols(&member.protocols, true);
        self.waiting_joins += usize::from(member.awaiting_join.is_some());
        self.members.insert(member.id.clone(), member);
    }

    fn count_protocols(&mut self, protocols: &[(String, Bytes)], add: bool) {
        let names: BTreeSet<&str> = protocols.iter().map(|(name, _)| name.as_str()).collect();
        for name in names {
            let count = self.support.entry(name.to_owned()).or_default();
            if add {
                *count += 1;
            } else {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(name);
                }
            }
        }
    }

    /// Some protocol would be understood by all members and by one with these.
    fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.support.get(name) == Some(&self.members.len()))
    }

    /// The protocol that most members prefer among those that all understand.
    fn choose_protocol(&self) -> Option<String> {
        let everybody = self.members.len();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .find(|(name, _)| self.support.get(name) == Some(&everybody));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .rev()
            .max_by_key(|(_, votes)| *votes)
            .map(|(name, _)| name.to_owned())
    }

    /// The member exists and is who it says it is.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            return match self.static_members.get(instance_id) {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if known != member_id => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => Ok(()),
            };
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    fn check_generation(&self, member: &MemberRef) -> Result<(), ErrorCode> {
        self.check_member(&member.member_id, member.instance_id.as_deref())?;
        if member.generation == self.generation {
            Ok(())
        } else {
            Err(ErrorCode::ILLEGAL_GENERATION)
        }
    }

    /// Whether `member` may commit offsets now.
    pub(crate) fn check_commit(&self, member: &MemberRef) -> Result<(), ErrorCode> {
        if member.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        let names_itself =
            member.generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some();
        if names_itself {
            self.check_generation(member)?;
        } else if self.state != State::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.state == State::Completing {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// A member reads `topic`, or might.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => !self.members.is_empty() && self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// From when on its offsets age.
    pub(crate) fn expiry_basis(&self) -> ExpiryBasis<'_> {
        match (self.protocol_type.as_deref(), self.state) {
            (None, _) => ExpiryBasis::CommitTime,
            (Some(_), State::Empty) => ExpiryBasis::Since(self.state_since_ms),
            (Some(CONSUMER), State::Stable) => match &self.subscribed {
                Some(topics) => ExpiryBasis::CommitTimeExcept(topics),
                None => ExpiryBasis::Never,
            },
            _ => ExpiryBasis::Never,
        }
    }

    fn compute_subscribed(&mut self) {
        self.subscribed = match (self.protocol_type.as_deref(), &self.protocol) {
            (Some(CONSUMER), Some(protocol)) => {
                subscription::topics_of_all(self.members.values().map(|m| m.metadata(protocol)))
            }
            _ => None,
        };
    }

    /// What always holds; called in tests after every command.
    pub(crate) fn check_invariants(&self) {
        let mut expected = Group::new(Arc::clone(&self.id), 0);
        for member in self.members.values() {
            expected.count_protocols(&member.protocols, true);
        }
        assert_eq!(self.support, expected.support);
        let waiting = |member: &&Member| member.awaiting_join.is_some();
        assert_eq!(
            self.waiting_joins,
            self.members.values().filter(waiting).count()
        );
        assert_eq!(self.state == State::Preparing, self.join_phase.is_some());
        for (instance_id, member_id) in &self.static_members {
            let member = &self.members[member_id];
            assert_eq!(member.instance_id.as_ref(), Some(instance_id));
        }
        for member in self.members.values() {
            assert!(!self.pending.contains_key(&member.id));
            assert!(member.awaiting_join.is_none() || self.state == State::Preparing);
            assert!(member.awaiting_sync.is_none() || self.state == State::Completing);
            assert!(
                member.is_watched(),
                "nobody would miss {} if it fell silent",
                member.id
            );
        }
        for member_id in &self.pending_sync {
            assert!(self.has_member(member_id));
            assert!(matches!(self.state, State::Completing | State::Stable));
            assert!(self.sync_deadline_ms.is_some());
        }
        match self.state {
            State::Empty => assert!(self.members.is_empty() && self.leader.is_none()),
            State::Completing | State::Stable => {
                assert!(!self.members.is_empty() && self.protocol.is_some());
                assert!(self.leader.as_ref().is_some_and(|id| self.has_member(id)));
            }
            State::Preparing => {}
        }
    }
}
