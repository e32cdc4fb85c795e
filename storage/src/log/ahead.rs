//! One write for several batches that are about to be appended one after another.
//!
//! [`Log::write_ahead`] foresees where batches will come to lie and writes all of them behind the
//! log end at once. Each is then appended in the usual way, with all its checks, and finds its
//! bytes in the file already. Nothing is decided here: what is written ahead is not in the log,
//! and whatever does not come as foreseen cuts it off again. A write ahead that fails is cut off
//! too, and each batch is then written, or refused, by itself.
//!
//! After a crash in between, recovery may find such batches whole: nobody was told about them yet,
//! and only those are written that would have been accepted.

use std::collections::VecDeque;

use ottla_protocol::batch::{BatchHeader, RecordBatch, TimestampType};
use ottla_protocol::types::Offset;

use super::append::{AppendAt, Origin, Plan};
use super::error::LogError;
use super::{Log, validate};

/// What a batch can add to the larger of the two indexes.
const ENTRY_BYTES_MAX: usize = 12;

/// Batches behind the end of the active segment that are to be appended next, in their order.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    headers: VecDeque<BatchHeader>,
}

impl Ahead {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }
}

impl Log {
    /// Writes batches that are appended right after this, each by [`Log::append`] and in this
    /// order, in one go as far as that is possible. Ends with [`Log::end_ahead`]; nothing else may
    /// happen to the log in between.
    pub fn write_ahead(&mut self, batches: &mut [RecordBatch], at: &AppendAt) {
        self.end_ahead();
        let foreseen = self.foresee(batches, at);
        if foreseen.len() < 2 {
            return;
        }
        let batches = &mut batches[..foreseen.len()];
        let mut epochs = Vec::with_capacity(foreseen.len());
        for (batch, header) in batches.iter_mut().zip(&foreseen) {
            epochs.push(batch.header().leader_epoch);
            batch.stamp(header.base_offset, header.leader_epoch);
        }
        let written = self.write(batches);
        for (batch, epoch) in batches.iter_mut().zip(epochs) {
            batch.stamp(Offset::ZERO, epoch);
        }
        if written.is_ok() {
            self.ahead.headers = foreseen;
        }
    }

    /// What was written ahead and not appended is cut off.
    pub fn end_ahead(&mut self) {
        if !self.ahead.headers.is_empty() {
            self.ahead.headers.clear();
            self.cut_pending = true;
            // If it fails, the next write tries again first.
            let _ = self.cut_leftovers();
        }
    }

    /// Writes a batch at the end of the active segment, unless it is there; answers where.
    pub(super) fn write_or_find(&mut self, batch: &RecordBatch) -> Result<u32, LogError> {
        if self.ahead.headers.front() == Some(batch.header()) {
            self.ahead.headers.pop_front();
            return Ok(self.segments.last().map_or(0, |active| active.size_bytes));
        }
        self.end_ahead();
        self.cut_leftovers()?;
        self.write(std::slice::from_ref(batch))
    }

    /// The headers that the first batches will have, as far as it is plain that they will be
    /// accepted one after another and into the active segment.
    fn foresee(&mut self, batches: &[RecordBatch], at: &AppendAt) -> VecDeque<BatchHeader> {
        let mut foreseen = VecDeque::new();
        let plain = matches!(at.origin, Origin::Client { .. })
            && self.config.timestamp_type == TimestampType::CreateTime
            && !self.config.checks_records();
        let ready = plain
            && batches.len() > 1
            && !self.poisoned
            && self.segments.last().is_some_and(|s| s.size_bytes > 0)
            && self.load_active().is_ok()
            && self.cut_leftovers().is_ok();
        if !ready || !self.index_has_room(batches.len()) {
            return foreseen;
        }
        let mut size_bytes = 0;
        for batch in batches {
            let Some(header) = self.foresee_one(batch, at, foreseen.back(), size_bytes) else {
                break;
            };
            size_bytes += header.size_bytes() as u64;
            foreseen.push_back(header);
        }
        foreseen
    }

    /// Whether so many batches cannot fill the active segment's index, which would seal it.
    fn index_has_room(&self, batches: usize) -> bool {
        let most = u32::try_from(batches * ENTRY_BYTES_MAX).unwrap_or(u32::MAX);
        let limit = self.config.segment_index_bytes.saturating_sub(most);
        let index = self.segments.last().and_then(|s| s.loaded_index());
        index.is_some_and(|index| !index.is_full(limit))
    }

    fn foresee_one(
        &mut self,
        batch: &RecordBatch,
        at: &AppendAt,
        before: Option<&BatchHeader>,
        ahead_bytes: u64,
    ) -> Option<BatchHeader> {
        let mut header = *batch.header();
        if header.is_control() || header.is_transactional() {
            return None;
        }
        validate::check(batch, &self.config, at).ok()?;
        header.leader_epoch = at.leader_epoch;
        header.base_offset = match before {
            None => self.log_end_offset,
            Some(before) => before.last_offset().next(),
        };
        match before {
            None => match self.plan_producer(&header, None, true).ok()? {
                Plan::Duplicate(_) => return None,
                Plan::Write { .. } => {}
            },
            Some(before) if !follows(before, &header) => return None,
            Some(_) => {}
        }
        self.check_growth(header.base_offset, &header).ok()?;
        self.check_epoch(at.leader_epoch).ok()?;
        match self.should_roll(&header, at.now_ms, ahead_bytes) {
            Ok(false) => Some(header),
            _ => None,
        }
    }
}

/// Whether a batch is accepted once the one before it is, as far as producers are concerned.
fn follows(before: &BatchHeader, header: &BatchHeader) -> bool {
    if before.producer_id != header.producer_id {
        return false;
    }
    let last = before.last_sequence();
    let next = if last == i32::MAX { 0 } else { last + 1 };
    !header.producer_id.is_some()
        || (before.producer_epoch == header.producer_epoch && header.base_sequence == next)
}
