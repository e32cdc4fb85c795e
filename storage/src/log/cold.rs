//! Reading without waiting for the disk, and the work that is left when that is not possible.
//!
//! A read that finds something cold (a batch header that is not in the page cache, an index or a
//! file that is not open) gives a [`ColdRead`] instead: an excerpt of the segments that it may
//! span. Some thread that may wait runs it without the log's lock; then the log adopts what was
//! loaded for it, and the reader uses what was found if the log is still the same.
//! Deliberately absent: threads, retries.

use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::Log;
use super::error::ReadError;
use super::index::AbortedTransaction;
use super::read::{LogRead, Place, Reader};
use super::recover::aborted_in_last;
use super::scan::Waits;
use super::scrub::DamagedPlace;
use super::segment::Segment;
use crate::disk::Disk;
use crate::sync::Mutex;

/// Of so many segments the aborted transactions are loaded at a time.
const ABORTED_SEGMENTS_MAX: usize = 256;

/// What a reader that must not wait gets.
#[derive(Debug)]
pub enum Resident<T> {
    Found(T),
    /// Not everything is in memory.
    Cold(Box<ColdRead>),
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) from: Offset,
    pub(super) max_bytes: u32,
    pub(super) upper: Offset,
    pub(super) at_least_one: bool,
}

/// A read that has to wait for the disk. It holds no lock and knows the log as it was.
pub struct ColdRead {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    interval_bytes: u32,
    holes: Vec<DamagedPlace>,
    stamp: Stamp,
    segments: Vec<Excerpt>,
    /// `None`: which transactions were aborted is all that is asked.
    wanted: Option<Wanted>,
    /// All segments up to those, where the files of aborted transactions are lost.
    before: Vec<Segment>,
    producer_count_max: usize,
    /// What was found there, by the segment's base and size.
    aborted: Mutex<Vec<(Offset, u32, Vec<AbortedTransaction>)>>,
}

/// Which log something was found in, and which generation of its files.
#[derive(Clone)]
pub struct Stamp {
    log: Arc<Mutex<u64>>,
    generation: u64,
}

struct Excerpt {
    segment: Segment,
    end: Offset,
    /// Its index is only a part of the whole.
    partial: bool,
    sealed: bool,
}

impl<T> Resident<T> {
    pub(super) fn of(
        found: Result<T, ReadError>,
        cold: impl FnOnce() -> ColdRead,
    ) -> Result<Resident<T>, ReadError> {
        match found {
            Ok(found) => Ok(Resident::Found(found)),
            Err(error) if error.is_cold() => Ok(Resident::Cold(Box::new(cold()))),
            Err(error) => Err(error),
        }
    }
}

