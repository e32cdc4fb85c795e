//! The bytes of the records: Kafka's schemas OffsetCommitKey/Value and GroupMetadataKey/Value.
//!
//! Keys and values begin with their version. Written are the versions that Kafka 4.3 writes;
//! read is every version there ever was. The log is untrusted: nothing is allocated beyond what
//! the record itself holds.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::error::DecodeError;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_protocol::wire::{Reader, put_nullable_string, put_string};

use super::consumer_codec;
use super::{Decoded, GroupRecord, GroupValue, MemberValue, OffsetValue, RecordError};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
/// The only version of the value that has an expiry of its own.
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const OFFSET_VALUE: i16 = 4;
const GROUP_VALUE: i16 = 3;
const NEWEST_VALUE: i16 = 4;
/// From here values have compact fields and tags.
const FLEXIBLE_FROM: i16 = 4;
const TOPIC_ID_TAG: u32 = 0;

impl GroupRecord {
    /// Key and value; a value of `None` is a tombstone.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::new();
        let value = match self {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                key.put_i16(OFFSET_KEY);
                put_string(&mut key, false, group);
                put_string(&mut key, false, topic);
                key.put_i32(*partition);
                value.as_ref().map(encode_offset)
            }
            GroupRecord::Group { group, value } => {
                key.put_i16(GROUP_KEY);
                put_string(&mut key, false, group);
                value.as_ref().map(encode_group)
            }
            GroupRecord::Consumer { group, record } => {
                return consumer_codec::encode(group, record);
            }
        };
        (key.freeze(), value)
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Decoded, RecordError> {
        let mut reader = Reader::new(key);
        let key_version = reader.i16()?;
        let record = match key_version {
            0 | OFFSET_KEY => GroupRecord::Offset {
                group: reader.string(false)?.to_owned(),
                topic: reader.string(false)?.to_owned(),
                partition: reader.i32()?,
                value: value.map(decode_offset).transpose()?,
            },
            GROUP_KEY => GroupRecord::Group {
                group: reader.string(false)?.to_owned(),
                value: value.map(decode_group).transpose()?,
            },
            version if consumer_codec::is_key(version) => {
                let group = reader.string(false)?.to_owned();
                let record = consumer_codec::decode(version, &mut reader, value)?;
                GroupRecord::Consumer { group, record }
            }
            _ => return Ok(Decoded::Unknown { key_version }),
        };
        Ok(Decoded::Record(record))
    }
}

fn encode_offset(value: &OffsetValue) -> Bytes {
    let mut buf = BytesMut::new();
    let version = match value.expire_timestamp_ms {
        Some(_) => OFFSET_VALUE_WITH_EXPIRY,
        None => OFFSET_VALUE,
    };
    buf.put_i16(version);
    buf.put_i64(value.offset.0);
    let flexible = version >= FLEXIBLE_FROM;
    if flexible {
        buf.put_i32(value.leader_epoch.0);
    }
    put_string(&mut buf, flexible, &value.metadata);
    buf.put_i64(value.commit_timestamp_ms);
    if let Some(expire_timestamp_ms) = value.expire_timestamp_ms {
        buf.put_i64(expire_timestamp_ms);
    }
    if flexible {
        put_topic_id(&mut buf, value.topic_id);
    }
    buf.freeze()
}

/// The tags of an offset: its topic's id, unless that is unknown.
fn put_topic_id(buf: &mut BytesMut, topic_id: TopicId) {
    if topic_id == TopicId::ZERO {
        return buf.put_slice(&[0]);
    }
    // One tag; its number; its length; then it.
    buf.put_slice(&[1, 0, 16]);
    buf.put_slice(topic_id.0.as_bytes());
}

