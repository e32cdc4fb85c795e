//! Bytes of metadata records. A record is `[version u8][type u8][body]`; a batch, which is what one
//! raft entry carries, is `[format u8][count varint]` and per record `[length varint][record]`.
//!
//! Numbers are big-endian, lengths unsigned varints, an optional value has a presence byte.
//! Decoding allocates only what the bytes at hand can hold, never panics, and refuses what it does
//! not know: a node that meets a record of a later release must stop rather than diverge. Released
//! bytes stay readable for ever (`tests/golden`): a change of a body is a new version of that type
//! and a new arm in `decode_record`.

use std::sync::Arc;

use ottla_protocol::types::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use uuid::Uuid;

use super::{
    BrokerEndpoint, BrokerEpoch, BrokerRegistrationRecord, ConfigResource, FeatureRange,
    MetadataRecord, PartitionChangeRecord, PartitionEpoch, PartitionRecord,
};

const BATCH_FORMAT: u8 = 1;
const RECORD_VERSION: u8 = 1;

const CLUSTER: u8 = 1;
const FEATURE: u8 = 2;
const BROKER_REGISTRATION: u8 = 3;
const BROKER_UNREGISTERED: u8 = 4;
const LEADER_EPOCHS_BUMPED: u8 = 5;
const TOPIC: u8 = 6;
const REMOVE_TOPIC: u8 = 7;
const PARTITION: u8 = 8;
const PARTITION_CHANGE: u8 = 9;
const CONFIG: u8 = 10;
const PRODUCER_IDS: u8 = 11;

const RESOURCE_TOPIC: u8 = 2;
const RESOURCE_BROKER: u8 = 4;
const RESOURCE_BROKER_DEFAULT: u8 = 5;
const RESOURCE_GROUP: u8 = 32;

/// Why bytes are not metadata records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record batch of format {0}, this release reads format {BATCH_FORMAT}")]
    UnknownFormat(u8),
    #[error("metadata record of type {record_type} version {version} is not known to this release")]
    UnknownRecord { record_type: u8, version: u8 },
    #[error("metadata record ends early")]
    Truncated,
    #[error("metadata record has {0} bytes too many")]
    TrailingBytes(usize),
    #[error("metadata record holds an impossible value for {0}")]
    InvalidValue(&'static str),
}

/// The records as one entry of the metadata log.
pub fn encode_batch(records: &[MetadataRecord]) -> Vec<u8> {
    let mut out = vec![BATCH_FORMAT];
    put_varint(&mut out, records.len() as u64);
    let mut scratch = Vec::new();
    for record in records {
        scratch.clear();
        encode_record(&mut scratch, record);
        put_varint(&mut out, scratch.len() as u64);
        out.extend_from_slice(&scratch);
    }
    out
}

/// The records of one entry of the metadata log.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordError> {
    let mut reader = Reader { bytes };
    let format = reader.u8()?;
    if format != BATCH_FORMAT {
        return Err(RecordError::UnknownFormat(format));
    }
    // A record is at least its length, version and type.
    let count = reader.count(3)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.count(1)?;
        records.push(decode_record(reader.take(length)?)?);
    }
    reader.end()?;
    Ok(records)
}

fn encode_record(out: &mut Vec<u8>, record: &MetadataRecord) {
    out.push(RECORD_VERSION);
    match record {
        MetadataRecord::Cluster { cluster_id } => {
            out.push(CLUSTER);
            put_str(out, cluster_id);
        }
        MetadataRecord::Feature { name, level, epoch } => {
            out.push(FEATURE);
            put_str(out, name);
            out.extend_from_slice(&level.to_be_bytes());
            out.extend_from_slice(&epoch.to_be_bytes());
        }
        MetadataRecord::BrokerRegistration(r) => {
            out.push(BROKER_REGISTRATION);
            encode_registration(out, r);
        }
        MetadataRecord::BrokerUnregistered { broker_id } => {
            out.push(BROKER_UNREGISTERED);
            out.extend_from_slice(&broker_id.0.to_be_bytes());
        }
        MetadataRecord::LeaderEpochsBumped { broker_id } => {
            out.push(LEADER_EPOCHS_BUMPED);
            out.extend_from_slice(&broker_id.0.to_be_bytes());
        }
        MetadataRecord::Topic { topic_id, name } => {
            out.push(TOPIC);
            out.extend_from_slice(topic_id.0.as_bytes());
            put_str(out, name);
        }
        MetadataRecord::RemoveTopic { topic_id } => {
            out.push(REMOVE_TOPIC);
            out.extend_from_slice(topic_id.0.as_bytes());
        }
        MetadataRecord::Partition(r) => {
            out.push(PARTITION);
            encode_partition(out, r);
        }
        MetadataRecord::PartitionChange(r) => {
            out.push(PARTITION_CHANGE);
            encode_partition_change(out, r);
        }
        MetadataRecord::Config {
            resource,
            name,
            value,
        } => {
            out.push(CONFIG);
            encode_resource(out, resource);
            put_str(out, name);
            put_option(out, value.as_ref(), |out, value| put_str(out, value));
        }
        MetadataRecord::ProducerIds { next_producer_id } => {
            out.push(PRODUCER_IDS);
            out.extend_from_slice(&next_producer_id.0.to_be_bytes());
        }
    }
}

