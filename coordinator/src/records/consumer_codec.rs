//! The bytes of a consumer group's records: Kafka's schemas ConsumerGroup*Key and *Value, of which
//! there is one version each. The log is untrusted: nothing is allocated beyond what a record
//! holds.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::error::DecodeError;
use ottla_protocol::types::TopicId;
use ottla_protocol::wire::{
    Reader, put_array_len, put_no_tags, put_nullable_string, put_string, put_unsigned_varint,
};

use super::codec::decode_bytes;
use super::{
    ClassicValue, ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupEpochValue, OwnedTopic,
    RecordError, RegexValue, TargetEpochValue,
};
use crate::command::TopicPartitions;

const GROUP_EPOCH: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

const VALUE: i16 = 0;
/// Each schema has at most this one tag.
const TAG: u32 = 0;

pub(super) fn is_key(version: i16) -> bool {
    matches!(version, GROUP_EPOCH..=CURRENT | REGEX)
}

pub(super) fn encode(group: &str, record: &ConsumerRecord) -> (Bytes, Option<Bytes>) {
    let (version, name, value) = match record {
        ConsumerRecord::GroupEpoch(value) => {
            (GROUP_EPOCH, None, value.as_ref().map(encode_group_epoch))
        }
        ConsumerRecord::PartitionMetadata(value) => (PARTITION_METADATA, None, value.clone()),
        ConsumerRecord::Member { member_id, value } => {
            (MEMBER, Some(member_id), value.as_ref().map(encode_member))
        }
        ConsumerRecord::TargetEpoch(value) => {
            (TARGET_EPOCH, None, value.as_ref().map(encode_target_epoch))
        }
        ConsumerRecord::Target { member_id, value } => (
            TARGET,
            Some(member_id),
            value.as_ref().map(|value| encode_target(value)),
        ),
        ConsumerRecord::Current { member_id, value } => {
            (CURRENT, Some(member_id), value.as_ref().map(encode_current))
        }
        ConsumerRecord::Regex { regex, value } => {
            (REGEX, Some(regex), value.as_ref().map(encode_regex))
        }
    };
    let mut key = BytesMut::new();
    key.put_i16(version);
    put_string(&mut key, false, group);
    if let Some(name) = name {
        put_string(&mut key, false, name);
    }
    (key.freeze(), value)
}

/// `key` stands behind the group.
pub(super) fn decode(
    version: i16,
    key: &mut Reader<'_>,
    value: Option<&[u8]>,
) -> Result<ConsumerRecord, RecordError> {
    let record = match version {
        GROUP_EPOCH => ConsumerRecord::GroupEpoch(read(value, decode_group_epoch)?),
        PARTITION_METADATA => ConsumerRecord::PartitionMetadata(value.map(Bytes::copy_from_slice)),
        MEMBER => ConsumerRecord::Member {
            member_id: key.string(false)?.to_owned(),
            value: read(value, decode_member)?,
        },
        TARGET_EPOCH => ConsumerRecord::TargetEpoch(read(value, decode_target_epoch)?),
        TARGET => ConsumerRecord::Target {
            member_id: key.string(false)?.to_owned(),
            value: read(value, decode_target)?,
        },
        CURRENT => ConsumerRecord::Current {
            member_id: key.string(false)?.to_owned(),
            value: read(value, decode_current)?,
        },
        _ => ConsumerRecord::Regex {
            regex: key.string(false)?.to_owned(),
            value: read(value, decode_regex)?,
        },
    };
    Ok(record)
}

fn read<T>(
    value: Option<&[u8]>,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, RecordError>,
) -> Result<Option<T>, RecordError> {
    let Some(bytes) = value else {
        return Ok(None);
    };
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if version != VALUE {
        return Err(RecordError::ValueVersion { version });
    }
    decode(&mut reader).map(Some)
}

fn value() -> BytesMut {
    let mut buf = BytesMut::new();
    buf.put_i16(VALUE);
    buf
}

/// The tags: one number of 64 bits, unless it is 0.
fn put_tagged_i64(buf: &mut BytesMut, number: i64) {
    if number == 0 {
        return put_no_tags(buf, true);
    }
    buf.put_slice(&[1, 0, 8]);
    buf.put_i64(number);
}

fn tagged_i64(reader: &mut Reader<'_>) -> Result<i64, RecordError> {
    let mut number = 0;
    reader.tagged_fields(|tag, field| {
        if tag == TAG {
            number = field.i64()?;
        }
        Ok(())
    })?;
    Ok(number)
}

