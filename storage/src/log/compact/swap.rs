//! Putting a rewritten group in the place of its sources, so that a crash at any point leaves the
//! one or the other.
//!
//! ```text
//! BASE.log.cleaned   written and synced                     a crash forgets it
//! BASE.log.swap      renamed, directory synced              from here on a crash completes it
//! (sources renamed to *.deleted, index files of BASE gone, directory synced)
//! BASE.log           renamed over the first source, directory synced
//! ```
//!
//! These are Kafka's names, and each side completes what the other left. The log knows the output
//! from the second step on; its lock is held for renames only, syncs run without it:
//! [`Log::begin_swap`], [`Swap::commit`], [`Log::install`], [`Swap::sync`], [`Log::finish_swap`],
//! [`Swap::sync`]. A truncation in between undoes or completes the swap first; retention waits.
//! The new index files are written by the next checkpoint.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::CompactionError;
use super::round::{CLEANED_SUFFIX, Compaction, Rewritten};
use crate::disk::{DirEntry, Disk};
use crate::layout::SegmentFile;
use crate::log::Log;
use crate::log::checkpoint::remove_if_there;
use crate::log::error::LogError;
use crate::log::retain::OldFiles;
use crate::log::scan::WALK_BYTES;
use crate::log::segment::{INDEX_FILES, Segment, path};
use crate::sync::Mutex;

/// The suffix of an output that replaces its sources; Kafka's.
const SWAP_SUFFIX: &str = ".swap";

fn swap_path(dir: &str, base: Offset) -> String {
    format!("{}{SWAP_SUFFIX}", path(dir, base, SegmentFile::Log))
}

/// What the log knows of a swap under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct PendingSwap {
    base: Offset,
    /// The output is in the log, under its passing name.
    installed: bool,
}

/// A swap under way.
pub(super) struct Swap {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    writer: Arc<Mutex<u64>>,
    /// Of the files when the swap began: who changes them counts it up.
    generation: u64,
    truncations: u64,
    base: Offset,
    output: Option<Rewritten>,
}

impl std::fmt::Debug for Swap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Swap({} in {})", self.base, self.dir)
    }
}

/// What [`Log::install`] did.
#[derive(Debug)]
pub(super) enum Installed {
    /// The files of the sources, to be removed later.
    Done(OldFiles),
    /// A checkpoint is being written: try again.
    Busy,
}

impl Swap {
    /// Makes the output the one that counts after a crash. Blocks on the disk.
    pub(super) fn commit(&self) -> Result<(), CompactionError> {
        // Nobody cuts the log meanwhile.
        let writer = self.writer.lock();
        if *writer != self.generation {
            return Err(CompactionError::Overtaken);
        }
        let to = swap_path(&self.dir, self.base);
        let from = format!(
            "{}{CLEANED_SUFFIX}",
            path(&self.dir, self.base, SegmentFile::Log)
        );
        match self.disk.rename(&from, &to) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CompactionError::Overtaken)
            }
            Err(error) => Err(CompactionError::io(&to, error)),
        }
    }

    /// Until the checkpoint that is being written is done.
    pub(super) fn wait_for_writer(&self) {
        drop(self.writer.lock());
    }

    /// Makes the last step durable. Blocks on the disk.
    pub(super) fn sync(&self) -> Result<(), CompactionError> {
        let synced = self.disk.sync_dir(&self.dir);
        synced.map_err(|error| CompactionError::io(&self.dir, error))
    }
}

impl Log {
    /// Announces that an output is to replace its sources, if they are as they were.
    pub(super) fn begin_swap(&mut self, output: Rewritten) -> Result<Swap, CompactionError> {
        self.check_usable()?;
        if output.truncations != self.truncations || self.sources_of(&output).is_none() {
            return Err(CompactionError::Overtaken);
        }
        let base = output.extents[0].base_offset;
        self.swap = Some(PendingSwap {
            base,
            installed: false,
        });
        Ok(Swap {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            writer: Arc::clone(&self.writer),
            generation: self.generation,
            truncations: self.truncations,
            base,
            output: Some(output),
        })
    }

