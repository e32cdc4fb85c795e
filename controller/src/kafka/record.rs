//! The bytes of Kafka's metadata records: a frame version, the record's number and version, and a
//! body with compact lengths and tagged fields. Only what an adoption needs is read.

use ottla_protocol::error::DecodeError;
use ottla_protocol::types::{ProducerId, TopicId};
use ottla_protocol::wire::Reader;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const GROUP: i8 = 32;

const FRAME_VERSION: u32 = 1;
const LEADER_UNCHANGED: i32 = -2;

/// Why a metadata record cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaRecordError {
    #[error("the record is malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the record's frame has version {0}")]
    Frame(u32),
    #[error("record {key} has version {version}, which only a newer Kafka writes")]
    Version { key: u32, version: u32 },
    #[error("record {0} is not known; only a newer Kafka writes it")]
    Unknown(u32),
}

/// One partition as Kafka assigns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub replicas: Vec<i32>,
    pub leader: i32,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    /// Replicas are being added or removed.
    pub reassigned: bool,
    /// The `directory.id` of each replica; empty when nothing says.
    pub directories: Vec<TopicId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartitionChange {
    leader: Option<i32>,
    replicas: Option<Vec<i32>>,
    removing: Option<Vec<i32>>,
    adding: Option<Vec<i32>>,
    directories: Option<Vec<TopicId>>,
}

