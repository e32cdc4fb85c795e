//! Reading: where the bytes of an answer are. Nothing is copied from files here.
//!
//! Answers are whole batches (clients of any age must not see a cut one), start at the batch that
//! contains the wanted offset, and come from the shared tail if it reaches back that far, else as
//! ranges of segment files. A range may span what is in the tail too: both hold the same bytes.
//! How a reader that must not wait for the disk does it is in `cold.rs`.

use std::borrow::Cow;
use std::io;

use ottla_protocol::types::Offset;

use super::Log;
use super::cold::{ColdRead, Resident, Wanted};
use super::error::{LogError, ReadError};
use super::index::{AbortedTransaction, SegmentIndex};
use super::scan::{Found, LOOKUP_BYTES, ScanError, Waits, cold};
use super::scrub::{DamagedPlace, obstacles};
use super::segment::Segment;
use crate::disk::{Disk, DiskFile, FileRange, RecordData};

/// An answer spans at most this many segments.
pub(super) const SEGMENTS_MAX: usize = 4;

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct LogRead {
    /// Whole batches, in order; empty when nothing may be read yet.
    pub data: Vec<RecordData>,
    pub size_bytes: u32,
    /// Where to go on.
    pub next_offset: Offset,
}

/// Whole batches of one segment.
struct Stretch {
    start: u64,
    end: u64,
    next_offset: Offset,
}

/// The limits of one read.
#[derive(Clone, Copy)]
struct Limits {
    max_bytes: u64,
    upper: Offset,
    at_least_one: bool,
}

/// What reads the segments of a log, or of an excerpt of one.
pub(super) struct Reader<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a str,
    pub(super) interval_bytes: u32,
    pub(super) holes: &'a [DamagedPlace],
    pub(super) waits: Waits,
}

/// A segment with the offset where it ends.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) segment: &'a Segment,
    pub(super) end: Offset,
}

