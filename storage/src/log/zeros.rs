//! Zeros written ahead of the data, so that small syncs need no change of the file's metadata.
//!
//! A sync after a write that makes a file longer, or that fills an extent which was only reserved,
//! has to write the file's metadata as well, through the journal where the file system has one; one
//! that overwrites bytes which are there has not.
//! So zeros follow the data of an active segment whose syncs are small and waited for. Whoever
//! writes much per sync does not pay for writing twice.
//!
//! What holds:
//! - Zeros never overwrite a batch. They are written under the log's lock, as batches are, from
//!   where the file ends then. So no batch can lie in that range, and one that comes later is
//!   written later into the same pages; write-back and syncs, which run without the lock, write
//!   whatever the pages hold. A write of zeros is as long as that of a large batch.
//! - Only the last segment has any. A roll cuts them off before the new segment is made, and fails
//!   the append if it cannot; a close does the same. The release of an idle log cuts them off, too.
//! - Batches that are written ahead of their appends (`ahead.rs`) come to lie over zeros. None are
//!   written meanwhile, and whoever cuts off what is behind the end cuts off both.
//! - A cut that is not synced yet is part of the next flush, and of every checkpoint. A segment
//!   that recovery does not walk through, or a clean start, therefore never has zeros; elsewhere
//!   recovery takes zeros up to the end of the file as the end of the data.
//! - Zeros are synced by whichever sync comes next, as it also brings the new length. Before that
//!   they may be missing after a power cut, or be there in part: the data before them is not
//!   concerned, and a batch that was written over them is as whole or torn as one at the end.
//! - Writing them may fail, on a full disk for instance: then this segment gets none any more.
//!   Neither does one that batches were cut off from: whoever was about to read those finds the
//!   file too short, and must not find it long enough again before there are other batches in it.
//!
//! Deliberately absent: which logs want this (the caller's), and when.

use std::io::{self, IoSlice};
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::append::WriteBack;
use super::error::LogError;
use super::{Log, LogConfig};
use crate::disk::DiskFile;

/// The usual [`LogConfig::zeros_from_bytes`]: small partitions stay small.
pub const ZEROS_FROM_BYTES: u32 = 64 << 10;
/// From this much data per sync on, writing everything twice is no bargain: a producer of 16 KB
/// batches with five on the way had 45 KB in each sync and got nothing for it.
const SMALL_SYNC_BYTES: u64 = 16 << 10;
/// A step is as long as the data before it, up to so many times the smallest.
const STEPS_MAX: u64 = 8;
const PAGE_BYTES: u64 = 4 << 10;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a log knows about its syncs and about zeros that were cut off again.
#[derive(Default)]
pub(super) struct Zeros {
    appended_bytes: u64,
    synced_bytes: u64,
    /// Of the last syncs, roughly; 0: there was none.
    bytes_per_sync: u64,
    /// Files whose cut is not synced, numbered.
    cuts: Vec<(u64, Arc<dyn DiskFile>)>,
    cuts_made: u64,
    /// The segment that gets none any more.
    barred: Option<Offset>,
}

/// What a sync that begins now will cover.
#[derive(Clone, Copy)]
pub(super) struct ZerosMark {
    appended_bytes: u64,
    cuts_made: u64,
}

impl Zeros {
    pub(super) fn appended(&mut self, bytes: u64) {
        self.appended_bytes += bytes;
    }

    pub(super) fn mark(&self) -> ZerosMark {
        ZerosMark {
            appended_bytes: self.appended_bytes,
            cuts_made: self.cuts_made,
        }
    }

    pub(super) fn synced(&mut self, mark: &ZerosMark) {
        let bytes = mark.appended_bytes.saturating_sub(self.synced_bytes);
        if bytes > 0 {
            self.bytes_per_sync = match self.bytes_per_sync {
                0 => bytes,
                before => (before * 7 + bytes).div_ceil(8),
            };
            self.synced_bytes = mark.appended_bytes;
        }
        self.cuts.retain(|(number, _)| *number > mark.cuts_made);
    }

    pub(super) fn has_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Files that a flush must sync beside those with new data.
    pub(super) fn add_cuts(&self, files: &mut Vec<Arc<dyn DiskFile>>) {
        for (_, file) in &self.cuts {
            if !files.iter().any(|known| Arc::ptr_eq(known, file)) {
                files.push(Arc::clone(file));
            }
        }
    }

    fn cut(&mut self, file: Arc<dyn DiskFile>) {
        self.cuts_made += 1;
        self.cuts.retain(|(_, known)| !Arc::ptr_eq(known, &file));
        self.cuts.push((self.cuts_made, file));
    }

    /// Batches were cut off from this segment.
    pub(super) fn truncated(&mut self, base_offset: Offset) {
        self.barred = Some(base_offset);
    }

    fn wanted(&self) -> bool {
        (1..SMALL_SYNC_BYTES).contains(&self.bytes_per_sync)
    }
}

