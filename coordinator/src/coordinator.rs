//! [`GroupCoordinator`]: the groups and offsets of one partition of `__consumer_offsets`.
//!
//! Commands find their group here and are carried out in `group/` and `offsets.rs`; time comes in
//! through [`GroupCoordinator::tick`]. Invariant: every token handed in is answered exactly once,
//! now or in a later turn, unless the coordinator is dropped.

mod consumer_groups;
mod conversion;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::error::ErrorCode;

use crate::command::{
    CommitOffsets, DescribedGroup, FetchOffsets, FetchedOffset, Heartbeat, JoinGroup, JoinReply,
    LeaveGroup, LeavingMember, LeftMember, ListFilter, ListedGroup, Refusal, SyncGroup, SyncReply,
};
use crate::consumer::{ConsumerGroup, TopicHashes};
use crate::group::{At, Group};
use crate::offsets::{ExpiryBasis, Offsets};
use crate::records::GroupRecord;
use crate::timers::{Kind, Timers};
use crate::turn::{Answer, GroupEvent, Token, Turn};

/// How often offsets are looked at for their age.
const EXPIRY_CHECK_MS: i64 = 10 * 60 * 1_000;
/// What a string of a record can hold; compact strings of requests may be longer.
const NAME_MAX_BYTES: usize = 32_767;
/// A member id is a client's or an instance's name and a unique part.
pub(crate) const PREFIX_MAX_BYTES: usize = 16_384;

/// See the crate's documentation.
#[derive(Debug, Default)]
pub struct GroupCoordinator {
    /// Of the classic protocol.
    groups: BTreeMap<Arc<str>, Group>,
    /// Of KIP-848; no id is in both.
    consumers: BTreeMap<Arc<str>, ConsumerGroup>,
    hashes: TopicHashes,
    offsets: Offsets,
    timers: Timers,
    next_expiry_check_ms: Option<i64>,
}

impl GroupCoordinator {
    pub fn new() -> GroupCoordinator {
        GroupCoordinator::default()
    }

