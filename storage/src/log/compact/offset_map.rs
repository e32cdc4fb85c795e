//! Of each key the last offset, in a table of fixed size: 24 bytes per key, whatever its length.
//!
//! Keys are known by a keyed 128-bit hash: who does not know the round's key cannot make two of
//! them meet, and by chance two of a billion keys meet once in 10^20 rounds. Open addressing with
//! linear probing; nothing is ever taken out. Invariant: at most `capacity` keys, so a probe ends.

use std::hash::Hasher;

use ottla_protocol::types::Offset;
use siphasher::sip128::{Hasher128, SipHasher13};

/// A key, for this table only.
pub(crate) type KeyHash = [u64; 2];

/// Two halves of the hash and the offset plus one; all zeroes: free.
type Slot = [u64; 3];

/// Bytes per key.
const SLOT_BYTES: usize = size_of::<Slot>();

pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    key: (u64, u64),
    len: usize,
    capacity: usize,
}

impl OffsetMap {
    /// A table for `wanted` keys, or for as many as fit `memory_bytes`, filled up to
    /// `load_factor`. There is always room for one key.
    pub(crate) fn new(
        wanted: u64,
        memory_bytes: usize,
        load_factor: f64,
        key: (u64, u64),
    ) -> OffsetMap {
        let load_factor = if load_factor > 0.0 {
            load_factor.min(0.95)
        } else {
            0.9
        };
        let most = (memory_bytes / SLOT_BYTES).max(2);
        let needed = (wanted as f64 / load_factor).min(most as f64) as usize + 2;
        let slots = needed.min(most);
        let capacity = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        OffsetMap {
            slots: vec![[0; 3]; slots],
            key,
            len: 0,
            capacity,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Notes an offset of a key, later than all before; false when the table is full.
    pub(crate) fn put(&mut self, hash: KeyHash, offset: Offset) -> bool {
        let at = self.find(hash);
        if self.slots[at][2] == 0 {
            if self.len >= self.capacity {
                return false;
            }
            self.len += 1;
        }
        self.slots[at] = [hash[0], hash[1], offset.0 as u64 + 1];
        true
    }

    /// The last offset of a key, if it is in the table.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        slot[2].checked_sub(1).map(|offset| Offset(offset as i64))
    }

    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot of a hash, or the free one where it would go.
    fn find(&self, hash: KeyHash) -> usize {
        let slots = self.slots.len();
        // The high part of the product: even over the table without a division.
        let mut at = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || slot[..2] == hash {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found_as_in_a_map() {
        let mut map = OffsetMap::new(5_000, 1 << 20, 0.9, (1, 2));
        let mut model = BTreeMap::new();
        for n in 0..20_000u64 {
            let key = (n.wrapping_mul(0x9e37_79b9) % 5_000).to_be_bytes();
            assert!(map.put(map.hash(&key), Offset(n as i64)));
            model.insert(key, Offset(n as i64));
        }
        assert_eq!(map.len(), model.len());
        for n in 0..6_000u64 {
            let key = n.to_be_bytes();
            assert_eq!(map.get(&key), model.get(&key).copied());
        }
        assert_eq!(map.get(b""), None);
    }

    #[test]
    fn a_full_table_takes_known_keys_and_no_new_ones() {
        let mut map = OffsetMap::new(u64::MAX, 100 * SLOT_BYTES, 0.5, (3, 4));
        for n in 0..50u8 {
            assert!(map.put(map.hash(&[n]), Offset(0)), "{n}");
        }
        assert!(!map.put(map.hash(&[50]), Offset(1)));
        assert!(map.put(map.hash(&[49]), Offset(2)));
        assert_eq!(map.get(&[49]), Some(Offset(2)));
        assert_eq!(map.get(&[50]), None);
    }

    #[test]
    fn memory_follows_the_number_of_keys_and_is_bounded() {
        let bytes = |wanted, memory| OffsetMap::new(wanted, memory, 0.9, (0, 0)).slots.len() * 24;
        assert!(bytes(100, 1 << 30) < 4 << 10);
        assert!(bytes(u64::MAX, 1 << 20) <= 1 << 20);
        // The smallest table still takes a key.
        let mut smallest = OffsetMap::new(0, 0, 0.0, (0, 0));
        let key = smallest.hash(b"k");
        assert!(smallest.put(key, Offset(0)));
    }
}
