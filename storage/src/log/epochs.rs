//! Leader-epoch history of one log: which leadership starts at which offset.
//!
//! Invariant: epochs and start offsets both increase strictly from entry to entry. An epoch that
//! wrote nothing has the same start as its successor and is dropped when that is recorded.
//! Deliberately absent: the checkpoint file (the log writes it) and any idea who the leader is.

use ottla_protocol::types::{LeaderEpoch, Offset};

use crate::checkpoint::EpochEntry;

/// The history, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<EpochEntry>,
}

impl EpochHistory {
    /// Builds a history from outside; `None` when it breaks the invariant.
    pub fn from_entries(entries: Vec<EpochEntry>) -> Option<EpochHistory> {
        let grows = entries.windows(2).all(|pair| {
            pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
        });
        let sound = entries
            .first()
            .is_none_or(|e| e.epoch.0 >= 0 && e.start_offset.0 >= 0);
        (grows && sound).then_some(EpochHistory { entries })
    }

    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Records that `epoch` starts at `start_offset`; true if that was news.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch.0 < 0 || self.latest().is_some_and(|latest| epoch <= latest) {
            return false;
        }
        while self
            .entries
            .last()
            .is_some_and(|last| last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        true
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// The largest epoch not above `epoch`, and where it ends; the rule of KIP-101 and KIP-279.
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch.0 < 0 || epoch > latest {
            return None;
        }
        if epoch == latest {
            return Some((epoch, log_end_offset));
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries[higher].start_offset;
        match higher.checked_sub(1) {
            None => Some((epoch, end)),
            Some(at) => Some((self.entries[at].epoch, end)),
        }
    }

    /// Forgets epochs that start at or after `offset`; true if anything changed.
    pub fn truncate_from_end(&mut self, offset: Offset) -> bool {
        let keep = self
            .entries
            .partition_point(|entry| entry.start_offset < offset);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets epochs that end at or before `offset`; the one that covers it now starts there.
    pub fn truncate_from_start(&mut self, offset: Offset) -> bool {
        let covering = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        let Some(first) = covering.checked_sub(1) else {
            return false;
        };
        let changed = first > 0 || self.entries[first].start_offset != offset;
        self.entries.drain(..first);
        self.entries[0].start_offset = offset;
        changed
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let entries = entries
            .iter()
            .map(|&(epoch, start)| EpochEntry {
                epoch: LeaderEpoch(epoch),
                start_offset: Offset(start),
            })
            .collect();
        EpochHistory::from_entries(entries).unwrap()
    }

    #[test]
    fn end_offsets_follow_the_table_of_kip_101() {
        let history = history(&[(2, 10), (4, 20), (5, 30)]);
        let end = |epoch| {
            history
                .end_offset_for(LeaderEpoch(epoch), Offset(42))
                .map(|(e, o)| (e.0, o.0))
        };
        assert_eq!(end(-1), None);
        assert_eq!(end(5), Some((5, 42)));
        assert_eq!(end(6), None);
        assert_eq!(
            end(1),
            Some((1, 10)),
            "no entry at or below: start of the first higher one"
        );
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(3), Some((2, 20)));
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(
            EpochHistory::default().end_offset_for(LeaderEpoch(0), Offset(0)),
            None
        );
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_replaced_by_its_successor() {
        let mut history = EpochHistory::default();
        assert!(history.assign(LeaderEpoch(0), Offset(0)));
        assert!(history.assign(LeaderEpoch(1), Offset(5)));
        assert!(history.assign(LeaderEpoch(2), Offset(5)));
        assert!(!history.assign(LeaderEpoch(2), Offset(9)));
        assert!(!history.assign(LeaderEpoch(1), Offset(9)));
        assert_eq!(history.entries().len(), 2);
        assert_eq!(history.epoch_of(Offset(4)), Some(LeaderEpoch(0)));
        assert_eq!(history.epoch_of(Offset(5)), Some(LeaderEpoch(2)));
    }

    #[test]
    fn truncation_trims_the_end_and_rebases_the_start() {
        let mut trimmed = history(&[(2, 10), (4, 20), (5, 30)]);
        assert!(trimmed.truncate_from_end(Offset(20)));
        assert_eq!(trimmed, history(&[(2, 10)]));
        let mut trimmed = history(&[(2, 10), (4, 20), (5, 30)]);
        assert!(trimmed.truncate_from_start(Offset(25)));
        assert_eq!(trimmed, history(&[(4, 25), (5, 30)]));
        assert!(!trimmed.truncate_from_start(Offset(25)));
    }

    #[test]
    fn histories_that_go_back_are_refused() {
        let entry = |epoch, start| EpochEntry {
            epoch: LeaderEpoch(epoch),
            start_offset: Offset(start),
        };
        assert!(EpochHistory::from_entries(vec![entry(2, 1), entry(1, 5)]).is_none());
        assert!(EpochHistory::from_entries(vec![entry(1, 5), entry(2, 5)]).is_none());
        assert!(EpochHistory::from_entries(vec![entry(-1, 0)]).is_none());
    }
}
