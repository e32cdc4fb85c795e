//! The three indexes of one segment, in memory: offset to position, timestamp to offset, and
//! aborted transactions. Binary forms equal Kafka's (`.index` 8 bytes an entry, `.timeindex` 12,
//! `.txnindex` 34), so that its tools read them.
//!
//! An index is a hint and a cache: everything in it can be rebuilt from the segment, lookups are
//! verified by the batch they lead to, and a file that breaks a rule is refused as a whole.
//! Offsets in entries are relative to the segment's base. Deliberately absent: files, maps, locks.

use ottla_protocol::types::{Offset, ProducerId};

/// Bytes of one entry on disk.
pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
pub(crate) const TIME_ENTRY_BYTES: usize = 12;
pub(crate) const ABORTED_ENTRY_BYTES: usize = 34;

/// The batch whose last offset is `relative` starts at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative: u32,
    pub(crate) position: u32,
}

/// Up to and including offset `relative` no record is younger than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) relative: u32,
}

/// A transaction that was aborted; its marker lies in the segment that holds this entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The offset of the abort marker.
    pub last_offset: Offset,
    /// The last stable offset as it was once this transaction was complete.
    pub last_stable_offset: Offset,
}

/// How many entries of each index are in the files already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Persisted {
    /// False until the files hold what was loaded or written, and nothing of another time.
    pub(crate) sound: bool,
    pub(crate) offsets: usize,
    pub(crate) times: usize,
    pub(crate) aborted: usize,
    /// The segment's size when the indexes were last written.
    pub(crate) at_bytes: u32,
}

impl Persisted {
    /// Whether every entry is in the files.
    pub(crate) fn covers(&self, index: &SegmentIndex) -> bool {
        self.sound
            && self.offsets == index.offsets.len()
            && self.times == index.times.len()
            && self.aborted == index.aborted.len()
    }
}

/// All indexes of one segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    pub(crate) offsets: Vec<OffsetEntry>,
    pub(crate) times: Vec<TimeEntry>,
    pub(crate) aborted: Vec<AbortedTransaction>,
    /// False when the file of aborted transactions is lost: then the log must be asked.
    pub(crate) aborted_known: bool,
    /// The largest timestamp of the segment, with the last offset of the first batch that has it.
    pub(crate) largest: Option<TimeEntry>,
    pub(crate) persisted: Persisted,
}

impl SegmentIndex {
    pub(crate) fn empty() -> SegmentIndex {
        SegmentIndex {
            offsets: Vec::new(),
            times: Vec::new(),
            aborted: Vec::new(),
            aborted_known: true,
            largest: None,
            persisted: Persisted::default(),
        }
    }

    /// Takes note of a batch at `position`; entries are made each `interval_bytes`.
    /// Deterministic: replaying the batches of a segment makes the same entries again.
    pub(crate) fn observe(
        &mut self,
        position: u32,
        last_relative: u32,
        max_timestamp: i64,
        interval_bytes: u32,
    ) {
        if self
            .largest
            .is_none_or(|entry| max_timestamp > entry.timestamp)
            && max_timestamp >= 0
        {
            self.largest = Some(TimeEntry {
                timestamp: max_timestamp,
                relative: last_relative,
            });
        }
        let since_last = position - self.offsets.last().map_or(0, |entry| entry.position);
        if since_last > interval_bytes {
            debug_assert!(
                self.offsets
                    .last()
                    .is_none_or(|last| last.relative < last_relative)
            );
            self.offsets.push(OffsetEntry {
                relative: last_relative,
                position,
            });
            self.close_times();
        }
    }

    /// Adds the closing time entry, which makes the segment's largest timestamp readable.
    pub(crate) fn close_times(&mut self) {
        let Some(largest) = self.largest else { return };
        if self
            .times
            .last()
            .is_none_or(|last| largest.timestamp > last.timestamp)
        {
            self.times.push(largest);
        }
    }

    /// Takes note of an aborted transaction, unless it is known already.
    pub(crate) fn observe_aborted(&mut self, aborted: AbortedTransaction) {
        if self
            .aborted
            .last()
            .is_none_or(|last| last.last_offset < aborted.last_offset)
        {
            self.aborted.push(aborted);
        }
    }

    /// Where to start looking for an offset: the last entry at or below it.
    pub(crate) fn entry_at(&self, relative: u32) -> Option<OffsetEntry> {
        let after = self
            .offsets
            .partition_point(|entry| entry.relative <= relative);
        after.checked_sub(1).map(|index| self.offsets[index])
    }

