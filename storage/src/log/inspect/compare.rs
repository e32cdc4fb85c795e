//! Holds a partition's producer snapshots and its leader-epoch file against what the walk found.
//!
//! A snapshot may know fewer producers than the log (they expire) and more (their batches were
//! deleted), so only what both know must agree. A transaction that is open in the log must be open
//! in the snapshot: a reader would see its records too early otherwise.

use ottla_protocol::types::{LeaderEpoch, Offset};

use crate::checkpoint::EpochEntry;
use crate::log::producers::{ProducerEntry, Producers, snapshot};

/// Consecutive batches of one leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpochRun {
    pub(super) epoch: LeaderEpoch,
    pub(super) first: Offset,
    pub(super) last: Offset,
}

/// Why a snapshot of this offset is not to be used.
pub(super) fn snapshot_problem(
    bytes: &[u8],
    offset: Offset,
    found: &Producers,
    whole: bool,
) -> Option<&'static str> {
    let Some(written) = snapshot::decode(bytes, offset) else {
        return Some("the file is damaged");
    };
    for (id, entry) in found.iter() {
        let first = entry.current_transaction_first_offset;
        let Some(theirs) = written.get(id) else {
            // Unknown only because the walk began above its records, or expired meanwhile.
            match first.is_some() && whole {
                true => return Some("an open transaction of the log is not in it"),
                false => continue,
            }
        };
        let last = |entry: &ProducerEntry| {
            let last = entry.batches().last();
            last.map(|batch| (batch.last_sequence, batch.last_offset))
        };
        let both = last(entry).is_some() && last(theirs).is_some();
        if theirs.epoch != entry.epoch || (both && last(theirs) != last(entry)) {
            return Some("the last batch of a producer is another one in the log");
        }
        if whole && theirs.current_transaction_first_offset != first {
            return Some("it disagrees with the log about an open transaction");
        }
    }
    None
}

/// Why the leader-epoch file does not describe these batches. `start`: what lies below is deleted,
/// also for the file. `durable`: it was written when offsets up to there were; later ones it need
/// not know.
pub(super) fn epochs_problem(
    entries: &[EpochEntry],
    runs: &[EpochRun],
    (start, durable, end): (Offset, Offset, Offset),
) -> Option<String> {
    let epoch_of = |offset: Offset| {
        let after = entries.partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|at| entries[at].epoch)
    };
    let known = |run: &&EpochRun| run.epoch.0 >= 0 && run.first < durable && run.last >= start;
    for run in runs.iter().filter(known) {
        let last = run.last.min(Offset(durable.0 - 1));
        for offset in [run.first.max(start), last.max(start)] {
            let said = epoch_of(offset);
            if said != Some(run.epoch) {
                let said = said.map_or_else(|| "none".to_owned(), |epoch| epoch.0.to_string());
                return Some(format!(
                    "offset {offset} has leader epoch {} in the log and {said} in the file",
                    run.epoch.0
                ));
            }
        }
    }
    let beyond = entries.last().filter(|last| last.start_offset > end)?;
    let (epoch, start) = (beyond.epoch.0, beyond.start_offset);
    Some(format!(
        "epoch {epoch} starts at {start}, behind the log end"
    ))
}
