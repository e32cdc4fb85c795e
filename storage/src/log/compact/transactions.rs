//! Transactions as a pass over a log meets them: whose records are aborted, and which markers are
//! still needed.
//!
//! What is aborted comes from the transaction indexes, because a marker stands behind its records.
//! A marker stays until a pass met no batch of its transaction; then it goes like a tombstone.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::batch::BatchHeader;
use ottla_protocol::types::Offset;

use crate::log::control::EndTransaction;
use crate::log::index::AbortedTransaction;

/// The state of one pass.
#[derive(Default)]
pub(crate) struct PassedTransactions {
    /// Not begun yet, by first offset (and marker, which tells equal ones apart).
    ahead: BTreeMap<(Offset, Offset), AbortedTransaction>,
    /// Begun and aborted later, by producer; true once a batch of it was met.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers with batches that are not aborted and whose marker is still to come.
    committed: BTreeSet<i64>,
}

/// What a marker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Batches of its transaction are still in the log; of an aborted one, its index entry.
    Needed(Option<AbortedTransaction>),
    /// Nothing is left of its transaction.
    Unneeded,
    /// Batches were met that no index calls aborted.
    Contradiction,
}

impl PassedTransactions {
    pub(crate) fn new(aborted: impl IntoIterator<Item = AbortedTransaction>) -> Self {
        let ahead = aborted
            .into_iter()
            .map(|entry| ((entry.first_offset, entry.last_offset), entry));
        PassedTransactions {
            ahead: ahead.collect(),
            ..PassedTransactions::default()
        }
    }

    /// A batch of records; true when they are aborted.
    pub(crate) fn batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        let id = header.producer_id.0;
        match self.aborted.get_mut(&id) {
            Some((_, met)) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(id);
                false
            }
        }
    }

    /// A marker.
    pub(crate) fn marker(&mut self, header: &BatchHeader, end: EndTransaction) -> Marker {
        self.begin_up_to(header.last_offset());
        let id = header.producer_id.0;
        let met_committed = self.committed.remove(&id);
        if end.committed {
            return match met_committed {
                true => Marker::Needed(None),
                false => Marker::Unneeded,
            };
        }
        match self.aborted.remove(&id) {
            _ if met_committed => Marker::Contradiction,
            Some((entry, true)) => Marker::Needed(Some(entry)),
            Some((_, false)) | None => Marker::Unneeded,
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(first) = self.ahead.first_entry()
            && first.key().0 <= offset
        {
            let entry = first.remove();
            self.aborted
                .entry(entry.producer_id.0)
                .or_insert((entry, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::batch::BatchBuilder;
    use ottla_protocol::types::ProducerId;

    use super::*;

    fn batch(id: i64, offset: i64, transactional: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(id), 0, 0)
            .transactional(transactional)
            .base_offset(Offset(offset));
        builder.append(0, None, None, &[]);
        *builder.build().expect("a batch").header()
    }

    fn end(committed: bool) -> EndTransaction {
        EndTransaction {
            committed,
            coordinator_epoch: 0,
        }
    }

    fn aborted(id: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(id),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    #[test]
    fn records_between_the_first_offset_and_the_marker_are_aborted() {
        let entry = aborted(1, 3, 6);
        let mut passed = PassedTransactions::new([entry]);
        assert!(!passed.batch(&batch(1, 0, true)), "an earlier transaction");
        let committed = passed.marker(&batch(1, 1, true), end(true));
        assert_eq!(committed, Marker::Needed(None));
        assert!(!passed.batch(&batch(2, 2, true)));
        assert!(passed.batch(&batch(1, 3, true)));
        assert!(!passed.batch(&batch(1, 4, false)), "not transactional");
        let marker = passed.marker(&batch(1, 6, true), end(false));
        assert_eq!(marker, Marker::Needed(Some(entry)));
        assert!(!passed.batch(&batch(1, 7, true)), "a later transaction");
    }

    #[test]
    fn a_marker_without_batches_is_not_needed() {
        let mut passed = PassedTransactions::new([aborted(1, 0, 2)]);
        assert_eq!(
            passed.marker(&batch(1, 2, true), end(false)),
            Marker::Unneeded
        );
        assert_eq!(
            passed.marker(&batch(5, 3, true), end(true)),
            Marker::Unneeded
        );
        assert_eq!(
            passed.marker(&batch(5, 4, true), end(false)),
            Marker::Unneeded
        );
    }

    #[test]
    fn an_abort_that_no_index_knows_is_a_contradiction() {
        let mut passed = PassedTransactions::new([]);
        assert!(!passed.batch(&batch(1, 0, true)));
        let marker = passed.marker(&batch(1, 1, true), end(false));
        assert_eq!(marker, Marker::Contradiction);
    }
}
