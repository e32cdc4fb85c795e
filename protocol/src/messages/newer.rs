//! Messages of Kafka 4.3 that kafka-protocol, whose schemas are those of Kafka 4.1, does not know
//! in their newest version. They take the place of that crate's structs at all versions, with the
//! same names and setters, so that one type has them all; the parts that did not change are that
//! crate's.
//!
//! Versions that only have a higher number need no struct: [`SAME_BYTES`].
//!
//! As with that crate's decoders, a body is walked by the guard before it comes here. Unknown
//! tagged fields are skipped and not kept.

use anyhow::{Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::buf::ByteBuf;
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use uuid::Uuid;

use crate::error::DecodeError;
use crate::wire::{Reader, put_array_len, put_null_array};

pub mod add_raft_voter_request;
pub mod describe_log_dirs_request;
pub mod describe_log_dirs_response;
mod named_topic;
pub mod offset_commit_request;
pub mod offset_commit_response;
pub mod offset_fetch_request;
pub mod offset_fetch_response;

/// Key and version of messages whose bytes are those of the version before, the last one that
/// their struct knows. (The other side of the API may have changed, and then has its struct here.)
const SAME_BYTES: &[(i16, i16)] = &[(2, 11), (80, 1)];

/// Whether a message of this version is written as in the version before.
pub const fn has_same_bytes(key: i16, version: i16) -> bool {
    let mut index = 0;
    while index < SAME_BYTES.len() {
        if SAME_BYTES[index].0 == key && SAME_BYTES[index].1 == version {
            return true;
        }
        index += 1;
    }
    false
}

/// What the struct of a message calls this version.
pub fn struct_version<T: Message>(key: i16, version: i16) -> i16 {
    match has_same_bytes(key, version) {
        true => version.min(T::VERSIONS.max),
        false => version,
    }
}

/// Setters as kafka-protocol's structs have them.
macro_rules! setters {
    ($type:ident { $($with:ident $field:ident: $kind:ty,)* }) => {
        impl $type {
            $(pub fn $with(mut self, value: $kind) -> Self {
                self.$field = value;
                self
            })*
        }
    };
}

/// What kafka-protocol asks of a message, from `read` and `write` of the struct.
macro_rules! message {
    ($type:ident, $min:literal - $max:literal,
        flexible from $flexible:literal, header $header:literal) => {
        impl Message for $type {
            const VERSIONS: VersionRange = VersionRange {
                min: $min,
                max: $max,
            };
            const DEPRECATED_VERSIONS: Option<VersionRange> = None;
        }

        impl HeaderVersion for $type {
            fn header_version(version: i16) -> i16 {
                $header + i16::from(version >= $flexible)
            }
        }

        impl Decodable for $type {
            fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> Result<Self> {
                known::<Self>(version)?;
                let mut body = Body::all_of(buf, version >= $flexible);
                let message = Self::read(&mut body, version)?;
                Ok(message)
            }
        }

        impl Encodable for $type {
            fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> Result<()> {
                buf.put_slice(&self.written(version)?);
                Ok(())
            }

            fn compute_size(&self, version: i16) -> Result<usize> {
                Ok(self.written(version)?.len())
            }
        }

        impl $type {
            fn written(&self, version: i16) -> Result<BytesMut> {
                known::<Self>(version)?;
                let mut out = BytesMut::new();
                self.write(&mut out, version >= $flexible, version)?;
                Ok(out)
            }
        }
    };
}
use {message, setters};

fn known<T: Message>(version: i16) -> Result<()> {
    let range = T::VERSIONS;
    if !(range.min..=range.max).contains(&version) {
        bail!("the message has versions {range}, not {version}");
    }
    Ok(())
}

/// A field that this version does not have must not be set.
fn absent(field: &'static str, is_unset: bool) -> Result<()> {
    if !is_unset {
        bail!("{field} is set and not available in this version");
    }
    Ok(())
}

/// What of a message is still to be read.
struct Body {
    rest: Bytes,
    flexible: bool,
}

impl Body {
    fn all_of(buf: &mut impl ByteBuf, flexible: bool) -> Body {
        let rest = buf.get_bytes(buf.remaining());
        Body { rest, flexible }
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut reader = Reader::new(&self.rest);
        let value = read(&mut reader)?;
        let read_bytes = reader.position();
        self.rest.advance(read_bytes);
        Ok(value)
    }

    fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.read(|reader| reader.u8())? != 0)
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.read(|reader| reader.i16())
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.read(|reader| reader.i32())
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.read(|reader| reader.i64())
    }

    fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(self.read(|reader| reader.topic_id())?.0)
    }

    fn nullable_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        let flexible = self.flexible;
        let Some(len) = self.read(|reader| reader.string_len(flexible))? else {
            return Ok(None);
        };
        if len > self.rest.len() {
            let (needed, remaining) = (len, self.rest.len());
            return Err(DecodeError::Truncated { needed, remaining });
        }
        let text = StrBytes::from_utf8(self.rest.split_to(len));
        text.map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    fn string(&mut self) -> Result<StrBytes, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::NullNotAllowed)
    }

    fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Body) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let flexible = self.flexible;
        let Some(count) = self.read(|reader| reader.bytes_len(flexible))? else {
            return Ok(None);
        };
        // No element is empty; the guard has been stricter.
        if count > self.rest.len() {
            return Err(DecodeError::CountBeyondBody { count }.into());
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    fn array<T>(&mut self, element: impl FnMut(&mut Body) -> Result<T>) -> Result<Vec<T>> {
        let array = self.nullable_array(element)?;
        Ok(array.ok_or(DecodeError::NullNotAllowed)?)
    }

    /// A part that kafka-protocol reads, in the last version it knows of it.
    fn part<T: Decodable>(&mut self, version: i16) -> Result<T> {
        T::decode(&mut self.rest, version)
    }

    fn tags(&mut self) -> Result<(), DecodeError> {
        match self.flexible {
            true => self.read(|reader| reader.skip_tagged_fields()),
            false => Ok(()),
        }
    }
}

fn put_array<T>(
    out: &mut BytesMut,
    flexible: bool,
    elements: &[T],
    mut put: impl FnMut(&mut BytesMut, &T) -> Result<()>,
) -> Result<()> {
    put_array_len(out, flexible, elements.len());
    elements.iter().try_for_each(|element| put(out, element))
}

fn put_nullable_array<T>(
    out: &mut BytesMut,
    flexible: bool,
    elements: Option<&[T]>,
    put: impl FnMut(&mut BytesMut, &T) -> Result<()>,
) -> Result<()> {
    match elements {
        Some(elements) => put_array(out, flexible, elements, put),
        None => {
            put_null_array(out, flexible);
            Ok(())
        }
    }
}

/// Parts that kafka-protocol writes, in the last version it knows of them.
fn put_parts<T: Encodable>(
    out: &mut BytesMut,
    flexible: bool,
    parts: &[T],
    version: i16,
) -> Result<()> {
    put_array(out, flexible, parts, |out, part| part.encode(out, version))
}
