//! The seam between the log and a disk: directories, files, and handles that outlive a request.
//!
//! Paths are relative to the root of one log directory, `/`-separated, without `.` or `..`.
//! Two implementations share one conformance suite (`disk/tests.rs`): [`RealDisk`] over a file
//! system, and [`MemoryDisk`], which loses and tears what was not synced, on demand and by seed.
//!
//! What the seam promises:
//! - `write_at` is complete or an error. After an error the range holds anything.
//! - Written data survives the process at once, and a power cut only after `sync_data`.
//!   A new, renamed or removed name survives a power cut only after `sync_dir` of its directory.
//! - After a failed `sync_data` nothing written since the last good one may be trusted: the kernel
//!   marks such pages clean, so a second sync may succeed without the data. Never retry; poison.
//!   Such pages outlive the process: who opens the file next calls `forget_clean` before reading.
//!   A write-back that fails is remembered: the next `sync_data` fails, although the kernel does
//!   not say it twice.
//! - `preallocate` reserves space (a full disk is an error now, not at the write) and leaves the
//!   length alone.
//! - A view stays valid after its file is shortened, replaced or removed: an implementation that
//!   maps files copies a file with live views before it shortens it.
//! - A [`FileRange`] keeps its descriptor open however many other files are used meanwhile.
//! - Where no descriptor is left, files that nobody uses give theirs; only if there are none is it
//!   an error ([`is_out_of_descriptors`]), of an open and of nothing else: `sync_dir` has none.
//!
//! Deliberately absent: async, buffering, retries, knowledge of segments or checkpoints.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::frame::Body;

mod absent;
mod budget;
mod lock;
pub mod memory;
mod mmap;
mod real;

#[cfg(test)]
mod tests;

pub use absent::AbsentDisk;
pub use budget::Budget;
pub use lock::{DirectoryLock, LockError};
pub use memory::MemoryDisk;
pub use real::RealDisk;

/// No descriptor was left to open a file with, or no memory for one. Never the answer of a sync
/// itself, so what was to be synced is as it was, and may be synced later.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error())
        || code == Some(Errno::NFILE.raw_os_error())
        || error
            .get_ref()
            .is_some_and(|inner| inner.is::<NoMemoryToOpen>())
}

/// ENOMEM of an open. By its code alone it cannot be told from one of a sync.
#[derive(Debug, thiserror::Error)]
#[error("no memory to open a file")]
pub(crate) struct NoMemoryToOpen;

/// The same error once more: it stays the error of the system that it was.
pub(crate) fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None if is_out_of_descriptors(error) => {
            io::Error::new(io::ErrorKind::OutOfMemory, NoMemoryToOpen)
        }
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// One name in a directory. `len_bytes` is zero for directories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    pub len_bytes: u64,
}

/// One log directory.
pub trait Disk: Send + Sync + 'static {
    /// Creates an empty file; fails with `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Creates one directory; succeeds if it is there already. The parent must exist.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// The entries of a directory, sorted by name; `""` is the root.
    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>>;
    /// Atomic; replaces a file at `to`, or an empty directory when `from` is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    fn remove_dir_all(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory survive a power cut; `""` is the root. Never for want of a
    /// descriptor an error: who changes names could not take them back.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Makes everything that was written survive a power cut. For a start: what an earlier process
    /// failed to write is not reported here, but missing when it is read after `forget_clean`.
    fn sync_all(&self) -> io::Result<()> {
        sync_below(self, "")
    }
    /// When a file was last written, in milliseconds since 1970; `None` where nobody knows.
    fn modified_ms(&self, path: &str) -> io::Result<Option<i64>>;
    /// Says that a file was last written then: a copy that is as old as its original. A hint.
    fn set_modified_ms(&self, path: &str, modified_ms: i64) -> io::Result<()>;
    /// Closes descriptors of files that nobody used since the last call, where very many are open:
    /// what is used again is opened again. For somebody who calls it every few seconds; a hint.
    fn close_idle(&self) {}
    /// What is left for us; less than what is free where the system keeps a reserve.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The size of the whole file system.
    fn total_bytes(&self) -> io::Result<u64>;
}

fn sync_below<D: Disk + ?Sized>(disk: &D, dir: &str) -> io::Result<()> {
    for entry in disk.list(dir)? {
        let path = match dir {
            "" => entry.name,
            _ => format!("{dir}/{}", entry.name),
        };
        match entry.is_dir {
            true => sync_below(disk, &path)?,
            false => disk.open(&path)?.sync_data()?,
        }
    }
    disk.sync_dir(dir)
}

