//! ListOffsets by time: the first record at or after a timestamp, and the youngest record.
//!
//! Segment by largest timestamp, then time index, then offset index, then a walk over headers; the
//! one batch that may hold the answer is opened. Damage inside a batch's records is not an error
//! here: the batch's first offset is the answer then, as near as one can say.

use ottla_protocol::batch::{RecordBatchView, TimestampType};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset};

use super::Log;
use super::error::{LogError, ReadError};
use super::index::TimeEntry;
use super::scan::{Found, LOOKUP_BYTES};
use crate::disk::{DiskFile, read_exact_at};

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record, in offset order, below `upper` whose timestamp is at least `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        upper: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let upper = upper.min(self.log_end_offset);
        for at in self.segment_of(self.log_start_offset)..self.segments.len() {
            if self.segments[at].base_offset >= upper {
                break;
            }
            let largest = self.index(at)?.largest;
            if largest.is_none_or(|largest| largest.timestamp < timestamp) {
                continue;
            }
            if let Some(found) = self.search_segment(at, timestamp)? {
                return Ok(Some(found).filter(|found| found.offset < upper));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp; the first of them if there are several.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let mut best: Option<(usize, TimeEntry)> = None;
        for at in self.segment_of(self.log_start_offset)..self.segments.len() {
            let Some(largest) = self.index(at)?.largest else {
                continue;
            };
            if best.is_none_or(|(_, entry)| largest.timestamp > entry.timestamp) {
                best = Some((at, largest));
            }
        }
        match best {
            None => Ok(None),
            Some((at, entry)) => self.search_segment(at, entry.timestamp),
        }
    }

    fn search_segment(
        &self,
        at: usize,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let segment = &self.segments[at];
        let file = segment.file(&*self.disk, &self.dir)?;
        let index = self.index(at)?;
        let mut buffer = [0; LOOKUP_BYTES];
        let mut scan = segment.scan(&**file, 0, &mut buffer);
        let entry = index.entry_at(index.offset_before_time(timestamp));
        let start = segment.verified(&mut scan, entry);
        scan.position = start.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
        loop {
            let found = scan.next().map_err(|error| self.fault(segment, error))?;
            let Some(found) = found else { return Ok(None) };
            let below = found.header.last_offset() < self.log_start_offset;
            if found.header.max_timestamp < timestamp || below {
                continue;
            }
            let record = search_batch(&**file, &found, timestamp, self.log_start_offset);
            let record = record.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
            if record.is_some() {
                return Ok(record);
            }
        }
    }
}

/// The first record of a batch at or after a time and an offset.
fn search_batch(
    file: &dyn DiskFile,
    found: &Found,
    timestamp: i64,
    from: Offset,
) -> std::io::Result<Option<TimestampOffset>> {
    let header = &found.header;
    let leader_epoch = header.leader_epoch;
    let whole_batch = TimestampOffset {
        offset: header.base_offset.max(from),
        timestamp: header.max_timestamp,
        leader_epoch,
    };
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some(whole_batch));
    }
    let bytes = read_exact_at(file, found.position..found.end())?;
    let records = RecordBatchView::parse(&bytes)
        .ok()
        .and_then(|view| Records::open(view, RecordLimits::default()).ok());
    let Some(mut records) = records else {
        return Ok(Some(whole_batch));
    };
    while let Some(record) = records.next_ref() {
        let Ok(record) = record else {
            return Ok(Some(whole_batch));
        };
        if record.timestamp >= timestamp && record.offset >= from {
            let (offset, timestamp) = (record.offset, record.timestamp);
            return Ok(Some(TimestampOffset {
                offset,
                timestamp,
                leader_epoch,
            }));
        }
    }
    Ok(None)
}
