//! Making a log durable: flushes (segments only) and checkpoints (indexes, epochs, producer
//! snapshots as well).
//!
//! The work is taken under the partition's lock, done without it, and its result brought back
//! under it. Order matters and is this file's business: first the segments are synced, then the
//! other files are written and synced, then the directory; only then may the checkpointed offset
//! move. A producer snapshot in the directory thus promises that all below it is on the disk.
//!
//! A sync of a segment that fails poisons the log: the kernel has marked the pages clean, and a
//! second sync would lie. A checkpoint file that cannot be written only leaves the checkpoint
//! where it was, and a flush that found no descriptor is due as before. Deliberately absent: when
//! to flush (the caller's).

use std::io::{self, IoSlice};
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::error::LogError;
use super::index::{self, Persisted, SegmentIndex};
use super::producers::snapshot;
use super::segment::{Segment, path};
use super::zeros::ZerosMark;
use super::{Log, metadata};
use crate::checkpoint::{LEADER_EPOCHS, format_leader_epochs};
use crate::disk::{
    Disk, DiskFile, is_out_of_descriptors, parent, same_error, write_file_atomically,
};
use crate::layout::SegmentFile;
use crate::sync::Mutex;

/// A checkpoint writes the active segment's indexes only when this much was appended since: less
/// is walked in no time by a recovery.
const ACTIVE_INDEX_STEP_BYTES: u32 = 4 << 20;

/// More than any file has.
const WHOLE_FILE_BYTES: u64 = 1 << 40;

/// What must be synced for the log to be durable up to an offset.
pub struct FlushWork {
    /// The log end when the work was taken.
    pub up_to: Offset,
    /// The segments that hold unsynced bytes.
    pub files: Vec<Arc<dyn DiskFile>>,
    /// And `partition.metadata`.
    sync_metadata: bool,
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    sync_directory: bool,
    sync_parent: bool,
    directory_changes: u64,
    generation: u64,
    truncations: u64,
    checkpoint: Option<Box<CheckpointWork>>,
    /// As [`Log::write_zeros_ahead`] counts.
    zeros: ZerosMark,
}

/// The files of a checkpoint.
struct CheckpointWork {
    writer: Arc<Mutex<u64>>,
    writes: Vec<FileWrite>,
    indexes: Vec<(Offset, Persisted)>,
    snapshots: Vec<(Offset, Vec<u8>)>,
    obsolete_snapshots: Vec<Offset>,
    epochs: Option<String>,
    epochs_version: u64,
    outcome: Mutex<Option<io::Result<()>>>,
}

struct FileWrite {
    path: String,
    position: u64,
    bytes: Vec<u8>,
    /// A file that need not exist: written only to take back what an earlier life left in it.
    only_existing: bool,
    comes_last: bool,
}

impl FileWrite {
    fn run(&self, disk: &dyn Disk) -> io::Result<()> {
        let file = match self.only_existing {
            false => open_or_create(disk, &self.path)?,
            true => match disk.open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            },
        };
        file.write_at(self.position, &[IoSlice::new(&self.bytes)])?;
        let end = self.position + self.bytes.len() as u64;
        if file.len_bytes()? > end {
            file.truncate(end)?;
        }
        file.sync_data()
    }
}

impl FlushWork {
    /// True when there is nothing to do; such a work need not be run or finished.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
            && !self.sync_metadata
            && !self.sync_directory
            && self.checkpoint.is_none()
    }

    /// Has the disk begin with what [`FlushWork::run`] will wait for: worth it when the works of
    /// several logs are run one after another. A hint.
    pub fn start(&self) {
        for file in &self.files {
            let _ = file.start_write_back(0..WHOLE_FILE_BYTES);
        }
    }

    /// Blocks on the disk; call it without the partition's lock, and only once. An error means
    /// that the segments' bytes may be lost.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        if self.sync_metadata {
            metadata::sync(&*self.disk, &self.dir)?;
        }
        if self.sync_directory {
            self.disk.sync_dir(&self.dir)?;
        }
        if self.sync_parent {
            self.disk.sync_dir(parent(&self.dir))?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            let outcome = checkpoint.run(&*self.disk, &self.dir, self.generation);
            // One that was overtaken has no outcome.
            *checkpoint.outcome.lock() = outcome.map(|ran| ran.then_some(())).transpose();
        }
        Ok(())
    }
}