    /// Applies one record of the log.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value,
            } => self
                .offsets
                .apply(group, (topic, *partition), value.as_ref()),
            GroupRecord::Group { group, value: None } => {
                self.groups.remove(group.as_str());
            }
            GroupRecord::Group {
                group,
                value: Some(value),
            } => {
                // What a group is, its later records say.
                self.consumers.remove(group.as_str());
                let id: Arc<str> = Arc::from(group.as_str());
                self.groups.insert(Arc::clone(&id), Group::load(id, value));
            }
            GroupRecord::Consumer { group, record } => self.replay_consumer(group, record),
        }
    }

    /// The log is replayed: from now on members are expected to be heard of.
    pub fn finish_loading(&mut self, now_ms: i64) {
        for group in self.groups.values_mut() {
            group.finish_loading(now_ms, &mut self.timers);
        }
        self.finish_loading_consumers(now_ms);
        self.next_expiry_check_ms = Some(now_ms.saturating_add(EXPIRY_CHECK_MS));
    }

    /// What the log must say for an equal coordinator.
    pub fn snapshot(&self) -> Vec<GroupRecord> {
        let groups = self.groups.values().filter_map(Group::snapshot);
        let consumers = self.consumers.values().flat_map(ConsumerGroup::snapshot);
        groups
            .chain(consumers)
            .chain(self.offsets.snapshot())
            .collect()
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        let expiry = self.next_expiry_check_ms.filter(|_| self.has_anything());
        [self.timers.next_ms(), expiry].into_iter().flatten().min()
    }

    fn has_anything(&self) -> bool {
        !self.groups.is_empty() || !self.consumers.is_empty() || self.offsets.count() > 0
    }

    pub fn group_count(&self) -> usize {
        let only_offsets = |group: &&Arc<str>| !self.has_group(group);
        let simple = self.offsets.groups().filter(only_offsets).count();
        self.groups.len() + self.consumers.len() + simple
    }

    pub fn offset_count(&self) -> usize {
        self.offsets.count()
    }

    /// Carries out what is due.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some((at_ms, id, kind)) = self.timers.pop_due(turn.now_ms) {
            let Some(group) = self.groups.get_mut(&id) else {
                self.consumer_timer_fired(turn, &id, at_ms, kind);
                continue;
            };
            let mut at = At {
                turn,
                timers: &mut self.timers,
            };
            match kind {
                Kind::Join => group.join_timer_fired(&mut at),
                Kind::Sync => group.sync_timer_fired(&mut at),
                Kind::Session(member_id) => group.session_timer_fired(&mut at, at_ms, &member_id),
                Kind::Pending(member_id) => group.pending_timer_fired(&mut at, &member_id),
                Kind::Loaded
                | Kind::MemberSession(_)
                | Kind::MemberRebalance(_)
                | Kind::MemberJoin(_)
                | Kind::MemberSync(_) => {}
            }
            self.forget_if_nothing(&id);
        }
        if self
            .next_expiry_check_ms
            .is_some_and(|at_ms| at_ms <= turn.now_ms)
        {
            self.next_expiry_check_ms = Some(turn.now_ms.saturating_add(EXPIRY_CHECK_MS));
            self.expire(turn);
        }
    }

    /// A group that was only asked about, or whose pending members never came, leaves no trace.
    fn forget_if_nothing(&mut self, id: &str) {
        let nothing = |group: &Group| group.is_forgettable() && !group.is_persistent();
        if self.groups.get(id).is_some_and(nothing) {
            self.groups.remove(id);
        }
    }

    pub fn join(&mut self, turn: &mut Turn<'_>, token: Token, request: JoinGroup) {
        let limits = turn.limits;
        let timeouts = limits.min_session_timeout_ms..=limits.max_session_timeout_ms;
        let error = if !is_group_id(&request.group) {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if !fits_records(&request) {
            Some(ErrorCode::INVALID_REQUEST)
        } else if !timeouts.contains(&request.session_timeout_ms) {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if !request.member_id.is_empty() && !self.has_group(&request.group) {
            Some(ErrorCode::UNKNOWN_MEMBER_ID)
        } else {
            None
        };
        if let Some(error) = error {
            let reply = JoinReply::error(error, request.member_id);
            return turn.answer(token, Answer::Join(reply));
        }
        if let Some(consumers) = self.consumers.get(request.group.as_str()) {
            if !consumers.is_empty() {
                return self.answer_join_consumer(turn, token, &request);
            }
            let refused = match request.member_id.is_empty() {
                true => self.make_way(turn, &request.group).err(),
                false => Some(ErrorCode::UNKNOWN_MEMBER_ID),
            };
            if let Some(error) = refused {
                let reply = JoinReply::error(error, request.member_id);
                return turn.answer(token, Answer::Join(reply));
            }
        }
        let id: Arc<str> = Arc::from(request.group.as_str());
        let now_ms = turn.now_ms;
        let mut at = At {
            turn,
            timers: &mut self.timers,
        };
        self.groups
            .entry(Arc::clone(&id))
            .or_insert_with(|| Group::new(Arc::clone(&id), now_ms))
            .join(&mut at, token, request);
        self.forget_if_nothing(&id);
    }

    pub fn sync(&mut self, turn: &mut Turn<'_>, token: Token, request: SyncGroup) {
        if let Some(group) = self.consumers.get_mut(request.group.as_str()) {
            let scene = (turn.now_ms, turn.topics);
            let reply = group.sync(&mut self.timers, scene, &request);
            return turn.answer(token, Answer::Sync(reply));
        }
        let mut at = At {
            turn,
            timers: &mut self.timers,
        };
        match self.groups.get_mut(request.group.as_str()) {
            Some(group) => group.sync(&mut at, token, request),
            None => {
                let reply = SyncReply::error(missing_group(&request.group));
                turn.answer(token, Answer::Sync(reply));
            }
        }
    }

    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, request: Heartbeat) -> ErrorCode {
        if let Some(group) = self.consumers.get_mut(request.group.as_str()) {
            return group.classic_heartbeat(&mut self.timers, turn.now_ms, &request.member);
        }
        let mut at = At {
            turn,
            timers: &mut self.timers,
        };
        match self.groups.get_mut(request.group.as_str()) {
            Some(group) => group.heartbeat(&mut at, &request.member),
            None => missing_group(&request.group),
        }
    }

    pub fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: LeaveGroup,
    ) -> Result<Vec<LeftMember>, ErrorCode> {
        if self.consumers.contains_key(request.group.as_str()) {
            return self.leave_consumer(turn, request);
        }
        let mut at = At {
            turn,
            timers: &mut self.timers,
        };
        let left = match self.groups.get_mut(request.group.as_str()) {
            Some(group) => group.leave(&mut at, request.members),
            None => match missing_group(&request.group) {
                ErrorCode::UNKNOWN_MEMBER_ID => unknown_members(request.members),
                error => return Err(error),
            },
        };
        self.forget_if_nothing(&request.group);
        Ok(left)
    }

    /// One result per offset, in their order, or one for all.
    pub fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        request: CommitOffsets,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if !is_old_group_id(&request.group) {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if let Some(group) = self.consumers.get(request.group.as_str()) {
            let allowed = group.check_commit(&request)?;
            return self.write_commit(turn, request, &allowed);
        }
        match self.groups.get(request.group.as_str()) {
            Some(group) => group.check_commit(&request.member)?,
            // A consumer that assigns itself needs no group; a member of a generation does.
            None if request.member.generation < 0 => {}
            None if self.offsets.has_any(&request.group) => {
                return Err(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            None if request.knows_member_epochs => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            None => return Err(ErrorCode::ILLEGAL_GENERATION),
        }
        if let Some(group) = self.groups.get_mut(request.group.as_str()) {
            let mut at = At {
                turn,
                timers: &mut self.timers,
            };
            group.hear_of(&mut at, &request.member.member_id);
        }
        let allowed = vec![ErrorCode::NONE; request.offsets.len()];
        self.write_commit(turn, request, &allowed)
    }

    /// Writes what is allowed, and answers for all.
    fn write_commit(
        &mut self,
        turn: &mut Turn<'_>,
        mut request: CommitOffsets,
        allowed: &[ErrorCode],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let mut each = allowed.iter();
        request
            .offsets
            .retain(|_| each.next().is_none_or(|error| error.is_ok()));
        let (records, results) = Offsets::commit_records(turn.now_ms, turn.limits, &request);
        self.write(turn, &records).map_err(|error| match error {
            ErrorCode::UNKNOWN_SERVER_ERROR => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
            error => error,
        })?;
        let mut results = results.into_iter();
        let all = allowed.iter().map(|error| match error.is_ok() {
            true => results.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            false => *error,
        });
        Ok(all.collect())
    }

    /// Several commits as one write: each is decided as if it were alone, and all are written or
    /// none. One result per commit, as of [`GroupCoordinator::commit`].
    pub fn commit_all(
        &mut self,
        turn: &mut Turn<'_>,
        requests: Vec<CommitOffsets>,
    ) -> Vec<Result<Vec<ErrorCode>, ErrorCode>> {
        turn.held = Some(Vec::with_capacity(requests.len()));
        let each = requests.into_iter();
        let mut results: Vec<_> = each.map(|request| self.commit(turn, request)).collect();
        let records = turn.held.take().unwrap_or_default();
        if let Err(error) = self.write(turn, &records) {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(error);
            }
        }
        results
    }

    /// The offsets that are asked for, in their order, or an error for the group.
    pub fn fetch_offsets(&self, request: &FetchOffsets) -> Result<Vec<FetchedOffset>, ErrorCode> {
        if let Some(group) = self.consumers.get(request.group.as_str()) {
            group.check_fetch(request.member_id.as_deref(), request.member_epoch)?;
        }
        let partitions = request.partitions.as_deref();
        Ok(self.offsets.fetch(&request.group, partitions))
    }

    pub fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if !is_group_id(group) {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if !self.knows(group) {
            return Err(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        let running = self.groups.get(group).filter(|group| !group.is_empty());
        if running.is_some_and(|group| group.protocol_type() != Some(crate::group::CONSUMER)) {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        let consumers = self.consumers.get(group);
        let subscribed = |topic: &str| {
            running.is_some_and(|group| group.is_subscribed_to(topic))
                || consumers.is_some_and(|group| group.is_subscribed_to(topic))
        };
        let (refused, allowed): (Vec<_>, Vec<_>) = partitions
            .iter()
            .cloned()
            .partition(|(topic, _)| subscribed(topic));
        let results = partitions.iter().map(|partition| {
            if refused.contains(partition) {
                ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
            } else {
                ErrorCode::NONE
            }
        });
        let results = results.collect();
        let records = self.offsets.delete_records(group, &allowed);
        self.write(turn, &records)?;
        Ok(results)
    }

    pub fn delete_group(&mut self, turn: &mut Turn<'_>, group: &str) -> ErrorCode {
        if !is_old_group_id(group) {
            return ErrorCode::INVALID_GROUP_ID;
        }
        if !self.knows(group) {
            return ErrorCode::GROUP_ID_NOT_FOUND;
        }
        if self.groups.get(group).is_some_and(|g| !g.is_empty())
            || self.consumers.get(group).is_some_and(|g| !g.is_empty())
        {
            return ErrorCode::NON_EMPTY_GROUP;
        }
        let mut records = self.offsets.delete_group_records(group);
        records.extend(self.consumer_gone_records(group));
        if self.groups.get(group).is_some_and(Group::is_persistent) {
            records.push(GroupRecord::Group {
                group: group.to_owned(),
                value: None,
            });
        }
        if let Err(error) = self.write(turn, &records) {
            return error;
        }
        // Ids that were given out for it mean nothing any more.
        self.groups.remove(group);
        ErrorCode::NONE
    }

    /// Groups with members or offsets, ordered by id.
    pub fn list(&self, filter: &ListFilter) -> Vec<ListedGroup> {
        let simple = self
            .offsets
            .groups()
            .filter(|id| !self.has_group(id))
            .map(|id| Group::new(Arc::clone(id), -1).listed());
        let mut listed: Vec<ListedGroup> = self.groups.values().map(Group::listed).collect();
        listed.extend(self.consumers.values().map(ConsumerGroup::listed));
        listed.extend(simple);
        let wanted = |wanted: &[String], is: &str| {
            wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(is))
        };
        listed.retain(|group| {
            wanted(&filter.states, group.state) && wanted(&filter.types, group.group_type)
        });
        listed.sort_by(|a, b| a.group.cmp(&b.group));
        listed
    }

    /// A classic group; refused (69) when nobody knows it or it is of another kind.
    pub fn describe(&self, group: &str) -> Result<DescribedGroup, Refusal> {
        if self.consumers.contains_key(group) {
            let message = format!("Group {group} is not a classic group.");
            return Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message));
        }
        match self.groups.get(group) {
            Some(group) => Ok(group.described()),
            None if self.offsets.has_any(group) => Ok(Group::new(Arc::from(group), -1).described()),
            None => Err(group_not_found(group)),
        }
    }

    /// Their offsets mean nothing any more.
    pub fn topics_deleted(&mut self, turn: &mut Turn<'_>, topics: &[String]) {
        let records = self.offsets.topics_deleted_records(topics);
        // What cannot be written now is dropped when it expires.
        let _ = self.write(turn, &records);
    }

    fn knows(&self, group: &str) -> bool {
        self.has_group(group) || self.offsets.has_any(group)
    }

    fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group) || self.consumers.contains_key(group)
    }

    /// Appends and then applies; nothing is applied that was not appended.
    fn write(&mut self, turn: &mut Turn<'_>, records: &[GroupRecord]) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(held) = &mut turn.held {
            held.extend_from_slice(records);
            return Ok(());
        }
        turn.journal.append(records).map_err(|error| error.0)?;
        for record in records {
            self.replay(record);
        }
        Ok(())
    }

    /// Drops offsets past their retention, and groups that have nothing left.
    fn expire(&mut self, turn: &mut Turn<'_>) {
        let with_offsets: Vec<Arc<str>> = self.offsets.groups().cloned().collect();
        for id in with_offsets {
            let group = self.groups.get(&id);
            let read = self
                .consumers
                .get(&id)
                .map(ConsumerGroup::subscribed_topics);
            let basis = match (group, &read) {
                (Some(group), _) => group.expiry_basis(),
                (None, Some(topics)) => ExpiryBasis::CommitTimeExcept(topics),
                (None, None) => ExpiryBasis::CommitTime,
            };
            let retention_ms = turn.limits.offsets_retention_ms;
            let records = self
                .offsets
                .expired_records(&id, turn.now_ms, retention_ms, basis);
            if !records.is_empty() && self.write(turn, &records).is_ok() {
                turn.events.push(GroupEvent::OffsetsExpired {
                    group: id.to_string(),
                    count: records.len(),
                });
            }
        }
        for group in self.groups.values_mut() {
            // Tried again the next time.
            let _ = group.append_if_owed(turn.journal);
        }
        let empty = self.consumers.values().filter(|group| group.is_empty());
        let empty = empty.filter(|group| !self.offsets.has_any(&group.id));
        let gone: Vec<GroupRecord> = empty
            .flat_map(|group| group.named(group.gone_records()))
            .collect();
        let _ = self.write(turn, &gone);
        let gone: Vec<GroupRecord> = self
            .groups
            .values()
            .filter(|group| group.is_forgettable() && !self.offsets.has_any(&group.id))
            .map(|group| GroupRecord::Group {
                group: group.id.to_string(),
                value: None,
            })
            .collect();
        let _ = self.write(turn, &gone);
    }

    /// What always holds; for tests.
    pub fn check_invariants(&self) {
        for group in self.groups.values() {
            group.check_invariants();
        }
        for group in self.consumers.values() {
            group.check_invariants();
            assert!(
                !self.groups.contains_key(&group.id),
                "{} is of two kinds",
                group.id
            );
        }
    }
}