impl ColdRead {
    pub(super) fn of_records(log: &Log, wanted: Wanted) -> ColdRead {
        let excerpt = |place: Place<'_>| Excerpt {
            segment: place
                .segment
                .excerpt(wanted.from, u64::from(wanted.max_bytes)),
            end: place.end,
            partial: place.segment.loaded_index().is_some(),
            sealed: true,
        };
        let segments = log.places(wanted.from).map(excerpt).collect();
        ColdRead::new(log, segments, Some(wanted))
    }

    pub(super) fn of_aborted(log: &Log, from: Offset) -> ColdRead {
        let excerpt = |at: &usize| Excerpt {
            segment: log.segments[*at].without_index(),
            end: log.segment_end(*at),
            partial: false,
            sealed: *at + 1 < log.segments.len(),
        };
        let unknown: Vec<usize> = (log.segment_of(from)..log.segments.len())
            .filter(|&at| !log.is_aborted_loaded(at))
            .take(ABORTED_SEGMENTS_MAX)
            .collect();
        let all = unknown.last().map_or(0, |last| last + 1);
        let before = log.segments[..all].iter().map(Segment::without_index);
        ColdRead {
            before: before.collect(),
            ..ColdRead::new(log, unknown.iter().map(excerpt).collect(), None)
        }
    }

    fn new(log: &Log, segments: Vec<Excerpt>, wanted: Option<Wanted>) -> ColdRead {
        let here = |place: &&DamagedPlace| {
            let base = |excerpt: &Excerpt| excerpt.segment.base_offset == place.base_offset;
            segments.iter().any(base)
        };
        ColdRead {
            disk: Arc::clone(&log.disk),
            dir: Arc::clone(&log.dir),
            interval_bytes: log.config.index_interval_bytes,
            holes: log.holes.iter().filter(here).cloned().collect(),
            stamp: log.stamp(),
            segments,
            wanted,
            before: Vec::new(),
            producer_count_max: log.config.producer_count_max,
            aborted: Mutex::new(Vec::new()),
        }
    }

    /// Where and when what it finds is true.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Reads, waiting for the disk as long as it takes. `None` when no records were asked for.
    pub fn run(&self) -> Result<Option<LogRead>, ReadError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let Some(wanted) = &self.wanted else {
            for Excerpt {
                segment, sealed, ..
            } in &self.segments
            {
                if !(*sealed && segment.is_without_aborted(disk, dir)) {
                    let index = segment.index(disk, dir, self.interval_bytes)?;
                    if !index.aborted_known {
                        self.find_aborted(segment)?;
                    }
                }
            }
            return Ok(None);
        };
        let reader = Reader {
            disk,
            dir,
            interval_bytes: self.interval_bytes,
            holes: &self.holes,
            waits: Waits::ForDisk,
        };
        let places = self.segments.iter().map(|excerpt| Place {
            segment: &excerpt.segment,
            end: excerpt.end,
        });
        reader.read(places, wanted).map(Some)
    }
}

impl ColdRead {
    /// Those of a segment whose file of them is lost are in the log, from its start on.
    fn find_aborted(&self, of: &Segment) -> Result<(), ReadError> {
        let up_to = |one: &&Segment| one.base_offset <= of.base_offset;
        let segments: Vec<_> = self.before.iter().take_while(up_to).collect();
        let (disk, count_max) = (&*self.disk, self.producer_count_max);
        let aborted = aborted_in_last(disk, &self.dir, &segments, count_max)?;
        let found = (of.base_offset, of.size_bytes, aborted);
        self.aborted.lock().push(found);
        Ok(())
    }
}

impl Log {
    /// Keeps the handles and indexes that a cold read has loaded, so that the next read need not.
    /// False when the log is another one by now, or its files were replaced: then what was read
    /// counts for nothing.
    pub fn adopt(&mut self, cold: ColdRead) -> bool {
        if !self.is_at(&cold.stamp) {
            return false;
        }
        let aborted = std::mem::take(&mut *cold.aborted.lock());
        for Excerpt {
            segment, partial, ..
        } in cold.segments
        {
            if let Some(at) = self.segment_at(segment.base_offset) {
                self.segments[at].adopt(segment, partial);
            }
        }
        for (base, size_bytes, aborted) in aborted {
            let at = self.segment_at(base);
            let segment = at.map(|at| &mut self.segments[at]);
            let same = segment.filter(|segment| segment.size_bytes == size_bytes);
            let index = same.and_then(Segment::loaded_index_mut);
            if let Some(index) = index.filter(|index| !index.aborted_known) {
                index.aborted = aborted;
                index.aborted_known = true;
            }
        }
        true
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            log: Arc::clone(&self.writer),
            generation: self.generation,
        }
    }

    /// Whether nothing that is below the log's end now was replaced since.
    pub fn is_at(&self, stamp: &Stamp) -> bool {
        Arc::ptr_eq(&stamp.log, &self.writer) && stamp.generation == self.generation
    }

    pub(super) fn segment_at(&self, base: Offset) -> Option<usize> {
        self.segments
            .binary_search_by_key(&base, |segment| segment.base_offset)
            .ok()
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stamp({})", self.generation)
    }
}

impl std::fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdRead")
            .field("dir", &self.dir)
            .field("wanted", &self.wanted)
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
