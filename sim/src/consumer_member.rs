//! A simulated member of a consumer group in the newer protocol (KIP-848): heartbeats, takes what
//! it is given, gives up what it is asked for, commits growing offsets of what it owns, and leaves.
//!
//! What it owns is held against the group model: nobody else may have it until this member has said
//! that it gave it up, or has been thrown out. A loner beside it has the topics made.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages as api;
use ottla_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use rand::Rng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::group_model::{GroupModel, Heard, Key};
use crate::link::Link;
use crate::member::{self, PARTITIONS, answer, text, tolerate, topic_name};
use crate::model::Violation;
use crate::producer::{decode, encode};

pub(crate) const GROUP: &str = "crew";

const HEARTBEAT_VERSION: i16 = 1;
const COMMIT_VERSION: i16 = 9;
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

enum Asked {
    /// What the model knew when it was sent.
    Heartbeat(Heard),
    Leave,
    Commit {
        key: Key,
        offset: i64,
        heard: Heard,
    },
    Fetch {
        key: Key,
        at_least: i64,
    },
}

pub(crate) struct ConsumerMember {
    id: String,
    epoch: i32,
    owned: BTreeSet<i32>,
    /// Known from the first partition it was given.
    topic_id: Option<Uuid>,
    /// The next heartbeat says everything: what the coordinator knows is not known.
    tells_all: bool,
    awaited: Option<(i32, Asked)>,
    next_correlation_id: i32,
    retired: bool,
}

impl ConsumerMember {
    pub(crate) fn new(number: u32) -> ConsumerMember {
        ConsumerMember {
            id: format!("{GROUP}-{number}"),
            epoch: JOIN,
            owned: BTreeSet::new(),
            topic_id: None,
            tells_all: true,
            awaited: None,
            next_correlation_id: 0,
            retired: false,
        }
    }

