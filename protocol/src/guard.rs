//! The wire guard: walks a message's shape before anything decodes it, and allocates nothing.
//!
//! kafka-protocol reserves memory for whatever count a peer claims, and a failed allocation ends
//! the process; so no body reaches its decoders before [`check_request`] or [`check_response`]
//! accepted it. The guard follows the shapes generated from Kafka's message schemas and refuses:
//! lengths that are negative or beyond the end, counts the bytes left cannot hold, null where the
//! schema has none, text that is not UTF-8, tags that repeat or do not ascend, known tags whose
//! value does not fill their size, and more elements or tagged fields than the [`Budget`] allows.
//! Bytes after the last field are accepted and ignored.
//!
//! What decoding will allocate is added up from the size in memory of each array's element, so a
//! frame of n bytes takes at most 64 KiB + 8n. What clients send stays below: a ListOffsets
//! partition is 40 bytes in memory for 12 on the wire. The first 64 KiB carry about a thousand
//! elements of the worst kind, and beyond them only arrays of thousands of very short names would
//! be refused: 72 bytes for two and the name of a Metadata topic, which is why brokers read that
//! request in place ([`crate::metadata_view`]), and about 90 for four and the name of a resource in
//! DescribeConfigs. Fetch and Produce have codecs of their own with the same limit.
//!
//! Invariant, tested with random and damaged messages of every API and version: what the guard
//! accepts, the codec decodes, within the memory the guard computed.

use crate::error::DecodeError;
use crate::wire::Reader;

pub mod sample;
mod shape;
mod shapes;
#[cfg(test)]
mod tests;

use shape::{Array, Field, Item, Kind, Message};

/// What decoding one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All arrays of the message together.
    pub elements_max: u32,
    /// One section of tagged fields.
    pub tagged_fields_max: u32,
    /// Memory allowed for any message ...
    pub memory_floor_bytes: u64,
    /// ... and in addition for each of its bytes.
    pub memory_per_byte: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            elements_max: 1_000_000,
            tagged_fields_max: crate::wire::MAX_TAGGED_FIELDS,
            memory_floor_bytes: 64 * 1024,
            memory_per_byte: 8,
        }
    }
}

impl Budget {
    /// The memory a body of this size may take once decoded.
    pub fn allowed_bytes(&self, body_bytes: usize) -> u64 {
        let per_byte = self.memory_per_byte.saturating_mul(body_bytes as u64);
        self.memory_floor_bytes.saturating_add(per_byte)
    }
}

/// What decoding an accepted message costs at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Elements of all arrays.
    pub elements: u32,
    /// Bytes allocated, apart from the message's own struct.
    pub memory_bytes: u64,
}

/// Accepts a request's body if decoding it is safe and within the budget.
pub fn check_request(
    key: i16,
    version: i16,
    body: &[u8],
    budget: &Budget,
) -> Result<(), DecodeError> {
    measure_request(key, version, body, budget).map(drop)
}

/// Like [`check_request`], for the body of a response.
pub fn check_response(
    key: i16,
    version: i16,
    body: &[u8],
    budget: &Budget,
) -> Result<(), DecodeError> {
    measure_response(key, version, body, budget).map(drop)
}

/// Like [`check_request`], and tells what decoding will cost.
pub fn measure_request(
    key: i16,
    version: i16,
    body: &[u8],
    budget: &Budget,
) -> Result<Cost, DecodeError> {
    walk(shapes::REQUESTS, key, version, body, budget)
}

/// Like [`check_response`], and tells what decoding will cost.
pub fn measure_response(
    key: i16,
    version: i16,
    body: &[u8],
    budget: &Budget,
) -> Result<Cost, DecodeError> {
    walk(shapes::RESPONSES, key, version, body, budget)
}

fn find(messages: &'static [Message], key: i16) -> Option<&'static Message> {
    let index = messages
        .binary_search_by_key(&key, |message| message.key)
        .ok()?;
    Some(&messages[index])
}

fn walk(
    messages: &'static [Message],
    key: i16,
    version: i16,
    body: &[u8],
    budget: &Budget,
) -> Result<Cost, DecodeError> {
    let message = find(messages, key).ok_or(DecodeError::UnknownApi { key })?;
    if !crate::api::facts(key).is_some_and(|facts| facts.has_version(version)) {
        return Err(DecodeError::UnsupportedVersion { key, version });
    }
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible: version >= message.flexible_from,
        elements_max: budget.elements_max,
        tagged_fields_max: budget.tagged_fields_max,
        allowed_bytes: budget.allowed_bytes(body.len()),
        cost: Cost::default(),
    };
    walk.fields(message.fields)?;
    Ok(walk.cost)
}

