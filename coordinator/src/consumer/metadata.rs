//! The hash of the topics that a group reads: when it changes, partitions are assigned anew.
//! Computed as Kafka does (XXH3), so that either reads the other's log without a rebalance.

use std::collections::BTreeMap;

use twox_hash::xxhash3_64::Hasher;

use crate::topics::{Topic, Topics};

const MAGIC: u8 = 0;

/// Hashes of topics, shared by all groups, of one version of the metadata.
#[derive(Debug, Default)]
pub(crate) struct TopicHashes {
    version: Option<u64>,
    by_name: BTreeMap<String, i64>,
}

impl TopicHashes {
    /// 0: none of them exists.
    pub(super) fn of_group<'n>(
        &mut self,
        topics: &dyn Topics,
        names: impl Iterator<Item = &'n str>,
    ) -> i64 {
        if self.version != Some(topics.version()) {
            self.version = Some(topics.version());
            self.by_name.clear();
        }
        let mut bytes = Vec::new();
        for name in names {
            if let Some(hash) = self.of_topic(topics, name) {
                bytes.extend(hash.to_le_bytes());
            }
        }
        if bytes.is_empty() {
            return 0;
        }
        hash(&bytes)
    }

    fn of_topic(&mut self, topics: &dyn Topics, name: &str) -> Option<i64> {
        if let Some(hash) = self.by_name.get(name) {
            return Some(*hash);
        }
        let topic = topics.by_name(name)?;
        let racks = |partition| topics.racks(topic.id, partition);
        let hash = hash_of_topic(topic, racks);
        self.by_name.insert(name.to_owned(), hash);
        Some(hash)
    }
}

/// The names must come in order.
fn hash(bytes: &[u8]) -> i64 {
    Hasher::oneshot(bytes).cast_signed()
}

/// A string as its UTF-16 units and their number.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut units = 0i32;
    for unit in text.encode_utf16() {
        bytes.extend(unit.to_le_bytes());
        units = units.wrapping_add(1);
    }
    bytes.extend(units.to_le_bytes());
}

fn hash_of_topic(topic: Topic<'_>, racks: impl Fn(i32) -> Vec<String>) -> i64 {
    let mut bytes = vec![MAGIC];
    let (high, low) = topic.id.0.as_u64_pair();
    bytes.extend(high.to_le_bytes());
    bytes.extend(low.to_le_bytes());
    put_text(&mut bytes, topic.name);
    bytes.extend(topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        bytes.extend(partition.to_le_bytes());
        let mut racks = racks(partition);
        // As Java compares strings.
        racks.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        for rack in &racks {
            let units = rack.encode_utf16().count();
            bytes.extend(i32::try_from(units).unwrap_or(i32::MAX).to_le_bytes());
            put_text(&mut bytes, rack);
        }
    }
    hash(&bytes)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::types::TopicId;
    use uuid::Uuid;

    use super::*;

    fn topic(name: &str, partitions: i32) -> Topic<'_> {
        let id = TopicId(Uuid::from_u64_pair(
            0x0102_0304_0506_0708,
            0x090a_0b0c_0d0e_0f10,
        ));
        Topic {
            id,
            name,
            partitions,
        }
    }

    /// The numbers were printed by a Java program that fed hash4j 0.22 as Kafka 4.3.0 does.
    #[test]
    fn hashes_are_those_of_kafka() {
        let plain = hash_of_topic(topic("orders", 2), |_| Vec::new());
        assert_eq!(plain, -3_245_243_751_620_751_385);
        let racks = hash_of_topic(topic("orders", 2), |partition| match partition {
            0 => vec!["räb".to_owned(), "r-a".to_owned()],
            _ => Vec::new(),
        });
        assert_eq!(racks, -6_797_185_162_026_104_915);
        let both = [plain.to_le_bytes(), racks.to_le_bytes()].concat();
        assert_eq!(hash(&both), -7_462_997_627_080_668_368);
        let big = hash_of_topic(topic("big", 1_000), |_| Vec::new());
        assert_eq!(big, -2_838_444_752_822_152_812);
    }
}