impl Log {
    /// Reads from `from` up to `upper` (exclusive: a high watermark, a last stable offset, or the
    /// log end). `max_bytes` is a soft limit when `at_least_one` is set: then the first batch is
    /// answered whole however large it is. Fails with `OffsetOutOfRange` when `from` is outside
    /// `log_start_offset..=log_end_offset`.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: u32,
        upper: Offset,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        let wanted = Wanted {
            from,
            max_bytes,
            upper,
            at_least_one,
        };
        self.read_with(&wanted, Waits::ForDisk)
    }

    /// The same, without waiting for the disk.
    pub fn read_resident(
        &self,
        from: Offset,
        max_bytes: u32,
        upper: Offset,
        at_least_one: bool,
    ) -> Result<Resident<LogRead>, ReadError> {
        let wanted = Wanted {
            from,
            max_bytes,
            upper: upper.min(self.log_end_offset),
            at_least_one,
        };
        let read = self.read_with(&wanted, Waits::ForNothing);
        Resident::of(read, || ColdRead::of_records(self, wanted))
    }

    fn read_with(&self, wanted: &Wanted, waits: Waits) -> Result<LogRead, ReadError> {
        let from = wanted.from;
        self.check_range(from)?;
        let upper = wanted.upper.min(self.log_end_offset);
        if from == self.log_end_offset {
            self.tail.want();
        }
        if from >= upper {
            return Ok(LogRead {
                next_offset: from,
                ..LogRead::default()
            });
        }
        let (max_bytes, at_least_one) = (wanted.max_bytes, wanted.at_least_one);
        if let Some(tail) = self.tail.read(from, max_bytes, upper, at_least_one) {
            let data = tail.data.into_iter().map(RecordData::Bytes);
            return Ok(LogRead {
                data: data.collect(),
                size_bytes: tail.size_bytes,
                next_offset: tail.next_offset,
            });
        }
        let wanted = Wanted { upper, ..*wanted };
        self.reader(waits).read(self.places(from), &wanted)
    }

    /// The segments that one read from an offset may span.
    pub(super) fn places(&self, from: Offset) -> impl Iterator<Item = Place<'_>> {
        let first = self.segment_of(from);
        let last = (first + SEGMENTS_MAX).min(self.segments.len());
        (first..last).map(|at| Place {
            segment: &self.segments[at],
            end: self.segment_end(at),
        })
    }

    fn reader(&self, waits: Waits) -> Reader<'_> {
        Reader {
            disk: &*self.disk,
            dir: &self.dir,
            interval_bytes: self.config.index_interval_bytes,
            holes: &self.holes,
            waits,
        }
    }

    fn check_range(&self, offset: Offset) -> Result<(), ReadError> {
        let (log_start_offset, log_end_offset) = (self.log_start_offset, self.log_end_offset);
        match (log_start_offset..=log_end_offset).contains(&offset) {
            true => Ok(()),
            false => Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            }),
        }
    }

    pub(super) fn index(&self, at: usize) -> Result<&SegmentIndex, LogError> {
        let interval_bytes = self.config.index_interval_bytes;
        self.segments[at].index(&*self.disk, &self.dir, interval_bytes)
    }

    pub(super) fn fault(&self, segment: &Segment, error: ScanError) -> LogError {
        fault(&self.dir, segment, error)
    }

    /// The aborted transactions that a read_committed consumer must know for what it reads in
    /// `from..upper`, ordered by first offset.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upper: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        self.aborted_with(from, upper, Waits::ForDisk)
    }

    /// The same, without waiting for the disk.
    pub fn aborted_transactions_resident(
        &self,
        from: Offset,
        upper: Offset,
    ) -> Result<Resident<Vec<AbortedTransaction>>, ReadError> {
        let found = self.aborted_with(from, upper, Waits::ForNothing);
        Resident::of(found, || ColdRead::of_aborted(self, from))
    }

    fn aborted_with(
        &self,
        from: Offset,
        upper: Offset,
        waits: Waits,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        'segments: for at in self.segment_of(from)..self.segments.len() {
            if waits == Waits::ForNothing && !self.is_aborted_loaded(at) {
                return Err(LogError::io(self.segments[at].path(&self.dir), cold()).into());
            }
            for entry in self.aborted_in(at)?.iter() {
                if entry.last_offset >= from && entry.first_offset < upper {
                    found.push(*entry);
                }
                if entry.last_stable_offset >= upper {
                    break 'segments;
                }
            }
        }
        found.sort_by_key(|entry| entry.first_offset);
        Ok(found)
    }

    /// Whether the aborted transactions of a segment are in memory.
    pub(super) fn is_aborted_loaded(&self, at: usize) -> bool {
        let segment = &self.segments[at];
        let sealed = at + 1 < self.segments.len();
        let loaded = segment.loaded_index();
        loaded.is_some_and(|index| index.aborted_known)
            || (sealed && segment.known_without_aborted() == Some(true))
    }

    fn aborted_in(&self, at: usize) -> Result<Cow<'_, [AbortedTransaction]>, ReadError> {
        let sealed = at + 1 < self.segments.len();
        if sealed && self.segments[at].is_without_aborted(&*self.disk, &self.dir) {
            return Ok(Cow::Borrowed(&[]));
        }
        let index = self.index(at)?;
        match index.aborted_known {
            true => Ok(Cow::Borrowed(&index.aborted)),
            false => Ok(Cow::Owned(self.aborted_from_log(at)?)),
        }
    }
}

