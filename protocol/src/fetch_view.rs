//! The Fetch request, parsed by hand into flat, reusable vectors.
//!
//! Names are positions in the body; everything else is copied out, for a fetch may wait long after
//! its frame is gone. What parsing allocates stays within [`crate::guard::Budget::allowed_bytes`].

use std::ops::Range;

use crate::error::DecodeError;
use crate::produce_view::{Memory, text};
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicId};
use crate::wire::Reader;

/// The API key of Fetch.
pub const FETCH_KEY: i16 = 1;
const MIN_VERSION: i16 = 4;
const MAX_VERSION: i16 = 18;
const LOG_START_OFFSET_FROM: i16 = 5;
const SESSION_FROM: i16 = 7;
const LEADER_EPOCH_FROM: i16 = 9;
const RACK_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_ID_FROM: i16 = 13;
const REPLICA_STATE_FROM: i16 = 15;
const DIRECTORY_ID_FROM: i16 = 17;
const HIGH_WATERMARK_FROM: i16 = 18;
/// Partition, offset and size limit.
const PARTITION_MIN_BYTES: usize = 16;
/// An empty name and no partitions.
const TOPIC_MIN_BYTES: usize = 2;

/// A parsed Fetch request, versions 4 to 18.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// [`BrokerId::NONE`] for consumers; from the ReplicaState tag in version 15 and later.
    pub replica_id: BrokerId,
    /// -1 if not given; from version 15.
    pub replica_epoch: i64,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed. Not checked here.
    pub isolation_level: i8,
    /// 0 without a session; from version 7.
    pub session_id: i32,
    /// -1 without a session; from version 7.
    pub session_epoch: i32,
    topics: Vec<FetchTopic>,
    partitions: Vec<FetchPartition>,
    forgotten: Vec<ForgottenTopic>,
    forgotten_partitions: Vec<i32>,
    rack_id: Range<usize>,
    cluster_id: Option<Range<usize>>,
}

/// One topic, named up to version 12 and by id from version 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    name_at: u32,
    name_len: u32,
    pub topic_id: TopicId,
    first_partition: u32,
    partition_count: u32,
}

/// A topic whose partitions leave the fetch session; from version 7.
pub type ForgottenTopic = FetchTopic;

/// One partition to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub partition: i32,
    /// [`LeaderEpoch::NONE`] if not given; from version 9.
    pub current_leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// Set by followers; from version 12.
    pub last_fetched_epoch: LeaderEpoch,
    /// Set by followers, -1 otherwise; from version 5.
    pub log_start_offset: Offset,
    pub partition_max_bytes: i32,
    /// Zero if not given; from version 17.
    pub replica_directory_id: uuid::Uuid,
    /// `i64::MAX` if the replica does not tell; from version 18.
    pub high_watermark: Offset,
}

impl FetchTopic {
    /// Where the name lies in the body; empty when the topic is given by id.
    pub fn name_range(&self) -> Range<usize> {
        self.name_at as usize..(self.name_at + self.name_len) as usize
    }

    /// The name, given the body the request was parsed from.
    pub fn name<'b>(&self, body: &'b [u8]) -> &'b str {
        text(body, self.name_range())
    }
}

impl Default for FetchRequest {
    fn default() -> Self {
        FetchRequest {
            replica_id: BrokerId::NONE,
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            partitions: Vec::new(),
            forgotten: Vec::new(),
            forgotten_partitions: Vec::new(),
            rack_id: 0..0,
            cluster_id: None,
        }
    }
}

impl FetchRequest {
    pub fn parse(body: &[u8], version: i16) -> Result<FetchRequest, DecodeError> {
        let mut request = FetchRequest::default();
        request.parse_into(body, version)?;
        Ok(request)
    }

