//! Compaction: of each key the last record stays, of a deleted key nothing in the end.
//!
//! A round works on sealed segments that are checkpointed, replicated and free of open
//! transactions. [`compact`] goes in steps, so that the log's lock is held for moments only:
//! 1. [`Log::cleanable`](super::Log::cleanable) has said what a round could do; the sources are
//!    taken.
//! 2. Without the lock the dirty part is read into a bounded table of key hashes, and one group of
//!    segments after another is written into a `.cleaned` file (`rewrite.rs` decides about each
//!    batch).
//! 3. Each group is swapped in as `swap.rs` describes, oldest first.
//! 4. The log notes how far the round has come.
//!
//! What holds: offsets, order, leader epochs and the end of every output are those of its sources;
//! an older value of a key is gone before its tombstone goes; the producer state that can be
//! rebuilt from the log is the same as before, but for the times of records that are gone. A batch
//! whose records cannot be read is copied as it is; a batch whose CRC does not match ends the round
//! with an error.
//! Deliberately absent: which log is compacted when, threads, time; reading and writing is paced by
//! the caller.

mod drive;
mod offset_map;
mod plan;
mod rewrite;
mod round;
mod swap;
mod transactions;

pub use drive::{LogAccess, compact};
pub use plan::{Cleanable, CompactionPolicy};
pub use round::{CompactionLimits, CompactionStats, Pace};
use swap::Swap;
pub(super) use swap::{PendingSwap, complete_swaps};

use std::io;

use thiserror::Error;

use super::error::{Fault, LogError};

/// Why a round of compaction ended early. What was swapped in before stays.
#[derive(Debug, Error)]
pub enum CompactionError {
    /// The caller wanted to stop.
    #[error("compaction was stopped")]
    Stopped,
    /// Segments were deleted or cut meanwhile; a new round sees the log as it is now.
    #[error("the log changed while it was compacted")]
    Overtaken,
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
    /// No later round would get any further.
    #[error("{path}: no batch can be read at {position}: {fault}")]
    Corrupt {
        path: String,
        position: u64,
        fault: Fault,
    },
    /// An abort marker whose transaction is in no index: its records were taken for committed.
    #[error("{path}: the transaction aborted at {position} is missing in the transaction index")]
    UnknownAbort { path: String, position: u64 },
    #[error(
        "{path}: the compacted segment would be larger than {} bytes",
        i32::MAX
    )]
    TooLarge { path: String },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl CompactionError {
    /// True when another round would end in the same place.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            CompactionError::Corrupt { .. }
                | CompactionError::UnknownAbort { .. }
                | CompactionError::TooLarge { .. }
        )
    }

    fn io(path: &str, source: io::Error) -> CompactionError {
        CompactionError::Io {
            path: path.to_owned(),
            source,
        }
    }
}
