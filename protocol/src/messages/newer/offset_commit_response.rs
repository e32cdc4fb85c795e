//! OffsetCommitResponse: version 10 names topics by their ids.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
pub use kafka_protocol::messages::offset_commit_response::OffsetCommitResponsePartition;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, VersionRange};

use super::named_topic::NamedTopic;
use super::{Body, known, message, put_array, setters};
use crate::wire::put_no_tags;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponse {
    /// From version 3.
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
}

pub type OffsetCommitResponseTopic = NamedTopic<OffsetCommitResponsePartition>;

setters!(OffsetCommitResponse {
    with_throttle_time_ms throttle_time_ms: i32,
    with_topics topics: Vec<OffsetCommitResponseTopic>,
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