impl CheckpointWork {
    /// False when it was overtaken and did nothing.
    fn run(&self, disk: &dyn Disk, dir: &str, generation: u64) -> io::Result<bool> {
        let overtaken = self.writer.lock();
        if *overtaken != generation {
            return Ok(false);
        }
        // Where an offset index is, the other indexes of its segment are, too: also after a power
        // cut between these lines.
        for write in self.writes.iter().filter(|write| !write.comes_last) {
            write.run(disk)?;
        }
        if !self.writes.is_empty() {
            disk.sync_dir(dir)?;
        }
        for write in self.writes.iter().filter(|write| write.comes_last) {
            write.run(disk)?;
        }
        for (offset, bytes) in &self.snapshots {
            let file = open_or_create(disk, &path(dir, *offset, SegmentFile::ProducerSnapshot))?;
            file.truncate(0)?;
            file.write_at(0, &[IoSlice::new(bytes)])?;
            file.sync_data()?;
        }
        if let Some(epochs) = &self.epochs {
            write_file_atomically(disk, &format!("{dir}/{LEADER_EPOCHS}"), epochs.as_bytes())?;
        }
        disk.sync_dir(dir)?;
        for offset in &self.obsolete_snapshots {
            remove_if_there(disk, &path(dir, *offset, SegmentFile::ProducerSnapshot))?;
        }
        Ok(true)
    }
}

