//! OffsetCommitRequest: version 10 names topics by their ids.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::GroupId;
pub use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange,
};

use super::named_topic::NamedTopic;
use super::offset_commit_response::OffsetCommitResponse;
use super::{Body, absent, known, message, put_array, setters};
use crate::wire::{put_no_tags, put_nullable_string, put_string};

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitRequest {
    pub group_id: GroupId,
    pub generation_id_or_member_epoch: i32,
    pub member_id: StrBytes,
    /// From version 7.
    pub group_instance_id: Option<StrBytes>,
    /// Versions 2 to 4.
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitRequestTopic>,
}

pub type OffsetCommitRequestTopic = NamedTopic<OffsetCommitRequestPartition>;

setters!(OffsetCommitRequest {
    with_group_id group_id: GroupId,
    with_generation_id_or_member_epoch generation_id_or_member_epoch: i32,
    with_member_id member_id: StrBytes,
    with_group_instance_id group_instance_id: Option<StrBytes>,
    with_retention_time_ms retention_time_ms: i64,
    with_topics topics: Vec<OffsetCommitRequestTopic>,
});

message!(OffsetCommitRequest, 2 - 10, flexible from 8, header 1);

impl Request for OffsetCommitRequest {
    const KEY: i16 = 8;
    type Response = OffsetCommitResponse;
}

impl Default for OffsetCommitRequest {
    fn default() -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: GroupId::default(),
            generation_id_or_member_epoch: -1,
            member_id: StrBytes::default(),
            group_instance_id: None,
            retention_time_ms: -1,
            topics: Vec::new(),
        }
    }
}

impl OffsetCommitRequest {
    fn read(body: &mut Body, version: i16) -> Result<OffsetCommitRequest> {
        let mut request = OffsetCommitRequest {
            group_id: GroupId(body.string()?),
            generation_id_or_member_epoch: body.i32()?,
            member_id: body.string()?,
            ..OffsetCommitRequest::default()
        };
        if version >= 7 {
            request.group_instance_id = body.nullable_string()?;
        }
        if version <= 4 {
            request.retention_time_ms = body.i64()?;
        }
        request.topics = body.array(|body| OffsetCommitRequestTopic::read(body, version))?;
        body.tags()?;
        Ok(request)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_string(out, flexible, &self.group_id);
        out.put_i32(self.generation_id_or_member_epoch);
        put_string(out, flexible, &self.member_id);
        match version {
            7.. => put_nullable_string(out, flexible, self.group_instance_id.as_deref()),
            _ => absent("group_instance_id", self.group_instance_id.is_none())?,
        }
        if version <= 4 {
            out.put_i64(self.retention_time_ms);
        }
        put_array(out, flexible, &self.topics, |out, topic| {
            topic.write(out, flexible, version)
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}
