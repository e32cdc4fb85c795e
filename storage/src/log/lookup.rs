//! ListOffsets by time: the first record at or after a timestamp, and the youngest record.
//!
//! Segment by largest timestamp, then time index, then offset index, then a walk over headers; the
//! one batch that may hold the answer is opened. Damage inside a batch's records is not an error
//! here: the batch's first offset is the answer then, as near as one can say.
//!
//! All that may wait for the disk, so it is done without the log's lock, on an excerpt of the log
//! ([`TimeSearch`]); then the log adopts the indexes that were loaded, or says that it is another
//! one by now.

use std::sync::Arc;

use ottla_protocol::batch::{RecordBatchView, TimestampType};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset};

use super::Log;
use super::cold::Stamp;
use super::error::{LogError, ReadError};
use super::index::{OffsetEntry, SegmentIndex};
use super::read::fault;
use super::scan::{Found, LOOKUP_BYTES};
use super::segment::Segment;
use crate::disk::{Disk, DiskFile, read_exact_at};

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub leader_epoch: LeaderEpoch,
}

/// Which record is looked for, of those below an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByTime {
    /// The first one, in offset order, that is at least so young.
    AtLeast(i64),
    /// The youngest; the first of them if there are several.
    Youngest,
}

/// A search that has to wait for the disk. It holds no lock and knows the log as it was.
pub struct TimeSearch {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    interval_bytes: u32,
    record_limits: RecordLimits,
    stamp: Stamp,
    log_start_offset: Offset,
    by: ByTime,
    upper: Offset,
    segments: Vec<Excerpt>,
}

struct Excerpt {
    /// Without an index, unless the search loads it.
    segment: Segment,
    known: Known,
}

/// What the log's own index says.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// The largest timestamp: nothing here is younger.
    Largest(i64),
    /// And where to begin, if one is as young as wanted.
    Place(i64, Option<OffsetEntry>),
    NoTime,
}

impl Known {
    fn of(segment: &Segment, by: ByTime) -> Known {
        let Some(index) = segment.loaded_index() else {
            let largest = segment.known_largest();
            return largest.map_or(Known::Nothing, |entry| Known::Largest(entry.timestamp));
        };
        match index.largest {
            None => Known::NoTime,
            Some(largest) => {
                let wanted = match by {
                    ByTime::AtLeast(timestamp) => timestamp,
                    ByTime::Youngest => largest.timestamp,
                };
                Known::Place(largest.timestamp, place(index, wanted))
            }
        }
    }
}

/// No record before it is as young.
fn place(index: &SegmentIndex, timestamp: i64) -> Option<OffsetEntry> {
    index.entry_at(index.offset_before_time(timestamp))
}

impl Log {
    /// The first record, in offset order, below `upper` whose timestamp is at least `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        upper: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        self.search_now(ByTime::AtLeast(timestamp), upper)
    }

    /// The record with the largest timestamp; the first of them if there are several.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        self.search_now(ByTime::Youngest, self.log_end_offset)
    }

    fn search_now(&self, by: ByTime, upper: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        let search = self.search_by_time(by, upper);
        let found = search.run();
        self.adopt_search(search);
        found
    }

    /// A search to be carried out without the log.
    pub fn search_by_time(&self, by: ByTime, upper: Offset) -> TimeSearch {
        let upper = upper.min(self.log_end_offset);
        let segments = &self.segments[self.segment_of(self.log_start_offset)..];
        let below = segments.iter().take_while(|one| one.base_offset < upper);
        TimeSearch {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            interval_bytes: self.config.index_interval_bytes,
            record_limits: self.config.record_limits,
            stamp: self.stamp(),
            log_start_offset: self.log_start_offset,
            by,
            upper,
            segments: below
                .map(|segment| Excerpt {
                    segment: segment.without_index(),
                    known: Known::of(segment, by),
                })
                .collect(),
        }
    }

    /// Keeps what a search has loaded. False when its result counts for nothing: the log is
    /// another one by now, its files were replaced, or its first ones are gone.
    pub fn adopt_search(&self, search: TimeSearch) -> bool {
        let first = search.segments.first();
        let first = first.map(|excerpt| excerpt.segment.base_offset);
        if !self.is_at(&search.stamp) || first.is_some_and(|base| self.segment_at(base).is_none()) {
            return false;
        }
        for Excerpt { segment, .. } in search.segments {
            if let Some(at) = self.segment_at(segment.base_offset) {
                self.segments[at].adopt(segment, false);
            }
        }
        true
    }
}

impl TimeSearch {
    /// Searches, waiting for the disk as long as it takes.
    pub fn run(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let found = match self.by {
            ByTime::AtLeast(timestamp) => self.first_at_least(timestamp)?,
            ByTime::Youngest => self.youngest()?,
        };
        Ok(found.filter(|found| found.offset < self.upper))
    }

    fn first_at_least(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        for excerpt in &self.segments {
            if self.largest(excerpt)? < Some(timestamp) {
                continue;
            }
            if let Some(found) = self.search_segment(excerpt, timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn youngest(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let mut best: Option<(&Excerpt, i64)> = None;
        for excerpt in &self.segments {
            let Some(largest) = self.largest(excerpt)? else {
                continue;
            };
            if best.is_none_or(|(_, best)| largest > best) {
                best = Some((excerpt, largest));
            }
        }
        match best {
            None => Ok(None),
            Some((excerpt, largest)) => self.search_segment(excerpt, largest),
        }
    }

    /// The largest timestamp of a segment, if any record has one.
    fn largest(&self, excerpt: &Excerpt) -> Result<Option<i64>, LogError> {
        match excerpt.known {
            Known::NoTime => Ok(None),
            Known::Largest(largest) | Known::Place(largest, _) => Ok(Some(largest)),
            Known::Nothing => {
                let largest = self.index(excerpt)?.largest;
                Ok(largest.map(|entry| entry.timestamp))
            }
        }
    }

    fn index<'a>(&self, excerpt: &'a Excerpt) -> Result<&'a SegmentIndex, LogError> {
        excerpt
            .segment
            .index(&*self.disk, &self.dir, self.interval_bytes)
    }

    fn search_segment(
        &self,
        excerpt: &Excerpt,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let segment = &excerpt.segment;
        let file = segment.file(&*self.disk, &self.dir)?;
        let entry = match excerpt.known {
            Known::Place(_, entry) => entry,
            _ => place(self.index(excerpt)?, timestamp),
        };
        let mut buffer = [0; LOOKUP_BYTES];
        let mut scan = segment.scan(&**file, 0, &mut buffer);
        let start = segment.verified(&mut scan, entry);
        scan.position = start.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
        loop {
            let found = scan.next();
            let found = found.map_err(|error| fault(&self.dir, segment, error))?;
            let Some(found) = found else { return Ok(None) };
            let below = found.header.last_offset() < self.log_start_offset;
            if found.header.max_timestamp < timestamp || below {
                continue;
            }
            let record = self.search_batch(&**file, &found, timestamp);
            let record = record.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// The first record of a batch at or after a time and the log start.
    fn search_batch(
        &self,
        file: &dyn DiskFile,
        found: &Found,
        timestamp: i64,
    ) -> std::io::Result<Option<TimestampOffset>> {
        let from = self.log_start_offset;
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
            .and_then(|view| Records::open(view, self.record_limits).ok());
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
}

impl std::fmt::Debug for TimeSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (dir, segments) = (&self.dir, self.segments.len());
        write!(
            f,
            "TimeSearch({:?} in {segments} segments of {dir})",
            self.by
        )
    }
}