pub(crate) fn open_or_create(disk: &dyn Disk, path: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(path),
        other => other,
    }
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Log {
    /// What must be synced so that everything appended so far is durable: for acknowledgements.
    pub fn begin_flush(&self) -> FlushWork {
        let mut work = FlushWork {
            up_to: self.recovery_point,
            files: Vec::new(),
            sync_metadata: false,
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            sync_directory: false,
            sync_parent: false,
            directory_changes: self.directory.changes,
            generation: self.generation,
            truncations: self.truncations,
            checkpoint: None,
            zeros: self.zeros.mark(),
        };
        if self.poisoned {
            return work;
        }
        work.up_to = self.log_end_offset;
        work.sync_metadata = self.directory.metadata_unsynced;
        if self.recovery_point < self.log_end_offset {
            let unsynced = &self.segments[self.segment_of(self.recovery_point)..];
            work.files.extend(unsynced.iter().map(|segment| {
                Arc::clone(
                    segment
                        .open_file()
                        .expect("an unsynced segment keeps its handle"),
                )
            }));
        }
        self.zeros.add_cuts(&mut work.files);
        work.sync_directory = self.directory.changes > self.directory.synced;
        work.sync_parent = self.directory.new;
        work
    }

    /// The same, and the files that let the next start trust everything up to here. Wanted every
    /// few dozen megabytes, every few seconds, and after a roll.
    pub fn begin_checkpoint(&self) -> FlushWork {
        self.checkpoint_work(false)
    }

    /// The same with all indexes, so that a log that nobody uses can release them.
    pub fn begin_idle_checkpoint(&self) -> FlushWork {
        self.checkpoint_work(true)
    }

    /// `all`: the active segment's indexes too, however little was appended since.
    fn checkpoint_work(&self, all: bool) -> FlushWork {
        let mut work = self.begin_flush();
        let epochs_changed = self.epochs_version > self.epochs_written;
        let behind = self.checkpointed < self.log_end_offset || !self.pending_snapshots.is_empty();
        let wanted = behind || epochs_changed || self.indexes_unwritten || all;
        if self.poisoned || !self.directory.exists || !wanted {
            return work;
        }
        let mut checkpoint = CheckpointWork {
            writer: Arc::clone(&self.writer),
            writes: Vec::new(),
            indexes: Vec::new(),
            snapshots: self.pending_snapshots.clone(),
            obsolete_snapshots: Vec::new(),
            epochs: epochs_changed.then(|| format_leader_epochs(self.epochs.entries())),
            epochs_version: self.epochs_version,
            outcome: Mutex::new(None),
        };
        self.collect_indexes(all, &mut checkpoint);
        self.collect_snapshots(&mut checkpoint);
        let idle = checkpoint.writes.is_empty()
            && checkpoint.snapshots.is_empty()
            && checkpoint.epochs.is_none();
        if !idle {
            work.checkpoint = Some(Box::new(checkpoint));
        }
        work
    }

    fn collect_indexes(&self, all: bool, checkpoint: &mut CheckpointWork) {
        let active = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter().enumerate() {
            let Some(index) = segment.loaded_index() else {
                continue;
            };
            let grown = segment.size_bytes.saturating_sub(index.persisted.at_bytes);
            // Aborted transactions below the checkpoint must all be in the file: recovery looks
            // for later ones only.
            let aborted = index.aborted.len() > index.persisted.aborted;
            let wanted = at < active || all || aborted || grown >= ACTIVE_INDEX_STEP_BYTES;
            // Beside an offset index a missing file of aborted transactions means that there are
            // none, so they must be known.
            let known = index.aborted_known;
            if wanted && known && !index.persisted.covers(index) {
                index_writes(&self.dir, segment, index, &mut checkpoint.writes);
                checkpoint
                    .indexes
                    .push((segment.base_offset, all_of(segment, index)));
            }
        }
    }

    fn collect_snapshots(&self, checkpoint: &mut CheckpointWork) {
        let here = self.log_end_offset;
        let written = |offset: &Offset| self.snapshots.contains(offset);
        let pending = checkpoint
            .snapshots
            .iter()
            .any(|(offset, _)| *offset == here);
        if !pending && !written(&here) {
            checkpoint
                .snapshots
                .push((here, snapshot::encode(&self.producers)));
        }
        // One per segment stays, as in Kafka, and the newest two: the directory's recovery point
        // may still name the one before.
        let previous = self.snapshots.range(..here).next_back();
        let base = |offset: &Offset| {
            self.segments
                .binary_search_by_key(offset, |segment| segment.base_offset)
                .is_ok()
        };
        let obsolete =
            |offset: &&Offset| **offset != here && Some(*offset) != previous && !base(offset);
        checkpoint
            .obsolete_snapshots
            .extend(self.snapshots.iter().filter(obsolete));
    }

    /// Brings back what [`FlushWork::run`] answered. When it found no descriptor, nothing has
    /// changed: the flush is due as before.
    pub fn finish_flush(&mut self, work: FlushWork, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if is_out_of_descriptors(&error) => return,
            Err(_) => self.poisoned = true,
        }
        if self.poisoned || work.truncations != self.truncations {
            return;
        }
        self.recovery_point = self.recovery_point.max(work.up_to);
        self.zeros.synced(&work.zeros);
        if work.sync_metadata {
            self.directory.metadata_unsynced = false;
        }
        if work.sync_directory {
            self.directory.synced = self.directory.synced.max(work.directory_changes);
        }
        if work.sync_parent {
            self.directory.new = false;
        }
        let Some(checkpoint) = work.checkpoint else {
            return;
        };
        match &*checkpoint.outcome.lock() {
            Some(Ok(())) => self.finish_checkpoint(&checkpoint, work.up_to, work.generation),
            Some(Err(_)) => self.distrust_indexes(&checkpoint),
            None => {}
        }
    }

    fn finish_checkpoint(&mut self, checkpoint: &CheckpointWork, up_to: Offset, generation: u64) {
        self.checkpointed = self.checkpointed.max(up_to);
        self.epochs_written = self.epochs_written.max(checkpoint.epochs_version);
        for (offset, _) in &checkpoint.snapshots {
            self.snapshots.insert(*offset);
            self.pending_snapshots
                .retain(|(pending, _)| pending != offset);
        }
        for offset in &checkpoint.obsolete_snapshots {
            self.snapshots.remove(offset);
        }
        if generation != self.generation {
            // Compaction has replaced segments since: what was written about them is gone.
            return;
        }
        self.indexes_unwritten = false;
        let active = self.segments.len().saturating_sub(1);
        for (base, persisted) in &checkpoint.indexes {
            let Ok(at) = self.segments.binary_search_by_key(base, |s| s.base_offset) else {
                continue;
            };
            if let Some(index) = self.segments[at].loaded_index_mut() {
                index.persisted = *persisted;
            }
            if at < active && self.segment_end(at) <= self.recovery_point {
                self.segments[at].release(true);
            }
        }
    }

    /// Files whose write or sync failed hold anything: the next checkpoint writes them anew.
    fn distrust_indexes(&mut self, checkpoint: &CheckpointWork) {
        for (base, _) in &checkpoint.indexes {
            let at = self.segments.binary_search_by_key(base, |s| s.base_offset);
            if let Some(index) = at.ok().and_then(|at| self.segments[at].loaded_index_mut()) {
                index.persisted = Persisted::default();
            }
        }
    }

    /// Flushes and writes everything, so that the next start has nothing to scan. Blocks on the
    /// disk. The caller then writes the directory's checkpoints and the clean-shutdown marker.
    pub fn close(&mut self) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let dir = Arc::clone(&self.dir);
        if self.segments.last().is_some_and(Segment::is_unwritten) {
            self.load_active()?;
        }
        self.release_active_reserve()?;
        let active = self.segments.last_mut();
        if let Some(index) = active.and_then(Segment::loaded_index_mut) {
            index.close_times();
        }
        let work = self.checkpoint_work(true);
        let result = work.run();
        let failed = result.as_ref().err().map(same_error);
        let failed = failed.or_else(|| work.checkpoint.as_ref().and_then(|c| c.error()));
        self.finish_flush(work, result);
        match failed {
            Some(error) => Err(LogError::io(&*dir, error)),
            None => Ok(()),
        }
    }
}

