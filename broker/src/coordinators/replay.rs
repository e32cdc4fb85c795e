//! Reads what a coordinator's partition holds, batch by batch and record by record.
//!
//! Shared by the two that replay it: the coordinator when it is loaded, and its image. Bytes that
//! are no batch and batches that are damaged are passed over with a warning: one of them must not
//! keep all groups of the partition away. They stay in the log.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::{RecordData, read_exact_at};

use crate::partition::{Isolation, Partition, PartitionError, ReadFrom};

/// Read at once; a batch that is larger comes whole.
const READ_BYTES: u32 = 1 << 20;

/// Gets a key and a value; no value is a deletion.
pub(super) type VisitRecord<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Visits the keys and values of the next committed records from `offset` on, about a megabyte of
/// them, and returns where to go on: at `offset` again when there is nothing more. Records without
/// a key are passed over.
pub(super) fn next_records(
    partition: &Arc<Partition>,
    offset: Offset,
    visit: &mut VisitRecord<'_>,
) -> Result<Offset, ReplayError> {
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
        batches(partition, &bytes, offset, visit);
    }
    Ok(read.next_offset)
}

fn batches(partition: &Arc<Partition>, bytes: &Bytes, from: Offset, visit: &mut VisitRecord<'_>) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let Ok(view) = RecordBatchView::parse(rest) else {
            tracing::warn!(?partition, "bytes of the offsets topic are not a batch");
            return;
        };
        rest = rest.get(view.size_bytes()..).unwrap_or_default();
        if !view.is_control() {
            batch(partition, view, from, visit);
        }
    }
}

fn batch(
    partition: &Arc<Partition>,
    view: RecordBatchView<'_>,
    from: Offset,
    visit: &mut VisitRecord<'_>,
) {
    let mut records = match Records::open(view, RecordLimits::default()) {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(?partition, %error, "a batch of the offsets topic was passed over");
            return;
        }
    };
    while let Some(record) = records.next_ref() {
        match record {
            // A read begins with the whole batch that its offset is in.
            Ok(record) if record.offset < from => {}
            Ok(record) => match record.key() {
                Some(key) => visit(key, record.value()),
                None => tracing::warn!(?partition, "a record of the offsets topic has no key"),
            },
            Err(error) => {
                tracing::warn!(?partition, %error, "a record of the offsets topic is damaged");
                return;
            }
        }
    }
}