/// One file. Shared: every method takes `&self`, positions are explicit.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all parts one after another from `position`, complete or an error.
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;
    /// Fills `into` as far as the file reaches; fewer bytes only at the end of the file.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// The same as far as the bytes are in memory, without waiting for the disk: perhaps fewer than
    /// the file has. `None`: not even the first, or nobody can tell.
    fn read_at_if_resident(&self, position: u64, into: &mut [u8]) -> io::Result<Option<usize>>;
    fn len_bytes(&self) -> io::Result<u64>;
    /// Reserves space for the first `len_bytes`; the length stays as it is. All or nothing: a full
    /// disk takes nothing, and space reserved before may be released. Never beside a write.
    fn preallocate(&self, len_bytes: u64) -> io::Result<()>;
    /// Cuts or extends (with zeroes) to `len_bytes`; releases space reserved beyond it.
    fn truncate(&self, len_bytes: u64) -> io::Result<()>;
    /// The same where nobody was ever shown a byte of what is cut off: views need no care.
    fn trim(&self, len_bytes: u64) -> io::Result<()> {
        self.truncate(len_bytes)
    }
    fn sync_data(&self) -> io::Result<()>;
    /// Asks for write-back of a range without waiting; a hint, promises nothing.
    fn start_write_back(&self, range: Range<u64>) -> io::Result<()>;
    /// Waits until write-back of a range is over, and starts it where nobody has. Promises nothing
    /// either, but an error is as bad as that of a sync, and the next one has it too.
    fn finish_write_back(&self, range: Range<u64>) -> io::Result<()>;
    /// Drops what is in memory of the file and need not be written, so that the next read says what
    /// the disk holds: after a failed sync of an earlier process the two may differ. Writes that
    /// are not synced stay. All of it: of a part the kernel keeps the pages at its border.
    fn forget_clean(&self) -> io::Result<()>;
    /// Drops a range that was read once and is not wanted in memory. A hint.
    fn forget_range(&self, range: Range<u64>) -> io::Result<()>;
    /// Bytes that are written and will not be rewritten: mapped if the budget allows, else copied.
    /// Fails with `UnexpectedEof` when the range passes the end of the file.
    fn view(&self, range: Range<u64>) -> io::Result<Bytes>;
    /// Whether reading the range would not wait for the disk, as far as probes tell; `true` when
    /// unknown.
    fn is_resident(&self, range: Range<u64>) -> bool;
    /// The descriptor for `sendfile`: only of a pinned file; `None` where there is none.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// The same file as a handle whose descriptor stays open as long as the handle lives.
    fn pin(self: Arc<Self>) -> io::Result<Arc<dyn DiskFile>>;
}

/// A stretch of a file on its way to a socket. Made by [`FileRange::new`], which pins the file.
#[derive(Clone)]
pub struct FileRange {
    pub file: Arc<dyn DiskFile>,
    pub position: u64,
    pub len_bytes: u32,
}

impl FileRange {
    pub fn new(file: &Arc<dyn DiskFile>, position: u64, len_bytes: u32) -> io::Result<FileRange> {
        Ok(FileRange {
            file: Arc::clone(file).pin()?,
            position,
            len_bytes,
        })
    }

    /// `None` on a disk without descriptors: the caller uses [`FileRange::read`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.fd()
    }

    pub fn range(&self) -> Range<u64> {
        self.position..self.position + u64::from(self.len_bytes)
    }

    pub fn is_resident(&self) -> bool {
        self.file.is_resident(self.range())
    }

    /// A copy of the bytes; `UnexpectedEof` when the file has become shorter.
    pub fn read(&self) -> io::Result<Bytes> {
        read_exact_at(&*self.file, self.range())
    }
}

impl std::fmt::Debug for FileRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileRange({:?})", self.range())
    }
}

/// Record bytes of a reply: in memory, or still in a file.
#[derive(Clone, Debug)]
pub enum RecordData {
    Bytes(Bytes),
    File(FileRange),
}

impl Body for RecordData {
    fn len(&self) -> usize {
        match self {
            RecordData::Bytes(bytes) => bytes.len(),
            RecordData::File(range) => range.len_bytes as usize,
        }
    }
}

/// Reads exactly `range`; `UnexpectedEof` when the file ends before it.
pub fn read_exact_at(file: &dyn DiskFile, range: Range<u64>) -> io::Result<Bytes> {
    let len = usize::try_from(range.end.saturating_sub(range.start))
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The length is checked against the file first, so a wrong range does not become a huge buffer.
    if range.end > file.len_bytes()? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut buffer = vec![0; len];
    if file.read_at(range.start, &mut buffer)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buffer.into())
}

/// Reads a whole small file; `InvalidData` when it is longer than `max_bytes`.
pub fn read_file(disk: &dyn Disk, path: &str, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len_bytes = file.len_bytes()?;
    if len_bytes > max_bytes {
        let message = format!("{path} is {len_bytes} bytes long, at most {max_bytes} are expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut content = vec![0; len_bytes as usize];
    let read = file.read_at(0, &mut content)?;
    content.truncate(read);
    Ok(content)
}

/// Replaces a small file so that after a crash either the old or the new content is there, whole.
/// Concurrent writers of one path must be kept apart by the caller: they share `PATH.tmp`.
pub fn write_file_atomically(disk: &dyn Disk, path: &str, content: &[u8]) -> io::Result<()> {
    let temporary = format!("{path}.tmp");
    match disk.remove(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = disk.create(&temporary)?;
    file.write_at(0, &[IoSlice::new(content)])?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}

/// The directory part of a path; `""` for a name in the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Refuses what would leave the root. Paths come from our own layout, so this guards a defect.
pub(crate) fn check_path(path: &str) -> io::Result<()> {
    let sound =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if path.is_empty() || path.split('/').all(sound) {
        return Ok(());
    }
    let message = format!("not a path inside a log directory: {path:?}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
