//! A simulated member of a consumer group in the classic protocol: joins, leads if it is told to,
//! syncs, heartbeats, commits growing offsets of what it was assigned, asks for them, and leaves;
//! or a loner, which commits without belonging to anybody.
//!
//! Every answer is held against the group model. Each client asks one thing at a time; what it
//! asked before its connection broke may have happened or not.

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{self as api, StrBytes};
use rand::Rng;
use rand::rngs::StdRng;

use crate::group_model::{GroupModel, Key};
use crate::link::Link;
use crate::model::Violation;
use crate::producer::{decode, encode};

/// The topic whose offsets are committed; whether anybody produces to it does not matter.
pub(crate) const TOPIC: &str = "commit-groups";
pub(crate) const PARTITIONS: i32 = 3;

const FIND_VERSION: i16 = 2;
const CREATE_VERSION: i16 = 4;
const JOIN_VERSION: i16 = 5;
const SYNC_VERSION: i16 = 3;
const HEARTBEAT_VERSION: i16 = 3;
const LEAVE_VERSION: i16 = 3;
const COMMIT_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 5;

/// What an answer is awaited for.
#[derive(Clone)]
enum Asked {
    Topic,
    Coordinator,
    /// The generation that was known to have been synced when it was asked.
    Join {
        synced: i32,
    },
    Sync,
    Heartbeat,
    Leave,
    Commit {
        key: Key,
        offset: i64,
    },
    /// The least that the answer must say.
    Fetch {
        key: Key,
        at_least: i64,
    },
}

/// Where it is in the protocol.
enum Standing {
    NoTopic,
    NoCoordinator,
    Outside,
    /// Joined; the members whom a leader has to assign to.
    Joined {
        others: Vec<StrBytes>,
    },
    Inside {
        partitions: Vec<i32>,
    },
}

pub(crate) struct Member {
    group: String,
    loner: bool,
    id: StrBytes,
    generation: i32,
    standing: Standing,
    awaited: Option<(i32, Asked)>,
    next_correlation_id: i32,
    retired: bool,
}

impl Member {
    pub(crate) fn of_group(group: &str) -> Member {
        Member::new(group, false)
    }

    pub(crate) fn loner(group: &str) -> Member {
        Member::new(group, true)
    }

    fn new(group: &str, loner: bool) -> Member {
        Member {
            group: group.to_owned(),
            loner,
            id: StrBytes::default(),
            generation: -1,
            standing: Standing::NoTopic,
            awaited: None,
            next_correlation_id: 0,
            retired: false,
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.awaited = None;
        // Whether a join or a sync was heard is not known: it begins again with its id.
        if matches!(self.standing, Standing::Joined { .. }) {
            self.standing = Standing::Outside;
        }
    }

    /// Begins nothing new that takes more than one answer.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.awaited.is_none()
    }

    pub(crate) fn act(&mut self, link: &mut Link, model: &mut GroupModel, rng: &mut StdRng) {
        if self.awaited.is_some() {
            return;
        }
        let (asked, send) = match &self.standing {
            _ if self.retired => return,
            Standing::NoTopic => (Asked::Topic, self.topic()),
            Standing::NoCoordinator => (Asked::Coordinator, self.coordinator()),
            Standing::Outside => self.join(model),
            Standing::Joined { others } => (Asked::Sync, self.sync(others)),
            Standing::Inside { partitions } => {
                let partition = match partitions.len() {
                    0 => None,
                    count => Some(partitions[rng.random_range(0..count)]),
                };
                self.inside(partition, model, rng)
            }
        };
        self.next_correlation_id += 1;
        link.send(&send(self.next_correlation_id));
        self.awaited = Some((self.next_correlation_id, asked));
    }

    fn inside(&self, partition: Option<i32>, model: &mut GroupModel, rng: &mut StdRng) -> Ask {
        let chance = rng.random_range(0..20);
        match partition {
            Some(partition) if chance < 10 => self.commit(partition, model),
            _ if chance < 14 => self.fetch(rng.random_range(0..PARTITIONS), model),
            _ if self.loner => self.fetch(rng.random_range(0..PARTITIONS), model),
            _ if chance == 19 => (Asked::Leave, self.leave()),
            _ => (Asked::Heartbeat, self.heartbeat()),
        }
    }

    fn topic(&self) -> Send {
        let topic = api::create_topics_request::CreatableTopic::default()
            .with_name(topic_name())
            .with_num_partitions(PARTITIONS)
            .with_replication_factor(1);
        let request = api::CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(5_000);
        Box::new(move |id| encode(id, CREATE_VERSION, &request))
    }

    fn coordinator(&self) -> Send {
        let request = api::FindCoordinatorRequest::default().with_key(text(&self.group));
        Box::new(move |id| encode(id, FIND_VERSION, &request))
    }