    /// Like [`FetchRequest::parse`], into the vectors of an earlier request.
    pub fn parse_into(&mut self, body: &[u8], version: i16) -> Result<(), DecodeError> {
        self.reset();
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(DecodeError::UnsupportedVersion {
                key: FETCH_KEY,
                version,
            });
        }
        let flexible = version >= FLEXIBLE_FROM;
        let mut reader = Reader::new(body);
        if version < REPLICA_STATE_FROM {
            self.replica_id = BrokerId(reader.i32()?);
        }
        self.max_wait_ms = reader.i32()?;
        self.min_bytes = reader.i32()?;
        self.max_bytes = reader.i32()?;
        self.isolation_level = reader.i8()?;
        if version >= SESSION_FROM {
            self.session_id = reader.i32()?;
            self.session_epoch = reader.i32()?;
        }
        let mut memory = Memory::new(body.len());
        self.parse_topics(&mut reader, version, &mut memory)?;
        if version >= SESSION_FROM {
            self.parse_forgotten(&mut reader, version, &mut memory)?;
        }
        if version >= RACK_FROM {
            let len = reader.string(flexible)?.len();
            self.rack_id = reader.position() - len..reader.position();
        }
        if flexible {
            self.parse_tags(&mut reader, version)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        let mut topics = std::mem::take(&mut self.topics);
        let mut partitions = std::mem::take(&mut self.partitions);
        let mut forgotten = std::mem::take(&mut self.forgotten);
        let mut forgotten_partitions = std::mem::take(&mut self.forgotten_partitions);
        topics.clear();
        partitions.clear();
        forgotten.clear();
        forgotten_partitions.clear();
        *self = FetchRequest {
            topics,
            partitions,
            forgotten,
            forgotten_partitions,
            ..FetchRequest::default()
        };
    }

    fn parse_topics(
        &mut self,
        reader: &mut Reader<'_>,
        version: i16,
        memory: &mut Memory,
    ) -> Result<(), DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let count = reader.array_len(flexible, TOPIC_MIN_BYTES)?;
        memory.add(count, size_of::<FetchTopic>())?;
        self.topics.reserve_exact(count);
        for _ in 0..count {
            let mut topic = parse_topic_name(reader, version)?;
            let count = reader.array_len(flexible, PARTITION_MIN_BYTES)?;
            // A vector that grows by doubling may have twice the room it needs.
            memory.add(count, 2 * size_of::<FetchPartition>())?;
            topic.first_partition = self.partitions.len() as u32;
            topic.partition_count = count as u32;
            self.partitions.reserve(count);
            for _ in 0..count {
                self.partitions.push(parse_partition(reader, version)?);
            }
            if flexible {
                reader.skip_tagged_fields()?;
            }
            self.topics.push(topic);
        }
        Ok(())
    }

    fn parse_forgotten(
        &mut self,
        reader: &mut Reader<'_>,
        version: i16,
        memory: &mut Memory,
    ) -> Result<(), DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let count = reader.array_len(flexible, TOPIC_MIN_BYTES)?;
        memory.add(count, size_of::<ForgottenTopic>())?;
        self.forgotten.reserve_exact(count);
        for _ in 0..count {
            let mut topic = parse_topic_name(reader, version)?;
            let count = reader.array_len(flexible, size_of::<i32>())?;
            memory.add(count, 2 * size_of::<i32>())?;
            topic.first_partition = self.forgotten_partitions.len() as u32;
            topic.partition_count = count as u32;
            self.forgotten_partitions.reserve(count);
            for _ in 0..count {
                self.forgotten_partitions.push(reader.i32()?);
            }
            if flexible {
                reader.skip_tagged_fields()?;
            }
            self.forgotten.push(topic);
        }
        Ok(())
    }

    fn parse_tags(&mut self, reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
        // A value's position in the body: its own reader starts where the value does.
        let mut cluster_id_len = None;
        let mut cluster_id_end = 0;
        let (mut replica_id, mut replica_epoch) = (self.replica_id, self.replica_epoch);
        reader.tagged_fields_at(|tag, start, value| {
            match tag {
                0 => {
                    cluster_id_len = value.nullable_string(true)?.map(str::len);
                    cluster_id_end = start + value.position();
                }
                1 if version < REPLICA_STATE_FROM => return Err(DecodeError::TagVersion { tag }),
                1 => {
                    replica_id = BrokerId(value.i32()?);
                    replica_epoch = value.i64()?;
                    value.skip_tagged_fields()?;
                }
                _ => return Ok(()),
            }
            value.end_of_tag(tag)
        })?;
        self.cluster_id = cluster_id_len.map(|len| cluster_id_end - len..cluster_id_end);
        (self.replica_id, self.replica_epoch) = (replica_id, replica_epoch);
        Ok(())
    }

    pub fn topics(&self) -> &[FetchTopic] {
        &self.topics
    }

    pub fn partitions(&self, topic: &FetchTopic) -> &[FetchPartition] {
        let first = topic.first_partition as usize;
        &self.partitions[first..first + topic.partition_count as usize]
    }

    /// The topics with partitions that leave the session.
    pub fn forgotten(&self) -> &[ForgottenTopic] {
        &self.forgotten
    }

    pub fn forgotten_partitions(&self, topic: &ForgottenTopic) -> &[i32] {
        let first = topic.first_partition as usize;
        &self.forgotten_partitions[first..first + topic.partition_count as usize]
    }

    /// The consumer's rack, given the body the request was parsed from; empty if not given.
    pub fn rack_id<'b>(&self, body: &'b [u8]) -> &'b str {
        text(body, self.rack_id.clone())
    }

    /// The cluster id, given the body the request was parsed from.
    pub fn cluster_id<'b>(&self, body: &'b [u8]) -> Option<&'b str> {
        self.cluster_id.clone().map(|range| text(body, range))
    }
}