    /// The places of the sources, while they are there and unchanged.
    fn sources_of(&self, output: &Rewritten) -> Option<std::ops::Range<usize>> {
        let base = output.extents.first()?.base_offset;
        let first = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base_offset)
            .ok()?;
        let end = first + output.extents.len();
        let same = |(at, extent): (usize, &super::plan::Extent)| {
            self.segments.get(at).is_some_and(|segment| {
                segment.base_offset == extent.base_offset
                    && u64::from(segment.size_bytes) == extent.size_bytes
                    && self.segment_end(at) == extent.end_offset
            })
        };
        // The active segment is never a source.
        let sealed = end < self.segments.len();
        (sealed && (first..end).zip(&output.extents).all(same)).then_some(first..end)
    }

    /// Gives a swap up whose [`Swap::commit`] failed; blocks on the disk.
    pub(super) fn abandon_swap(&mut self, swap: &Swap) -> Result<(), LogError> {
        let own = |pending: &PendingSwap| pending.base == swap.base && !pending.installed;
        if self.truncations == swap.truncations && self.swap.as_ref().is_some_and(own) {
            let settled = self.settle_swap();
            // An output that stays on the disk would count after a crash, however late.
            self.poisoned |= settled.is_err();
            return settled;
        }
        Ok(())
    }

    /// Puts the output in the place of its sources, for readers from now on.
    pub(super) fn install(&mut self, swap: &mut Swap) -> Result<Installed, CompactionError> {
        self.check_usable()?;
        let pending = PendingSwap {
            base: swap.base,
            installed: false,
        };
        let writer = Arc::clone(&self.writer);
        let Some(mut writer) = writer.try_lock() else {
            return Ok(Installed::Busy);
        };
        let unchanged = self.truncations == swap.truncations && self.swap == Some(pending);
        let Some(output) = swap.output.take().filter(|_| unchanged) else {
            return Err(CompactionError::Overtaken);
        };
        let Some(places) = self.sources_of(&output) else {
            return Err(CompactionError::Overtaken);
        };
        // A checkpoint that was begun must not write indexes of the sources.
        self.generation += 1;
        self.forget_damaged();
        *writer = self.generation;
        let mut old = OldFiles::none(&self.disk);
        if let Err(error) = self.take_sources_away(&output, &mut old) {
            self.poisoned = true;
            return Err(error.into());
        }
        let first = &self.segments[places.start];
        let segment = Segment::rewritten(
            swap.base,
            output.size_bytes,
            first.created_ms,
            (Arc::clone(&output.file), output.index),
        );
        self.size_bytes += u64::from(output.size_bytes);
        for removed in self.segments.splice(places, [segment]) {
            self.size_bytes -= u64::from(removed.size_bytes);
            old.segments += 1;
            old.size_bytes += u64::from(removed.size_bytes);
        }
        // It may hold records that are gone.
        self.tail.clear();
        self.swap = Some(PendingSwap {
            installed: true,
            ..pending
        });
        self.indexes_unwritten = true;
        Ok(Installed::Done(old))
    }

    /// The first source stays under its name, which the output takes over; without its indexes.
    fn take_sources_away(&self, output: &Rewritten, old: &mut OldFiles) -> Result<(), LogError> {
        for extent in output.extents.iter().skip(1) {
            self.rename_segment_files(extent.base_offset, &mut old.paths)?;
        }
        self.remove_index_files(output.extents[0].base_offset)
    }

    /// The names of the sources are gone, durably: the output gets its own.
    pub(super) fn finish_swap(&mut self, swap: &Swap) -> Result<(), CompactionError> {
        let pending = PendingSwap {
            base: swap.base,
            installed: true,
        };
        if self.truncations != swap.truncations || self.swap != Some(pending) {
            return Ok(());
        }
        self.give_final_name(swap.base)?;
        Ok(())
    }

    fn give_final_name(&mut self, base: Offset) -> Result<(), LogError> {
        let from = swap_path(&self.dir, base);
        let to = path(&self.dir, base, SegmentFile::Log);
        if let Err(error) = self.disk.rename(&from, &to) {
            self.poisoned = true;
            return Err(LogError::io(from, error));
        }
        if let Ok(at) = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base_offset)
        {
            self.segments[at].set_final_name();
        }
        self.swap = None;
        Ok(())
    }

    /// Ends a swap for good, one way or the other, before the log is cut. Blocks on the disk.
    pub(in crate::log) fn settle_swap(&mut self) -> Result<(), LogError> {
        let Some(pending) = self.swap else {
            return Ok(());
        };
        if pending.installed {
            self.sync_directory()?;
            self.give_final_name(pending.base)?;
        } else {
            for from in [
                swap_path(&self.dir, pending.base),
                format!(
                    "{}{CLEANED_SUFFIX}",
                    path(&self.dir, pending.base, SegmentFile::Log)
                ),
            ] {
                remove_if_there(&*self.disk, &from).map_err(|e| LogError::io(from, e))?;
            }
            self.swap = None;
        }
        self.sync_directory()
    }

    /// All groups of a round are in the log.
    pub(super) fn finish_compaction(&mut self, round: &Compaction) -> Result<(), CompactionError> {
        if round.truncations != self.truncations {
            return Err(CompactionError::Overtaken);
        }
        self.set_compacted_to(round.end_offset());
        Ok(())
    }

    /// The names on the disk are not known any more.
    pub(super) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// What the directory's checkpoint file says: below, the log was compacted.
    pub fn set_compacted_to(&mut self, offset: Offset) {
        self.compacted_to = offset.min(self.log_end_offset);
    }

    /// Where the dirty part begins; for the directory's checkpoint file.
    pub fn compacted_to(&self) -> Offset {
        self.compacted_to
    }
}