fn decode_record(bytes: &[u8]) -> Result<MetadataRecord, RecordError> {
    let mut reader = Reader { bytes };
    let version = reader.u8()?;
    let record_type = reader.u8()?;
    if version != RECORD_VERSION {
        return Err(RecordError::UnknownRecord {
            record_type,
            version,
        });
    }
    let r = &mut reader;
    let record = match record_type {
        CLUSTER => MetadataRecord::Cluster {
            cluster_id: r.str()?,
        },
        FEATURE => MetadataRecord::Feature {
            name: r.str()?,
            level: r.i16()?,
            epoch: r.i64()?,
        },
        BROKER_REGISTRATION => MetadataRecord::BrokerRegistration(decode_registration(r)?),
        BROKER_UNREGISTERED => MetadataRecord::BrokerUnregistered {
            broker_id: r.broker_id()?,
        },
        LEADER_EPOCHS_BUMPED => MetadataRecord::LeaderEpochsBumped {
            broker_id: r.broker_id()?,
        },
        TOPIC => MetadataRecord::Topic {
            topic_id: r.topic_id()?,
            name: r.str()?,
        },
        REMOVE_TOPIC => MetadataRecord::RemoveTopic {
            topic_id: r.topic_id()?,
        },
        PARTITION => MetadataRecord::Partition(decode_partition(r)?),
        PARTITION_CHANGE => MetadataRecord::PartitionChange(decode_partition_change(r)?),
        CONFIG => MetadataRecord::Config {
            resource: decode_resource(r)?,
            name: r.str()?,
            value: r.option(Reader::str)?,
        },
        PRODUCER_IDS => MetadataRecord::ProducerIds {
            next_producer_id: ProducerId(r.i64()?),
        },
        _ => {
            return Err(RecordError::UnknownRecord {
                record_type,
                version,
            });
        }
    };
    reader.end()?;
    Ok(record)
}

fn encode_registration(out: &mut Vec<u8>, r: &BrokerRegistrationRecord) {
    out.extend_from_slice(&r.broker_id.0.to_be_bytes());
    out.extend_from_slice(&r.broker_epoch.0.to_be_bytes());
    out.extend_from_slice(r.incarnation_id.as_bytes());
    put_varint(out, r.endpoints.len() as u64);
    for endpoint in &r.endpoints {
        put_str(out, &endpoint.listener);
        put_str(out, &endpoint.host);
        out.extend_from_slice(&endpoint.port.to_be_bytes());
        out.extend_from_slice(&endpoint.security_protocol.to_be_bytes());
    }
    put_varint(out, r.features.len() as u64);
    for feature in &r.features {
        put_str(out, &feature.name);
        out.extend_from_slice(&feature.min.to_be_bytes());
        out.extend_from_slice(&feature.max.to_be_bytes());
    }
    put_option(out, r.rack.as_ref(), |out, rack| put_str(out, rack));
    put_varint(out, r.log_dirs.len() as u64);
    for directory in &r.log_dirs {
        out.extend_from_slice(directory.as_bytes());
    }
    out.push(u8::from(r.fenced));
}

fn decode_registration(r: &mut Reader<'_>) -> Result<BrokerRegistrationRecord, RecordError> {
    let broker_id = r.broker_id()?;
    let broker_epoch = BrokerEpoch(r.i64()?);
    let incarnation_id = r.uuid()?;
    let count = r.count(6)?;
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        endpoints.push(BrokerEndpoint {
            listener: r.str()?,
            host: r.str()?,
            port: r.u16()?,
            security_protocol: r.i16()?,
        });
    }
    let count = r.count(5)?;
    let mut features = Vec::with_capacity(count);
    for _ in 0..count {
        features.push(FeatureRange {
            name: r.str()?,
            min: r.i16()?,
            max: r.i16()?,
        });
    }
    let rack = r.option(Reader::str)?;
    let count = r.count(16)?;
    let mut log_dirs = Vec::with_capacity(count);
    for _ in 0..count {
        log_dirs.push(r.uuid()?);
    }
    let fenced = r.bool("fenced")?;
    Ok(BrokerRegistrationRecord {
        broker_id,
        broker_epoch,
        incarnation_id,
        endpoints,
        features,
        rack,
        log_dirs,
        fenced,
    })
}

