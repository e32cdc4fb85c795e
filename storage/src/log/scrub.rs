//! Reads sealed segments again, long after they were written: does the disk still hold what it was
//! given?
//!
//! A piece of work is taken under the log's lock, read without it, and its result brought back.
//! Places that turn out damaged are remembered: reads end before them, reads of them fail with the
//! file and the position, and reads behind them are served. What was not in memory before is
//! not left there: old data must not push out what clients read.
//! Deliberately absent: when to read what, and how fast (the caller's `pace`).

use std::io;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::Log;
use super::error::{Fault, LogError};
use super::scan::{Scan, ScanError, WALK_BYTES};
use super::segment::Segment;
use crate::disk::DiskFile;

/// Memory is looked at, and let go, in such steps.
const STEP_BYTES: u64 = 1 << 20;

/// A place in a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPlace {
    /// Relative to the log directory.
    pub path: String,
    pub base_offset: Offset,
    /// From and until.
    pub bytes: (u64, u64),
    /// The offsets that are lost, from and until.
    pub offsets: (Offset, Offset),
    pub fault: Fault,
}

/// One sealed segment to read.
pub struct ScrubWork {
    file: Arc<dyn DiskFile>,
    path: String,
    base_offset: Offset,
    end: Offset,
    size_bytes: u32,
    generation: u64,
}

/// What was read of it.
#[derive(Debug, Default)]
pub struct Scrubbed {
    pub bytes: u64,
    pub batches: u64,
    pub damaged: Vec<DamagedPlace>,
    /// False when `pace` ended it.
    pub finished: bool,
}

impl Log {
    /// The first segment that is sealed, on the disk, and ends above an offset.
    pub fn scrub_work(&self, from: Offset) -> Result<Option<ScrubWork>, LogError> {
        let sealed = self.segments.len().saturating_sub(1);
        for at in self.segment_of(from)..sealed {
            let (segment, end) = (&self.segments[at], self.segment_end(at));
            if end <= from || end > self.recovery_point {
                continue;
            }
            return Ok(Some(ScrubWork {
                file: Arc::clone(segment.file(&*self.disk, &self.dir)?),
                path: segment.path(&self.dir),
                base_offset: segment.base_offset,
                end,
                size_bytes: segment.size_bytes,
                generation: self.generation,
            }));
        }
        Ok(None)
    }

    /// Remembers what was found; answers what of it is new. Nothing is believed about a log whose
    /// files have been replaced meanwhile: they will be read again.
    pub fn note_scrubbed(&mut self, work: &ScrubWork, found: &Scrubbed) -> Vec<DamagedPlace> {
        if work.generation != self.generation || found.damaged.is_empty() {
            return Vec::new();
        }
        let known = |place: &&DamagedPlace| !self.holes.contains(place);
        let new: Vec<DamagedPlace> = found.damaged.iter().filter(known).cloned().collect();
        self.holes.extend(new.iter().cloned());
        self.holes.sort_by_key(|place| place.offsets.0);
        new
    }

    /// The places that are known to be damaged, in the order of offsets.
    pub fn damaged(&self) -> &[DamagedPlace] {
        &self.holes
    }

    /// Files were replaced or cut: what was known about their bytes is void.
    pub(super) fn forget_damaged(&mut self) {
        self.holes = Vec::new();
    }
}

/// What stands in the way of a read from an offset in a segment.
pub(super) fn obstacles(
    holes: &[DamagedPlace],
    segment: &Segment,
    from: Offset,
) -> Result<Clear, LogError> {
    let mut clear = Clear {
        floor: 0,
        until: None,
    };
    let here = |place: &&DamagedPlace| place.base_offset == segment.base_offset;
    for place in holes.iter().filter(here) {
        let (start, end) = place.offsets;
        if (start..end).contains(&from) {
            return Err(LogError::Corrupt {
                path: place.path.clone(),
                position: place.bytes.0,
                fault: place.fault,
            });
        }
        match end <= from {
            true => clear.floor = place.bytes.1,
            false => {
                clear.until = Some((place.bytes.0, start));
                break;
            }
        }
    }
    Ok(clear)
}

/// The stretch of a segment that a read may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clear {
    /// Damage ends here.
    pub(super) floor: u64,
    /// Where the next damage starts, with its first offset.
    pub(super) until: Option<(u64, Offset)>,
}

impl ScrubWork {
    /// Where to go on afterwards.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub fn size_bytes(&self) -> u64 {
        u64::from(self.size_bytes)
    }

    /// Reads and checks every batch. Blocks on the disk; `pace` is told of bytes before they are
    /// read and says whether to go on. What the disk cannot read is an error that names its place.
    pub fn run(&self, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<Scrubbed> {
        let mut at = 0;
        self.walk(pace, &mut at).map_err(|error| {
            let text = format!("{} cannot be read from {at} on: {error}", self.path);
            io::Error::new(error.kind(), text)
        })
    }

    /// `at`: the batch that is being read.
    fn walk(&self, pace: &mut dyn FnMut(u64) -> bool, at: &mut u64) -> io::Result<Scrubbed> {
        let mut buffer = vec![0; WALK_BYTES];
        let size = self.size_bytes();
        let mut scan = Scan::new(&*self.file, 0, size, self.base_offset, &mut buffer);
        let mut found = Scrubbed::default();
        let mut step = Step::default();
        loop {
            if scan.position >= step.until && scan.position < size {
                self.leave(&step)?;
                step = self.enter(scan.position);
                if !pace(step.until - scan.position) {
                    return Ok(found);
                }
            }
            let expected = scan.expected;
            *at = scan.position;
            let (position, fault) = match scan.next() {
                Ok(None) => break,
                Ok(Some(batch)) => match scan.crc_is_valid(&batch)? {
                    true => {
                        found.batches += 1;
                        continue;
                    }
                    false => (batch.position, Fault::Crc),
                },
                Err(ScanError::Bad { position, fault }) => (position, fault),
                Err(ScanError::Io(error)) => return Err(error),
            };
            scan.expected = expected;
            let next = scan.find_valid(position + 1)?;
            let until = next.map_or(size, |batch| batch.position);
            let end = next.map_or(self.end, |batch| batch.header.base_offset);
            found.damaged.push(DamagedPlace {
                path: self.path.clone(),
                base_offset: self.base_offset,
                bytes: (position, until),
                offsets: (expected, end),
                fault,
            });
            (scan.position, scan.expected) = (until, end);
        }
        self.leave(&step)?;
        found.bytes = size;
        found.finished = true;
        Ok(found)
    }

    fn enter(&self, position: u64) -> Step {
        let until = (position + STEP_BYTES).min(self.size_bytes());
        Step {
            from: position,
            until,
            was_cold: !self.file.is_resident(position..until),
        }
    }

    fn leave(&self, step: &Step) -> io::Result<()> {
        match step.was_cold {
            true => self.file.forget_range(step.from..step.until),
            false => Ok(()),
        }
    }
}

/// A stretch that is read, and whether it came from the disk.
#[derive(Default)]
struct Step {
    from: u64,
    until: u64,
    was_cold: bool,
}

#[cfg(test)]
mod tests;
