//! A topic of the offset messages: named until version 9, and by its id from version 10. Its
//! partitions are kafka-protocol's.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use super::{Body, put_parts};
use crate::wire::{put_no_tags, put_string};

/// The last version of the partitions that kafka-protocol knows.
const PARTS: i16 = 9;
const TOPIC_IDS_FROM: i16 = 10;

#[derive(Clone, Debug, PartialEq)]
pub struct NamedTopic<P> {
    /// Until version 9.
    pub name: TopicName,
    /// From version 10.
    pub topic_id: Uuid,
    pub partitions: Vec<P>,
}

impl<P> Default for NamedTopic<P> {
    fn default() -> NamedTopic<P> {
        NamedTopic {
            name: TopicName::default(),
            topic_id: Uuid::default(),
            partitions: Vec::new(),
        }
    }
}

impl<P> NamedTopic<P> {
    pub fn with_name(mut self, value: TopicName) -> Self {
        self.name = value;
        self
    }

    pub fn with_topic_id(mut self, value: Uuid) -> Self {
        self.topic_id = value;
        self
    }

    pub fn with_partitions(mut self, value: Vec<P>) -> Self {
        self.partitions = value;
        self
    }
}

impl<P: Decodable + Encodable> NamedTopic<P> {
    pub(super) fn read(body: &mut Body, version: i16) -> Result<NamedTopic<P>> {
        let (name, topic_id) = read_name(body, version)?;
        let partitions = body.array(|body| body.part(version.min(PARTS)))?;
        body.tags()?;
        Ok(NamedTopic {
            name,
            topic_id,
            partitions,
        })
    }

    pub(super) fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_name(out, flexible, version, &self.name, self.topic_id);
        put_parts(out, flexible, &self.partitions, version.min(PARTS))?;
        put_no_tags(out, flexible);
        Ok(())
    }
}

/// The name or the id, whichever the version has.
pub(super) fn read_name(body: &mut Body, version: i16) -> Result<(TopicName, Uuid)> {
    Ok(match version {
        TOPIC_IDS_FROM.. => (TopicName::default(), body.uuid()?),
        _ => (TopicName(body.string()?), Uuid::default()),
    })
}

pub(super) fn put_name(
    out: &mut BytesMut,
    flexible: bool,
    version: i16,
    name: &TopicName,
    topic_id: Uuid,
) {
    match version {
        TOPIC_IDS_FROM.. => out.put_slice(topic_id.as_bytes()),
        _ => put_string(out, flexible, name),
    }
}
