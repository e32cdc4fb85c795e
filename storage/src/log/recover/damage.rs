//! Ending a log at a violation: what is cut off, what of it is kept beside the log, and in which
//! order, so that a crash on the way leaves no gap.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::Walk;
use crate::layout::SegmentFile;
use crate::log::Log;
use crate::log::checkpoint::{open_or_create, remove_if_there};
use crate::log::error::{Fault, LogError};
use crate::log::report::{Damage, DamageKind};
use crate::log::scan::WALK_BYTES;
use crate::log::segment::{Segment, path};

const SALVAGED_SUFFIX: &str = ".salvaged";

impl Log {
    /// Ends the log at a violation: in the last segment of the list, or (when `path` is that of
    /// the first later one) behind it.
    pub(super) fn cut(
        &mut self,
        walk: &mut Walk,
        path: String,
        position: u64,
        fault: Fault,
        later: VecDeque<Segment>,
    ) -> Result<(), LogError> {
        let in_last = self
            .segments
            .last()
            .is_some_and(|last| last.path(&self.dir) == path);
        let mut valid_batches_after = 0;
        if in_last {
            let last = &self.segments[self.segments.len() - 1];
            valid_batches_after += self.count_valid(last, position + 1, &mut walk.buffer)?;
        }
        for segment in &later {
            valid_batches_after += self.count_valid(segment, 0, &mut walk.buffer)?;
        }
        let mut salvaged = Vec::new();
        if valid_batches_after > 0 && in_last {
            salvaged.extend(self.salvage_end(position)?);
        }
        for segment in later.iter().rev() {
            walk.report.truncated_bytes += u64::from(segment.size_bytes);
            walk.report.dropped_segments += 1;
            salvaged.extend(self.drop_segment(segment, valid_batches_after > 0)?);
        }
        if in_last {
            walk.report.truncated_bytes += self.cut_last(position)?;
        }
        let kind = match valid_batches_after {
            0 => DamageKind::TornTail,
            _ => DamageKind::CutOff {
                valid_batches_after,
                salvaged,
            },
        };
        walk.report.damage.push(Damage {
            path,
            position,
            fault,
            kind,
        });
        Ok(())
    }

    fn count_valid(
        &self,
        segment: &Segment,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<u64, LogError> {
        let file = segment.file(&*self.disk, &self.dir)?;
        let mut scan = segment.scan(&**file, from, buffer);
        let mut count = 0;
        let mut position = from;
        loop {
            let found = scan.find_valid(position);
            let found = found.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
            let Some(found) = found else { return Ok(count) };
            count += 1;
            position = found.end();
        }
    }

    /// Copies the end of the last segment into a file of its own, synced.
    fn salvage_end(&self, position: u64) -> Result<Option<String>, LogError> {
        let last = &self.segments[self.segments.len() - 1];
        let path = format!("{}{SALVAGED_SUFFIX}", last.path(&self.dir));
        let copy = || -> io::Result<()> {
            let from = self.disk.open(&last.path(&self.dir))?;
            let to = open_or_create(&*self.disk, &path)?;
            to.truncate(0)?;
            let mut buffer = vec![0; WALK_BYTES];
            let mut at = position;
            loop {
                let read = from.read_at(at, &mut buffer)?;
                if read == 0 {
                    return to.sync_data();
                }
                to.write_at(at - position, &[IoSlice::new(&buffer[..read])])?;
                at += read as u64;
            }
        };
        copy().map_err(|error| LogError::io(&*path, error))?;
        Ok(Some(path))
    }

    /// Takes a segment out of the log, durably, before the next one is: a gap must not appear.
    fn drop_segment(&self, segment: &Segment, keep: bool) -> Result<Option<String>, LogError> {
        let path = segment.path(&self.dir);
        let salvaged = format!("{path}{SALVAGED_SUFFIX}");
        let removed = match keep {
            true => self.disk.rename(&path, &salvaged),
            false => remove_if_there(&*self.disk, &path),
        };
        removed.map_err(|error| LogError::io(path, error))?;
        self.remove_segment_files(segment.base_offset)?;
        self.sync_directory()?;
        Ok(keep.then_some(salvaged))
    }

    pub(super) fn cut_last(&mut self, position: u64) -> Result<u64, LogError> {
        let at = self.segments.len() - 1;
        let segment = &mut self.segments[at];
        let file = segment.file(&*self.disk, &self.dir)?;
        file.truncate(position)
            .and_then(|()| file.sync_data())
            .map_err(|error| {
                LogError::io(
                    path(&self.dir, segment.base_offset, SegmentFile::Log),
                    error,
                )
            })?;
        let cut = u64::from(segment.size_bytes) - position;
        segment.size_bytes = position as u32;
        Ok(cut)
    }
}
