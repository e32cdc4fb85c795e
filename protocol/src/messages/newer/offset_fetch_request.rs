//! OffsetFetchRequest: version 10 names topics by their ids.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
pub use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange,
};
use uuid::Uuid;

use super::named_topic::{put_name, read_name};
use super::offset_fetch_response::OffsetFetchResponse;
use super::{Body, absent, known, message, put_array, put_nullable_array, setters};
use crate::wire::{put_no_tags, put_nullable_string, put_string};

const ALL_TOPICS_FROM: i16 = 2;
const REQUIRE_STABLE_FROM: i16 = 7;
const GROUPS_FROM: i16 = 8;
const MEMBERS_FROM: i16 = 9;

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequest {
    /// Until version 7.
    pub group_id: GroupId,
    /// Until version 7; from 2 it may be null.
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// From version 8.
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// From version 7.
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequestGroup {
    pub group_id: GroupId,
    /// From version 9.
    pub member_id: Option<StrBytes>,
    /// From version 9.
    pub member_epoch: i32,
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchRequestTopics {
    /// Until version 9.
    pub name: TopicName,
    /// From version 10.
    pub topic_id: Uuid,
    pub partition_indexes: Vec<i32>,
}

setters!(OffsetFetchRequest {
    with_group_id group_id: GroupId,
    with_topics topics: Option<Vec<OffsetFetchRequestTopic>>,
    with_groups groups: Vec<OffsetFetchRequestGroup>,
    with_require_stable require_stable: bool,
});

setters!(OffsetFetchRequestGroup {
    with_group_id group_id: GroupId,
    with_member_id member_id: Option<StrBytes>,
    with_member_epoch member_epoch: i32,
    with_topics topics: Option<Vec<OffsetFetchRequestTopics>>,
});

setters!(OffsetFetchRequestTopics {
    with_name name: TopicName,
    with_topic_id topic_id: Uuid,
    with_partition_indexes partition_indexes: Vec<i32>,
});

message!(OffsetFetchRequest, 1 - 10, flexible from 6, header 1);

impl Request for OffsetFetchRequest {
    const KEY: i16 = 9;
    type Response = OffsetFetchResponse;
}

impl Default for OffsetFetchRequest {
    fn default() -> OffsetFetchRequest {
        OffsetFetchRequest {
            group_id: GroupId::default(),
            topics: Some(Vec::new()),
            groups: Vec::new(),
            require_stable: false,
        }
    }
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> OffsetFetchRequestGroup {
        OffsetFetchRequestGroup {
            group_id: GroupId::default(),
            member_id: None,
            member_epoch: -1,
            topics: Some(Vec::new()),
        }
    }
}

impl OffsetFetchRequest {
    fn read(body: &mut Body, version: i16) -> Result<OffsetFetchRequest> {
        let mut request = OffsetFetchRequest::default();
        if version >= GROUPS_FROM {
            request.groups = body.array(|body| OffsetFetchRequestGroup::read(body, version))?;
        } else {
            request.group_id = GroupId(body.string()?);
            request.topics = match version {
                ALL_TOPICS_FROM.. => body.nullable_array(|body| body.part(version))?,
                _ => Some(body.array(|body| body.part(version))?),
            };
        }
        if version >= REQUIRE_STABLE_FROM {
            request.require_stable = body.bool()?;
        }
        body.tags()?;
        Ok(request)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        if version >= GROUPS_FROM {
            absent("group_id", self.group_id.is_empty())?;
            let no_topics = self.topics.as_ref().is_some_and(Vec::is_empty);
            absent("topics", no_topics)?;
            put_array(out, flexible, &self.groups, |out, group| {
                group.write(out, flexible, version)
            })?;
        } else {
            absent("groups", self.groups.is_empty())?;
            absent("null", version >= ALL_TOPICS_FROM || self.topics.is_some())?;
            put_string(out, flexible, &self.group_id);
            put_nullable_array(out, flexible, self.topics.as_deref(), |out, topic| {
                topic.encode(out, version)
            })?;
        }
        match version {
            REQUIRE_STABLE_FROM.. => out.put_u8(self.require_stable.into()),
            _ => absent("require_stable", !self.require_stable)?,
        }
        put_no_tags(out, flexible);
        Ok(())
    }
}

impl OffsetFetchRequestGroup {
    fn read(body: &mut Body, version: i16) -> Result<OffsetFetchRequestGroup> {
        let mut group = OffsetFetchRequestGroup {
            group_id: GroupId(body.string()?),
            ..OffsetFetchRequestGroup::default()
        };
        if version >= MEMBERS_FROM {
            group.member_id = body.nullable_string()?;
            group.member_epoch = body.i32()?;
        }
        group.topics = body.nullable_array(|body| OffsetFetchRequestTopics::read(body, version))?;
        body.tags()?;
        Ok(group)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_string(out, flexible, &self.group_id);
        if version >= MEMBERS_FROM {
            put_nullable_string(out, flexible, self.member_id.as_deref());
            out.put_i32(self.member_epoch);
        }
        put_nullable_array(out, flexible, self.topics.as_deref(), |out, topic| {
            topic.write(out, flexible, version)
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}

impl OffsetFetchRequestTopics {
    fn read(body: &mut Body, version: i16) -> Result<OffsetFetchRequestTopics> {
        let (name, topic_id) = read_name(body, version)?;
        let partition_indexes = body.array(|body| Ok(body.i32()?))?;
        body.tags()?;
        Ok(OffsetFetchRequestTopics {
            name,
            topic_id,
            partition_indexes,
        })
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_name(out, flexible, version, &self.name, self.topic_id);
        put_array(out, flexible, &self.partition_indexes, |out, index| {
            out.put_i32(*index);
            Ok(())
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}
