//! DescribeLogDirsRequest: in version 5 only the answer is new.

use anyhow::Result;
use bytes::BytesMut;
pub use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request, VersionRange,
};

use super::describe_log_dirs_response::DescribeLogDirsResponse;
use super::{Body, known, message, put_nullable_array, setters};
use crate::wire::put_no_tags;

/// The last version of the parts that are kafka-protocol's.
const PARTS: i16 = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct DescribeLogDirsRequest {
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

setters!(DescribeLogDirsRequest {
    with_topics topics: Option<Vec<DescribableLogDirTopic>>,
});

message!(DescribeLogDirsRequest, 1 - 5, flexible from 2, header 1);

impl Request for DescribeLogDirsRequest {
    const KEY: i16 = 35;
    type Response = DescribeLogDirsResponse;
}

impl Default for DescribeLogDirsRequest {
    fn default() -> DescribeLogDirsRequest {
        DescribeLogDirsRequest {
            topics: Some(Vec::new()),
        }
    }
}

impl DescribeLogDirsRequest {
    fn read(body: &mut Body, version: i16) -> Result<DescribeLogDirsRequest> {
        let topics = body.nullable_array(|body| body.part(version.min(PARTS)))?;
        body.tags()?;
        Ok(DescribeLogDirsRequest { topics })
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_nullable_array(out, flexible, self.topics.as_deref(), |out, topic| {
            topic.encode(out, version.min(PARTS))
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}