    pub(crate) fn disconnected(&mut self) {
        match self.awaited.take() {
            // Whether it has left is not known, and it owns nothing either way.
            Some((_, Asked::Leave)) => self.begin_again(),
            _ => self.tells_all = true,
        }
    }

    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.awaited.is_none()
    }

    pub(crate) fn act(&mut self, link: &mut Link, model: &mut GroupModel, rng: &mut StdRng) {
        if self.awaited.is_some() || self.retired {
            return;
        }
        self.next_correlation_id += 1;
        let id = self.next_correlation_id;
        let chance = rng.random_range(0..20);
        let (asked, frame) = match self.any_owned(rng) {
            Some(partition) if self.epoch > JOIN && chance < 8 => self.commit(id, partition, model),
            _ if chance < 11 => fetch(id, rng.random_range(0..PARTITIONS), model),
            _ if self.epoch > JOIN && chance == 19 => self.leave(id, model),
            _ => self.heartbeat(id, model),
        };
        link.send(&frame);
        self.awaited = Some((id, asked));
    }

    fn any_owned(&self, rng: &mut StdRng) -> Option<i32> {
        match self.owned.len() {
            0 => None,
            count => self.owned.iter().nth(rng.random_range(0..count)).copied(),
        }
    }

    fn heartbeat(&mut self, id: i32, model: &mut GroupModel) -> (Asked, Bytes) {
        let mut request = api::ConsumerGroupHeartbeatRequest::default()
            .with_group_id(api::GroupId(text(GROUP)))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(Some(self.told()));
        if std::mem::take(&mut self.tells_all) {
            request = request
                .with_rebalance_timeout_ms(5_000)
                .with_subscribed_topic_names(Some(vec![topic_name()]));
        }
        let heard = model.heartbeat_sent(&self.id, self.epoch, &self.owned);
        let frame = encode(id, HEARTBEAT_VERSION, &request);
        (Asked::Heartbeat(heard), frame)
    }

    fn told(&self) -> Vec<TopicPartitions> {
        let owned = self
            .topic_id
            .filter(|_| !self.owned.is_empty())
            .map(|topic| {
                TopicPartitions::default()
                    .with_topic_id(topic)
                    .with_partitions(self.owned.iter().copied().collect())
            });
        owned.into_iter().collect()
    }

    fn leave(&mut self, id: i32, model: &mut GroupModel) -> (Asked, Bytes) {
        self.owned.clear();
        model.heartbeat_sent(&self.id, LEAVE, &self.owned);
        let request = api::ConsumerGroupHeartbeatRequest::default()
            .with_group_id(api::GroupId(text(GROUP)))
            .with_member_id(text(&self.id))
            .with_member_epoch(LEAVE);
        (Asked::Leave, encode(id, HEARTBEAT_VERSION, &request))
    }

    fn commit(&self, id: i32, partition: i32, model: &mut GroupModel) -> (Asked, Bytes) {
        let key = (GROUP.to_owned(), partition);
        let offset = model.next(&key);
        let request = member::commit_request(&key, offset, self.epoch, &text(&self.id));
        let heard = model.heard_by_now(&self.id);
        let frame = encode(id, COMMIT_VERSION, &request);
        (Asked::Commit { key, offset, heard }, frame)
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
            Asked::Heartbeat(heard) => self.heard(frame, &heard, model)?,
            Asked::Leave => self.left(frame)?,
            Asked::Commit { key, offset, heard } => {
                self.committed(frame, (&key, offset), &heard, model)?
            }
            Asked::Fetch { key, at_least } => member::fetched(frame, &key, at_least, model)?,
        };
        if id != expected {
            return Err(answer("replies are out of order".into()));
        }
        Ok(())
    }

    fn heard(
        &mut self,
        frame: Bytes,
        heard: &Heard,
        model: &mut GroupModel,
    ) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::ConsumerGroupHeartbeatResponse>(frame, HEARTBEAT_VERSION)?;
        let code = ErrorCode(reply.error_code);
        if code != ErrorCode::NONE {
            self.tells_all = true;
            self.expelled(code, "consumer heartbeat")?;
            return Ok(id);
        }
        model.member_epoch(&self.id, reply.member_epoch, heard)?;
        self.epoch = reply.member_epoch;
        if let Some(assignment) = reply.assignment {
            let mut given = BTreeSet::new();
            for topic in assignment.topic_partitions {
                self.topic_id = Some(topic.topic_id);
                given.extend(topic.partitions);
            }
            model.given(&self.id, self.epoch, &given, heard)?;
            self.owned = given;
        }
        Ok(id)
    }

    fn left(&mut self, frame: Bytes) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::ConsumerGroupHeartbeatResponse>(frame, HEARTBEAT_VERSION)?;
        match ErrorCode(reply.error_code) {
            ErrorCode::NONE | ErrorCode::UNKNOWN_MEMBER_ID => {}
            code => tolerate(code, "leaving a consumer group")?,
        }
        self.begin_again();
        Ok(id)
    }

    fn committed(
        &mut self,
        frame: Bytes,
        (key, offset): (&Key, i64),
        heard: &Heard,
        model: &mut GroupModel,
    ) -> Result<i32, Violation> {
        let (id, reply) = decode::<api::OffsetCommitResponse>(frame, COMMIT_VERSION)?;
        let topic = reply.topics.first();
        let told = topic.and_then(|topic| topic.partitions.first());
        match told.map(|partition| ErrorCode(partition.error_code)) {
            Some(ErrorCode::NONE) => {
                model.is_a_member(&self.id, heard)?;
                model.acknowledged(key, offset);
            }
            Some(ErrorCode::STALE_MEMBER_EPOCH) => {}
            Some(code) => self.expelled(code, "commit of a consumer member")?,
            None => return Err(answer("a commit without a result".into())),
        }
        Ok(id)
    }

    /// Thrown out: it owns nothing and joins again. Or it tries again.
    fn expelled(&mut self, code: ErrorCode, what: &str) -> Result<(), Violation> {
        match code {
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                self.begin_again();
                Ok(())
            }
            code => tolerate(code, what),
        }
    }

    fn begin_again(&mut self) {
        self.epoch = JOIN;
        self.owned.clear();
        self.tells_all = true;
    }
}

fn fetch(id: i32, partition: i32, model: &GroupModel) -> (Asked, Bytes) {
    let key = (GROUP.to_owned(), partition);
    let at_least = model.at_least(&key);
    let frame = member::fetch_frame(id, &key);
    (Asked::Fetch { key, at_least }, frame)
}
