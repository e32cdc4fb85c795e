//! What raft reads from and is kept in: entries, hard state, snapshots and members.
//!
//! Owns the order in which things become durable, and what a crash between two of them leaves:
//!
//! - Snapshot before log: an installed snapshot is on disk before the entries it replaces go. At
//!   the next start a log that does not reach the snapshot, or contradicts it, is restarted there.
//! - Hard state before entries: entries of a term never outlive the knowledge of that term, so a
//!   node cannot vote again in it. The commit index that comes with it is stored only later.
//! - Snapshot before entries are forgotten: in memory those up to the last snapshot but one, on
//!   disk those up to the oldest that is kept.
//! - A new node writes its first snapshot (index 1, term 1, empty image) last: before that nothing
//!   was promised, and a start from nothing is a start from the beginning.

use std::cell::Cell;
use std::sync::Arc;

use ottla_storage::disk::{Disk, MemoryDisk, read_file};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::error::ControllerError;
use super::history::image_at;
use super::log::EntryLog;
use super::state::{self, DIRECTORY, StoredSnapshot};
use crate::image::MetadataImage;
use crate::record::{MetadataRecord, encode_batch};

/// Bootstrap happens at this index and term, so that a node that joins later, with an empty log,
/// cannot be brought up by entries alone and must take a snapshot.
const BOOTSTRAP: u64 = 1;

pub(super) struct Store {
    disk: Arc<dyn Disk>,
    log: EntryLog,
    hard_state: HardState,
    /// Members as of the last applied entry.
    members: ConfState,
    /// The newest snapshot on disk.
    snapshot: SnapshotMetadata,
    /// Index and term of the last entry that raft cannot have any more: the snapshot's before the
    /// newest.
    before_log: (u64, u64),
    /// Size of the entries after the newest snapshot.
    bytes_since_snapshot: usize,
    /// A peer needs a snapshot that is newer than ours.
    snapshot_wanted: Cell<bool>,
}