fn encode_partition(out: &mut Vec<u8>, r: &PartitionRecord) {
    out.extend_from_slice(r.topic_id.0.as_bytes());
    out.extend_from_slice(&r.partition.to_be_bytes());
    put_brokers(out, &r.replicas);
    put_brokers(out, &r.isr);
    out.extend_from_slice(&r.leader.0.to_be_bytes());
    out.extend_from_slice(&r.leader_epoch.0.to_be_bytes());
    out.extend_from_slice(&r.partition_epoch.0.to_be_bytes());
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionRecord, RecordError> {
    Ok(PartitionRecord {
        topic_id: r.topic_id()?,
        partition: r.partition()?,
        replicas: r.brokers()?,
        isr: r.brokers()?,
        leader: r.broker_id()?,
        leader_epoch: LeaderEpoch(r.i32()?),
        partition_epoch: PartitionEpoch(r.i32()?),
    })
}

fn encode_partition_change(out: &mut Vec<u8>, r: &PartitionChangeRecord) {
    out.extend_from_slice(r.topic_id.0.as_bytes());
    out.extend_from_slice(&r.partition.to_be_bytes());
    put_brokers(out, &r.isr);
    out.extend_from_slice(&r.leader.0.to_be_bytes());
    out.extend_from_slice(&r.leader_epoch.0.to_be_bytes());
    out.extend_from_slice(&r.partition_epoch.0.to_be_bytes());
}

fn decode_partition_change(r: &mut Reader<'_>) -> Result<PartitionChangeRecord, RecordError> {
    Ok(PartitionChangeRecord {
        topic_id: r.topic_id()?,
        partition: r.partition()?,
        isr: r.brokers()?,
        leader: r.broker_id()?,
        leader_epoch: LeaderEpoch(r.i32()?),
        partition_epoch: PartitionEpoch(r.i32()?),
    })
}

fn encode_resource(out: &mut Vec<u8>, resource: &ConfigResource) {
    match resource {
        ConfigResource::Topic(name) => {
            out.push(RESOURCE_TOPIC);
            put_str(out, name);
        }
        ConfigResource::Broker(id) => {
            out.push(RESOURCE_BROKER);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        ConfigResource::BrokerDefault => out.push(RESOURCE_BROKER_DEFAULT),
        ConfigResource::Group(name) => {
            out.push(RESOURCE_GROUP);
            put_str(out, name);
        }
    }
}

fn decode_resource(r: &mut Reader<'_>) -> Result<ConfigResource, RecordError> {
    match r.u8()? {
        RESOURCE_TOPIC => Ok(ConfigResource::Topic(r.str()?)),
        RESOURCE_BROKER => Ok(ConfigResource::Broker(r.broker_id()?)),
        RESOURCE_BROKER_DEFAULT => Ok(ConfigResource::BrokerDefault),
        RESOURCE_GROUP => Ok(ConfigResource::Group(r.str()?)),
        _ => Err(RecordError::InvalidValue("resource type")),
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

fn put_brokers(out: &mut Vec<u8>, brokers: &[BrokerId]) {
    put_varint(out, brokers.len() as u64);
    for broker in brokers {
        out.extend_from_slice(&broker.0.to_be_bytes());
    }
}

/// Walks bytes front to back; every read is checked against what is left.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(RecordError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(RecordError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                return Err(RecordError::InvalidValue("varint"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::InvalidValue("varint"))
    }

    /// A number of elements of at least `size_bytes_min` each, checked against the bytes that are
    /// left, so that room for them may be allocated.
    pub(crate) fn count(&mut self, size_bytes_min: usize) -> Result<usize, RecordError> {
        let count = self.varint()?;
        let possible = self.bytes.len() / size_bytes_min;
        match usize::try_from(count) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(RecordError::Truncated),
        }
    }

    pub(crate) fn str(&mut self) -> Result<Arc<str>, RecordError> {
        let length = self.count(1)?;
        let text = std::str::from_utf8(self.take(length)?);
        Ok(Arc::from(
            text.map_err(|_| RecordError::InvalidValue("text"))?,
        ))
    }

    fn bool(&mut self, what: &'static str) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::InvalidValue(what)),
        }
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        Ok(if self.bool("presence")? {
            Some(read(self)?)
        } else {
            None
        })
    }

    fn uuid(&mut self) -> Result<Uuid, RecordError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn topic_id(&mut self) -> Result<TopicId, RecordError> {
        Ok(TopicId(self.uuid()?))
    }

    fn broker_id(&mut self) -> Result<BrokerId, RecordError> {
        Ok(BrokerId(self.i32()?))
    }

    fn partition(&mut self) -> Result<i32, RecordError> {
        let partition = self.i32()?;
        if partition < 0 {
            return Err(RecordError::InvalidValue("partition"));
        }
        Ok(partition)
    }

    fn brokers(&mut self) -> Result<Vec<BrokerId>, RecordError> {
        let count = self.count(4)?;
        let mut brokers = Vec::with_capacity(count);
        for _ in 0..count {
            brokers.push(self.broker_id()?);
        }
        Ok(brokers)
    }

    pub(crate) fn end(&self) -> Result<(), RecordError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(RecordError::TrailingBytes(left)),
        }
    }
}
