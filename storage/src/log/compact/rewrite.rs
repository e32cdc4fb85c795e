//! What becomes of one batch: it is copied, dropped, or replaced by one with fewer records.
//!
//! A replacement keeps the offsets, sequences, leader epoch, attributes and codec of its batch, so
//! followers and producer states cannot tell; only its records, its largest timestamp and its CRC
//! differ. Records are copied as encoded, unless the batch gets a delete horizon, to which their
//! times are relative from then on. Deliberately absent: files.

use std::collections::BTreeMap;

use ottla_protocol::batch::{
    BatchBuilder, BatchError, BatchHeader, RecordBatch, RecordBatchView, TimestampType,
};
use ottla_protocol::record::{RecordError, RecordLimits, RecordRef, Records};
use ottla_protocol::types::Offset;

use super::offset_map::OffsetMap;
use super::transactions::{Marker, PassedTransactions};
use crate::log::control;
use crate::log::index::AbortedTransaction;
use crate::log::producers::Producers;

/// What is decided about one batch.
pub(crate) enum Decision {
    Copy,
    Drop,
    Replace(RecordBatch),
}

/// What a pass counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records_read: u64,
    pub(crate) records_kept: u64,
    /// Records without a key; a compacted topic does not keep them.
    pub(crate) keyless: u64,
    /// Batches whose records cannot be read; they are copied as they are.
    pub(crate) unreadable: u64,
}

/// The batches from which the producers' state can be rebuilt.
pub(crate) struct ActiveProducers {
    /// Last offsets of the remembered batches; the epoch when there are none but a marker.
    by_id: BTreeMap<i64, (Vec<Offset>, i16)>,
}

impl ActiveProducers {
    pub(crate) fn of(producers: &Producers) -> ActiveProducers {
        let remembered = producers.iter().map(|(id, entry)| {
            let offsets = entry.batches().iter().map(|batch| batch.last_offset);
            (id.0, (offsets.collect(), entry.epoch))
        });
        ActiveProducers {
            by_id: remembered.collect(),
        }
    }

    fn needs(&self, header: &BatchHeader) -> bool {
        match self.by_id.get(&header.producer_id.0) {
            None => false,
            Some((offsets, epoch)) if offsets.is_empty() => {
                header.is_control() && header.producer_epoch == *epoch
            }
            Some((offsets, _)) => offsets.contains(&header.last_offset()),
        }
    }
}

/// One pass that rewrites.
pub(crate) struct Rewrite<'a> {
    pub(crate) map: &'a OffsetMap,
    /// Offsets above are not in the map: their records stay.
    pub(crate) latest: Offset,
    pub(crate) producers: &'a ActiveProducers,
    pub(crate) transactions: &'a mut PassedTransactions,
    pub(crate) now_ms: i64,
    pub(crate) delete_retention_ms: i64,
    /// How far a batch may expand: what was accepted can be read again.
    pub(crate) record_limits: RecordLimits,
    pub(crate) counts: &'a mut Counts,
    /// Index entries of the markers that stay.
    pub(crate) aborted: &'a mut Vec<AbortedTransaction>,
}

/// A marker contradicts the transaction indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownAbort;

