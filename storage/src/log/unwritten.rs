//! Producers whose first batch could not be written.
//!
//! Of a producer that a log knows nothing about any sequence is accepted, because its state may
//! have expired. When the write of such a first batch fails, the client sends it again; but batches
//! behind it may be on their way already, and one of them would be taken for the first. So the
//! failed one is remembered until it, or a new epoch, is written. In memory only: after a restart
//! the client's connection is a new one, and it starts with the oldest batch.

use std::collections::BTreeMap;

use ottla_protocol::batch::BatchHeader;

use super::producers::{ProducerError, Producers};

/// A disk that refuses writes refuses them to everybody: more producers than this are not
/// remembered.
const PRODUCERS_MAX: usize = 10_000;

/// By producer id: epoch and sequence of the first batch that is not written yet.
#[derive(Debug, Default)]
pub(super) struct UnwrittenFirsts {
    first: BTreeMap<i64, (i16, i32)>,
}

impl UnwrittenFirsts {
    /// The write of a batch failed.
    pub(super) fn note(&mut self, header: &BatchHeader, known: &Producers) {
        let id = header.producer_id;
        let counts = id.is_some() && header.base_sequence >= 0 && !header.is_control();
        let epoch = header.producer_epoch;
        let is_noted = || {
            self.first
                .get(&id.0)
                .is_some_and(|(noted, _)| *noted >= epoch)
        };
        // Of a known producer the next sequence is known.
        if !counts || known.get(id).is_some() || is_noted() {
            return;
        }
        if self.first.len() >= PRODUCERS_MAX {
            self.first.pop_first();
        }
        self.first.insert(id.0, (epoch, header.base_sequence));
    }

    /// Whether a batch may be the first of its producer.
    pub(super) fn check(
        &self,
        header: &BatchHeader,
        known: &Producers,
    ) -> Result<(), ProducerError> {
        if self.first.is_empty() || known.get(header.producer_id).is_some() {
            return Ok(());
        }
        match self.first.get(&header.producer_id.0) {
            Some(&(epoch, sequence))
                if epoch == header.producer_epoch && sequence != header.base_sequence =>
            {
                let (got, last) = (header.base_sequence, sequence.wrapping_sub(1));
                Err(ProducerError::OutOfOrderSequence { got, last })
            }
            _ => Ok(()),
        }
    }

    /// A batch was written.
    pub(super) fn written(&mut self, header: &BatchHeader) {
        if !self.first.is_empty() {
            self.first.remove(&header.producer_id.0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ottla_protocol::batch::BatchBuilder;
    use ottla_protocol::types::ProducerId;

    use super::*;

    #[test]
    fn a_new_epoch_begins_with_its_own_first_batch_and_an_old_one_does_not_come_back() {
        let (mut firsts, known) = (UnwrittenFirsts::default(), Producers::default());
        let header = |epoch, sequence| {
            let mut batch = BatchBuilder::new().producer(ProducerId(7), epoch, sequence);
            batch.append(1, None, Some(b"v"), &[]);
            *batch.build().unwrap().header()
        };
        for (epoch, sequence) in [(0, 5), (0, 6), (1, 0), (1, 1), (0, 7)] {
            firsts.note(&header(epoch, sequence), &known);
        }
        assert!(firsts.check(&header(1, 0), &known).is_ok());
        assert!(firsts.check(&header(1, 1), &known).is_err(), "it is second");
    }
}