    /// The entries from the one of an offset on, as far as so many bytes reach.
    pub(crate) fn excerpt(&self, relative: u32, bytes: u64) -> SegmentIndex {
        let after = self
            .offsets
            .partition_point(|entry| entry.relative <= relative);
        let from = &self.offsets[after.saturating_sub(1)..];
        let start = from.first().map_or(0, |entry| u64::from(entry.position));
        let within = |entry: &OffsetEntry| u64::from(entry.position) - start <= bytes;
        SegmentIndex {
            offsets: from[..from.partition_point(within)].to_vec(),
            ..SegmentIndex::empty()
        }
    }

    /// The last entry whose position is not beyond `position` and whose offset is below `before`.
    pub(crate) fn entry_before(&self, position: u64, before: u64) -> Option<OffsetEntry> {
        let after = self.offsets.partition_point(|entry| {
            u64::from(entry.position) <= position && u64::from(entry.relative) < before
        });
        after.checked_sub(1).map(|index| self.offsets[index])
    }

    /// The offset from which records as young as `timestamp` may come.
    pub(crate) fn offset_before_time(&self, timestamp: i64) -> u32 {
        let after = self
            .times
            .partition_point(|entry| entry.timestamp <= timestamp);
        after
            .checked_sub(1)
            .map_or(0, |index| self.times[index].relative)
    }

    /// Drops everything about offsets at or above `relative` and positions at or above `position`;
    /// true if there was any. The caller then recomputes `largest` from the last offset entry on,
    /// and removes the files: entries that speak of offsets to come must not be found there.
    pub(crate) fn truncate(&mut self, relative: u64, position: u32, base: Offset) -> bool {
        let before = (self.offsets.len(), self.times.len(), self.aborted.len());
        let keep = self.offsets.partition_point(|entry| {
            u64::from(entry.relative) < relative && entry.position < position
        });
        self.offsets.truncate(keep);
        let keep = self
            .times
            .partition_point(|entry| u64::from(entry.relative) < relative);
        self.times.truncate(keep);
        self.aborted
            .retain(|entry| ((entry.last_offset - base) as u64) < relative);
        self.largest = self.times.last().copied();
        let changed = before != (self.offsets.len(), self.times.len(), self.aborted.len());
        if changed {
            self.persisted = Persisted::default();
        }
        changed
    }

    /// True when one more entry would pass the configured size of an index file.
    pub(crate) fn is_full(&self, index_max_bytes: u32) -> bool {
        let most = index_max_bytes as usize;
        self.offsets.len() >= most / OFFSET_ENTRY_BYTES
            || self.times.len() + 1 >= most / TIME_ENTRY_BYTES
    }

    /// True when a short walk over the log makes this index again.
    pub(crate) fn is_cheap(&self, entries_max: usize) -> bool {
        self.offsets.len() <= entries_max && self.aborted.is_empty() && self.aborted_known
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.offsets.capacity() * 8 + self.times.capacity() * 16 + self.aborted.capacity() * 32
    }
}

/// Big-endian relative offset and position.
pub(crate) fn encode_offsets(entries: &[OffsetEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * OFFSET_ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.relative.to_be_bytes());
        out.extend_from_slice(&entry.position.to_be_bytes());
    }
    out
}

