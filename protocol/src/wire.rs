//! Reading and writing Kafka's primitive types by hand.
//!
//! [`Reader`] is the only place of this crate's own parsers that touches an index: every read is
//! checked against the end, every length against what is left, and nothing is allocated. The
//! `put_*` functions are the inverse. A varint may be padded with empty groups up to its longest
//! legal form (Kafka accepts that); a longer one, or one whose last group does not fit, is refused.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::types::TopicId;

/// A bounds-checked cursor over borrowed bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    pub fn at(bytes: &'a [u8], position: usize) -> Self {
        Reader {
            bytes,
            position: position.min(bytes.len()),
        }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.get(..len) else {
            return Err(DecodeError::Truncated {
                needed: len,
                remaining: rest.len(),
            });
        };
        self.position += len;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated {
                needed: N,
                remaining: rest.len(),
            });
        };
        self.position += N;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.u8().map(|byte| byte as i8)
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        self.array()
            .map(|bytes| TopicId(uuid::Uuid::from_bytes(bytes)))
    }

    /// An unsigned varint of at most 32 bits.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        match self.u8()? {
            byte @ 0..=0x0f => Ok(value | u32::from(byte) << 28),
            _ => Err(DecodeError::VarintTooLong),
        }
    }

    /// A zigzag varint of at most 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let zigzag = self.unsigned_varint()?;
        Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    /// A zigzag varint of at most 64 bits.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let mut zigzag = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        match self.u8()? {
            byte @ 0..=1 => {
                zigzag |= u64::from(byte) << 63;
                Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
            }
            _ => Err(DecodeError::VarintTooLong),
        }
    }

    /// The length of a string: `None` is null.
    pub fn string_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_len()
        } else {
            plain_len(i64::from(self.i16()?))
        }
    }

    /// The length of a byte field or the count of an array: `None` is null.
    pub fn bytes_len(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_len()
        } else {
            plain_len(i64::from(self.i32()?))
        }
    }

    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.unsigned_varint()? {
            0 => Ok(None),
            len if len > i32::MAX as u32 => Err(DecodeError::NegativeLength),
            len => Ok(Some(len as usize - 1)),
        }
    }

    /// The count of an array that may not be null, bounded by what the bytes left can hold.
    pub fn array_len(
        &mut self,
        flexible: bool,
        element_min_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let count = self
            .bytes_len(flexible)?
            .ok_or(DecodeError::NullNotAllowed)?;
        if count > self.remaining() / element_min_bytes {
            return Err(DecodeError::CountBeyondBody { count });
        }
        Ok(count)
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let Some(len) = self.string_len(flexible)? else {
            return Ok(None);
        };
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| DecodeError::InvalidUtf8)
    }

    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        self.nullable_string(flexible)?
            .ok_or(DecodeError::NullNotAllowed)
    }

    /// Walks a tagged field section; `known` sees each tag with a reader over its bytes alone.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.tagged_fields_at(|tag, _, value| known(tag, value))
    }

    /// Like [`Reader::tagged_fields`], and tells where in the body each value starts.
    pub fn tagged_fields_at(
        &mut self,
        mut known: impl FnMut(u32, usize, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        if count > MAX_TAGGED_FIELDS {
            return Err(DecodeError::TooManyTaggedFields { count });
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(DecodeError::TagOrder { tag });
            }
            previous = Some(tag);
            let size = self.unsigned_varint()? as usize;
            let start = self.position;
            known(tag, start, &mut Reader::new(self.take(size)?))?;
        }
        Ok(())
    }

    /// A known tag's value must fill its size.
    pub fn end_of_tag(&self, tag: u32) -> Result<(), DecodeError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(DecodeError::TagSize { tag })
        }
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }
}

/// More tagged fields than any message has are an attack.
pub const MAX_TAGGED_FIELDS: u32 = 10_000;

fn plain_len(len: i64) -> Result<Option<usize>, DecodeError> {
    match len {
        -1 => Ok(None),
        len if len < 0 => Err(DecodeError::NegativeLength),
        len => Ok(Some(len as usize)),
    }
}

#[inline]
pub fn put_unsigned_varint(buf: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

#[inline]
pub fn put_varint(buf: &mut BytesMut, value: i32) {
    put_unsigned_varint(buf, ((value << 1) ^ (value >> 31)) as u32);
}

#[inline]
pub fn put_varlong(buf: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        buf.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    buf.put_u8(zigzag as u8);
}

/// How many bytes `put_varint` writes.
pub fn varint_size(value: i32) -> usize {
    varlong_size(i64::from(value))
}

/// How many bytes `put_varlong` writes.
pub fn varlong_size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// An array's count.
pub fn put_array_len(buf: &mut BytesMut, flexible: bool, count: usize) {
    if flexible {
        put_unsigned_varint(buf, count as u32 + 1);
    } else {
        buf.put_i32(count as i32);
    }
}

/// A null array or null byte field.
pub fn put_null_array(buf: &mut BytesMut, flexible: bool) {
    if flexible {
        buf.put_u8(0);
    } else {
        buf.put_i32(-1);
    }
}

/// A string; in an old version one longer than `i16::MAX` is cut at a character boundary, for
/// only messages for people can be that long.
pub fn put_string(buf: &mut BytesMut, flexible: bool, value: &str) {
    if flexible {
        put_unsigned_varint(buf, value.len() as u32 + 1);
        buf.put_slice(value.as_bytes());
    } else {
        let cut = &value[..value.floor_char_boundary(i16::MAX as usize)];
        buf.put_i16(cut.len() as i16);
        buf.put_slice(cut.as_bytes());
    }
}

pub fn put_nullable_string(buf: &mut BytesMut, flexible: bool, value: Option<&str>) {
    match value {
        Some(value) => put_string(buf, flexible, value),
        None if flexible => buf.put_u8(0),
        None => buf.put_i16(-1),
    }
}

/// An empty tagged field section, in versions that have one.
pub fn put_no_tags(buf: &mut BytesMut, flexible: bool) {
    if flexible {
        buf.put_u8(0);
    }
}

#[cfg(test)]
mod tests;