impl PartitionChange {
    /// Each change counts as a new partition epoch, and a new leader as a new leader epoch.
    pub(super) fn apply(self, partition: &mut Partition) {
        partition.partition_epoch += 1;
        if let Some(leader) = self.leader {
            partition.leader = leader;
            partition.leader_epoch += 1;
        }
        if let Some(replicas) = self.replicas {
            partition.replicas = replicas;
        }
        if let Some(directories) = self.directories {
            partition.directories = directories;
        }
        let moving = |ids: Option<Vec<i32>>| ids.map(|ids| !ids.is_empty());
        let (removing, adding) = (moving(self.removing), moving(self.adding));
        if removing.is_some() || adding.is_some() {
            partition.reassigned = removing == Some(true) || adding == Some(true);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KafkaRecord {
    Topic {
        id: TopicId,
        name: String,
    },
    RemoveTopic {
        id: TopicId,
    },
    Partition {
        topic: TopicId,
        index: i32,
        partition: Partition,
    },
    PartitionChange {
        topic: TopicId,
        index: i32,
        change: PartitionChange,
    },
    Config {
        kind: i8,
        resource: String,
        name: String,
        value: Option<String>,
    },
    Feature {
        name: String,
        level: i16,
    },
    ProducerIds {
        next: ProducerId,
    },
    Broker {
        id: i32,
    },
    UnregisterBroker {
        id: i32,
    },
    Controller {
        id: i32,
    },
    BeginTransaction,
    EndTransaction,
    AbortTransaction,
    /// Something that we do not have; what it is about.
    Other(&'static str),
    /// One of these is gone again.
    NoOther(&'static str),
    /// Of no consequence here.
    Nothing,
}

pub(super) fn decode(value: &[u8]) -> Result<KafkaRecord, KafkaRecordError> {
    let mut body = Reader::new(value);
    let frame = body.unsigned_varint()?;
    if frame != FRAME_VERSION {
        return Err(KafkaRecordError::Frame(frame));
    }
    let (key, version) = (body.unsigned_varint()?, body.unsigned_varint()?);
    let newest = match key {
        0 => 4,
        3 | 5 => 2,
        _ => u32::MAX,
    };
    if version > newest || (matches!(key, 2 | 4 | 9 | 12 | 15) && version > 0) {
        return Err(KafkaRecordError::Version { key, version });
    }
    decode_body(key, version, &mut body)
}

fn decode_body(
    key: u32,
    version: u32,
    body: &mut Reader<'_>,
) -> Result<KafkaRecord, KafkaRecordError> {
    Ok(match key {
        0 => KafkaRecord::Broker { id: body.i32()? },
        1 => KafkaRecord::UnregisterBroker { id: body.i32()? },
        2 => {
            let name = body.string(true)?.to_owned();
            let id = body.topic_id()?;
            KafkaRecord::Topic { id, name }
        }
        3 => partition(version, body)?,
        4 => KafkaRecord::Config {
            kind: body.i8()?,
            resource: body.string(true)?.to_owned(),
            name: body.string(true)?.to_owned(),
            value: body.nullable_string(true)?.map(str::to_owned),
        },
        5 => partition_change(body)?,
        9 => KafkaRecord::RemoveTopic {
            id: body.topic_id()?,
        },
        12 => KafkaRecord::Feature {
            name: body.string(true)?.to_owned(),
            level: body.i16()?,
        },
        15 => {
            let (_broker, _epoch) = (body.i32()?, body.i64()?);
            let next = ProducerId(body.i64()?);
            KafkaRecord::ProducerIds { next }
        }
        23 => KafkaRecord::BeginTransaction,
        24 => KafkaRecord::EndTransaction,
        25 => KafkaRecord::AbortTransaction,
        27 => KafkaRecord::Controller { id: body.i32()? },
        10 => KafkaRecord::Other("delegation tokens"),
        11 => KafkaRecord::Other("SCRAM credentials"),
        14 => KafkaRecord::Other("client quotas"),
        18 => KafkaRecord::Other("access control lists"),
        19 => KafkaRecord::NoOther("access control lists"),
        22 => KafkaRecord::NoOther("SCRAM credentials"),
        26 => KafkaRecord::NoOther("delegation tokens"),
        7 | 8 | 17 | 20 | 21 | 28 => KafkaRecord::Nothing,
        unknown => return Err(KafkaRecordError::Unknown(unknown)),
    })
}

fn partition(version: u32, body: &mut Reader<'_>) -> Result<KafkaRecord, KafkaRecordError> {
    let index = body.i32()?;
    let topic = body.topic_id()?;
    let replicas = ids(body)?.unwrap_or_default();
    let _isr = ids(body)?;
    let removing = ids(body)?.unwrap_or_default();
    let adding = ids(body)?.unwrap_or_default();
    let (leader, leader_epoch, partition_epoch) = (body.i32()?, body.i32()?, body.i32()?);
    let directories = match version {
        0 => Vec::new(),
        _ => uuids(body)?.unwrap_or_default(),
    };
    let partition = Partition {
        replicas,
        leader,
        leader_epoch,
        partition_epoch,
        reassigned: !removing.is_empty() || !adding.is_empty(),
        directories,
    };
    Ok(KafkaRecord::Partition {
        topic,
        index,
        partition,
    })
}

fn partition_change(body: &mut Reader<'_>) -> Result<KafkaRecord, KafkaRecordError> {
    let index = body.i32()?;
    let topic = body.topic_id()?;
    let mut change = PartitionChange::default();
    body.tagged_fields(|tag, value| {
        match tag {
            1 => change.leader = Some(value.i32()?).filter(|id| *id != LEADER_UNCHANGED),
            2 => change.replicas = ids(value)?,
            3 => change.removing = ids(value)?,
            4 => change.adding = ids(value)?,
            8 => change.directories = uuids(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(KafkaRecord::PartitionChange {
        topic,
        index,
        change,
    })
}

fn ids(body: &mut Reader<'_>) -> Result<Option<Vec<i32>>, DecodeError> {
    list(body, 4, Reader::i32)
}

fn uuids(body: &mut Reader<'_>) -> Result<Option<Vec<TopicId>>, DecodeError> {
    list(body, 16, Reader::topic_id)
}

fn list<'a, T>(
    body: &mut Reader<'a>,
    size_bytes: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<Vec<T>>, DecodeError> {
    let Some(count) = body.bytes_len(true)? else {
        return Ok(None);
    };
    if count > body.remaining() / size_bytes {
        return Err(DecodeError::CountBeyondBody { count });
    }
    (0..count)
        .map(|_| read(body))
        .collect::<Result<_, _>>()
        .map(Some)
}