    fn join(&self, model: &GroupModel) -> Ask {
        let protocol = api::join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"));
        let request = api::JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(5_000)
            .with_member_id(self.id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let synced = model.synced(&self.group);
        let send: Send = Box::new(move |id| encode(id, JOIN_VERSION, &request));
        (Asked::Join { synced }, send)
    }

    fn sync(&self, others: &[StrBytes]) -> Send {
        let assignments = others.iter().enumerate().map(|(index, member)| {
            let partitions = (0..PARTITIONS).skip(index).step_by(others.len());
            let bytes: Vec<u8> = partitions.map(|p| p.to_be_bytes()[3]).collect();
            api::sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(member.clone())
                .with_assignment(Bytes::from(bytes))
        });
        let request = api::SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(assignments.collect());
        Box::new(move |id| encode(id, SYNC_VERSION, &request))
    }

    fn heartbeat(&self) -> Send {
        let request = api::HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        Box::new(move |id| encode(id, HEARTBEAT_VERSION, &request))
    }

    fn leave(&self) -> Send {
        let member =
            api::leave_group_request::MemberIdentity::default().with_member_id(self.id.clone());
        let request = api::LeaveGroupRequest::default()
            .with_group_id(self.group_id())
            .with_members(vec![member]);
        Box::new(move |id| encode(id, LEAVE_VERSION, &request))
    }

    fn commit(&self, partition: i32, model: &mut GroupModel) -> Ask {
        let key = (self.group.clone(), partition);
        let offset = model.next(&key);
        let request = commit_request(&key, offset, self.generation, &self.id);
        let send: Send = Box::new(move |id| encode(id, COMMIT_VERSION, &request));
        (Asked::Commit { key, offset }, send)
    }

    fn fetch(&self, partition: i32, model: &GroupModel) -> Ask {
        let key = (self.group.clone(), partition);
        let at_least = model.at_least(&key);
        let asked = key.clone();
        let send: Send = Box::new(move |id| fetch_frame(id, &asked));
        (Asked::Fetch { key, at_least }, send)
    }

    fn group_id(&self) -> api::GroupId {
        api::GroupId(text(&self.group))
    }

    pub(crate) fn receive(
        &mut self,
        frame: Bytes,
        model: &mut GroupModel,
    ) -> Result<(), Violation> {
        let Some((expected, asked)) = self.awaited.take() else {
            return Err(answer("a reply that nobody asked for".into()));
        };
        let id = match asked {
            Asked::Topic => self.made(frame)?,
            Asked::Coordinator => self.found(frame)?,
            Asked::Join { synced } => self.joined(frame, synced, model)?,
            Asked::Sync => self.synced(frame, model)?,
            Asked::Heartbeat => self.heard(frame)?,
            Asked::Leave => self.left(frame)?,
            Asked::Commit { key, offset } => self.committed(frame, key, offset, model)?,
            Asked::Fetch { key, at_least } => fetched(frame, &key, at_least, model)?,
        };
        if id != expected {
            return Err(answer("replies are out of order".into()));
        }
        Ok(())
    }

    fn made(&mut self, frame: Bytes) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::CreateTopicsResponse>(frame, CREATE_VERSION)?;
        match reply
            .topics
            .first()
            .map(|topic| ErrorCode(topic.error_code))
        {
            Some(ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS) => {
                self.standing = Standing::NoCoordinator;
            }
            Some(code) if code.retriable() => {}
            code => return Err(answer(format!("the topic of groups: {code:?}"))),
        }
        Ok(id)
    }