fn parse_topic_name(reader: &mut Reader<'_>, version: i16) -> Result<FetchTopic, DecodeError> {
    let (mut name_at, mut name_len, mut topic_id) = (0, 0, TopicId::ZERO);
    if version >= TOPIC_ID_FROM {
        topic_id = reader.topic_id()?;
    } else {
        name_len = reader.string(version >= FLEXIBLE_FROM)?.len() as u32;
        name_at = reader.position() as u32 - name_len;
    }
    Ok(FetchTopic {
        name_at,
        name_len,
        topic_id,
        first_partition: 0,
        partition_count: 0,
    })
}

fn parse_partition(reader: &mut Reader<'_>, version: i16) -> Result<FetchPartition, DecodeError> {
    let mut parsed = FetchPartition {
        partition: reader.i32()?,
        current_leader_epoch: LeaderEpoch::NONE,
        fetch_offset: Offset::ZERO,
        last_fetched_epoch: LeaderEpoch::NONE,
        log_start_offset: Offset(-1),
        partition_max_bytes: 0,
        replica_directory_id: uuid::Uuid::nil(),
        high_watermark: Offset(i64::MAX),
    };
    if version >= LEADER_EPOCH_FROM {
        parsed.current_leader_epoch = LeaderEpoch(reader.i32()?);
    }
    parsed.fetch_offset = Offset(reader.i64()?);
    if version >= FLEXIBLE_FROM {
        parsed.last_fetched_epoch = LeaderEpoch(reader.i32()?);
    }
    if version >= LOG_START_OFFSET_FROM {
        parsed.log_start_offset = Offset(reader.i64()?);
    }
    parsed.partition_max_bytes = reader.i32()?;
    if version >= FLEXIBLE_FROM {
        reader.tagged_fields(|tag, value| {
            match tag {
                0 if version < DIRECTORY_ID_FROM => return Err(DecodeError::TagVersion { tag }),
                1 if version < HIGH_WATERMARK_FROM => return Err(DecodeError::TagVersion { tag }),
                0 => {
                    parsed.replica_directory_id = value.topic_id()?.0;
                }
                1 => {
                    parsed.high_watermark = Offset(value.i64()?);
                }
                _ => return Ok(()),
            }
            value.end_of_tag(tag)
        })?;
    }
    Ok(parsed)
}
