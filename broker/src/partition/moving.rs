//! A partition on its way to another log directory of this broker: what it is moved to, how far its
//! copy has come, and the moment when the copy takes the log's place.
//!
//! While the copy is made everything goes on as before. For the last few batches and the renames
//! the log is held: appends are refused with an error that clients retry, flushes wait. Reads go
//! on throughout. Deliberately absent: making the copy (`crate::mover`).

use std::sync::Arc;

use ottla_protocol::types::Offset;
use ottla_storage::disk::{Disk, RecordData};
use ottla_storage::log::Log;

use super::{Inner, LogSlot, Partition, PartitionError};
use crate::dirty::DirtyShare;
use crate::log_dirs::{LogDir, Seat};

/// Where a partition is moved to.
pub(super) struct Moving {
    to: Seat,
    /// Tells this move from others of the same partition.
    number: u64,
    /// How far the copy has come.
    log_end_offset: Offset,
    size_bytes: u64,
}

/// What there is of the copy of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureSample {
    pub size_bytes: u64,
    /// How many offsets it is behind.
    pub lag: i64,
}

/// Batches to be copied.
pub struct Copied {
    pub data: Vec<RecordData>,
    pub next_offset: Offset,
    /// Of the original.
    pub log_end_offset: Offset,
}

impl Partition {
    /// The partition is to be in `dir`; a move elsewhere is given up. Answers the number of a new
    /// move; `None`: there is nothing to do.
    pub fn move_to(&self, dir: &Arc<LogDir>, number: u64) -> Result<Option<u64>, PartitionError> {
        self.with_soon(|inner, _| {
            inner.log()?;
            if let Some(moving) = &inner.moving
                && Arc::ptr_eq(moving.to.dir(), dir)
            {
                return Ok(None);
            }
            if inner.held {
                return Err(PartitionError::Moving);
            }
            inner.moving = None;
            self.bound_for.store(None);
            if Arc::ptr_eq(inner.seat.dir(), dir) {
                return Ok(None);
            }
            inner.moving = Some(Moving {
                to: dir.seat(),
                number,
                log_end_offset: Offset::ZERO,
                size_bytes: 0,
            });
            self.bound_for.store(Some(Arc::clone(dir)));
            Ok(Some(number))
        })
    }

    /// Where that move goes, as long as it is wanted.
    pub fn destination(&self, number: u64) -> Option<Arc<LogDir>> {
        self.with(|inner, _| {
            inner.log().ok()?;
            let moving = inner.moving.as_ref();
            let moving = moving.filter(|moving| moving.number == number)?;
            Some(Arc::clone(moving.to.dir()))
        })
    }

    pub fn is_moving(&self) -> bool {
        self.with(|inner, _| inner.moving.is_some())
    }

    /// Its copy in that directory; without one this takes no lock.
    pub fn future_in(&self, dir: &Arc<LogDir>) -> Option<FutureSample> {
        let bound_for = self.bound_for.load();
        if !bound_for.as_ref().is_some_and(|to| Arc::ptr_eq(to, dir)) {
            return None;
        }
        let sampled = self.with_soon(|inner, _| {
            let here = |moving: &&Moving| Arc::ptr_eq(moving.to.dir(), dir);
            let Some(moving) = inner.moving.as_ref().filter(here) else {
                return Ok(None);
            };
            let end = inner.log()?.log_end_offset();
            Ok(Some(FutureSample {
                size_bytes: moving.size_bytes,
                lag: (end - moving.log_end_offset).max(0),
            }))
        });
        sampled.ok().flatten()
    }

    /// The copy has come this far; false when the move is not wanted any more.
    pub fn copied(&self, number: u64, copy: &Log) -> bool {
        self.with(|inner, _| match &mut inner.moving {
            Some(moving) if moving.number == number => {
                moving.log_end_offset = copy.log_end_offset();
                moving.size_bytes = copy.size_bytes();
                true
            }
            _ => false,
        })
    }

    /// The move is over, or given up.
    pub fn end_move(&self, number: u64) {
        self.with(|inner, _| {
            if inner
                .moving
                .take_if(|moving| moving.number == number)
                .is_some()
            {
                self.bound_for.store(None);
            }
        });
    }

    /// An empty log in `dir` that will become a copy of this one.
    pub fn begin_copy(
        &self,
        disk: Arc<dyn Disk>,
        dir: &str,
        from: Offset,
    ) -> Result<Log, PartitionError> {
        self.with(|inner, _| Ok(Log::begin_copy(inner.log()?, disk, dir, from)?))
    }

    /// Whole batches from `from` on, committed or not; from the log start when that is later.
    pub fn batches(&self, from: Option<Offset>, max_bytes: u32) -> Result<Copied, PartitionError> {
        self.with(|inner, _| {
            let log = inner.log()?;
            let log_end_offset = log.log_end_offset();
            let from = from.unwrap_or(Offset::ZERO).max(log.log_start_offset());
            let read = log.read(from, max_bytes, log_end_offset, true)?;
            Ok(Copied {
                data: read.data,
                next_offset: read.next_offset,
                log_end_offset,
            })
        })
    }

    /// From now on nothing is appended, until [`Partition::release`] or [`Partition::take_place`].
    pub fn hold(&self) -> Result<(), PartitionError> {
        self.with(|inner, _| {
            inner.log()?;
            inner.held = true;
            Ok(())
        })
    }

    /// No flush or checkpoint runs, and while the log is held none begins.
    pub fn is_quiet(&self) -> bool {
        self.with(|inner, _| inner.flushing == 0)
    }

    /// Everything goes on; true when a flush was asked for meanwhile.
    pub fn release(&self) -> bool {
        self.with(|inner, _| {
            inner.held = false;
            std::mem::take(&mut inner.flush_held)
        })
    }

    /// The copy takes over what is not in batches.
    pub fn hand_over(&self, copy: &mut Log, now_ms: i64) -> Result<(), PartitionError> {
        self.with(|inner, _| Ok(copy.take_over_from(inner.log()?, now_ms)?))
    }

    /// The copy, which is durable to its end, is the log from now on. Answers as
    /// [`Partition::release`] does. The files of the old log are the caller's.
    pub fn take_place(&self, mut copy: Log, dir: &Arc<LogDir>) -> Result<bool, PartitionError> {
        self.with(|inner, effects| {
            let original = inner.log()?;
            copy.set_config(original.config().clone());
            copy.advance_log_start_offset(original.log_start_offset())?;
            copy.assign_leader_epoch(inner.state.leader_epoch());
            inner.slot = LogSlot::Open(Box::new(copy));
            inner.seat = dir.seat();
            self.place.store(Arc::clone(dir));
            inner.moving = None;
            self.bound_for.store(None);
            inner.held = false;
            let readable = inner.state.synced(inner.state.log_end());
            self.became_readable(inner, readable, effects);
            inner.dirty = DirtyShare::new(&inner.seat.dirty);
            inner.wake_slowed(effects);
            self.changed();
            self.fire_fetches(effects);
            Ok(std::mem::take(&mut inner.flush_held))
        })
    }
}

impl Inner {
    pub(super) fn check_not_held(&self) -> Result<(), PartitionError> {
        match self.held {
            true => Err(PartitionError::Moving),
            false => Ok(()),
        }
    }
}
