//! Leader hints (KIP-951): a broker that no longer leads says who does, and where that broker is.
//!
//! Both parts are tagged fields and are left out when there is nothing to say: a default-valued tag
//! is never written, for some old clients mis-skip it.

use bytes::{BufMut, BytesMut};

use crate::types::{BrokerId, LeaderEpoch};
use crate::wire::{put_array_len, put_nullable_string, put_string, put_unsigned_varint};

/// Who leads a partition now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    pub leader_id: BrokerId,
    pub leader_epoch: LeaderEpoch,
}

/// Where a broker named in a [`CurrentLeader`] listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    pub node_id: BrokerId,
    pub host: &'a str,
    pub port: i32,
    pub rack: Option<&'a str>,
}

/// The current leader as a tagged field.
pub(crate) fn put_current_leader(buf: &mut BytesMut, tag: u32, leader: CurrentLeader) {
    put_unsigned_varint(buf, tag);
    put_unsigned_varint(buf, 9);
    buf.put_i32(leader.leader_id.0);
    buf.put_i32(leader.leader_epoch.0);
    buf.put_u8(0);
}

/// The last tagged field section of Produce and Fetch responses: the endpoints or nothing.
pub(crate) fn put_endpoints_section(buf: &mut BytesMut, endpoints: &[NodeEndpoint<'_>]) {
    if endpoints.is_empty() {
        buf.put_u8(0);
        return;
    }
    let mut array = BytesMut::new();
    put_array_len(&mut array, true, endpoints.len());
    for endpoint in endpoints {
        array.put_i32(endpoint.node_id.0);
        put_string(&mut array, true, endpoint.host);
        array.put_i32(endpoint.port);
        put_nullable_string(&mut array, true, endpoint.rack);
        array.put_u8(0);
    }
    buf.put_u8(1);
    put_unsigned_varint(buf, 0);
    put_unsigned_varint(buf, array.len() as u32);
    buf.put_slice(&array);
}
