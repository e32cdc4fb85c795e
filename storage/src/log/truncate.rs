//! Cutting a log: its end (divergence from a leader), all of it, or its start.
//!
//! Truncation is rare and waits for the disk: what was cut off must not come back after a power
//! cut and mix with what is appended later. The order makes every crash point a prefix: producer
//! snapshots above the target go first (they promise that what lies below them is in the log),
//! then segments from the newest on, one by one, then the end of the last one.
//! A failure on the way leaves files that this log no longer describes, so it poisons the log. What
//! needs a descriptor is therefore opened and read before anything is changed: without one left the
//! truncation fails, and the log is as it was.

use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::Log;
use super::checkpoint::remove_if_there;
use super::error::LogError;
use super::index::Persisted;
use super::producers::Producers;
use super::scan::{LOOKUP_BYTES, ScanError};
use super::segment::{INDEX_FILES, path};
use crate::disk::DiskFile;
use crate::layout::SegmentFile;

/// Where the log is cut, and what is wanted on the way.
struct Cut {
    /// The place of the segment, and where its data ends from then on.
    at: usize,
    position: u32,
    /// The log end that results, and the producer state there.
    end: Offset,
    producers: Producers,
    /// Keeps its descriptor.
    file: Arc<dyn DiskFile>,
}