/// Completes the swaps that a crash interrupted, before the directory is read. `entries` is what it
/// holds; true if anything was changed.
pub(in crate::log) fn complete_swaps(
    disk: &dyn Disk,
    dir: &str,
    entries: &[DirEntry],
) -> Result<bool, LogError> {
    let swaps = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry, entry.name.strip_suffix(SWAP_SUFFIX)?)))
    };
    let mut changed = false;
    for (entry, name) in swaps() {
        changed = true;
        match SegmentFile::parse(name) {
            Some((base, SegmentFile::Log)) => complete_swap(disk, dir, entries, entry, base)?,
            // Index files are made anew.
            _ => {
                let path = format!("{dir}/{}", entry.name);
                remove_if_there(disk, &path).map_err(|error| LogError::io(path, error))?;
            }
        }
    }
    Ok(changed)
}

fn complete_swap(
    disk: &dyn Disk,
    dir: &str,
    entries: &[DirEntry],
    entry: &DirEntry,
    base: Offset,
) -> Result<(), LogError> {
    let from = format!("{dir}/{}", entry.name);
    let io = |error| LogError::io(dir, error);
    let Some(end) = end_of(disk, dir, entry, base)? else {
        // It was synced before it got this name, so this is damage. The sources are as good as
        // they are.
        return remove_if_there(disk, &from).map_err(io);
    };
    let sources: BTreeSet<Offset> = entries
        .iter()
        .filter_map(|entry| SegmentFile::parse(&entry.name))
        .filter(|(_, kind)| *kind != SegmentFile::ProducerSnapshot)
        .map(|(offset, _)| offset)
        .filter(|offset| (base..end).contains(offset))
        .collect();
    for source in &sources {
        let log = path(dir, *source, SegmentFile::Log);
        if *source != base {
            remove_if_there(disk, &log).map_err(io)?;
        }
        for kind in INDEX_FILES {
            remove_if_there(disk, &path(dir, *source, kind)).map_err(io)?;
        }
    }
    disk.sync_dir(dir).map_err(io)?;
    disk.rename(&from, &path(dir, base, SegmentFile::Log))
        .map_err(io)?;
    disk.sync_dir(dir).map_err(io)
}

/// The offset behind the last batch of a swap file; `None` when it is damaged.
fn end_of(
    disk: &dyn Disk,
    dir: &str,
    entry: &DirEntry,
    base: Offset,
) -> Result<Option<Offset>, LogError> {
    let path = format!("{dir}/{}", entry.name);
    let Ok(size_bytes) = u32::try_from(entry.len_bytes) else {
        return Ok(None);
    };
    let file = disk.open(&path).map_err(|e| LogError::io(&*path, e))?;
    let segment = Segment::existing(base, size_bytes, 0);
    let mut buffer = vec![0; WALK_BYTES];
    let mut scan = segment.scan(&*file, 0, &mut buffer);
    let mut end = base;
    loop {
        match scan.next() {
            Ok(None) => return Ok((size_bytes > 0).then_some(end)),
            Ok(Some(found)) => {
                let sound = scan.crc_is_valid(&found);
                if !sound.map_err(|e| LogError::io(&*path, e))? {
                    return Ok(None);
                }
                end = found.header.last_offset().next();
            }
            Err(crate::log::scan::ScanError::Bad { .. }) => return Ok(None),
            Err(crate::log::scan::ScanError::Io(error)) => {
                return Err(LogError::io(path, error));
            }
        }
    }
}
