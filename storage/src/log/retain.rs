//! Retention: which of the oldest segments nobody has to keep, and how they leave the log.
//!
//! Three steps, because the new log start must be durable before a file goes: [`Log::expired`] says
//! where the log could begin, the caller writes that into the directory's checkpoint file, then
//! [`Log::advance_log_start_offset`] and [`Log::delete_segments_below_log_start`] follow.
//! Segments leave oldest first and whole. Their files are renamed to `*.deleted`, which recovery
//! removes; whoever reads from one of them keeps its descriptor. Nothing above the high watermark,
//! or above the last checkpoint, is ever deleted.
//! Deliberately absent: when to look, and when the renamed files are removed.

use std::io;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::Log;
use super::checkpoint::remove_if_there;
use super::error::LogError;
use super::segment::{INDEX_FILES, path};
use crate::disk::Disk;
use crate::layout::SegmentFile;

/// The suffix of files that have left the log; Kafka's.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";

/// What must be kept. Neither limit: everything above the log start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub max_age_ms: Option<i64>,
    pub max_bytes: Option<u64>,
}

/// Why a segment need not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It lies below the log start.
    LogStart,
    Size,
    Age,
}

impl Reason {
    pub const ALL: [Reason; 3] = [Reason::LogStart, Reason::Size, Reason::Age];

    pub fn name(self) -> &'static str {
        match self {
            Reason::LogStart => "log start",
            Reason::Size => "size",
            Reason::Age => "age",
        }
    }
}

/// The oldest segments that need not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Where the log begins without them.
    pub log_start_offset: Offset,
    /// Oldest first, with their bytes.
    pub segments: Vec<(Reason, u64)>,
}

/// Files that belong to no log any more.
#[must_use = "the files stay on the disk until they are removed"]
pub struct OldFiles {
    disk: Arc<dyn Disk>,
    pub paths: Vec<String>,
    pub segments: usize,
    pub size_bytes: u64,
}

impl OldFiles {
    pub(super) fn none(disk: &Arc<dyn Disk>) -> OldFiles {
        OldFiles {
            disk: Arc::clone(disk),
            paths: Vec::new(),
            segments: 0,
            size_bytes: 0,
        }
    }

    /// Where they are.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Gives the space back. What is gone already (with its topic, say) is no error.
    pub fn remove(&self) -> io::Result<()> {
        self.paths
            .iter()
            .try_for_each(|path| remove_if_there(&*self.disk, path))
    }
}

impl std::fmt::Debug for OldFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OldFiles({:?})", self.paths)
    }
}

impl Log {
    /// The oldest segments that `retention` does not keep; `None` when there are none. When it
    /// keeps no segment at all, the active one is sealed, so that it can go as well.
    pub fn expired(
        &mut self,
        retention: &Retention,
        high_watermark: Offset,
        now_ms: i64,
    ) -> Result<Option<Expired>, LogError> {
        self.check_usable()?;
        let mut segments = Vec::new();
        let mut left_bytes = self.size_bytes;
        for at in 0..self.segments.len() {
            if self.segment_end(at) > high_watermark || self.segments[at].size_bytes == 0 {
                break;
            }
            let Some(reason) = self.why_expired(at, retention, left_bytes, now_ms)? else {
                break;
            };
            let size_bytes = u64::from(self.segments[at].size_bytes);
            left_bytes -= size_bytes;
            segments.push((reason, size_bytes));
        }
        let Some(last) = segments.len().checked_sub(1) else {
            return Ok(None);
        };
        let log_start_offset = self.segment_end(last).max(self.log_start_offset);
        if segments.len() == self.segments.len() {
            self.load_active()?;
            self.roll(self.log_end_offset, now_ms)?;
        }
        Ok(Some(Expired {
            log_start_offset,
            segments,
        }))
    }

