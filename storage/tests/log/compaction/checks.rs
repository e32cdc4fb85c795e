//! What must hold of a compacted log, asked of all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::batch::{BatchHeader, RecordBatchView};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::Offset;
use ottla_storage::log::{Log, OpenLog, ProducerEntry};

use super::world::{DELETE_RETENTION_MS, DIR, Entry, Fate, World};
use crate::world::read_all;

impl World {
    pub(super) fn compact_and_check(&mut self, context: &str) {
        let before = self.with(|log| log.producers().clone());
        let cleanable = self.cleanable();
        let stats = self.compact();
        let stats = stats.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(stats.unreadable, 0, "{context}");
        let (after, to) = self.with(|log| (log.producers().clone(), log.compacted_to().0));
        assert!(before == after, "{context}");
        assert!(to <= cleanable.first_uncleanable.0, "{context}");
        match stats.map_full {
            false => assert_eq!(to, cleanable.first_uncleanable.0, "{context}"),
            true => assert!(to > cleanable.first_dirty.0, "{context}: no progress"),
        }
        self.check_compacted(to, context);
        self.verify(context);
    }

    /// Below `to` of each key the last record is the only one left.
    pub(super) fn check_compacted(&mut self, to: i64, context: &str) {
        let now_ms = self.now_ms;
        let start = self.with(|log| log.log_start_offset()).0;
        let mut seen = BTreeMap::new();
        for (header, entries) in self.batches() {
            let expired = header.has_delete_horizon() && header.base_timestamp <= now_ms;
            for (offset, entry) in entries {
                if !(start..to).contains(&offset) || header.is_control() {
                    continue;
                }
                assert!(entry.key.is_some(), "{context}: {offset} has no key");
                let earlier = seen.insert(entry.key.clone(), offset);
                assert_eq!(earlier, None, "{context}: {offset} is not alone");
                let gone = entry.value.is_none() && expired;
                assert!(!gone, "{context}: tombstone {offset} should be gone");
                // Of a batch that the table has in part, the next round is the first to know all.
                if entry.value.is_none() && header.last_offset().0 < to {
                    assert!(header.has_delete_horizon(), "{context}: {offset}");
                    self.marked.entry(offset).or_insert(now_ms);
                }
                assert_ne!(self.model[&offset].fate, Fate::Aborted, "{context}");
            }
        }
    }

    /// Every batch of the log, in order.
    pub(super) fn batches(&self) -> Vec<(BatchHeader, Vec<(i64, Entry)>)> {
        let bytes = self.with(|log| read_all(log));
        batches_of(&bytes)
    }

    pub(super) fn verify(&mut self, context: &str) {
        let (start, end) = self.with(|log| {
            log.check_invariants();
            (log.log_start_offset().0, log.log_end_offset().0)
        });
        assert_eq!(end, self.end, "{context}");
        let batches = self.batches();
        let last = batches.last().map(|(header, _)| header.last_offset().0 + 1);
        assert!(
            last.is_none_or(|last| last == end),
            "{context}: the end moved"
        );
        let mut found = BTreeSet::new();
        for (header, entries) in &batches {
            for (offset, entry) in entries {
                if header.is_control() {
                    continue;
                }
                assert!(self.alive.contains(offset), "{context}: {offset} came back");
                assert_eq!(self.model[offset].entry, *entry, "{context}: {offset}");
                found.insert(*offset);
            }
        }
        // The last committed record of each key.
        let mut last = BTreeMap::new();
        for (offset, written) in self.model.range(start..) {
            if let (Some(key), Fate::Committed) = (&written.entry.key, written.fate) {
                last.insert(key.clone(), *offset);
            }
        }
        for (key, offset) in last {
            let tombstone = self.model[&offset].entry.value.is_none();
            let marked = self.marked.get(&offset).copied();
            let may_be_gone = marked.is_some_and(|at| self.now_ms >= at + DELETE_RETENTION_MS);
            assert!(
                found.contains(&offset) || (tombstone && may_be_gone),
                "{context}: {key:?} lost its last record {offset}, marked {marked:?}: {:?}",
                self.history_of(&key)
            );
        }
        // Open records stay, too.
        for (offset, written) in self.model.range(start..) {
            let open = written.fate == Fate::Open;
            assert!(!open || found.contains(offset), "{context}: {offset}");
        }
        // What a batch began below the start may be read as well.
        self.alive
            .retain(|offset| found.contains(offset) || *offset < start);
        self.verify_read_committed(&batches, context);
        self.verify_rebuild(context);
    }

