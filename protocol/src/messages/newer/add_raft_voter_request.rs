//! AddRaftVoterRequest: version 1 says whether to wait for the new voters' commit.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::AddRaftVoterResponse;
pub use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange,
};
use uuid::Uuid;

use super::{Body, absent, known, message, put_parts, setters};
use crate::wire::{put_no_tags, put_nullable_string};

const ACK_WHEN_COMMITTED_FROM: i16 = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct AddRaftVoterRequest {
    pub cluster_id: Option<StrBytes>,
    pub timeout_ms: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<Listener>,
    /// From version 1; before it is true.
    pub ack_when_committed: bool,
}

setters!(AddRaftVoterRequest {
    with_cluster_id cluster_id: Option<StrBytes>,
    with_timeout_ms timeout_ms: i32,
    with_voter_id voter_id: i32,
    with_voter_directory_id voter_directory_id: Uuid,
    with_listeners listeners: Vec<Listener>,
    with_ack_when_committed ack_when_committed: bool,
});

message!(AddRaftVoterRequest, 0 - 1, flexible from 0, header 1);

impl Request for AddRaftVoterRequest {
    const KEY: i16 = 80;
    type Response = AddRaftVoterResponse;
}

impl Default for AddRaftVoterRequest {
    fn default() -> AddRaftVoterRequest {
        AddRaftVoterRequest {
            cluster_id: Some(StrBytes::default()),
            timeout_ms: 0,
            voter_id: 0,
            voter_directory_id: Uuid::nil(),
            listeners: Vec::new(),
            ack_when_committed: true,
        }
    }
}

impl AddRaftVoterRequest {
    fn read(body: &mut Body, version: i16) -> Result<AddRaftVoterRequest> {
        let mut request = AddRaftVoterRequest {
            cluster_id: body.nullable_string()?,
            timeout_ms: body.i32()?,
            voter_id: body.i32()?,
            voter_directory_id: body.uuid()?,
            listeners: body.array(|body| body.part(0))?,
            ack_when_committed: true,
        };
        if version >= ACK_WHEN_COMMITTED_FROM {
            request.ack_when_committed = body.bool()?;
        }
        body.tags()?;
        Ok(request)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        put_nullable_string(out, flexible, self.cluster_id.as_deref());
        out.put_i32(self.timeout_ms);
        out.put_i32(self.voter_id);
        out.put_slice(self.voter_directory_id.as_bytes());
        put_parts(out, flexible, &self.listeners, 0)?;
        match version {
            ACK_WHEN_COMMITTED_FROM.. => out.put_u8(self.ack_when_committed.into()),
            _ => absent("ack_when_committed", self.ack_when_committed)?,
        }
        put_no_tags(out, flexible);
        Ok(())
    }
}