fn is_group_id(group: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&group.len())
}

/// Offsets could once be kept for the empty id: they can still be committed, read and deleted.
fn is_old_group_id(group: &str) -> bool {
    group.is_empty() || is_group_id(group)
}

/// Every name in the request can be written down.
fn fits_records(request: &JoinGroup) -> bool {
    let instance_id = request.instance_id.as_deref().unwrap_or_default();
    let protocols = request.protocols.iter().map(|(name, _)| name.as_str());
    instance_id.len() <= PREFIX_MAX_BYTES
        && request.member_id.len() <= NAME_MAX_BYTES
        && request.client.id.len() <= NAME_MAX_BYTES
        && request.protocol_type.len() <= NAME_MAX_BYTES
        && protocols
            .into_iter()
            .all(|name| name.len() <= NAME_MAX_BYTES)
}

/// Nobody of a group that does not exist can leave it; each is told so.
fn unknown_members(leaving: Vec<LeavingMember>) -> Vec<LeftMember> {
    let left = leaving.into_iter().map(|member| LeftMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        error: ErrorCode::UNKNOWN_MEMBER_ID,
    });
    left.collect()
}

fn group_not_found(group: &str) -> Refusal {
    let message = format!("Group {group} not found.");
    Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
}

/// Kafka's answer to a member of a group that does not exist.
fn missing_group(group: &str) -> ErrorCode {
    if !is_group_id(group) {
        ErrorCode::INVALID_GROUP_ID
    } else {
        ErrorCode::UNKNOWN_MEMBER_ID
    }
}