/// A leaf of a map of unknown tagged fields: room for eleven tags and values, links, rounded up.
const TAG_LEAF_BYTES: u64 = 448;
/// What one more unknown tagged field costs at most: ascending tags leave leaves half full, and
/// inner nodes hold at least five leaves.
const TAG_BYTES: u64 = 112;

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements_max: u32,
    tagged_fields_max: u32,
    allowed_bytes: u64,
    cost: Cost,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), DecodeError> {
        for field in fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.value(field)?;
            }
        }
        if self.flexible {
            self.tagged_fields(fields)
        } else {
            Ok(())
        }
    }

    fn value(&mut self, field: &'static Field) -> Result<(), DecodeError> {
        let nullable = field.nullable.contains(self.version);
        match field.kind {
            Kind::Fixed(size) => self.reader.take(size.into()).map(drop),
            Kind::String => self.string(nullable),
            Kind::Bytes => {
                let len = self.reader.bytes_len(self.flexible)?;
                self.skip(len, nullable).map(drop)
            }
            Kind::Struct(fields) => {
                if nullable {
                    match self.reader.i8()? {
                        1 => {}
                        -1 => return Ok(()),
                        found => return Err(DecodeError::StructMarker { found }),
                    }
                }
                self.fields(fields)
            }
            Kind::Array(ref array) => self.array(array, nullable),
        }
    }

    fn string(&mut self, nullable: bool) -> Result<(), DecodeError> {
        let len = self.reader.string_len(self.flexible)?;
        let bytes = self.skip(len, nullable)?;
        std::str::from_utf8(bytes)
            .map(drop)
            .map_err(|_| DecodeError::InvalidUtf8)
    }

    fn skip(&mut self, len: Option<usize>, nullable: bool) -> Result<&[u8], DecodeError> {
        match len {
            Some(len) => self.reader.take(len),
            None if nullable => Ok(&[]),
            None => Err(DecodeError::NullNotAllowed),
        }
    }

    fn array(&mut self, array: &'static Array, nullable: bool) -> Result<(), DecodeError> {
        let Some(count) = self.reader.bytes_len(self.flexible)? else {
            return if nullable {
                Ok(())
            } else {
                Err(DecodeError::NullNotAllowed)
            };
        };
        if count > self.reader.remaining() / usize::from(array.element_min_bytes) {
            return Err(DecodeError::CountBeyondBody { count });
        }
        let elements = self.cost.elements as usize + count;
        if elements > self.elements_max as usize {
            return Err(DecodeError::TooManyElements {
                max: self.elements_max,
            });
        }
        self.cost.elements = elements as u32;
        self.charge(count as u64 * u64::from(array.element_memory_bytes))?;
        for _ in 0..count {
            match array.item {
                Item::Fixed(size) => {
                    // The whole array at once: its bytes are not looked at.
                    return self.reader.take(count * usize::from(size)).map(drop);
                }
                Item::String => self.string(false)?,
                Item::Struct(fields) => self.fields(fields)?,
            }
        }
        Ok(())
    }

    fn charge(&mut self, bytes: u64) -> Result<(), DecodeError> {
        self.cost.memory_bytes += bytes;
        let (needed, allowed) = (self.cost.memory_bytes, self.allowed_bytes);
        if needed > allowed {
            Err(DecodeError::MemoryBudget { needed, allowed })
        } else {
            Ok(())
        }
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), DecodeError> {
        let count = self.reader.unsigned_varint()?;
        if count > self.tagged_fields_max {
            return Err(DecodeError::TooManyTaggedFields { count });
        }
        let mut previous = None;
        let mut unknown = 0u64;
        for _ in 0..count {
            let tag = self.reader.unsigned_varint()?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(DecodeError::TagOrder { tag });
            }
            previous = Some(tag);
            let size = self.reader.unsigned_varint()? as usize;
            match fields
                .iter()
                .find(|field| field.tag.is_some_and(|known| tag == known.into()))
            {
                Some(field) => self.known_tag(tag, size, field)?,
                None => {
                    self.reader.take(size)?;
                    self.charge(if unknown == 0 {
                        TAG_LEAF_BYTES
                    } else {
                        TAG_BYTES
                    })?;
                    unknown += 1;
                }
            }
        }
        Ok(())
    }

    fn known_tag(
        &mut self,
        tag: u32,
        size: usize,
        field: &'static Field,
    ) -> Result<(), DecodeError> {
        if !field.versions.contains(self.version) {
            return Err(DecodeError::TagVersion { tag });
        }
        // The codec reads the value and does not look at the size, so the two must agree.
        let start = self.reader.position();
        self.value(field)?;
        if self.reader.position() - start != size {
            return Err(DecodeError::TagSize { tag });
        }
        Ok(())
    }
}