    fn why_expired(
        &mut self,
        at: usize,
        retention: &Retention,
        left_bytes: u64,
        now_ms: i64,
    ) -> Result<Option<Reason>, LogError> {
        let is_active = at + 1 == self.segments.len();
        if !is_active && self.segment_end(at) <= self.log_start_offset {
            return Ok(Some(Reason::LogStart));
        }
        let size_bytes = u64::from(self.segments[at].size_bytes);
        let excess = retention
            .max_bytes
            .map(|most| left_bytes.saturating_sub(most));
        if excess.is_some_and(|excess| excess >= size_bytes) {
            return Ok(Some(Reason::Size));
        }
        let Some(max_age_ms) = retention.max_age_ms else {
            return Ok(None);
        };
        let youngest = self.youngest_ms(at)?;
        Ok((now_ms.saturating_sub(youngest) > max_age_ms).then_some(Reason::Age))
    }

    /// The time of a segment's youngest record; when its records have none, that of its file.
    fn youngest_ms(&mut self, at: usize) -> Result<i64, LogError> {
        let largest = self.largest_timestamp(at)?;
        if largest >= 0 {
            return Ok(largest);
        }
        let path = self.segments[at].path(&self.dir);
        let modified = self.disk.modified_ms(&path);
        let modified = modified.map_err(|error| LogError::io(path, error))?;
        Ok(modified.unwrap_or(self.segments[at].created_ms))
    }

    /// The largest timestamp in a segment, or -1.
    pub(super) fn largest_timestamp(&mut self, at: usize) -> Result<i64, LogError> {
        if at + 1 == self.segments.len() {
            let largest = match self.segments[at].known_largest() {
                None => self.index(at)?.largest,
                known => known,
            };
            return Ok(largest.map_or(-1, |entry| entry.timestamp));
        }
        let interval_bytes = self.config.index_interval_bytes;
        self.segments[at].sealed_largest(&*self.disk, &self.dir, interval_bytes)
    }

    /// Takes segments that lie wholly below the log start out of the log, oldest first. The active
    /// segment stays, and so does what lies above the last checkpoint: the producer state could
    /// not be rebuilt without it. Reads that are under way keep their files. The caller has saved
    /// the log start before, and removes the files when it likes.
    pub fn delete_segments_below_log_start(&mut self) -> Result<OldFiles, LogError> {
        self.check_usable()?;
        let mut old = OldFiles::none(&self.disk);
        // A swap under way has segments of its own in hand: it is soon over.
        let deletable = match self.swap {
            None => self.log_start_offset.min(self.checkpointed),
            Some(_) => Offset::ZERO,
        };
        while self.segments.len() > 1 && self.segment_end(0) <= deletable {
            let base = self.segments[0].base_offset;
            self.rename_segment_files(base, &mut old.paths)?;
            let snapshot = path(&self.dir, base, SegmentFile::ProducerSnapshot);
            remove_if_there(&*self.disk, &snapshot).map_err(|e| LogError::io(snapshot, e))?;
            self.snapshots.remove(&base);
            let segment = self.segments.remove(0);
            self.size_bytes -= u64::from(segment.size_bytes);
            old.segments += 1;
            old.size_bytes += u64::from(segment.size_bytes);
        }
        Ok(old)
    }

    /// True when more could be deleted after a checkpoint.
    pub fn has_segments_below_log_start(&self) -> bool {
        self.segments.len() > 1 && self.segment_end(0) <= self.log_start_offset
    }

    /// Seals the active segment, if there is anything in it: what is committed can be compacted
    /// then.
    pub fn seal_active_segment(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.check_usable()?;
        if self.segments.last().is_some_and(|last| last.size_bytes > 0) {
            self.load_active()?;
            self.roll(self.log_end_offset, now_ms)?;
        }
        Ok(())
    }

    /// Moves the files of a segment out of the way.
    pub(super) fn rename_segment_files(
        &self,
        base: Offset,
        renamed: &mut Vec<String>,
    ) -> Result<(), LogError> {
        for kind in [SegmentFile::Log].iter().chain(&INDEX_FILES) {
            let from = path(&self.dir, base, *kind);
            let to = format!("{from}{DELETED_SUFFIX}");
            match self.disk.rename(&from, &to) {
                Ok(()) => renamed.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io(from, error)),
            }
        }
        Ok(())
    }
}