impl Store {
    /// Opens what is there, or begins a new quorum of `members`. The image is the newest
    /// snapshot's; entries after it are applied when raft says that they are committed.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        members: &ConfState,
    ) -> Result<(Store, MetadataImage), ControllerError> {
        create_directory(&*disk)?;
        let indexes = state::list_snapshots(&*disk)?;
        if indexes.is_empty() {
            // A crash during bootstrap leaves no entry; without snapshot there can be none.
            if EntryLog::exists(&*disk)? {
                return Err(ControllerError::NoSnapshot);
            }
            bootstrap(&*disk, members, &MetadataImage::empty().snapshot())?;
            return Store::open(disk, members);
        }
        let hard_state = state::load_hard_state(&*disk)?.ok_or_else(|| damaged("no hard state"))?;
        let (newest, before) = readable_snapshots(&*disk, &indexes)?;
        let image = image_of(&newest)?;
        let mut store = Store {
            log: EntryLog::open(disk.clone(), before.0, newest.metadata.index)?,
            disk,
            hard_state,
            members: newest.metadata.conf_state.clone().unwrap_or_default(),
            snapshot: newest.metadata,
            before_log: before,
            bytes_since_snapshot: 0,
            snapshot_wanted: Cell::new(false),
        };
        store.join_log_and_snapshot()?;
        store.check_hard_state()?;
        Ok((store, image))
    }

    /// Brings the log in line with the snapshots after whatever crash.
    fn join_log_and_snapshot(&mut self) -> Result<(), ControllerError> {
        let newest = (self.snapshot.index, self.snapshot.term);
        let contradicts = self
            .log
            .get(newest.0)
            .is_some_and(|entry| entry.term != newest.1);
        if self.log.next_index() <= newest.0 || contradicts {
            self.log.restart_at(newest.0 + 1)?;
        }
        let first = self.log.first_index().unwrap_or(newest.0 + 1);
        if first > newest.0 + 1 {
            return Err(damaged(
                "entries between the snapshot and the log are missing",
            ));
        }
        // After a snapshot was installed the log does not reach back to the one before.
        if first > self.before_log.0 + 1 {
            self.before_log = newest;
            self.log.release_through(newest.0);
        }
        self.count_bytes_since_snapshot();
        Ok(())
    }

    fn count_bytes_since_snapshot(&mut self) {
        let after = self
            .log
            .range(self.snapshot.index + 1, self.log.next_index());
        self.bytes_since_snapshot = after.map(entry_bytes).sum();
    }

    /// The commit index was stored at some time before the crash, the entries at another.
    fn check_hard_state(&mut self) -> Result<(), ControllerError> {
        let last = self.last();
        if self.hard_state.commit > last.0 {
            return Err(damaged(
                "entries that were committed are missing from the log",
            ));
        }
        if self.hard_state.term < last.1 {
            return Err(damaged("the hard state is older than the log"));
        }
        self.hard_state.commit = self.hard_state.commit.max(self.snapshot.index);
        Ok(())
    }

    fn last(&self) -> (u64, u64) {
        let last = self.log.next_index() - 1;
        self.log
            .get(last)
            .map_or(self.before_log, |entry| (entry.index, entry.term))
    }

    pub(super) fn members(&self) -> &ConfState {
        &self.members
    }

    pub(super) fn set_members(&mut self, members: ConfState) {
        self.members = members;
    }

    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    pub(super) fn first_index(&self) -> u64 {
        self.before_log.0 + 1
    }

    pub(super) fn last_index(&self) -> u64 {
        self.last().0
    }

    pub(super) fn entry(&self, index: u64) -> Option<&Entry> {
        self.log.get(index)
    }

    /// The image at an index that is applied; `None` if that is too long ago.
    pub(super) fn image_at(&self, index: u64) -> Result<Option<MetadataImage>, ControllerError> {
        let snapshots = state::list_snapshots(&*self.disk)?;
        match snapshots.iter().rev().find(|snapshot| **snapshot <= index) {
            Some(snapshot) => image_at(&*self.disk, &self.log, *snapshot, index).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn bytes_since_snapshot(&self) -> usize {
        self.bytes_since_snapshot
    }

    pub(super) fn snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.get()
    }

    /// A change of term or vote is synced; the commit index alone can be found out again.
    pub(super) fn save_hard_state(&mut self, new: &HardState) -> Result<(), ControllerError> {
        let vote_or_term = (new.term, new.vote) != (self.hard_state.term, self.hard_state.vote);
        if vote_or_term {
            // The new commit index speaks of entries that are only about to be written. Stored
            // now, it would after a crash declare committed what they were to overwrite.
            let mut stored = new.clone();
            stored.commit = self.hard_state.commit;
            state::store_hard_state(&*self.disk, &stored)?;
        }
        self.hard_state = new.clone();
        Ok(())
    }

    /// Stores the commit index, so that a log that has lost committed entries is noticed at the
    /// next start. Not needed for anything else, so it is done when it costs little.
    pub(super) fn save_commit(&mut self, commit: u64) -> Result<(), ControllerError> {
        self.hard_state.commit = commit;
        state::store_hard_state(&*self.disk, &self.hard_state)
    }

    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), ControllerError> {
        self.log.append(entries)?;
        self.bytes_since_snapshot += entries.iter().map(entry_bytes).sum::<usize>();
        Ok(())
    }

    /// Replaces everything by the leader's snapshot.
    pub(super) fn install(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<MetadataImage, ControllerError> {
        let stored = StoredSnapshot {
            metadata: snapshot.metadata.clone().unwrap_or_default(),
            data: snapshot.data.clone(),
        };
        let index = stored.metadata.index;
        let image = image_of(&stored)?;
        state::store_snapshot(&*self.disk, &stored)?;
        self.log.restart_at(index + 1)?;
        self.before_log = (index, stored.metadata.term);
        self.members = stored.metadata.conf_state.clone().unwrap_or_default();
        self.snapshot = stored.metadata;
        self.bytes_since_snapshot = 0;
        Ok(image)
    }

    /// Writes a snapshot of the image, which must be that of the last applied entry, and forgets
    /// what only older snapshots need.
    pub(super) fn compact(&mut self, image: &MetadataImage) -> Result<(), ControllerError> {
        let index = image.applied.0.unsigned_abs();
        self.snapshot_wanted.set(false);
        if index <= self.snapshot.index {
            return Ok(());
        }
        let metadata = SnapshotMetadata {
            conf_state: Some(self.members.clone()),
            index,
            term: image.term,
        };
        let data = encode_batch(&image.snapshot());
        let stored = StoredSnapshot {
            metadata: metadata.clone(),
            data,
        };
        let oldest = state::store_snapshot(&*self.disk, &stored)?;
        self.before_log = (self.snapshot.index, self.snapshot.term);
        self.snapshot = metadata;
        self.log.release_through(self.before_log.0);
        self.log.delete_through(oldest)?;
        self.count_bytes_since_snapshot();
        self.save_commit(index)
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

fn create_directory(disk: &dyn Disk) -> Result<(), ControllerError> {
    disk.create_dir(DIRECTORY)
        .map_err(ControllerError::io(DIRECTORY))?;
    disk.sync_dir("").map_err(ControllerError::io(DIRECTORY))
}

/// The files of a quorum of one whose first snapshot holds these records: names in the controller's
/// directory, and contents.
pub(super) fn files_of(
    members: &ConfState,
    records: &[MetadataRecord],
) -> Result<Vec<(String, Vec<u8>)>, ControllerError> {
    let disk = MemoryDisk::volatile();
    create_directory(&disk)?;
    bootstrap(&disk, members, records)?;
    let io = |source| ControllerError::io(DIRECTORY)(source);
    let mut files = Vec::new();
    for entry in disk.list(DIRECTORY).map_err(io)? {
        let path = format!("{DIRECTORY}/{}", entry.name);
        files.push((entry.name, read_file(&disk, &path, u64::MAX).map_err(io)?));
    }
    Ok(files)
}

fn bootstrap(
    disk: &dyn Disk,
    members: &ConfState,
    records: &[MetadataRecord],
) -> Result<(), ControllerError> {
    let hard_state = HardState {
        term: BOOTSTRAP,
        vote: 0,
        commit: BOOTSTRAP,
    };
    state::store_hard_state(disk, &hard_state)?;
    let metadata = SnapshotMetadata {
        conf_state: Some(members.clone()),
        index: BOOTSTRAP,
        term: BOOTSTRAP,
    };
    let data = encode_batch(records);
    state::store_snapshot(disk, &StoredSnapshot { metadata, data })?;
    Ok(())
}

/// The newest snapshot that can be read, and index and term of the one before it.
fn readable_snapshots(
    disk: &dyn Disk,
    indexes: &[u64],
) -> Result<(StoredSnapshot, (u64, u64)), ControllerError> {
    let mut newest = None;
    let mut failure = ControllerError::NoSnapshot;
    for index in indexes.iter().rev() {
        match (state::load_snapshot(disk, *index), newest.take()) {
            (Ok(snapshot), None) => newest = Some(snapshot),
            (Ok(before), Some(newest)) => {
                return Ok((newest, (before.metadata.index, before.metadata.term)));
            }
            (Err(error @ ControllerError::Damaged { .. }), found) => {
                tracing::warn!(%error, "a damaged metadata snapshot is put aside");
                state::set_aside(disk, *index)?;
                (newest, failure) = (found, error);
            }
            // What another release wrote is not damage: this one must not go on from before it.
            (Err(error), _) => return Err(error),
        }
    }
    let newest = newest.ok_or(failure)?;
    let before = (newest.metadata.index, newest.metadata.term);
    Ok((newest, before))
}

fn image_of(snapshot: &StoredSnapshot) -> Result<MetadataImage, ControllerError> {
    let index = snapshot.metadata.index;
    snapshot
        .image()
        .map_err(|source| ControllerError::UnreadableEntry { index, source })
}

fn damaged(problem: &'static str) -> ControllerError {
    ControllerError::Damaged {
        path: DIRECTORY.to_owned(),
        problem,
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.members.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first_index() {
            return Err(StorageError::Compacted.into());
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let mut entries = Vec::new();
        for entry in self.log.range(low, high) {
            size += entry_bytes(entry) as u64;
            if size > max_size && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        if entries.is_empty() && low < high {
            return Err(StorageError::Unavailable.into());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before_log.0 {
            return Ok(self.before_log.1);
        }
        if index < self.before_log.0 {
            return Err(StorageError::Compacted.into());
        }
        self.log
            .get(index)
            .map(|entry| entry.term)
            .ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.snapshot.index < request_index {
            self.snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        match state::load_snapshot(&*self.disk, self.snapshot.index) {
            Ok(snapshot) => Ok(snapshot.into_raft()),
            Err(error) => {
                tracing::error!(%error, "metadata snapshot cannot be sent");
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
