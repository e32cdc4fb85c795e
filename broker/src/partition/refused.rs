//! Batches of clients that were refused because the partition's lock could not be had.
//!
//! What follows such a batch must not take its place ([`ottla_storage::log::Log::refused`]); the
//! log is told by whoever has the lock next. A disk may hang for hours while clients try again, so
//! only what matters is kept: the first refused batch of each idempotent producer.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ottla_protocol::batch::BatchHeader;

use crate::sync::{AtomicBool, Mutex};

/// The log itself remembers no more producers than this.
const PRODUCERS_MAX: usize = 10_000;

pub(super) struct Refused {
    firsts: Mutex<BTreeMap<i64, BatchHeader>>,
    any: AtomicBool,
}

impl Default for Refused {
    fn default() -> Refused {
        Refused {
            firsts: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }
}

impl Refused {
    pub(super) fn note(&self, header: &BatchHeader) {
        let id = header.producer_id;
        if !id.is_some() || header.base_sequence < 0 || header.is_control() {
            return;
        }
        let mut firsts = self.firsts.lock();
        let first = firsts.entry(id.0).or_insert(*header);
        if first.producer_epoch < header.producer_epoch {
            *first = *header;
        }
        if firsts.len() > PRODUCERS_MAX {
            firsts.pop_first();
        }
        self.any.store(true, Ordering::Release);
    }

    /// What was noted since the last call.
    pub(super) fn take(&self) -> BTreeMap<i64, BatchHeader> {
        if !self.any.load(Ordering::Acquire) {
            return BTreeMap::new();
        }
        let mut firsts = self.firsts.lock();
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *firsts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ottla_protocol::BatchBuilder;
    use ottla_protocol::types::ProducerId;

    use super::*;

    fn header(producer: i64, epoch: i16, sequence: i32) -> BatchHeader {
        let mut batch = BatchBuilder::new();
        batch.append(1, None, Some(b"v"), &[]);
        let mut header = *batch.build().unwrap().header();
        header.producer_id = ProducerId(producer);
        header.producer_epoch = epoch;
        header.base_sequence = sequence;
        header
    }

    #[test]
    fn of_each_producer_the_first_batch_of_its_newest_epoch_is_kept_and_of_others_none() {
        let refused = Refused::default();
        assert!(refused.take().is_empty());
        for attempt in 0..1_000 {
            refused.note(&header(-1, -1, -1));
            refused.note(&header(7, 0, attempt));
            refused.note(&header(8, 0, 5));
            refused.note(&header(8, 1, attempt));
        }
        let kept = refused.take();
        let kept = kept
            .values()
            .map(|h| (h.producer_id.0, h.producer_epoch, h.base_sequence));
        assert_eq!(kept.collect::<Vec<_>>(), [(7, 0, 0), (8, 1, 0)]);
        assert!(refused.take().is_empty());
        let many = PRODUCERS_MAX as i64 + 100;
        (0..many).for_each(|producer| refused.note(&header(producer, 0, 0)));
        assert_eq!(refused.take().len(), PRODUCERS_MAX);
    }
}