/// `None` unless offsets and positions increase and stay inside a segment of `size_bytes`.
pub(crate) fn decode_offsets(bytes: &[u8], size_bytes: u32) -> Option<Vec<OffsetEntry>> {
    let (chunks, rest) = bytes.as_chunks::<OFFSET_ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut entries: Vec<OffsetEntry> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let entry = OffsetEntry {
            relative: be_u32(chunk, 0),
            position: be_u32(chunk, 4),
        };
        let grows = entries
            .last()
            .is_none_or(|last| entry.relative > last.relative && entry.position > last.position);
        if !grows || entry.position >= size_bytes || entry.relative > i32::MAX as u32 {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

/// Big-endian timestamp and relative offset.
pub(crate) fn encode_times(entries: &[TimeEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.timestamp.to_be_bytes());
        out.extend_from_slice(&entry.relative.to_be_bytes());
    }
    out
}

/// `None` unless timestamps increase and offsets do not decrease. A first entry that Kafka wrote
/// for a segment without timestamps (-1, 0) is skipped.
pub(crate) fn decode_times(bytes: &[u8]) -> Option<Vec<TimeEntry>> {
    let (chunks, rest) = bytes.as_chunks::<TIME_ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut entries: Vec<TimeEntry> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let entry = TimeEntry {
            timestamp: be_i64(chunk, 0),
            relative: be_u32(chunk, 8),
        };
        if entry.timestamp == -1 && entries.is_empty() {
            continue;
        }
        let grows = entries
            .last()
            .is_none_or(|last| entry.timestamp > last.timestamp && entry.relative >= last.relative);
        if !grows || entry.timestamp < 0 || entry.relative > i32::MAX as u32 {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

const ABORTED_VERSION: i16 = 0;

/// Version, producer id, first offset, last offset, last stable offset.
pub(crate) fn encode_aborted(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ABORTED_ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&ABORTED_VERSION.to_be_bytes());
        out.extend_from_slice(&entry.producer_id.0.to_be_bytes());
        out.extend_from_slice(&entry.first_offset.0.to_be_bytes());
        out.extend_from_slice(&entry.last_offset.0.to_be_bytes());
        out.extend_from_slice(&entry.last_stable_offset.0.to_be_bytes());
    }
    out
}

/// `None` unless versions are known, markers lie in the segment and their offsets increase.
pub(crate) fn decode_aborted(bytes: &[u8], base: Offset) -> Option<Vec<AbortedTransaction>> {
    let (chunks, rest) = bytes.as_chunks::<ABORTED_ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut entries: Vec<AbortedTransaction> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let entry = AbortedTransaction {
            producer_id: ProducerId(be_i64(chunk, 2)),
            first_offset: Offset(be_i64(chunk, 10)),
            last_offset: Offset(be_i64(chunk, 18)),
            last_stable_offset: Offset(be_i64(chunk, 26)),
        };
        let sound = be_i16(chunk, 0) == ABORTED_VERSION
            && entry.first_offset.0 >= 0
            && entry.first_offset <= entry.last_offset
            && entry.last_offset >= base
            && entries
                .last()
                .is_none_or(|last| entry.last_offset > last.last_offset);
        if !sound {
            return None;
        }
        entries.push(entry);
    }
    Some(entries)
}

fn be_i16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be_i64(bytes: &[u8], at: usize) -> i64 {
    (i64::from(be_u32(bytes, at)) << 32) | i64::from(be_u32(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentIndex {
        let mut index = SegmentIndex::empty();
        for batch in 0..10u32 {
            index.observe(
                batch * 100,
                batch * 10 + 9,
                1_000 + i64::from(batch % 4),
                150,
            );
        }
        index
    }

    #[test]
    fn entries_are_made_each_interval_and_lead_to_the_batch_with_the_offset() {
        let index = sample();
        let positions: Vec<u32> = index.offsets.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, [200, 400, 600, 800]);
        assert_eq!(index.entry_at(28), None);
        assert_eq!(index.entry_at(29).map(|entry| entry.position), Some(200));
        assert_eq!(index.entry_at(1_000).map(|entry| entry.position), Some(800));
        assert_eq!(
            index.entry_before(650, 1_000).map(|entry| entry.position),
            Some(600)
        );
        assert_eq!(
            index.entry_before(650, 30).map(|entry| entry.position),
            Some(200)
        );
        assert_eq!(index.entry_before(650, 29), None);
    }

    #[test]
    fn files_of_the_indexes_decode_to_what_was_encoded() {
        let mut index = sample();
        index.close_times();
        let offsets = decode_offsets(&encode_offsets(&index.offsets), 1_000);
        assert_eq!(offsets.as_ref(), Some(&index.offsets));
        assert_eq!(
            decode_times(&encode_times(&index.times)).as_ref(),
            Some(&index.times)
        );
        let aborted = vec![AbortedTransaction {
            producer_id: ProducerId(7),
            first_offset: Offset(3),
            last_offset: Offset(12),
            last_stable_offset: Offset(13),
        }];
        assert_eq!(encode_aborted(&aborted).len(), 34);
        assert_eq!(
            decode_aborted(&encode_aborted(&aborted), Offset(10)),
            Some(aborted.clone())
        );
        assert_eq!(decode_aborted(&encode_aborted(&aborted), Offset(13)), None);
    }

    #[test]
    fn damaged_index_files_are_refused() {
        let index = sample();
        let good = encode_offsets(&index.offsets);
        assert_eq!(decode_offsets(&good[..good.len() - 1], 1_000), None);
        assert_eq!(
            decode_offsets(&good, 700),
            None,
            "a position beyond the segment"
        );
        assert_eq!(
            decode_offsets(&[0; 16], 1_000),
            None,
            "zeroes do not increase"
        );
        assert_eq!(decode_times(&[0xfe; 24]), None);
        assert_eq!(decode_times(&[1; 11]), None);
        assert_eq!(decode_aborted(&[9; 34], Offset(0)), None);
    }

    #[test]
    fn truncation_forgets_offsets_positions_and_times_above() {
        let mut index = sample();
        index.truncate(50, 500, Offset(0));
        assert_eq!(index.offsets.len(), 2);
        assert!(index.times.iter().all(|entry| entry.relative < 50));
    }
}
