//! How old the oldest record is that a reader at some offset has not read. Found as a fetch finds
//! it: the partition is locked for the look at its index, what is on the disk is read without.

use ottla_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, RecordBatchView};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::{RecordData, read_exact_at};

use crate::partition::{Isolation, Partition, PartitionRead, ReadFrom};

/// Batches without records (markers, or compacted away) that are passed over.
const EMPTY_BATCHES_MAX: usize = 16;

fn read(partition: &Partition, offset: Offset) -> Option<PartitionRead> {
    let start = partition.marks().ok()?.log_start_offset;
    let from = ReadFrom {
        offset: offset.max(start),
        max_bytes: 1,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    };
    partition.read(&from).ok()
}

/// When the batch at `offset` was written, by its header: at most the batch's own span before the
/// record there. `None`: there is none, or it carries no time.
pub(super) fn batch_time(partition: &Partition, offset: Offset) -> Option<i64> {
    let read = read(partition, offset)?;
    let header = match read.data.first()? {
        RecordData::Bytes(bytes) => BatchHeader::parse(bytes).ok()?,
        RecordData::File(range) => {
            let end = range.position + BATCH_HEADER_BYTES as u64;
            let bytes = read_exact_at(&*range.file, range.position..end).ok()?;
            BatchHeader::parse(&bytes).ok()?
        }
    };
    let is_append_time = header.attributes & LOG_APPEND_TIME != 0;
    let time = if is_append_time {
        header.max_timestamp
    } else {
        header.base_timestamp
    };
    (time >= 0).then_some(time)
}

/// The bit of a batch whose records were stamped by the broker.
const LOG_APPEND_TIME: i16 = 0b1000;

/// When the first record at or after `offset` was written. `None`: there is none, or it carries no
/// time. Reads the whole batch.
pub(super) fn record_time(partition: &Partition, offset: Offset) -> Option<i64> {
    let mut next = offset;
    for _ in 0..EMPTY_BATCHES_MAX {
        let read = read(partition, next)?;
        for data in &read.data {
            let bytes = match data {
                RecordData::Bytes(bytes) => bytes.clone(),
                RecordData::File(range) => {
                    let end = range.position + u64::from(range.len_bytes);
                    read_exact_at(&*range.file, range.position..end).ok()?
                }
            };
            let batch = RecordBatchView::parse(&bytes).ok()?;
            if batch.is_control() {
                continue;
            }
            let records = Records::open(batch, RecordLimits::default()).ok()?;
            let mut unread = records.flatten().filter(|record| record.offset >= offset);
            if let Some(record) = unread.next() {
                return (record.timestamp >= 0).then_some(record.timestamp);
            }
        }
        if read.next_offset <= next {
            return None;
        }
        next = read.next_offset;
    }
    None
}

/// A record from the future is not behind.
pub(super) fn seconds_since(written_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(written_ms).max(0) as f64 / 1000.0
}
