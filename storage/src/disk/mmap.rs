//! Read-only maps of sealed file ranges as `Bytes`. The only file of the workspace with `unsafe`:
//! the map itself, and one system call that rustix does not offer.
//!
//! A map can kill the process: touching a page behind the end of its file, or one that the disk
//! cannot read, raises SIGBUS. Three rules keep that away:
//! - A file with live maps is never shortened in place (`real.rs` replaces it by a copy).
//! - A range is populated (`MADV_POPULATE_READ`) before anybody gets to see it; there the same
//!   faults are plain errors, and the caller falls back to reading, which names the error.
//! - Nobody else writes into a log directory: it is locked.
//!
//! What remains: a page that the kernel drops after it was populated, and that the disk cannot
//! read a second time. Plaintext fetches do not map; they use `sendfile`.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

use super::budget::Permit;

/// Maps start at multiples of this. Large, so that a 1 GiB segment takes 32 of the 65,530 maps
/// a process may have; a range that crosses from one to the next is copied.
pub(super) const CHUNK_SIZE_BYTES: u64 = 32 << 20;

/// One mapped chunk of a file.
pub(super) struct Map {
    map: Mmap,
    start: u64,
    _permit: Permit,
}

impl Map {
    /// Maps the chunk that contains `position`, also where the file does not reach yet.
    pub(super) fn new(fd: BorrowedFd<'_>, position: u64, permit: Permit) -> io::Result<Map> {
        let start = chunk_start(position);
        // SAFETY: the mapping is private to this process and read-only. Its bytes do not change
        // while somebody looks at them: `DiskFile::view` is only asked for bytes that are written
        // and will not be rewritten, `RealFile::truncate` does not shorten a mapped file, and the
        // directory lock keeps other processes out.
        let map = unsafe {
            MmapOptions::new()
                .offset(start)
                .len(CHUNK_SIZE_BYTES as usize)
                .map(fd.as_raw_fd())?
        };
        Ok(Map {
            map,
            start,
            _permit: permit,
        })
    }

    /// The bytes of `range`, which lies in this chunk and within the file, read into memory.
    /// An error means that the range cannot be mapped safely now: read it instead.
    pub(super) fn view(self: &Arc<Map>, range: Range<u64>) -> io::Result<Bytes> {
        assert!(
            chunk_start(range.start) == self.start,
            "range {range:?} of another chunk"
        );
        let start = (range.start - self.start) as usize;
        let end = (range.end - self.start) as usize;
        assert!(
            end <= self.map.len(),
            "range {range:?} crosses the chunk at {}",
            self.start
        );
        self.map
            .advise_range(Advice::PopulateRead, start, end - start)?;
        Ok(Bytes::from_owner(View {
            map: Arc::clone(self),
            range: start..end,
        }))
    }
}

/// Keeps its map alive as long as a buffer refers to it.
struct View {
    map: Arc<Map>,
    range: Range<usize>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.map.map[self.range.clone()]
    }
}

pub(super) fn chunk_start(position: u64) -> u64 {
    position - position % CHUNK_SIZE_BYTES
}

/// Starts write-back of the dirty pages of a range, and waits for none of them.
pub(super) fn start_write_back(fd: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
    sync_file_range(fd, range, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits for the pages of a range that are being written, and is told what became of all that was
/// written through the descriptor: once, so that a later sync of it is not told.
pub(super) fn wait_for_write_back(fd: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
    sync_file_range(fd, range, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
}

fn sync_file_range(fd: BorrowedFd<'_>, range: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(range.start).map_err(invalid)?;
    let len = i64::try_from(range.end.saturating_sub(range.start)).map_err(invalid)?;
    if len == 0 {
        return Ok(()); // a length of zero would mean "to the end of the file"
    }
    // SAFETY: takes numbers only; `fd` is open for the duration of the call by its lifetime.
    match unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, len, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
