//! Rebuilds a coordinator from its partition's log, from its start to its end.
//!
//! Records that are not understood are passed over with a warning: one of them must not keep all
//! groups of the partition away. They stay in the log.

use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::GroupCoordinator;
use ottla_coordinator::records::{Decoded, GroupRecord};
use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::{RecordData, read_exact_at};

use crate::partition::{Isolation, Partition, ReadFrom};

const READ_BYTES: u32 = 1 << 20;

/// The coordinator and the end of what it was built from; `None` when the log cannot be read: its
/// groups then have no coordinator here.
pub(super) fn load(partition: &Arc<Partition>) -> Option<(GroupCoordinator, Offset)> {
    match replay(partition) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            tracing::error!(?partition, %error, "the groups of a partition cannot be loaded");
            None
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Partition(#[from] crate::partition::PartitionError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn replay(partition: &Arc<Partition>) -> Result<(GroupCoordinator, Offset), LoadError> {
    let mut machine = GroupCoordinator::new();
    let marks = partition.marks()?;
    let mut offset = marks.log_start_offset;
    while offset < marks.log_end_offset {
        let read = partition.read(&ReadFrom {
            offset,
            max_bytes: READ_BYTES,
            at_least_one: true,
            isolation: Isolation::ReadUncommitted,
            current_leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
        })?;
        for data in read.data {
            let bytes = match data {
                RecordData::Bytes(bytes) => bytes,
                RecordData::File(range) => {
                    let end = range.position + u64::from(range.len_bytes);
                    read_exact_at(&*range.file, range.position..end)?
                }
            };
            replay_batches(partition, bytes, &mut machine);
        }
        if read.next_offset <= offset {
            break;
        }
        offset = read.next_offset;
    }
    Ok((machine, marks.log_end_offset))
}

fn replay_batches(partition: &Arc<Partition>, mut bytes: Bytes, machine: &mut GroupCoordinator) {
    while !bytes.is_empty() {
        let Ok(view) = RecordBatchView::parse(&bytes) else {
            tracing::warn!(?partition, "bytes of the offsets topic are not a batch");
            return;
        };
        let size_bytes = view.size_bytes();
        if !view.is_control() {
            replay_batch(partition, view, machine);
        }
        bytes = bytes.slice(size_bytes.min(bytes.len())..);
    }
}

fn replay_batch(
    partition: &Arc<Partition>,
    view: RecordBatchView<'_>,
    machine: &mut GroupCoordinator,
) {
    let records = match Records::open(view, RecordLimits::default()) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(?partition, %error, "a batch of the offsets topic was passed over");
            return;
        }
    };
    for record in records {
        let decoded = match &record {
            Ok(record) => record
                .key
                .as_deref()
                .map(|key| GroupRecord::decode(key, record.value.as_deref())),
            Err(error) => {
                tracing::warn!(?partition, %error, "a record of the offsets topic is damaged");
                return;
            }
        };
        match decoded {
            Some(Ok(Decoded::Record(record))) => machine.replay(&record),
            Some(Ok(Decoded::Unknown { key_version })) => {
                tracing::debug!(
                    ?partition,
                    key_version,
                    "passed over a record of another kind"
                );
            }
            Some(Err(error)) => {
                tracing::warn!(?partition, %error, "a record of the offsets topic was passed over");
            }
            None => tracing::warn!(?partition, "a record of the offsets topic has no key"),
        }
    }
}