fn encode_group_epoch(epoch: &GroupEpochValue) -> Bytes {
    let mut buf = value();
    buf.put_i32(epoch.epoch);
    put_tagged_i64(&mut buf, epoch.metadata_hash);
    buf.freeze()
}

fn decode_group_epoch(reader: &mut Reader<'_>) -> Result<GroupEpochValue, RecordError> {
    Ok(GroupEpochValue {
        epoch: reader.i32()?,
        metadata_hash: tagged_i64(reader)?,
    })
}

fn encode_target_epoch(epoch: &TargetEpochValue) -> Bytes {
    let mut buf = value();
    buf.put_i32(epoch.epoch);
    put_tagged_i64(&mut buf, epoch.timestamp_ms);
    buf.freeze()
}

fn decode_target_epoch(reader: &mut Reader<'_>) -> Result<TargetEpochValue, RecordError> {
    Ok(TargetEpochValue {
        epoch: reader.i32()?,
        timestamp_ms: tagged_i64(reader)?,
    })
}

fn encode_member(member: &ConsumerMemberValue) -> Bytes {
    let mut buf = value();
    put_nullable_string(&mut buf, true, member.instance_id.as_deref());
    put_nullable_string(&mut buf, true, member.rack_id.as_deref());
    put_string(&mut buf, true, &member.client_id);
    put_string(&mut buf, true, &member.client_host);
    put_array_len(&mut buf, true, member.subscribed_topic_names.len());
    for name in &member.subscribed_topic_names {
        put_string(&mut buf, true, name);
    }
    put_nullable_string(&mut buf, true, member.subscribed_topic_regex.as_deref());
    buf.put_i32(member.rebalance_timeout_ms);
    put_nullable_string(&mut buf, true, member.server_assignor.as_deref());
    put_classic(&mut buf, member.classic.as_ref());
    buf.freeze()
}

/// A member that is not classic says so: the schema's default is an empty struct, which is left
/// out.
fn put_classic(buf: &mut BytesMut, classic: Option<&ClassicValue>) {
    let Some(classic) = classic else {
        return buf.put_slice(&[1, 0, 1, 0]);
    };
    if *classic == ClassicValue::default() {
        return put_no_tags(buf, true);
    }
    let mut field = BytesMut::new();
    field.put_u8(1);
    field.put_i32(classic.session_timeout_ms);
    put_array_len(&mut field, true, classic.protocols.len());
    for (name, metadata) in &classic.protocols {
        put_string(&mut field, true, name);
        put_array_len(&mut field, true, metadata.len());
        field.put_slice(metadata);
        put_no_tags(&mut field, true);
    }
    put_no_tags(&mut field, true);
    buf.put_slice(&[1, 0]);
    // The size of a record's part, which comes from a request.
    put_unsigned_varint(buf, u32::try_from(field.len()).unwrap_or(u32::MAX));
    buf.put_slice(&field);
}

fn decode_member(reader: &mut Reader<'_>) -> Result<ConsumerMemberValue, RecordError> {
    let mut member = ConsumerMemberValue {
        instance_id: reader.nullable_string(true)?.map(str::to_owned),
        rack_id: reader.nullable_string(true)?.map(str::to_owned),
        client_id: reader.string(true)?.to_owned(),
        client_host: reader.string(true)?.to_owned(),
        classic: Some(ClassicValue::default()),
        ..ConsumerMemberValue::default()
    };
    for _ in 0..reader.array_len(true, 1)? {
        let name = reader.string(true)?.to_owned();
        member.subscribed_topic_names.push(name);
    }
    member.subscribed_topic_regex = reader.nullable_string(true)?.map(str::to_owned);
    member.rebalance_timeout_ms = reader.i32()?;
    member.server_assignor = reader.nullable_string(true)?.map(str::to_owned);
    let mut classic = None;
    reader.tagged_fields(|tag, field| {
        if tag == TAG {
            classic = Some(decode_classic(field));
        }
        Ok(())
    })?;
    if let Some(classic) = classic {
        member.classic = classic?;
    }
    Ok(member)
}

fn decode_classic(field: &mut Reader<'_>) -> Result<Option<ClassicValue>, RecordError> {
    if field.i8()? == 0 {
        return Ok(None);
    }
    let mut classic = ClassicValue {
        session_timeout_ms: field.i32()?,
        protocols: Vec::new(),
    };
    // A name, bytes and no tags, all empty.
    for _ in 0..field.array_len(true, 3)? {
        let name = field.string(true)?.to_owned();
        classic.protocols.push((name, decode_bytes(field, true)?));
        field.skip_tagged_fields()?;
    }
    field.skip_tagged_fields()?;
    Ok(Some(classic))
}

