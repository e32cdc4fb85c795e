//! The Metadata request, read in place: a client may name thousands of topics in two bytes and a
//! few letters each, and as structs these would take many times the size of its frame.
//!
//! The guard walks the body first, so what follows cannot fail on lengths; nothing is allocated,
//! and the topics are read anew each time they are asked for.

use crate::error::DecodeError;
use crate::guard::{Budget, check_request};
use crate::types::TopicId;
use crate::wire::Reader;

/// The API key of Metadata.
pub const METADATA_KEY: i16 = 3;
const ALLOW_CREATION_FROM: i16 = 4;
const OPERATIONS_FROM: i16 = 8;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_ID_FROM: i16 = 10;
const NO_CLUSTER_OPERATIONS_FROM: i16 = 11;

/// A Metadata request, versions 0 to 13.
#[derive(Clone, Copy, Debug)]
pub struct MetadataView<'a> {
    body: &'a [u8],
    version: i16,
    /// How many topics, and where they begin; `None` for a null array.
    topics: Option<(usize, usize)>,
    /// True where the version cannot say.
    pub allow_auto_topic_creation: bool,
    pub include_cluster_authorized_operations: bool,
    pub include_topic_authorized_operations: bool,
}

/// One topic of the request, by name or by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedTopic<'a> {
    /// [`TopicId::ZERO`] if not given; from version 10.
    pub topic_id: TopicId,
    pub name: Option<&'a str>,
}

impl<'a> MetadataView<'a> {
    pub fn parse(body: &'a [u8], version: i16) -> Result<MetadataView<'a>, DecodeError> {
        // Nothing will be allocated, so elements need no memory budget; their number is bounded.
        let budget = Budget {
            memory_per_byte: u64::MAX,
            ..Budget::default()
        };
        check_request(METADATA_KEY, version, body, &budget)?;
        let mut reader = Reader::new(body);
        let count = reader.bytes_len(version >= FLEXIBLE_FROM)?;
        let topics = count.map(|count| (count, reader.position()));
        for _ in 0..count.unwrap_or(0) {
            AskedTopic::read(&mut reader, version)?;
        }
        let mut flag = |given: bool, default: bool| match given {
            true => reader.i8().map(|byte| byte != 0),
            false => Ok(default),
        };
        let cluster = (OPERATIONS_FROM..NO_CLUSTER_OPERATIONS_FROM).contains(&version);
        Ok(MetadataView {
            body,
            version,
            topics,
            allow_auto_topic_creation: flag(version >= ALLOW_CREATION_FROM, true)?,
            include_cluster_authorized_operations: flag(cluster, false)?,
            include_topic_authorized_operations: flag(version >= OPERATIONS_FROM, false)?,
        })
    }

    /// How many topics are named, each counted as often as it is; `None` when null is asked for.
    pub fn topic_count(&self) -> Option<usize> {
        self.topics.map(|(count, _)| count)
    }

    /// The topics in the order of the request.
    pub fn topics(&self) -> impl Iterator<Item = AskedTopic<'a>> {
        let (count, at) = self.topics.unwrap_or((0, self.body.len()));
        let mut reader = Reader::at(self.body, at);
        let version = self.version;
        (0..count).map_while(move |_| AskedTopic::read(&mut reader, version).ok())
    }
}

impl<'a> AskedTopic<'a> {
    fn read(reader: &mut Reader<'a>, version: i16) -> Result<AskedTopic<'a>, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let mut topic_id = TopicId::ZERO;
        if version >= TOPIC_ID_FROM {
            topic_id = reader.topic_id()?;
        }
        let name = reader.nullable_string(flexible)?;
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(AskedTopic { topic_id, name })
    }
}