impl CheckpointWork {
    fn error(&self) -> Option<io::Error> {
        match &*self.outcome.lock() {
            Some(Err(error)) => Some(same_error(error)),
            _ => None,
        }
    }
}

impl FlushWork {
    /// Why the files of a checkpoint could not be written, once it ran: for the log and a metric.
    pub fn checkpoint_error(&self) -> Option<io::Error> {
        self.checkpoint
            .as_ref()
            .and_then(|checkpoint| checkpoint.error())
    }
}

fn all_of(segment: &Segment, index: &SegmentIndex) -> Persisted {
    Persisted {
        sound: true,
        offsets: index.offsets.len(),
        times: index.times.len(),
        aborted: index.aborted.len(),
        at_bytes: segment.size_bytes,
    }
}

/// The entries that are not in the files yet; all of them when the files are not to be trusted.
/// The offset index comes last: recovery goes on from its last entry, so the others must not lag
/// behind it, and each file is synced before the next is written.
fn index_writes(dir: &str, segment: &Segment, index: &SegmentIndex, writes: &mut Vec<FileWrite>) {
    let from = match index.persisted.sound {
        true => index.persisted,
        false => Persisted::default(),
    };
    let mut push = |kind, position: usize, bytes: Vec<u8>, only_existing| {
        let path = path(dir, segment.base_offset, kind);
        writes.push(FileWrite {
            path,
            position: position as u64,
            bytes,
            only_existing,
            comes_last: kind == SegmentFile::OffsetIndex,
        });
    };
    push(
        SegmentFile::TimeIndex,
        from.times * index::TIME_ENTRY_BYTES,
        index::encode_times(&index.times[from.times..]),
        false,
    );
    push(
        SegmentFile::TransactionIndex,
        from.aborted * index::ABORTED_ENTRY_BYTES,
        index::encode_aborted(&index.aborted[from.aborted..]),
        index.aborted.is_empty(),
    );
    push(
        SegmentFile::OffsetIndex,
        from.offsets * index::OFFSET_ENTRY_BYTES,
        index::encode_offsets(&index.offsets[from.offsets..]),
        false,
    );
}
