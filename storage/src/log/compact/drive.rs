//! A whole round, in the one order that is safe: between its steps the log's lock is free.

use super::plan::Cleanable;
use super::round::{CompactionLimits, CompactionStats, Pace, Rewritten};
use super::swap::Installed;
use super::{CompactionError, Swap};
use crate::log::Log;
use crate::log::retain::OldFiles;

/// How a round reaches its log: under its lock, for a moment.
pub trait LogAccess {
    /// `None` when the log is not there any more.
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T>;
}

fn locked<T, E: Into<CompactionError>>(
    access: &impl LogAccess,
    f: impl FnOnce(&mut Log) -> Result<T, E>,
) -> Result<T, CompactionError> {
    match access.with_log(f) {
        Some(result) => result.map_err(Into::into),
        None => Err(CompactionError::Overtaken),
    }
}

/// Compacts a log as far as `cleanable` says, or as far as the table of keys reaches. Blocks on
/// the disk. Files that have left the log are handed to `old_files`. After an error the log is as
/// good as before; groups that were swapped in already stay.
pub fn compact(
    access: &impl LogAccess,
    cleanable: &Cleanable,
    limits: CompactionLimits,
    pace: Pace<'_>,
    old_files: &mut dyn FnMut(OldFiles),
) -> Result<CompactionStats, CompactionError> {
    let mut round = locked(access, |log| log.begin_compaction(cleanable, limits))?;
    round.build_map(pace)?;
    while let Some(rewritten) = round.rewrite_next(pace)? {
        swap_in(access, rewritten, old_files)?;
    }
    locked(access, |log| log.finish_compaction(&round))?;
    Ok(round.stats())
}

fn swap_in(
    access: &impl LogAccess,
    rewritten: Rewritten,
    old_files: &mut dyn FnMut(OldFiles),
) -> Result<(), CompactionError> {
    let mut swap = locked(access, |log| log.begin_swap(rewritten))?;
    if let Err(error) = swap.commit() {
        locked(access, |log| log.abandon_swap(&swap))?;
        return Err(error);
    }
    old_files(install(access, &mut swap)?);
    if let Err(error) = swap.sync() {
        // Which of the names are on the disk is not known.
        let _ = access.with_log(Log::poison);
        return Err(error);
    }
    locked(access, |log| log.finish_swap(&swap))?;
    swap.sync()
}

fn install(access: &impl LogAccess, swap: &mut Swap) -> Result<OldFiles, CompactionError> {
    loop {
        match locked(access, |log| log.install(swap))? {
            Installed::Done(old) => return Ok(old),
            Installed::Busy => swap.wait_for_writer(),
        }
    }
}
