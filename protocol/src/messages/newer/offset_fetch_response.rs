//! OffsetFetchResponse: version 10 names topics by their ids.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::GroupId;
pub use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, VersionRange};

use super::named_topic::NamedTopic;
use super::{Body, absent, known, message, put_array, put_parts, setters};
use crate::wire::{put_no_tags, put_string};

const ERROR_FROM: i16 = 2;
const THROTTLE_FROM: i16 = 3;
const GROUPS_FROM: i16 = 8;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponse {
    /// From version 3.
    pub throttle_time_ms: i32,
    /// Until version 7.
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// Versions 2 to 7.
    pub error_code: i16,
    /// From version 8.
    pub groups: Vec<OffsetFetchResponseGroup>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponseGroup {
    pub group_id: GroupId,
    pub topics: Vec<OffsetFetchResponseTopics>,
    pub error_code: i16,
}

pub type OffsetFetchResponseTopics = NamedTopic<OffsetFetchResponsePartitions>;

setters!(OffsetFetchResponse {
    with_throttle_time_ms throttle_time_ms: i32,
    with_topics topics: Vec<OffsetFetchResponseTopic>,
    with_error_code error_code: i16,
    with_groups groups: Vec<OffsetFetchResponseGroup>,
});

setters!(OffsetFetchResponseGroup {
    with_group_id group_id: GroupId,
    with_topics topics: Vec<OffsetFetchResponseTopics>,
    with_error_code error_code: i16,
});

message!(OffsetFetchResponse, 1 - 10, flexible from 6, header 0);

impl OffsetFetchResponse {
    fn read(body: &mut Body, version: i16) -> Result<OffsetFetchResponse> {
        let mut response = OffsetFetchResponse::default();
        if version >= THROTTLE_FROM {
            response.throttle_time_ms = body.i32()?;
        }
        if version >= GROUPS_FROM {
            response.groups = body.array(|body| OffsetFetchResponseGroup::read(body, version))?;
        } else {
            response.topics = body.array(|body| body.part(version))?;
            if version >= ERROR_FROM {
                response.error_code = body.i16()?;
            }
        }
        body.tags()?;
        Ok(response)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        if version >= THROTTLE_FROM {
            out.put_i32(self.throttle_time_ms);
        }
        if version >= GROUPS_FROM {
            absent("topics", self.topics.is_empty())?;
            put_array(out, flexible, &self.groups, |out, group| {
                group.write(out, flexible, version)
            })?;
        } else {
            absent("groups", self.groups.is_empty())?;
            put_parts(out, flexible, &self.topics, version)?;
            if version >= ERROR_FROM {
                out.put_i16(self.error_code);
            }
        }
        put_no_tags(out, flexible);
        Ok(())
    }
}

impl OffsetFetchResponseGroup {
    fn read(body: &mut Body, version: i16) -> Result<OffsetFetchResponseGroup> {
        let group = OffsetFetchResponseGroup {
            group_id: GroupId(body.string()?),
            topics: body.array(|body| OffsetFetchResponseTopics::read(body, version))?,
            error_code: body.i16()?,
        };
        body.tags()?;
        Ok(group)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_string(out, flexible, &self.group_id);
        put_array(out, flexible, &self.topics, |out, topic| {
            topic.write(out, flexible, version)
        })?;
        out.put_i16(self.error_code);
        put_no_tags(out, flexible);
        Ok(())
    }
}