fn value_version(reader: &mut Reader<'_>) -> Result<i16, RecordError> {
    let version = reader.i16()?;
    if (0..=NEWEST_VALUE).contains(&version) {
        Ok(version)
    } else {
        Err(RecordError::ValueVersion { version })
    }
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = value_version(&mut reader)?;
    let flexible = version >= FLEXIBLE_FROM;
    let offset = Offset(reader.i64()?);
    let leader_epoch = LeaderEpoch(if version >= 3 { reader.i32()? } else { -1 });
    let metadata = reader.string(flexible)?.to_owned();
    let commit_timestamp_ms = reader.i64()?;
    let expires = version == OFFSET_VALUE_WITH_EXPIRY;
    let expire_timestamp_ms = if expires { Some(reader.i64()?) } else { None };
    let mut topic_id = TopicId::ZERO;
    if flexible {
        reader.tagged_fields(|tag, field| {
            if tag == TOPIC_ID_TAG {
                topic_id = field.topic_id()?;
            }
            Ok(())
        })?;
    }
    Ok(OffsetValue {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp_ms,
        expire_timestamp_ms: expire_timestamp_ms.filter(|expires_ms| *expires_ms >= 0),
        topic_id,
    })
}

fn encode_group(value: &GroupValue) -> Bytes {
    let mut buf = BytesMut::new();
    buf.put_i16(GROUP_VALUE);
    put_string(&mut buf, false, &value.protocol_type);
    buf.put_i32(value.generation);
    put_nullable_string(&mut buf, false, value.protocol.as_deref());
    put_nullable_string(&mut buf, false, value.leader.as_deref());
    buf.put_i64(value.current_state_timestamp_ms);
    put_len(&mut buf, value.members.len());
    for member in &value.members {
        put_string(&mut buf, false, &member.member_id);
        put_nullable_string(&mut buf, false, member.instance_id.as_deref());
        put_string(&mut buf, false, &member.client_id);
        put_string(&mut buf, false, &member.client_host);
        buf.put_i32(member.rebalance_timeout_ms);
        buf.put_i32(member.session_timeout_ms);
        put_bytes(&mut buf, &member.subscription);
        put_bytes(&mut buf, &member.assignment);
    }
    buf.freeze()
}

/// Both come from requests, which are smaller than 2 GiB.
fn put_len(buf: &mut BytesMut, len: usize) {
    buf.put_i32(i32::try_from(len).expect("a record's part is smaller than a request"));
}

fn put_bytes(buf: &mut BytesMut, bytes: &[u8]) {
    put_len(buf, bytes.len());
    buf.put_slice(bytes);
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = value_version(&mut reader)?;
    let flexible = version >= FLEXIBLE_FROM;
    let mut value = GroupValue {
        protocol_type: reader.string(flexible)?.to_owned(),
        generation: reader.i32()?,
        protocol: reader.nullable_string(flexible)?.map(str::to_owned),
        leader: reader.nullable_string(flexible)?.map(str::to_owned),
        current_state_timestamp_ms: if version >= 2 { reader.i64()? } else { -1 },
        members: Vec::new(),
    };
    let count = reader.array_len(flexible, MEMBER_MIN_BYTES)?;
    for _ in 0..count {
        value.members.push(decode_member(&mut reader, version)?);
    }
    if flexible {
        reader.skip_tagged_fields()?;
    }
    Ok(value)
}

/// Three strings, two timeouts and two byte fields, all empty, in their compact form.
const MEMBER_MIN_BYTES: usize = 9;

fn decode_member(reader: &mut Reader<'_>, version: i16) -> Result<MemberValue, RecordError> {
    let flexible = version >= FLEXIBLE_FROM;
    let member_id = reader.string(flexible)?.to_owned();
    let instance_id = if version >= 3 {
        reader.nullable_string(flexible)?.map(str::to_owned)
    } else {
        None
    };
    let client_id = reader.string(flexible)?.to_owned();
    let client_host = reader.string(flexible)?.to_owned();
    let rebalance_timeout_ms = if version >= 1 { reader.i32()? } else { -1 };
    let session_timeout_ms = reader.i32()?;
    let member = MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Before version 1 one timeout was both.
        rebalance_timeout_ms: if rebalance_timeout_ms < 0 {
            session_timeout_ms
        } else {
            rebalance_timeout_ms
        },
        session_timeout_ms,
        subscription: decode_bytes(reader, flexible)?,
        assignment: decode_bytes(reader, flexible)?,
    };
    if flexible {
        reader.skip_tagged_fields()?;
    }
    Ok(member)
}

pub(super) fn decode_bytes(reader: &mut Reader<'_>, flexible: bool) -> Result<Bytes, RecordError> {
    let len = reader
        .bytes_len(flexible)?
        .ok_or(DecodeError::NullNotAllowed)?;
    Ok(Bytes::copy_from_slice(reader.take(len)?))
}