    fn found(&mut self, frame: Bytes) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::FindCoordinatorResponse>(frame, FIND_VERSION)?;
        match ErrorCode(reply.error_code) {
            ErrorCode::NONE if self.loner => {
                let partitions = (0..PARTITIONS).collect();
                self.standing = Standing::Inside { partitions };
            }
            ErrorCode::NONE => self.standing = Standing::Outside,
            code if code.retriable() => {}
            code => return Err(answer(format!("find coordinator: {}", code.name()))),
        }
        Ok(id)
    }

    fn joined(
        &mut self,
        frame: Bytes,
        synced: i32,
        model: &mut GroupModel,
    ) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::JoinGroupResponse>(frame, JOIN_VERSION)?;
        match ErrorCode(reply.error_code) {
            ErrorCode::NONE => {
                model.joined(&self.group, reply.generation_id, synced)?;
                self.generation = reply.generation_id;
                self.id = reply.member_id;
                let is_leader = reply.leader == self.id;
                let others = reply.members.into_iter().map(|member| member.member_id);
                let others = others.filter(|_| is_leader).collect();
                self.standing = Standing::Joined { others };
            }
            ErrorCode::MEMBER_ID_REQUIRED => self.id = reply.member_id,
            ErrorCode::UNKNOWN_MEMBER_ID => self.id = StrBytes::default(),
            code => tolerate(code, "join")?,
        }
        Ok(id)
    }

    fn synced(&mut self, frame: Bytes, model: &mut GroupModel) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::SyncGroupResponse>(frame, SYNC_VERSION)?;
        let code = ErrorCode(reply.error_code);
        self.standing = Standing::Outside;
        if code == ErrorCode::NONE {
            let told_to = (self.generation, self.id.as_str());
            model.assigned(&self.group, told_to, &reply.assignment)?;
            let partitions = reply.assignment.iter().map(|p| i32::from(*p)).collect();
            self.standing = Standing::Inside { partitions };
        } else {
            self.expelled(code, "sync")?;
        }
        Ok(id)
    }

    fn heard(&mut self, frame: Bytes) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::HeartbeatResponse>(frame, HEARTBEAT_VERSION)?;
        match ErrorCode(reply.error_code) {
            ErrorCode::NONE => {}
            code => self.expelled(code, "heartbeat")?,
        }
        Ok(id)
    }

    fn left(&mut self, frame: Bytes) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::LeaveGroupResponse>(frame, LEAVE_VERSION)?;
        match ErrorCode(reply.error_code) {
            ErrorCode::NONE => {
                self.standing = Standing::Outside;
                self.id = StrBytes::default();
            }
            code => self.expelled(code, "leave")?,
        }
        Ok(id)
    }

    fn committed(
        &mut self,
        frame: Bytes,
        key: Key,
        offset: i64,
        model: &mut GroupModel,
    ) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::OffsetCommitResponse>(frame, COMMIT_VERSION)?;
        let topic = reply.topics.first();
        let told = topic.and_then(|topic| topic.partitions.first());
        match told.map(|partition| ErrorCode(partition.error_code)) {
            Some(ErrorCode::NONE) => model.acknowledged(&key, offset),
            // The topic is made by a client, and nobody deletes it.
            Some(code) => self.expelled(code, "commit")?,
            None => return Err(answer("a commit without a result".into())),
        }
        Ok(id)
    }

    /// Whatever sends a member back to joining, or lets it try again.
    fn expelled(&mut self, code: ErrorCode, what: &str) -> Result<(), Violation> {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
            ErrorCode::UNKNOWN_MEMBER_ID => self.id = StrBytes::default(),
            code => return tolerate(code, what),
        }
        self.standing = Standing::Outside;
        if self.loner {
            return Err(answer(format!("{what} of a loner: {}", code.name())));
        }
        Ok(())
    }
}

type Send = Box<dyn Fn(i32) -> Bytes>;
type Ask = (Asked, Send);

/// Commits one offset as a member of a generation, or of an epoch.
pub(crate) fn commit_request(
    (group, partition): &Key,
    offset: i64,
    generation_id_or_member_epoch: i32,
    member_id: &StrBytes,
) -> api::OffsetCommitRequest {
    let asked = api::offset_commit_request::OffsetCommitRequestPartition::default()
        .with_partition_index(*partition)
        .with_committed_offset(offset);
    let topic = api::offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name())
        .with_partitions(vec![asked]);
    api::OffsetCommitRequest::default()
        .with_group_id(api::GroupId(text(group)))
        .with_generation_id_or_member_epoch(generation_id_or_member_epoch)
        .with_member_id(member_id.clone())
        .with_topics(vec![topic])
}

/// Asks for one offset.
pub(crate) fn encode_fetch(key: &Key) -> Bytes {
    fetch_frame(0, key)
}

pub(crate) fn fetch_frame(correlation_id: i32, (group, partition): &Key) -> Bytes {
    let topic = api::offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic_name())
        .with_partition_indexes(vec![*partition]);
    let request = api::OffsetFetchRequest::default()
        .with_group_id(api::GroupId(text(group)))
        .with_topics(Some(vec![topic]));
    encode(correlation_id, FETCH_VERSION, &request)
}

/// Judges the answer; returns its correlation id.
pub(crate) fn fetched(
    frame: Bytes,
    key: &Key,
    at_least: i64,
    model: &mut GroupModel,
) -> Result<i32, Violation> {
    let (id, reply) = decode::<api::OffsetFetchResponse>(frame, FETCH_VERSION)?;
    let topic = reply.topics.first();
    let told = topic.and_then(|topic| topic.partitions.first());
    match (ErrorCode(reply.error_code), told) {
        (ErrorCode::NONE, Some(told)) if told.error_code == 0 => {
            model.observed(key, told.committed_offset, at_least)?;
        }
        (ErrorCode::NONE, Some(told)) => tolerate(ErrorCode(told.error_code), "offset fetch")?,
        (code, _) => tolerate(code, "offset fetch")?,
    }
    Ok(id)
}

/// Errors after which a client tries again.
pub(crate) fn tolerate(code: ErrorCode, what: &str) -> Result<(), Violation> {
    let asked_again = code.retriable() || code == ErrorCode::REBALANCE_IN_PROGRESS;
    match asked_again {
        true => Ok(()),
        false => Err(answer(format!("{what}: {}", code.name()))),
    }
}

pub(crate) fn answer(what: String) -> Violation {
    Violation::Answer { what }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name() -> api::TopicName {
    api::TopicName(text(TOPIC))
}