impl Rewrite<'_> {
    /// `ends_output`: the batch is the last of its output, whose end must not move.
    pub(crate) fn decide(
        &mut self,
        view: RecordBatchView<'_>,
        ends_output: bool,
    ) -> Result<Decision, UnknownAbort> {
        let header = view.header();
        if header.is_control() {
            return self.decide_control(view, ends_output);
        }
        let aborted = self.transactions.batch(header);
        let needed = ends_output || self.producers.needs(header);
        if aborted || header.record_count == 0 {
            return Ok(emptied(header, needed));
        }
        if header.base_offset > self.latest {
            let records = header.record_count.max(0) as u64;
            self.counts.records_read += records;
            self.counts.records_kept += records;
            return Ok(Decision::Copy);
        }
        Ok(match self.filter(view, needed) {
            Ok(decision) => decision,
            Err(_) => {
                self.counts.unreadable += 1;
                Decision::Copy
            }
        })
    }

    fn decide_control(
        &mut self,
        view: RecordBatchView<'_>,
        ends_output: bool,
    ) -> Result<Decision, UnknownAbort> {
        let header = view.header();
        if header.record_count == 0 {
            return Ok(emptied(header, ends_output));
        }
        let Some(end) = control::end_transaction(view) else {
            return Ok(Decision::Copy);
        };
        match self.transactions.marker(header, end) {
            Marker::Contradiction => return Err(UnknownAbort),
            Marker::Needed(entry) => {
                self.aborted.extend(entry);
                return Ok(Decision::Copy);
            }
            Marker::Unneeded => {}
        }
        // The last epoch of a producer without records is known from its marker alone.
        if self.producers.needs(header) {
            return Ok(Decision::Copy);
        }
        if !header.has_delete_horizon() {
            let marked = self.rebuild(view, &[true], true);
            return Ok(marked.map_or(Decision::Copy, Decision::Replace));
        }
        Ok(match self.now_ms >= header.base_timestamp {
            true => emptied(header, ends_output),
            false => Decision::Copy,
        })
    }

    /// Looks at every record; then decides.
    fn filter(&mut self, view: RecordBatchView<'_>, needed: bool) -> Result<Decision, RecordError> {
        let header = view.header();
        let mut records = Records::open(view, self.record_limits)?;
        let mut keep = Vec::with_capacity(header.record_count.clamp(0, 1 << 16) as usize);
        let (mut keyless, mut tombstones) = (0, false);
        while let Some(record) = records.next_ref() {
            let record = record?;
            let past = record.offset > self.latest;
            keyless += u64::from(!past && record.key().is_none());
            let kept = past || self.keeps(header, &record);
            tombstones |= kept && !past && record.value().is_none();
            keep.push(kept);
        }
        let kept = keep.iter().filter(|kept| **kept).count();
        self.counts.records_read += keep.len() as u64;
        self.counts.records_kept += kept as u64;
        self.counts.keyless += keyless;
        // The horizon counts for all tombstones of a batch: those past the table still have older
        // values before them, and nobody has had the time to read them after these are gone.
        let whole = header.last_offset() <= self.latest;
        let set_horizon = tombstones && whole && !header.has_delete_horizon();
        if kept == keep.len() && !set_horizon {
            return Ok(Decision::Copy);
        }
        if kept == 0 {
            return Ok(emptied(header, needed));
        }
        self.rebuild(view, &keep, set_horizon)
            .map(Decision::Replace)
    }

    /// The last record of its key stays; a tombstone until its horizon.
    fn keeps(&self, header: &BatchHeader, record: &RecordRef<'_>) -> bool {
        let Some(key) = record.key() else {
            return false;
        };
        let last = self.map.get(key).is_none_or(|last| record.offset >= last);
        let expired = header.has_delete_horizon() && self.now_ms >= header.base_timestamp;
        last && (record.value().is_some() || !expired)
    }

    /// The batch with some of its records.
    fn rebuild(
        &self,
        view: RecordBatchView<'_>,
        keep: &[bool],
        set_horizon: bool,
    ) -> Result<RecordBatch, RecordError> {
        let header = view.header();
        let mut builder = BatchBuilder::like(header)?;
        let horizon = self.now_ms.saturating_add(self.delete_retention_ms);
        if set_horizon {
            builder = builder.delete_horizon(horizon);
        }
        let mut records = Records::open(view, self.record_limits)?;
        let mut keep = keep.iter();
        while let Some(record) = records.next_ref() {
            let record = record?;
            if !keep.next().is_some_and(|kept| *kept) {
                continue;
            }
            let (delta, timestamp) = (record.offset_delta, record.timestamp);
            if set_horizon {
                let headers: Vec<_> = record.headers().collect();
                builder.append_at(delta, timestamp, record.key(), record.value(), &headers);
            } else {
                builder.append_encoded(delta, timestamp, record.body());
            }
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            builder = builder.max_timestamp(header.max_timestamp);
        }
        Ok(builder.build()?)
    }
}

/// A batch without records, or nothing at all.
fn emptied(header: &BatchHeader, needed: bool) -> Decision {
    match needed {
        false => Decision::Drop,
        true if header.record_count == 0 => Decision::Copy,
        true => empty_batch(header).map_or(Decision::Copy, Decision::Replace),
    }
}

fn empty_batch(header: &BatchHeader) -> Result<RecordBatch, BatchError> {
    BatchBuilder::like(header)?
        .uncompressed()
        .max_timestamp(header.max_timestamp)
        .build()
}