fn put_numbers(buf: &mut BytesMut, numbers: &[i32]) {
    put_array_len(buf, true, numbers.len());
    for number in numbers {
        buf.put_i32(*number);
    }
}

fn numbers(reader: &mut Reader<'_>) -> Result<Vec<i32>, DecodeError> {
    let count = reader.array_len(true, 4)?;
    (0..count).map(|_| reader.i32()).collect()
}

/// An id, no partitions, no tags.
const TOPIC_MIN_BYTES: usize = 18;

fn put_topic_id(buf: &mut BytesMut, id: TopicId) {
    buf.put_slice(id.0.as_bytes());
}

fn encode_target(topics: &[TopicPartitions]) -> Bytes {
    let mut buf = value();
    put_array_len(&mut buf, true, topics.len());
    for topic in topics {
        put_topic_id(&mut buf, topic.topic_id);
        put_numbers(&mut buf, &topic.partitions);
        put_no_tags(&mut buf, true);
    }
    put_no_tags(&mut buf, true);
    buf.freeze()
}

fn decode_target(reader: &mut Reader<'_>) -> Result<Vec<TopicPartitions>, RecordError> {
    let count = reader.array_len(true, TOPIC_MIN_BYTES)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        topics.push(TopicPartitions {
            topic_id: reader.topic_id()?,
            partitions: numbers(reader)?,
        });
        reader.skip_tagged_fields()?;
    }
    reader.skip_tagged_fields()?;
    Ok(topics)
}

fn encode_current(current: &CurrentValue) -> Bytes {
    let mut buf = value();
    buf.put_i32(current.epoch);
    buf.put_i32(current.previous_epoch);
    buf.put_i8(current.state);
    put_owned(&mut buf, &current.assigned);
    put_owned(&mut buf, &current.pending_revocation);
    put_no_tags(&mut buf, true);
    buf.freeze()
}

fn put_owned(buf: &mut BytesMut, topics: &[OwnedTopic]) {
    put_array_len(buf, true, topics.len());
    for topic in topics {
        put_topic_id(buf, topic.topic_id);
        put_numbers(buf, &topic.partitions);
        if topic.epochs.is_empty() {
            put_no_tags(buf, true);
            continue;
        }
        let mut field = BytesMut::new();
        put_numbers(&mut field, &topic.epochs);
        buf.put_slice(&[1, 0]);
        put_unsigned_varint(buf, u32::try_from(field.len()).unwrap_or(u32::MAX));
        buf.put_slice(&field);
    }
}

fn decode_current(reader: &mut Reader<'_>) -> Result<CurrentValue, RecordError> {
    let current = CurrentValue {
        epoch: reader.i32()?,
        previous_epoch: reader.i32()?,
        state: reader.i8()?,
        assigned: owned(reader)?,
        pending_revocation: owned(reader)?,
    };
    reader.skip_tagged_fields()?;
    Ok(current)
}

fn owned(reader: &mut Reader<'_>) -> Result<Vec<OwnedTopic>, DecodeError> {
    let count = reader.array_len(true, TOPIC_MIN_BYTES)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let mut topic = OwnedTopic {
            topic_id: reader.topic_id()?,
            partitions: numbers(reader)?,
            epochs: Vec::new(),
        };
        reader.tagged_fields(|tag, field| {
            // Null and none are the same.
            if tag == TAG && field.remaining() > 1 {
                topic.epochs = numbers(field)?;
            }
            Ok(())
        })?;
        topics.push(topic);
    }
    Ok(topics)
}

fn encode_regex(regex: &RegexValue) -> Bytes {
    let mut buf = value();
    put_array_len(&mut buf, true, regex.topics.len());
    for topic in &regex.topics {
        put_string(&mut buf, true, topic);
    }
    buf.put_i64(regex.version);
    buf.put_i64(regex.timestamp_ms);
    put_no_tags(&mut buf, true);
    buf.freeze()
}

fn decode_regex(reader: &mut Reader<'_>) -> Result<RegexValue, RecordError> {
    let count = reader.array_len(true, 1)?;
    let topics = (0..count).map(|_| reader.string(true).map(str::to_owned));
    let regex = RegexValue {
        topics: topics.collect::<Result<_, _>>()?,
        version: reader.i64()?,
        timestamp_ms: reader.i64()?,
    };
    reader.skip_tagged_fields()?;
    Ok(regex)
}
