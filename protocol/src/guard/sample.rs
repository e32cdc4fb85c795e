//! Well-formed random messages of every API and version, made from the shapes.
//!
//! They seed the fuzz corpus and the tests of everything that reads messages. Values mean
//! nothing; what varies is the structure: null or not, empty or not, known and unknown tags.

use bytes::{BufMut, BytesMut};

use super::shape::{Array, Field, Item, Kind, Message};
use super::{find, shapes};
use crate::wire::{put_array_len, put_null_array, put_string, put_unsigned_varint};

/// The body of a request; `choose(n)` returns a number below `n`.
pub fn request(key: i16, version: i16, choose: &mut dyn FnMut(u32) -> u32) -> Option<BytesMut> {
    find(shapes::REQUESTS, key).map(|message| write(message, version, choose))
}

/// The body of a response.
pub fn response(key: i16, version: i16, choose: &mut dyn FnMut(u32) -> u32) -> Option<BytesMut> {
    find(shapes::RESPONSES, key).map(|message| write(message, version, choose))
}

fn write(message: &'static Message, version: i16, choose: &mut dyn FnMut(u32) -> u32) -> BytesMut {
    let flexible = version >= message.flexible_from;
    let mut sample = Sample {
        buf: BytesMut::new(),
        version,
        flexible,
        choose,
    };
    sample.fields(message.fields);
    sample.buf
}

struct Sample<'c> {
    buf: BytesMut,
    version: i16,
    flexible: bool,
    choose: &'c mut dyn FnMut(u32) -> u32,
}

/// Tags no schema uses.
const UNKNOWN_TAGS: u32 = 60;

impl Sample<'_> {
    fn fields(&mut self, fields: &'static [Field]) {
        for field in fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.value(field);
            }
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn value(&mut self, field: &'static Field) {
        let null = field.nullable.contains(self.version) && (self.choose)(3) == 0;
        match field.kind {
            Kind::Fixed(size) => self.fixed(size),
            Kind::String if null && !self.flexible => self.buf.put_i16(-1),
            Kind::Struct(_) if null => self.buf.put_i8(-1),
            _ if null => put_null_array(&mut self.buf, self.flexible),
            Kind::String => self.string(),
            Kind::Bytes => {
                let len = (self.choose)(20) as usize;
                put_array_len(&mut self.buf, self.flexible, len);
                self.buf.put_bytes(0xa5, len);
            }
            Kind::Struct(fields) => {
                if field.nullable.contains(self.version) {
                    self.buf.put_i8(1);
                }
                self.fields(fields);
            }
            Kind::Array(ref array) => self.array(array),
        }
    }

    fn fixed(&mut self, size: u8) {
        if (self.choose)(3) == 0 {
            (0..size).for_each(|_| self.buf.put_u8((self.choose)(256) as u8));
        } else {
            self.buf.put_bytes(0, usize::from(size) - 1);
            self.buf.put_u8((self.choose)(4) as u8);
        }
    }

    fn string(&mut self) {
        let len = (self.choose)(12) as usize;
        let text: String = (0..len)
            .map(|_| char::from(b'a' + (self.choose)(26) as u8))
            .collect();
        put_string(&mut self.buf, self.flexible, &text);
    }

    fn array(&mut self, array: &'static Array) {
        let count = (self.choose)(3) as usize;
        put_array_len(&mut self.buf, self.flexible, count);
        for _ in 0..count {
            match array.item {
                Item::Fixed(size) => self.fixed(size),
                Item::String => self.string(),
                Item::Struct(fields) => self.fields(fields),
            }
        }
    }

    fn tags(&mut self, fields: &'static [Field]) {
        let mut tags: Vec<(u32, Option<&'static Field>)> = Vec::new();
        for field in fields {
            if let Some(tag) = field.tag
                && field.versions.contains(self.version)
                && (self.choose)(2) == 0
            {
                tags.push((tag.into(), Some(field)));
            }
        }
        if (self.choose)(8) == 0 {
            let first = UNKNOWN_TAGS + (self.choose)(9);
            tags.extend((0..(self.choose)(14)).map(|step| (first + step, None)));
        }
        tags.sort_by_key(|(tag, _)| *tag);
        put_unsigned_varint(&mut self.buf, tags.len() as u32);
        for (tag, field) in tags {
            let outer = std::mem::take(&mut self.buf);
            match field {
                Some(field) => self.value(field),
                None => self.fixed(3),
            }
            let value = std::mem::replace(&mut self.buf, outer);
            put_unsigned_varint(&mut self.buf, tag);
            put_unsigned_varint(&mut self.buf, value.len() as u32);
            self.buf.put_slice(&value);
        }
    }
}
