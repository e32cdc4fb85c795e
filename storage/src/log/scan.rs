//! Walks the batches of a segment file from header to header, through one small buffer.
//!
//! What it yields is plausible, not proven: lengths stay inside the file and offsets grow. Whoever
//! distrusts the bytes asks for the CRC as well. Nothing is allocated; the caller lends the buffer.

use std::io;

use ottla_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, RecordBatchView};
use ottla_protocol::types::Offset;

use super::control::{self, EndTransaction, MARKER_BYTES_MAX};
use super::error::Fault;
use crate::disk::DiskFile;

/// Enough for lookups: one index interval.
pub(crate) const LOOKUP_BYTES: usize = 4 << 10;
/// For walking through much of a file.
pub(crate) const WALK_BYTES: usize = 256 << 10;
/// The CRC covers everything from the attributes on.
const CRC_FROM: u64 = 21;

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    ForDisk,
    ForNothing,
}

/// What is wanted is not in memory, and the reader must not wait.
pub(crate) fn cold() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// A batch in a segment file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Found {
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.size_bytes() as u64
    }
}

#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    Bad { position: u64, fault: Fault },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> ScanError {
        ScanError::Io(error)
    }
}

/// The walk. `position` is where the next batch is expected.
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    pub(crate) position: u64,
    end: u64,
    /// Batches must lie inside the offsets a segment with this base can hold.
    base_offset: Offset,
    /// No batch starts below this.
    pub(crate) expected: Offset,
    buffer: &'a mut [u8],
    start: u64,
    len: usize,
    waits: Waits,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        position: u64,
        end: u64,
        base_offset: Offset,
        buffer: &'a mut [u8],
    ) -> Scan<'a> {
        debug_assert!(buffer.len() >= LOOKUP_BYTES.min(MARKER_BYTES_MAX));
        let expected = base_offset;
        Scan {
            file,
            position,
            end,
            base_offset,
            expected,
            buffer,
            start: 0,
            len: 0,
            waits: Waits::ForDisk,
        }
    }

    /// The same walk, which fails with [`cold`] instead of waiting if it must not.
    pub(crate) fn that(self, waits: Waits) -> Scan<'a> {
        Scan { waits, ..self }
    }

    /// The next batch, or `None` at the end of the file. After an error the walk can go on only
    /// from a position set by the caller.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let found = self
            .parse(position)?
            .map_err(|fault| ScanError::Bad { position, fault })?;
        self.position = found.end();
        self.expected = found.header.last_offset().next();
        Ok(Some(found))
    }

    /// Whether a plausible header is at `position`.
    pub(crate) fn parse(&mut self, position: u64) -> io::Result<Result<Found, Fault>> {
        let (end, expected, base) = (self.end, self.expected, self.base_offset);
        let window = self.window(position, BATCH_HEADER_BYTES)?;
        let header = match BatchHeader::parse(window) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.into())),
        };
        let found = Found { position, header };
        if found.end() > end {
            return Ok(Err(Fault::CutOff));
        }
        let last = header
            .base_offset
            .checked_add(i64::from(header.last_offset_delta));
        let fits = |last: Offset| last.0 < i64::MAX && last.0 - base.0 <= i64::from(i32::MAX);
        let sound = header.base_offset >= expected
            && header.last_offset_delta >= 0
            && header.record_count >= 0
            && last.is_some_and(fits);
        Ok(match sound {
            true => Ok(found),
            false => Err(Fault::Offsets),
        })
    }

    pub(crate) fn crc_is_valid(&mut self, found: &Found) -> io::Result<bool> {
        let mut crc = 0;
        let mut position = found.position + CRC_FROM;
        while position < found.end() {
            let left = (found.end() - position) as usize;
            let window = self.window(position, 1)?;
            if window.is_empty() {
                return Ok(false);
            }
            let chunk = &window[..window.len().min(left)];
            crc = crc32c::crc32c_append(crc, chunk);
            position += chunk.len() as u64;
        }
        Ok(crc == found.header.crc)
    }

    /// The transaction marker in a control batch, if it is one.
    pub(crate) fn marker(&mut self, found: &Found) -> io::Result<Option<EndTransaction>> {
        let size = found.header.size_bytes();
        if !found.header.is_control() || size > MARKER_BYTES_MAX {
            return Ok(None);
        }
        let window = self.window(found.position, size)?;
        Ok(RecordBatchView::parse(window)
            .ok()
            .and_then(control::end_transaction))
    }

    /// The first CRC-valid batch at or after `from`; where damage ends. Reads everything between.
    pub(crate) fn find_valid(&mut self, from: u64) -> io::Result<Option<Found>> {
        let mut position = from;
        while position + BATCH_HEADER_BYTES as u64 <= self.end {
            let window = self.window(position, BATCH_HEADER_BYTES)?;
            if window.len() < BATCH_HEADER_BYTES {
                return Ok(None);
            }
            // The magic byte is a cheap first test for a whole window.
            let starts = window.len() - BATCH_HEADER_BYTES + 1;
            let hit = window[16..16 + starts].iter().position(|&byte| byte == 2);
            let Some(hit) = hit else {
                position += starts as u64;
                continue;
            };
            position += hit as u64;
            if let Ok(found) = self.parse(position)?
                && self.crc_is_valid(&found)?
            {
                return Ok(Some(found));
            }
            position += 1;
        }
        Ok(None)
    }

    /// Whether nothing but zeros follows.
    pub(crate) fn is_zero_from(&mut self, from: u64) -> io::Result<bool> {
        let mut position = from;
        while position < self.end {
            let window = self.window(position, 1)?;
            if window.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            if window.is_empty() {
                break;
            }
            position += window.len() as u64;
        }
        Ok(true)
    }

    /// Bytes from `position` on, at least `need` unless the file ends before.
    fn window(&mut self, position: u64, need: usize) -> io::Result<&[u8]> {
        let need = need.min(usize::try_from(self.end.saturating_sub(position)).unwrap_or(need));
        let buffered = position >= self.start
            && position + need as u64 <= self.start + self.len as u64
            && need > 0;
        if !buffered {
            let want = self
                .buffer
                .len()
                .min((self.end - position.min(self.end)) as usize);
            self.start = position;
            self.len = 0;
            let into = &mut self.buffer[..want];
            self.len = match self.waits {
                Waits::ForDisk => self.file.read_at(position, into)?,
                Waits::ForNothing => match self.file.read_at_if_resident(position, into)? {
                    Some(read) if read >= need => read,
                    _ => return Err(cold()),
                },
            };
        }
        Ok(&self.buffer[(position - self.start) as usize..self.len])
    }
}
