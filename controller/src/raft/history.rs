//! Reads a metadata log from disk without taking part in a quorum: for tools that look at a
//! directory nobody is running on, and hold its lock.
//!
//! The log is opened as a start would open it, so what a crash left at its end is cut off. Entries
//! near the end may not be committed: `committed` says what is known to be.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ottla_protocol::types::Offset;
use ottla_storage::disk::Disk;
use raft::eraftpb::{Entry, EntryType};

use super::error::ControllerError;
use super::log::EntryLog;
use super::{decode_entry, position, state};
use crate::image::MetadataImage;
use crate::reconstruct::{HistoryEntry, replay};

pub struct History {
    disk: Arc<dyn Disk>,
    log: EntryLog,
    /// Positions of the snapshots, oldest first; never empty.
    snapshots: Vec<u64>,
    committed: u64,
}

impl History {
    pub fn open(disk: Arc<dyn Disk>) -> Result<History, ControllerError> {
        let snapshots = state::list_snapshots(&*disk)?;
        let newest = *snapshots.last().ok_or(ControllerError::NoSnapshot)?;
        let hard_state = state::load_hard_state(&*disk)?.unwrap_or_default();
        let log = EntryLog::open(disk.clone(), newest, newest)?;
        Ok(History {
            disk,
            log,
            snapshots,
            committed: hard_state.commit.max(newest),
        })
    }

    /// Positions of which the image can be had.
    pub fn positions(&self) -> RangeInclusive<Offset> {
        let newest = self.snapshots[self.snapshots.len() - 1];
        let last = newest.max(self.log.next_index().saturating_sub(1));
        position(self.snapshots[0])..=position(last)
    }

    /// Entries up to here are known to be committed; later ones may be.
    pub fn committed(&self) -> Offset {
        position(self.committed)
    }

    /// The image at a position; `None` if that is outside `positions`.
    pub fn image_at(&self, at: Offset) -> Result<Option<MetadataImage>, ControllerError> {
        if !self.positions().contains(&at) {
            return Ok(None);
        }
        let index = at.0.unsigned_abs();
        let before = self
            .snapshots
            .partition_point(|snapshot| *snapshot <= index)
            - 1;
        image_at(&*self.disk, &self.log, self.snapshots[before], index).map(Some)
    }

    /// The entries of a range of positions that are kept, oldest first.
    pub fn entries(
        &self,
        range: RangeInclusive<Offset>,
    ) -> Result<Vec<HistoryEntry>, ControllerError> {
        let (first, last) = self.log.on_disk();
        let low = range.start().0.max(0).unsigned_abs().max(first);
        let high = range.end().0.max(0).unsigned_abs().min(last);
        self.log
            .read(low, high)?
            .iter()
            .map(history_entry)
            .collect()
    }

    /// The position of the last entry that was proposed at or before a wall time.
    pub fn position_at(&self, time_ms: i64) -> Result<Option<Offset>, ControllerError> {
        let positions = self.positions();
        let entries = self.entries(positions.clone())?;
        let past = |entry: &&HistoryEntry| entry.proposed_at_ms.is_some_and(|ms| ms <= time_ms);
        let last = entries.iter().rev().find(past).map(|entry| entry.position);
        Ok(last.filter(|position| positions.contains(position)))
    }
}

/// The image at `index`, made of the snapshot at `snapshot` and the entries between.
pub(super) fn image_at(
    disk: &dyn Disk,
    log: &EntryLog,
    snapshot: u64,
    index: u64,
) -> Result<MetadataImage, ControllerError> {
    let image = state::load_snapshot(disk, snapshot)?
        .image()
        .map_err(|source| ControllerError::UnreadableEntry {
            index: snapshot,
            source,
        })?;
    if index <= snapshot {
        return Ok(image);
    }
    let entries = log.read(snapshot + 1, index)?;
    let entries: Vec<HistoryEntry> = entries
        .iter()
        .map(history_entry)
        .collect::<Result<_, _>>()?;
    Ok(replay(&image, &entries))
}

fn history_entry(entry: &Entry) -> Result<HistoryEntry, ControllerError> {
    let normal = EntryType::from_i32(entry.entry_type) == Some(EntryType::EntryNormal);
    let proposed_at: Result<[u8; 8], _> = entry.context.as_slice().try_into();
    Ok(HistoryEntry {
        position: position(entry.index),
        term: entry.term,
        proposed_at_ms: proposed_at.ok().map(i64::from_be_bytes),
        records: if normal {
            decode_entry(entry)?
        } else {
            Vec::new()
        },
    })
}
