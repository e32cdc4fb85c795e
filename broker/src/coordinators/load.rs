//! Rebuilds a coordinator: from its image and the log's tail after it, or from the whole log when
//! there is no image that can be trusted. Both give the same coordinator.
//!
//! An image holds the last value of each key in the order of the keys' bytes, so replaying must
//! not depend on the order of records with different keys; a compacted log demands the same.
//!
//! Records that are not understood are passed over with a warning: one of them must not keep all
//! groups of the partition away. They stay in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_coordinator::GroupCoordinator;
use ottla_coordinator::records::{Decoded, GroupRecord};
use ottla_protocol::types::Offset;

use super::images::Images;
use super::replay::{ReplayError, next_records};
use crate::partition::Partition;

/// The coordinator and the end of what it was built from; `None` when the log cannot be read: its
/// groups then have no coordinator here.
pub(super) fn load(
    images: &Images,
    partition: &Arc<Partition>,
    times: (Instant, i64),
    loaded: &mut Loaded,
) -> Option<(GroupCoordinator, Offset)> {
    let mut machine = GroupCoordinator::new();
    let mut replay = |key: &[u8], value: &[u8]| {
        replay_record(partition, &mut machine, key, Some(value));
    };
    let applied_to = images.read(partition, times, &mut replay);
    if applied_to.is_none() {
        machine = GroupCoordinator::new();
    }
    match replay_log(partition, applied_to, &mut machine) {
        Ok((from, end)) => {
            loaded.partitions += 1;
            loaded.from_images += u32::from(applied_to.is_some());
            loaded.replayed += u64::try_from(end - from).unwrap_or(0);
            loaded.groups += machine.group_count();
            images.changed();
            Some((machine, end))
        }
        Err(error) => {
            tracing::error!(?partition, %error, "the groups of a partition cannot be loaded");
            None
        }
    }
}

/// What a start found, over all partitions.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    partitions: u32,
    from_images: u32,
    replayed: u64,
    groups: usize,
}

impl Loaded {
    /// One line for people, unless there was nothing.
    pub(super) fn tell(&self, took: Duration) {
        if self.groups > 0 || self.replayed > 0 {
            tracing::info!(
                partitions = self.partitions,
                from_images = self.from_images,
                replayed_records = self.replayed,
                groups = self.groups,
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "loaded the groups"
            );
        }
    }
}

/// From `applied_to`, or the log's start, to its end; returns both.
fn replay_log(
    partition: &Arc<Partition>,
    applied_to: Option<Offset>,
    machine: &mut GroupCoordinator,
) -> Result<(Offset, Offset), ReplayError> {
    let marks = partition.marks()?;
    let from = applied_to.unwrap_or(marks.log_start_offset);
    let mut offset = from;
    while offset < marks.log_end_offset {
        let next = next_records(partition, offset, &mut |key, value| {
            replay_record(partition, machine, key, value);
        })?;
        if next <= offset {
            break;
        }
        offset = next;
    }
    Ok((from, marks.log_end_offset))
}

fn replay_record(
    partition: &Arc<Partition>,
    machine: &mut GroupCoordinator,
    key: &[u8],
    value: Option<&[u8]>,
) {
    match GroupRecord::decode(key, value) {
        Ok(Decoded::Record(record)) => machine.replay(&record),
        Ok(Decoded::Unknown { key_version }) => {
            tracing::debug!(
                ?partition,
                key_version,
                "passed over a record of another kind"
            );
        }
        Err(error) => {
            tracing::warn!(?partition, %error, "a record of the offsets topic was passed over");
        }
    }
}
