//! A simulated administrator: creates topics of several durability classes, deletes some of them
//! again.

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{self as api, StrBytes};
use rand::Rng;
use rand::rngs::StdRng;

use crate::link::Link;
use crate::model::Violation;
use crate::producer::{decode, encode};

/// What the names of topics begin with is their durability class.
const CLASSES: [&str; 4] = ["commit", "commit", "interval", "memory"];
const TOPICS_MAX: u32 = 6;
const CREATE_VERSION: i16 = 7;
const DELETE_VERSION: i16 = 6;

enum Awaited {
    Create { topic: String, partitions: i32 },
    Delete { topic: String },
}

#[derive(Default)]
pub(crate) struct Admin {
    made: u32,
    alive: Vec<(String, i32)>,
    awaited: Option<(i32, Awaited)>,
    /// To be done again: whether the last attempt worked is not known.
    unsure: Option<Awaited>,
    next_correlation_id: i32,
    retired: bool,
    /// News for the other clients.
    pub(crate) created: Vec<(String, i32)>,
    pub(crate) deleting: Vec<String>,
}

impl Admin {
    pub(crate) fn disconnected(&mut self) {
        if let Some((_, awaited)) = self.awaited.take() {
            self.unsure = Some(awaited);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.awaited.is_none() && self.unsure.is_none()
    }

    /// Begins nothing new.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    pub(crate) fn act(&mut self, link: &mut Link, rng: &mut StdRng) {
        if self.awaited.is_some() {
            return;
        }
        let next = match self.unsure.take() {
            Some(unsure) => unsure,
            None if self.retired => return,
            None => match self.decide(rng) {
                Some(next) => next,
                None => return,
            },
        };
        self.next_correlation_id += 1;
        let id = self.next_correlation_id;
        let frame = match &next {
            Awaited::Create { topic, partitions } => {
                encode(id, CREATE_VERSION, &create_request(topic, *partitions))
            }
            Awaited::Delete { topic } => encode(id, DELETE_VERSION, &delete_request(topic)),
        };
        link.send(&frame);
        self.awaited = Some((id, next));
    }

    fn decide(&mut self, rng: &mut StdRng) -> Option<Awaited> {
        if self.made < TOPICS_MAX && (self.alive.is_empty() || rng.random_ratio(1, 20)) {
            self.made += 1;
            let class = CLASSES[rng.random_range(0..CLASSES.len())];
            let topic = format!("{class}-{}", self.made);
            return Some(Awaited::Create {
                topic,
                partitions: rng.random_range(1..=3),
            });
        }
        if self.alive.len() > 2 && rng.random_ratio(1, 60) {
            let at = rng.random_range(0..self.alive.len());
            let (topic, _) = self.alive.remove(at);
            // From here on nothing is expected of it any more.
            self.deleting.push(topic.clone());
            return Some(Awaited::Delete { topic });
        }
        None
    }

    pub(crate) fn receive(&mut self, frame: Bytes) -> Result<(), Violation> {
        let Some((expected, awaited)) = self.awaited.take() else {
            return Err(Violation::Answer {
                what: "a reply that nobody asked for".into(),
            });
        };
        let (id, code) = match &awaited {
            Awaited::Create { .. } => {
                let (id, reply) = decode::<api::CreateTopicsResponse>(frame, CREATE_VERSION)?;
                (id, reply.topics.first().map(|topic| topic.error_code))
            }
            Awaited::Delete { .. } => {
                let (id, reply) = decode::<api::DeleteTopicsResponse>(frame, DELETE_VERSION)?;
                (id, reply.responses.first().map(|topic| topic.error_code))
            }
        };
        if id != expected {
            return Err(Violation::Answer {
                what: "replies are out of order".into(),
            });
        }
        let code = code.map_or(ErrorCode(-1), ErrorCode);
        match (awaited, code) {
            // The second attempt finds what the first one did.
            (
                Awaited::Create { topic, partitions },
                ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS,
            ) => {
                self.alive.push((topic.clone(), partitions));
                self.created.push((topic, partitions));
                Ok(())
            }
            (Awaited::Delete { .. }, ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Ok(())
            }
            (awaited, code) if code.retriable() => {
                self.unsure = Some(awaited);
                Ok(())
            }
            (_, code) => Err(Violation::Answer {
                what: format!("topic administration: {}", code.name()),
            }),
        }
    }
}

/// Only the class `commit` promises that a power cut takes nothing.
pub(crate) fn may_lose_its_tail(topic: &str) -> bool {
    !topic.starts_with(CLASSES[0])
}

fn name(topic: &str) -> api::TopicName {
    api::TopicName(StrBytes::from_string(topic.to_owned()))
}

fn create_request(topic: &str, partitions: i32) -> api::CreateTopicsRequest {
    let class = topic.split('-').next().unwrap_or_default();
    let mut config = api::create_topics_request::CreatableTopicConfig::default();
    config.name = StrBytes::from_static_str("ottla.durability");
    config.value = Some(StrBytes::from_string(class.to_owned()));
    let mut creatable = api::create_topics_request::CreatableTopic::default();
    creatable.name = name(topic);
    creatable.num_partitions = partitions;
    creatable.replication_factor = 1;
    creatable.configs = vec![config];
    let mut request = api::CreateTopicsRequest::default();
    request.topics = vec![creatable];
    request.timeout_ms = 5_000;
    request
}

fn delete_request(topic: &str) -> api::DeleteTopicsRequest {
    let mut state = api::delete_topics_request::DeleteTopicState::default();
    state.name = Some(name(topic));
    let mut request = api::DeleteTopicsRequest::default();
    request.topics = vec![state];
    request.timeout_ms = 5_000;
    request
}