impl Log {
    /// Removes every batch that contains or follows `offset`. The log then ends at `offset`, or
    /// at the start of the batch that contained it. Blocks on the disk.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), LogError> {
        self.check_usable()?;
        if offset >= self.log_end_offset {
            return Ok(());
        }
        if self
            .segments
            .first()
            .is_none_or(|first| offset < first.base_offset)
        {
            return self.truncate_fully_and_start_at(offset);
        }
        let cut = self.prepare_cut(offset)?;
        let result = self.truncate_files(cut);
        if result.is_err() {
            self.poisoned = true;
        }
        result
    }

    /// Empties the log; the next batch gets `offset`. Blocks on the disk.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.check_usable()?;
        self.create_directory()?;
        let emptied = self.start_over(offset);
        self.poisoned |= emptied.is_err();
        emptied?;
        // The log is empty also when it cannot be made: then the next append makes it.
        self.add_segment(offset, 0)?;
        let synced = self.sync_directory();
        self.poisoned |= synced.is_err();
        synced
    }

    /// Raises the log start; what lies below is not read any more.
    pub fn advance_log_start_offset(&mut self, offset: Offset) -> Result<(), LogError> {
        if offset > self.log_end_offset {
            return Err(self.out_of_range(offset));
        }
        if offset > self.log_start_offset {
            self.log_start_offset = offset;
            self.epochs_version += u64::from(self.epochs.truncate_from_start(offset));
        }
        Ok(())
    }

    pub(super) fn segments_start(&self) -> Offset {
        self.segments
            .first()
            .map_or(self.log_start_offset, |first| first.base_offset)
    }

    pub(super) fn check_usable(&self) -> Result<(), LogError> {
        match self.poisoned {
            true => Err(LogError::Poisoned),
            false => Ok(()),
        }
    }

    fn out_of_range(&self, offset: Offset) -> LogError {
        LogError::OffsetOutOfRange {
            offset,
            log_start_offset: self.log_start_offset,
            log_end_offset: self.log_end_offset,
        }
    }

    /// Where to cut, and all that has to be opened or read for it.
    fn prepare_cut(&mut self, offset: Offset) -> Result<Cut, LogError> {
        let at = self.segment_of(offset);
        let index = self.index(at)?;
        let segment = &self.segments[at];
        let file = Arc::clone(segment.file(&*self.disk, &self.dir)?).pin();
        let file = file.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
        let found = segment.locate(&*file, index, offset);
        let (position, end) = match found.map_err(|error| self.fault(segment, error))? {
            Some(found) => (found.position as u32, offset.min(found.header.base_offset)),
            None => (segment.size_bytes, offset),
        };
        Ok(Cut {
            at,
            position,
            end,
            producers: self.producers_at(end)?,
            file,
        })
    }

    /// Under the writer's lock: a checkpoint that was being written is done; one that was begun, or
    /// a compaction, writes nothing any more. Answers the generation of the files from now on.
    fn begin_truncation(&mut self) -> Result<u64, LogError> {
        self.truncations += 1;
        self.generation += 1;
        self.forget_damaged();
        self.settle_swap()?;
        Ok(self.generation)
    }

    fn truncate_files(&mut self, cut: Cut) -> Result<(), LogError> {
        let Cut { at, end, .. } = cut;
        let writer = Arc::clone(&self.writer);
        let mut writer = writer.lock();
        *writer = self.begin_truncation()?;
        self.remove_snapshots_above(end)?;
        self.remove_segments_after(at)?;
        self.remove_index_files(self.segments[at].base_offset)?;
        self.sync_directory()?;
        let segment = &mut self.segments[at];
        let cut_off = cut.file.truncate(u64::from(cut.position));
        cut_off
            .and_then(|()| cut.file.sync_data())
            .map_err(|error| LogError::io(segment.path(&self.dir), error))?;
        self.size_bytes -= u64::from(segment.size_bytes - cut.position);
        segment.size_bytes = cut.position;
        segment.forget_reserve();
        self.zeros.truncated(segment.base_offset);
        segment.forget_sealed();
        if cut.position == 0 {
            segment.first_timestamp = None;
        }
        self.log_end_offset = end;
        self.truncate_index(at, cut.position)?;
        self.forget_above(end);
        let before = std::mem::replace(&mut self.producers, cut.producers);
        self.producers.keep_unreplicated(&before, end);
        Ok(())
    }

    /// Everything in memory that speaks of offsets at or above `end`.
    fn forget_above(&mut self, end: Offset) {
        self.log_start_offset = self.log_start_offset.min(end);
        self.compacted_to = self.compacted_to.min(end);
        self.epochs_version += u64::from(self.epochs.truncate_from_end(end));
        self.tail.clear();
        self.recovery_point = self.recovery_point.min(end);
        let snapshot = self.snapshots.range(..=end).next_back().copied();
        let promised = snapshot.unwrap_or_else(|| self.segments_start());
        self.checkpointed = self.checkpointed.min(promised).min(self.recovery_point);
        let size = self.segments.last().map_or(0, |segment| segment.size_bytes);
        self.written_back = self.written_back.min(size);
    }

    pub(super) fn remove_snapshots_above(&mut self, end: Offset) -> Result<(), LogError> {
        self.pending_snapshots.retain(|(offset, _)| *offset <= end);
        let above = self.snapshots.split_off(&end.next());
        for offset in &above {
            let path = path(&self.dir, *offset, SegmentFile::ProducerSnapshot);
            remove_if_there(&*self.disk, &path).map_err(|error| LogError::io(path, error))?;
        }
        match above.is_empty() {
            true => Ok(()),
            false => self.sync_directory(),
        }
    }

    fn remove_segments_after(&mut self, at: usize) -> Result<(), LogError> {
        while self.segments.len() > at + 1 {
            let last = &self.segments[self.segments.len() - 1];
            self.remove_segment_files(last.base_offset)?;
            self.sync_directory()?;
            let removed = self.segments.pop().expect("the loop saw it");
            self.size_bytes -= u64::from(removed.size_bytes);
        }
        Ok(())
    }

    pub(super) fn remove_segment_files(&self, base: Offset) -> Result<(), LogError> {
        let log = path(&self.dir, base, SegmentFile::Log);
        remove_if_there(&*self.disk, &log).map_err(|error| LogError::io(log, error))?;
        self.remove_index_files(base)
    }

    /// Index files are written in place and trusted below the recovery point: whoever cuts a
    /// segment removes them, or they would speak of what was cut once that point has moved on.
    pub(super) fn remove_index_files(&self, base: Offset) -> Result<(), LogError> {
        for kind in INDEX_FILES {
            let path = path(&self.dir, base, kind);
            remove_if_there(&*self.disk, &path).map_err(|error| LogError::io(path, error))?;
        }
        Ok(())
    }

    pub(super) fn sync_directory(&self) -> Result<(), LogError> {
        self.disk
            .sync_dir(&self.dir)
            .map_err(|error| LogError::io(&*self.dir, error))
    }

    /// Cuts the index of a segment that is active now, and finds its largest timestamp again.
    fn truncate_index(&mut self, at: usize, cut: u32) -> Result<(), LogError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let interval_bytes = self.config.index_interval_bytes;
        let end = self.log_end_offset;
        let segment = &mut self.segments[at];
        let base = segment.base_offset;
        let relative = (end.0 - base.0).max(0) as u64;
        let Some(index) = segment.loaded_index_mut() else {
            return Ok(());
        };
        index.truncate(relative, cut, base);
        index.persisted = Persisted::default();
        let from = index
            .offsets
            .last()
            .map_or(0, |entry| u64::from(entry.position));
        let file = Arc::clone(segment.file(disk, dir)?);
        let mut buffer = [0; LOOKUP_BYTES];
        let mut walked = Vec::new();
        let mut scan = segment.scan(&*file, from, &mut buffer);
        loop {
            match scan.next() {
                Ok(Some(found)) => walked.push(found),
                Ok(None) | Err(ScanError::Bad { .. }) => break,
                Err(ScanError::Io(error)) => {
                    return Err(LogError::io(segment.path(dir), error));
                }
            }
        }
        for found in walked {
            segment.observe(found.position as u32, &found.header, interval_bytes);
        }
        Ok(())
    }

    fn start_over(&mut self, offset: Offset) -> Result<(), LogError> {
        let writer = Arc::clone(&self.writer);
        let mut writer = writer.lock();
        *writer = self.begin_truncation()?;
        let all: Vec<Offset> = self.snapshots.iter().copied().collect();
        self.pending_snapshots.clear();
        for at in all {
            let path = path(&self.dir, at, SegmentFile::ProducerSnapshot);
            remove_if_there(&*self.disk, &path).map_err(|error| LogError::io(path, error))?;
            self.snapshots.remove(&at);
        }
        self.sync_directory()?;
        while let Some(last) = self.segments.last() {
            self.remove_segment_files(last.base_offset)?;
            self.sync_directory()?;
            self.segments.pop();
        }
        self.size_bytes = 0;
        self.epochs.clear();
        self.epochs_version += 1;
        self.producers.clear();
        self.log_start_offset = offset;
        self.log_end_offset = offset;
        self.tail.clear();
        self.recovery_point = offset;
        self.checkpointed = offset;
        self.compacted_to = offset;
        Ok(())
    }
}