    /// For a message: offsets, producers, fates and whether a value was written.
    pub(super) fn history_of(&self, key: &[u8]) -> Vec<(i64, i64, Fate, bool)> {
        let of_key = self
            .model
            .iter()
            .filter(|(_, one)| one.entry.key.as_deref() == Some(key));
        of_key
            .map(|(at, one)| (*at, one.producer, one.fate, one.entry.value.is_some()))
            .collect()
    }

    /// What read_committed consumers see is not aborted.
    pub(super) fn verify_read_committed(
        &self,
        batches: &[(BatchHeader, Vec<(i64, Entry)>)],
        context: &str,
    ) {
        let (start, end) = self.with(|log| (log.log_start_offset(), log.log_end_offset()));
        let aborted = self
            .with(|log| log.aborted_transactions(start, end))
            .unwrap();
        for (header, entries) in batches {
            if !header.is_transactional() || header.is_control() {
                continue;
            }
            let hidden = aborted.iter().any(|one| {
                one.producer_id == header.producer_id
                    && one.first_offset <= header.base_offset
                    && header.last_offset() <= one.last_offset
            });
            for (offset, _) in entries {
                let fate = self.model[offset].fate;
                assert_eq!(
                    hidden,
                    fate == Fate::Aborted,
                    "{context}: {offset} {fate:?}"
                );
            }
        }
    }

    /// A log over nothing but the segments' bytes comes to the same producer state.
    pub(super) fn verify_rebuild(&self, context: &str) {
        if self.saved.log_start_offset > Offset(0) {
            return;
        }
        let copy = crate::seeds::segments_alone(&self.disk, DIR);
        let open = OpenLog {
            recovery_point: Offset(0),
            clean: false,
            synced: false,
            ..self.saved
        };
        let (naive, report) = Log::open(Arc::new(copy), DIR, self.config.clone(), open, 0).unwrap();
        assert_eq!(naive.log_end_offset().0, self.end, "{context}: {report:?}");
        let state = self.with(|log| log.producers().clone());
        for (id, entry) in state.iter() {
            let Some(rebuilt) = naive.producers().get(id) else {
                assert!(self.lost, "{context}: {id:?} is forgotten");
                continue;
            };
            // But for times: those of records that are gone are gone as well.
            let known = |entry: &ProducerEntry| -> Vec<_> {
                let batches = entry.batches().iter();
                batches
                    .map(|one| (one.last_sequence, one.last_offset, one.offset_delta))
                    .collect()
            };
            let (found, wanted) = (known(rebuilt), known(entry));
            // A round keeps what is remembered then; if some of that is lost later, older batches
            // are remembered again, and these are in snapshots only.
            if !self.lost {
                assert_eq!(found, wanted, "{context}: {id:?}");
            }
            assert_eq!(rebuilt.epoch, entry.epoch, "{context}");
            let open = entry.current_transaction_first_offset;
            assert_eq!(rebuilt.current_transaction_first_offset, open, "{context}");
        }
        assert!(naive.producers().len() <= state.len(), "{context}");
    }
}

pub(super) fn batches_of(bytes: &[u8]) -> Vec<(BatchHeader, Vec<(i64, Entry)>)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    let mut expected = 0;
    while !rest.is_empty() {
        let view = RecordBatchView::parse(rest).unwrap();
        assert!(view.crc_is_valid());
        assert!(view.base_offset().0 >= expected, "offsets grow");
        expected = view.last_offset().0 + 1;
        let records = Records::open(view, RecordLimits::default()).unwrap();
        let entries = records.map(|record| {
            let record = record.unwrap();
            let entry = Entry {
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                timestamp: record.timestamp,
            };
            (record.offset.0, entry)
        });
        found.push((*view.header(), entries.collect()));
        rest = &rest[view.size_bytes()..];
    }
    found
}
