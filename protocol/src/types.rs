//! The small types every room uses for Kafka's numbers and ids.
//!
//! Newtypes exist where two numbers could be swapped by mistake (an offset and a producer id are
//! both `i64`); producer epochs and sequences stay plain integers. All are `Copy`, ordered and
//! hashable, and print as Kafka prints them. Arithmetic on offsets is checked: an offset near
//! `i64::MAX` can come from a damaged file or a hostile client, and must not wrap silently.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;

use uuid::Uuid;

/// A position in a partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Offset = Offset(0);

    /// The offset `delta` further, or `None` on overflow: for offsets that came from outside.
    pub fn checked_add(self, delta: i64) -> Option<Offset> {
        self.0.checked_add(delta).map(Offset)
    }

    /// The offset after this one, staying at the largest.
    pub fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }
}

impl Add<i64> for Offset {
    type Output = Offset;

    /// Panics on overflow: use [`Offset::checked_add`] for numbers from outside.
    fn add(self, delta: i64) -> Offset {
        Offset(
            self.0
                .checked_add(delta)
                .expect("offset arithmetic overflowed"),
        )
    }
}

impl Sub for Offset {
    type Output = i64;

    /// Panics on overflow, which two offsets >= 0 cannot cause.
    fn sub(self, other: Offset) -> i64 {
        self.0
            .checked_sub(other.0)
            .expect("offset arithmetic overflowed")
    }
}

/// Which leadership of a partition wrote a batch; grows by one with each leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// Unknown or not given.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

/// Identifies an idempotent or transactional producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A batch of a producer that is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);

    /// True if the batch belongs to an idempotent producer.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

/// A broker of the cluster (Kafka's `node.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// No broker: a partition without leader, a request from a consumer.
    pub const NONE: BrokerId = BrokerId(-1);
}

macro_rules! display_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_number!(Offset, LeaderEpoch, ProducerId, BrokerId);

/// The identity of a topic: a topic deleted and created again has another id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No id": in requests that name the topic.
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    /// True for [`TopicId::ZERO`].
    pub fn is_zero(self) -> bool {
        self.0.is_nil()
    }

    /// Parses the 22 characters that [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Option<TopicId> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return None;
        }
        let mut bits = 0u128;
        for (index, &byte) in text.iter().enumerate() {
            let digit = BASE64_URL.iter().position(|&c| c == byte)? as u128;
            if index < 21 {
                bits = (bits << 6) | digit;
            } else if digit & 0x0f == 0 {
                // The last character carries two bits; the padding below them must be empty.
                bits = (bits << 2) | (digit >> 4);
            } else {
                return None;
            }
        }
        Some(TopicId(Uuid::from_u128(bits)))
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's form: url-safe base64 of the sixteen bytes, without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.as_u128();
        let mut text = [0u8; 22];
        for (index, slot) in text.iter_mut().enumerate() {
            let digit = if index < 21 {
                bits >> (122 - 6 * index)
            } else {
                bits << 4
            };
            *slot = BASE64_URL[(digit & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// One partition of one topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

/// Kafka's form, also the name of the partition's directory: `topic-0`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_as_kafka_prints_them() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            TopicId(Uuid::from_u128(1)).to_string(),
            "AAAAAAAAAAAAAAAAAAAAAQ"
        );
        let id = TopicId(Uuid::from_u128(0x4f41_4e5f_5f5f_2d2d_fbef_be00_0102_0304));
        assert_eq!(id.to_string(), "T0FOX19fLS37774AAQIDBA");
    }

    #[test]
    fn topic_ids_survive_print_and_parse() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let id = TopicId(Uuid::from_u128(bits));
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(TopicId::parse("too short"), None);
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(TopicId::parse("AAAAAAAAAAAAAAAAAAAA+A"), None);
    }

    #[test]
    fn offset_arithmetic_is_checked() {
        assert_eq!(Offset(5) + 3, Offset(8));
        assert_eq!(Offset(5) - Offset(8), -3);
        assert_eq!(Offset(i64::MAX).checked_add(1), None);
        assert_eq!(Offset(i64::MAX).next(), Offset(i64::MAX));
    }
}