impl Reader<'_> {
    /// Reads from the first of some segments that follow one another.
    pub(super) fn read<'a>(
        &self,
        places: impl Iterator<Item = Place<'a>>,
        wanted: &Wanted,
    ) -> Result<LogRead, ReadError> {
        let mut read = LogRead {
            next_offset: wanted.from,
            ..LogRead::default()
        };
        for place in places {
            let limits = Limits {
                max_bytes: u64::from(wanted.max_bytes.saturating_sub(read.size_bytes)),
                upper: wanted.upper,
                at_least_one: wanted.at_least_one && read.data.is_empty(),
            };
            match self.read_segment(place, read.next_offset, limits)? {
                Some((range, next_offset)) => {
                    read.size_bytes += range.len_bytes;
                    read.next_offset = next_offset;
                    read.data.push(RecordData::File(range));
                    if next_offset < place.end {
                        break;
                    }
                }
                // Compaction may leave a segment whose last offsets are gone: go on in the next.
                None if self.nothing_left(place.segment, read.next_offset)? => {}
                None => break,
            }
        }
        Ok(read)
    }

    fn read_segment(
        &self,
        Place { segment, end }: Place<'_>,
        from: Offset,
        limits: Limits,
    ) -> Result<Option<(FileRange, Offset)>, ReadError> {
        let (file, index) = self.open(segment)?;
        let clear = obstacles(self.holes, segment, from)?;
        let found = segment
            .locate_from(&**file, index, (from, clear.floor), self.waits)
            .map_err(|error| fault(self.dir, segment, error))?;
        let Some(first) = found else { return Ok(None) };
        let whole = (u64::from(segment.size_bytes), end);
        let (size, end) = clear.until.unwrap_or(whole);
        let limits = Limits {
            upper: limits.upper.min(end),
            ..limits
        };
        let stretch = self
            .stretch((segment, &**file, index), &first, limits, (size, end))
            .map_err(|error| fault(self.dir, segment, error))?;
        let Some(stretch) = stretch else {
            return Ok(None);
        };
        let len_bytes = (stretch.end - stretch.start) as u32;
        let range = FileRange::new(file, stretch.start, len_bytes);
        let range = range.map_err(|error| LogError::io(segment.path(self.dir), error))?;
        Ok(Some((range, stretch.next_offset)))
    }

    /// Whether a segment holds no batch at or after an offset that lies in its range.
    fn nothing_left(&self, segment: &Segment, from: Offset) -> Result<bool, ReadError> {
        let (file, index) = self.open(segment)?;
        let floor = obstacles(self.holes, segment, from)?.floor;
        let found = segment.locate_from(&**file, index, (from, floor), self.waits);
        let found = found.map_err(|error| fault(self.dir, segment, error))?;
        Ok(found.is_none())
    }

    fn open<'a>(
        &self,
        segment: &'a Segment,
    ) -> Result<(&'a std::sync::Arc<dyn DiskFile>, &'a SegmentIndex), LogError> {
        if self.waits == Waits::ForNothing {
            return match (segment.open_file(), segment.loaded_index()) {
                (Some(file), Some(index)) => Ok((file, index)),
                _ => Err(LogError::io(segment.path(self.dir), cold())),
            };
        }
        let file = segment.file(self.disk, self.dir)?;
        let index = segment.index(self.disk, self.dir, self.interval_bytes)?;
        Ok((file, index))
    }

    /// From the batch `first` as many whole batches as the limits allow.
    fn stretch(
        &self,
        (segment, file, index): (&Segment, &dyn DiskFile, &SegmentIndex),
        first: &Found,
        limits: Limits,
        (size, segment_end): (u64, Offset),
    ) -> Result<Option<Stretch>, ScanError> {
        let first_size = first.end() - first.position;
        let fits = first_size <= limits.max_bytes || limits.at_least_one;
        if first.header.last_offset() >= limits.upper || !fits {
            return Ok(None);
        }
        let limit = first.position + limits.max_bytes.max(first_size);
        if limit >= size && limits.upper >= segment_end {
            let start = first.position;
            return Ok(Some(Stretch {
                start,
                end: size,
                next_offset: segment_end,
            }));
        }
        let mut stretch = Stretch {
            start: first.position,
            end: first.end(),
            next_offset: first.header.last_offset().next(),
        };
        // Skip to the last index entry that is certainly inside, and walk from there.
        let upper = (limits.upper.0 - segment.base_offset.0).max(0) as u64;
        let mut buffer = [0; LOOKUP_BYTES];
        let mut scan = segment.scan(file, 0, &mut buffer).that(self.waits);
        let skip_to = index.entry_before(limit, upper);
        let skip_to = skip_to.filter(|entry| u64::from(entry.position) > stretch.start);
        scan.position = segment.verified(&mut scan, skip_to)?.max(stretch.start);
        while scan.position < size
            && let Some(found) = scan.next()?
        {
            if found.end() > limit || found.header.last_offset() >= limits.upper {
                // Everything before the entry that was skipped to is inside, whatever comes after.
                if found.position > stretch.end {
                    stretch.end = found.position;
                    stretch.next_offset = found.header.base_offset;
                }
                break;
            }
            stretch.end = found.end();
            stretch.next_offset = found.header.last_offset().next();
        }
        Ok(Some(stretch))
    }
}

pub(super) fn fault(dir: &str, segment: &Segment, error: ScanError) -> LogError {
    let path = segment.path(dir);
    match error {
        ScanError::Io(source) => LogError::Io { path, source },
        ScanError::Bad { position, fault } => LogError::Corrupt {
            path,
            position,
            fault,
        },
    }
}

impl ReadError {
    /// The reader must not wait, and would have to; see [`cold`].
    pub(super) fn is_cold(&self) -> bool {
        matches!(self, ReadError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}
