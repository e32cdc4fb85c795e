//! OffsetCommitResponse: version 10 names topics by their ids.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::TopicName;
pub use kafka_protocol::messages::offset_commit_response::OffsetCommitResponsePartition;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, VersionRange};
use uuid::Uuid;

use super::{Body, known, message, put_array, put_parts, setters};
use crate::wire::{put_no_tags, put_string};

/// The last version of the parts that are kafka-protocol's.
const PARTS: i16 = 9;
const TOPIC_IDS_FROM: i16 = 10;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponse {
    /// From version 3.
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponseTopic {
    /// Until version 9.
    pub name: TopicName,
    /// From version 10.
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

setters!(OffsetCommitResponse {
    with_throttle_time_ms throttle_time_ms: i32,
    with_topics topics: Vec<OffsetCommitResponseTopic>,
});

setters!(OffsetCommitResponseTopic {
    with_name name: TopicName,
    with_topic_id topic_id: Uuid,
    with_partitions partitions: Vec<OffsetCommitResponsePartition>,
});

message!(OffsetCommitResponse, 2 - 10, flexible from 8, header 0);

impl OffsetCommitResponse {
    fn read(body: &mut Body, version: i16) -> Result<OffsetCommitResponse> {
        let mut response = OffsetCommitResponse::default();
        if version >= 3 {
            response.throttle_time_ms = body.i32()?;
        }
        response.topics = body.array(|body| OffsetCommitResponseTopic::read(body, version))?;
        body.tags()?;
        Ok(response)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        if version >= 3 {
            out.put_i32(self.throttle_time_ms);
        }
        put_array(out, flexible, &self.topics, |out, topic| {
            topic.write(out, flexible, version)
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}

impl OffsetCommitResponseTopic {
    fn read(body: &mut Body, version: i16) -> Result<OffsetCommitResponseTopic> {
        let mut topic = OffsetCommitResponseTopic::default();
        match version {
            TOPIC_IDS_FROM.. => topic.topic_id = body.uuid()?,
            _ => topic.name = TopicName(body.string()?),
        }
        topic.partitions = body.array(|body| body.part(version.min(PARTS)))?;
        body.tags()?;
        Ok(topic)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        match version {
            TOPIC_IDS_FROM.. => out.put_slice(self.topic_id.as_bytes()),
            _ => put_string(out, flexible, &self.name),
        }
        put_parts(out, flexible, &self.partitions, version.min(PARTS))?;
        put_no_tags(out, flexible);
        Ok(())
    }
}