impl Log {
    /// Writes zeros behind the data if the last syncs were small and few zeros are left: the next
    /// syncs are cheaper then. For logs whose answers wait for syncs, after one. Answers what is
    /// worth writing back before the next sync.
    pub fn write_zeros_ahead(&mut self) -> Option<WriteBack> {
        let busy = self.poisoned || self.cut_pending || !self.ahead.is_empty();
        if busy || !self.zeros.wanted() {
            return None;
        }
        let active = self.segments.last_mut()?;
        let (start, end) = next_stretch(&self.config, active.size_bytes, active.zeros_end())?;
        let file = Arc::clone(active.open_file()?);
        if self.zeros.barred == Some(active.base_offset) {
            return None;
        }
        if write_zeros(&*file, start, end).is_err() {
            self.zeros.barred = Some(active.base_offset);
            // As after a failed append: what may be there must be gone before the next one.
            let _ = self.cut_behind_end();
            return None;
        }
        active.set_zeros(end);
        Some(WriteBack::new(file, start..end))
    }

    /// Gives back what is reserved for the active segment, and cuts off its zeros.
    pub(super) fn release_active_reserve(&mut self) -> Result<(), LogError> {
        let Some(active) = self.segments.last_mut() else {
            return Ok(());
        };
        if self.cut_pending || active.has_zeros() {
            return self.cut_behind_end();
        }
        let released = active.release_reserve();
        released.map_err(|error| LogError::io(active.path(&self.dir), error))
    }

    /// Before the active segment is sealed. Space that stays reserved is only space; zeros and
    /// leftovers that stay would never be cut off.
    pub(super) fn cut_before_seal(&mut self) -> Result<(), LogError> {
        let released = self.release_active_reserve();
        match self.cut_pending {
            true => released,
            false => Ok(()),
        }
    }

    /// What a write left that failed, or that did not come as foreseen, may still lie behind the
    /// end, on a disk that has become read-only for instance.
    pub(super) fn cut_leftovers(&mut self) -> Result<(), LogError> {
        match self.cut_pending {
            true => self.cut_behind_end(),
            false => Ok(()),
        }
    }

    /// Cuts off whatever lies behind the end of the active segment. Until that is done nothing
    /// more is written, and nothing is sealed or closed.
    pub(super) fn cut_behind_end(&mut self) -> Result<(), LogError> {
        let Some(active) = self.segments.last_mut() else {
            return Ok(());
        };
        self.cut_pending = true;
        active.forget_reserve();
        let file = Arc::clone(active.file(&*self.disk, &self.dir)?);
        file.trim(u64::from(active.size_bytes))
            .map_err(|error| LogError::io(active.path(&self.dir), error))?;
        self.cut_pending = false;
        self.zeros.cut(file);
        Ok(())
    }
}

/// Where to write zeros: the file ends at `ahead`, the data at `size_bytes`.
fn next_stretch(config: &LogConfig, size_bytes: u32, ahead: u64) -> Option<(u64, u64)> {
    let (size, from) = (u64::from(size_bytes), config.zeros_from_bytes);
    if size_bytes < from {
        return None;
    }
    let step = size.min(STEPS_MAX * u64::from(from));
    if ahead - size >= step / 4 {
        return None;
    }
    let most = u64::from(config.segment_size_bytes.min(i32::MAX as u32));
    let whole_pages = |end: u64| match step > 2 * PAGE_BYTES {
        true => end - end % PAGE_BYTES,
        false => end,
    };
    let end = whole_pages(ahead + step).min(most);
    (end > ahead).then_some((ahead, end))
}

fn write_zeros(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let mut parts = Vec::new();
    let mut left = end - start;
    while left > 0 {
        let len = left.min(ZEROS.len() as u64);
        parts.push(IoSlice::new(&ZEROS[..len as usize]));
        left -= len;
    }
    file.write_at(start, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_grows_with_the_data_and_ends_with_the_segment() {
        let config = LogConfig {
            segment_size_bytes: 4 << 20,
            ..LogConfig::default()
        };
        let from = config.zeros_from_bytes;
        assert_eq!(next_stretch(&config, from - 1, u64::from(from - 1)), None);
        let (small, large) = (u64::from(from), 1_u64 << 20);
        let first = next_stretch(&config, from, small);
        assert_eq!(first, Some((small, 2 * small)));
        assert_eq!(next_stretch(&config, from, 2 * small), None, "enough left");
        let later = next_stretch(&config, 1 << 20, large);
        assert_eq!(later, Some((large, large + 8 * small)));
        let end = 4 << 20;
        assert_eq!(next_stretch(&config, end - 10, u64::from(end)), None);
    }

    #[test]
    fn large_syncs_want_no_zeros_until_small_ones_are_usual_again() {
        let mut zeros = Zeros::default();
        assert!(!zeros.wanted());
        let mut sync = |bytes| {
            zeros.appended(bytes);
            zeros.synced(&zeros.mark());
            zeros.wanted()
        };
        assert!(sync(1_000));
        assert!(!sync(1 << 20));
        let small = (0..100).position(|_| sync(1_000));
        assert!(small.is_some_and(|after| after > 3));
    }
}
