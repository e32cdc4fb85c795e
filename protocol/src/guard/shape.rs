//! How the shape of a message is written down: the vocabulary of the generated table.
//!
//! One shape serves all versions of a message; each field carries its own range. What a value means
//! is of no interest here, only how many bytes it takes and what it becomes in memory.

/// One request or response.
pub(super) struct Message {
    pub(super) key: i16,
    pub(super) flexible_from: i16,
    pub(super) fields: &'static [Field],
}

/// One field of a struct.
pub(super) struct Field {
    /// The versions that have it.
    pub(super) versions: Versions,
    /// The versions in which it may be null.
    pub(super) nullable: Versions,
    /// Set if it is written among the tagged fields.
    pub(super) tag: Option<u8>,
    pub(super) kind: Kind,
}

/// An inclusive range; empty if the first is greater than the last.
#[derive(Clone, Copy)]
pub(super) struct Versions(pub(super) u8, pub(super) u8);

impl Versions {
    pub(super) const NONE: Versions = Versions(1, 0);

    pub(super) fn contains(self, version: i16) -> bool {
        version >= i16::from(self.0) && version <= i16::from(self.1)
    }
}

/// What a field is made of.
pub(super) enum Kind {
    /// So many bytes.
    Fixed(u8),
    String,
    /// Bytes or records.
    Bytes,
    Struct(&'static [Field]),
    Array(Array),
}

pub(super) struct Array {
    pub(super) item: Item,
    /// The size of one decoded element, without what it owns elsewhere.
    pub(super) element_memory_bytes: u16,
    /// The smallest element in any version.
    pub(super) element_min_bytes: u16,
}

/// What an array is made of.
pub(super) enum Item {
    Fixed(u8),
    String,
    Struct(&'static [Field]),
}

/// The shape of one message.
pub(super) const fn message(key: i16, flexible_from: i16, fields: &'static [Field]) -> Message {
    Message {
        key,
        flexible_from,
        fields,
    }
}

/// A field in the given versions.
pub(super) const fn field(first: u8, last: u8, kind: Kind) -> Field {
    Field {
        versions: Versions(first, last),
        nullable: Versions::NONE,
        tag: None,
        kind,
    }
}

impl Field {
    pub(super) const fn nullable(mut self, first: u8, last: u8) -> Field {
        self.nullable = Versions(first, last);
        self
    }

    pub(super) const fn tag(mut self, tag: u8) -> Field {
        self.tag = Some(tag);
        self
    }
}

/// An array whose elements become `T`.
pub(super) const fn array<T>(element_min_bytes: u16, item: Item) -> Kind {
    let element_memory_bytes = size_of::<T>() as u16;
    assert!(element_memory_bytes as usize == size_of::<T>() && element_min_bytes > 0);
    Kind::Array(Array {
        item,
        element_memory_bytes,
        element_min_bytes,
    })
}
