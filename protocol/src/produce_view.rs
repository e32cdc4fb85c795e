//! The Produce request, walked by hand: where each partition's records lie, and nothing copied.
//!
//! A view holds positions into the request body, flat in two reusable vectors. Record bytes are not
//! looked at. What a view allocates stays within [`Budget::allowed_bytes`].

use std::ops::Range;

use crate::error::DecodeError;
use crate::guard::Budget;
use crate::types::TopicId;
use crate::wire::Reader;

/// The API key of Produce.
pub const PRODUCE_KEY: i16 = 0;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_ID_FROM: i16 = 13;
/// Index and record length.
const PARTITION_MIN_BYTES: usize = 5;
/// An empty name and no partitions.
const TOPIC_MIN_BYTES: usize = 2;

/// A parsed Produce request, versions 3 to 13.
#[derive(Clone, Debug, Default)]
pub struct ProduceView {
    pub acks: i16,
    pub timeout_ms: i32,
    transactional_id: Option<Range<usize>>,
    topics: Vec<ProduceTopic>,
    partitions: Vec<ProducePartition>,
}

/// One topic of the request, named up to version 12 and by id from version 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    name_at: u32,
    name_len: u32,
    pub topic_id: TopicId,
    first_partition: u32,
    partition_count: u32,
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub index: i32,
    records_at: u32,
    /// `u32::MAX` is null.
    records_len: u32,
}

impl ProduceTopic {
    /// Where the name lies in the body; empty when the topic is given by id.
    pub fn name_range(&self) -> Range<usize> {
        self.name_at as usize..(self.name_at + self.name_len) as usize
    }

    /// The name, given the body the view was parsed from.
    pub fn name<'b>(&self, body: &'b [u8]) -> &'b str {
        text(body, self.name_range())
    }

    pub fn partition_count(&self) -> usize {
        self.partition_count as usize
    }
}

impl ProducePartition {
    /// Where the records lie in the body; `None` is null. Ranges ascend through the request.
    pub fn records(&self) -> Option<Range<usize>> {
        let start = self.records_at as usize;
        (self.records_len != u32::MAX).then(|| start..start + self.records_len as usize)
    }
}

impl ProduceView {
    pub fn parse(body: &[u8], version: i16) -> Result<ProduceView, DecodeError> {
        let mut view = ProduceView::default();
        view.parse_into(body, version)?;
        Ok(view)
    }

    /// Like [`ProduceView::parse`], into the vectors of an earlier request.
    pub fn parse_into(&mut self, body: &[u8], version: i16) -> Result<(), DecodeError> {
        self.topics.clear();
        self.partitions.clear();
        if !(3..=TOPIC_ID_FROM).contains(&version) {
            return Err(DecodeError::UnsupportedVersion {
                key: PRODUCE_KEY,
                version,
            });
        }
        let flexible = version >= FLEXIBLE_FROM;
        let mut reader = Reader::new(body);
        self.transactional_id = reader.nullable_string(flexible)?.map(|id| {
            let end = reader.position();
            end - id.len()..end
        });
        self.acks = reader.i16()?;
        self.timeout_ms = reader.i32()?;
        let topic_count = reader.array_len(flexible, TOPIC_MIN_BYTES)?;
        let mut memory = Memory::new(body.len());
        memory.add(topic_count, size_of::<ProduceTopic>())?;
        self.topics.reserve_exact(topic_count);
        for _ in 0..topic_count {
            self.parse_topic(&mut reader, version, &mut memory)?;
        }
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(())
    }

    fn parse_topic(
        &mut self,
        reader: &mut Reader<'_>,
        version: i16,
        memory: &mut Memory,
    ) -> Result<(), DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let (mut name_at, mut name_len, mut topic_id) = (0, 0, TopicId::ZERO);
        if version >= TOPIC_ID_FROM {
            topic_id = reader.topic_id()?;
        } else {
            name_len = reader.string(flexible)?.len() as u32;
            name_at = reader.position() as u32 - name_len;
        }
        let count = reader.array_len(flexible, PARTITION_MIN_BYTES)?;
        // A vector that grows by doubling may have twice the room it needs.
        memory.add(count, 2 * size_of::<ProducePartition>())?;
        let first_partition = self.partitions.len() as u32;
        self.partitions.reserve(count);
        for _ in 0..count {
            let index = reader.i32()?;
            let len = reader.bytes_len(flexible)?;
            let records_at = reader.position() as u32;
            let records_len = match len {
                Some(len) => reader.take(len)?.len() as u32,
                None => u32::MAX,
            };
            self.partitions.push(ProducePartition {
                index,
                records_at,
                records_len,
            });
            if flexible {
                reader.skip_tagged_fields()?;
            }
        }
        if flexible {
            reader.skip_tagged_fields()?;
        }
        let partition_count = count as u32;
        let topic = ProduceTopic {
            name_at,
            name_len,
            topic_id,
            first_partition,
            partition_count,
        };
        self.topics.push(topic);
        Ok(())
    }

    pub fn topics(&self) -> &[ProduceTopic] {
        &self.topics
    }

    pub fn partitions(&self, topic: &ProduceTopic) -> &[ProducePartition] {
        let first = topic.first_partition as usize;
        &self.partitions[first..first + topic.partition_count as usize]
    }

    /// The partitions of all topics, in order.
    pub fn all_partitions(&self) -> &[ProducePartition] {
        &self.partitions
    }

    /// The transactional id, given the body the view was parsed from.
    pub fn transactional_id<'b>(&self, body: &'b [u8]) -> Option<&'b str> {
        self.transactional_id.clone().map(|range| text(body, range))
    }
}

/// Text that was validated when the range was made; empty if `body` is not that body.
pub(crate) fn text(body: &[u8], range: Range<usize>) -> &str {
    body.get(range)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}

/// Adds up what a hand-written parser is about to allocate.
pub(crate) struct Memory {
    allowed: u64,
    needed: u64,
    elements: usize,
    elements_max: u32,
}

impl Memory {
    pub(crate) fn new(body_bytes: usize) -> Memory {
        let budget = Budget::default();
        let allowed = budget.allowed_bytes(body_bytes);
        Memory {
            allowed,
            needed: 0,
            elements: 0,
            elements_max: budget.elements_max,
        }
    }

    pub(crate) fn add(&mut self, count: usize, size: usize) -> Result<(), DecodeError> {
        self.elements += count;
        if self.elements > self.elements_max as usize {
            return Err(DecodeError::TooManyElements {
                max: self.elements_max,
            });
        }
        self.needed += (count * size) as u64;
        if self.needed > self.allowed {
            let (needed, allowed) = (self.needed, self.allowed);
            return Err(DecodeError::MemoryBudget { needed, allowed });
        }
        Ok(())
    }
}
