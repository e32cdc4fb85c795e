//! One file of the real disk: a path, a descriptor that comes and goes, and maps of its chunks.
//!
//! Invariants:
//! - A descriptor is closed only while nobody uses it and nothing written through it is unsynced,
//!   so a write-back error cannot be lost between a close and the next open.
//! - After one failed sync, or one failed write-back, every later sync of the file fails too, and
//!   so does one that was under way: the kernel tells a descriptor once, whoever asks.
//! - Lock order: `maps`, then the disk's registry, then `path` and `open`, then `asking`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::super::budget::{Evict, Permit};
use super::super::mmap::{self, Map, chunk_start};
use super::super::{DiskFile, parent, read_exact_at};
use super::Shared;
use crate::sync::{AtomicBool, AtomicU64, Mutex};

/// Below this a copy costs less than the page faults of a map.
const MAP_SIZE_BYTES_MIN: u64 = 16 << 10;
/// Distance of residency probes: the kernel's default read-ahead window.
const PROBE_STRIDE_BYTES: usize = 128 << 10;
/// The kernel takes at most this many parts in one call (UIO_MAXIOV).
const PARTS_MAX: usize = 1024;
const COPY_SIZE_BYTES: usize = 1 << 20;
/// More than any file of ours has.
const WHOLE_FILE_BYTES: u64 = 1 << 40;
/// A write-back did not begin, and the pages are as they were: there was no memory for it, a signal
/// came, or the kernel, or a sandbox, does not know the call.
const NOT_BEGUN: [Errno; 7] = [
    Errno::NOMEM,
    Errno::AGAIN,
    Errno::INTR,
    Errno::NOSYS,
    Errno::OPNOTSUPP,
    Errno::INVAL,
    Errno::PERM,
];

pub(super) struct RealFile {
    this: Weak<RealFile>,
    shared: Arc<Shared>,
    path: Mutex<String>,
    removed: AtomicBool,
    /// Created or synced by us: what an earlier process wrote is on the disk.
    synced: AtomicBool,
    sync_failed: AtomicBool,
    /// Held while the kernel is asked what became of what was written.
    asking: Mutex<()>,
    last_used: AtomicU64,
    open: Mutex<Option<Arc<OpenFile>>>,
    maps: Mutex<BTreeMap<u64, Arc<MapSlot>>>,
}

/// An open descriptor, counted by the budget.
pub(super) struct OpenFile {
    descriptor: OwnedFd,
    writable: bool,
    /// Written through it since its last sync began. Not the file's: a cut may replace the
    /// descriptor while a sync of the one before goes on.
    dirty: AtomicBool,
    _permit: Permit,
}

impl OpenFile {
    pub(super) fn new(descriptor: OwnedFd, writable: bool, permit: Permit) -> OpenFile {
        OpenFile {
            descriptor,
            writable,
            dirty: AtomicBool::new(false),
            _permit: permit,
        }
    }

    /// Opens an existing file; on a read-only file system what is there can still be read.
    pub(super) fn open(shared: &Shared, path: &str, permit: Permit) -> io::Result<OpenFile> {
        match shared.open_file(path, OFlags::RDWR) {
            Ok(descriptor) => Ok(OpenFile::new(descriptor, true, permit)),
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => Ok(OpenFile::new(
                shared.open_file(path, OFlags::RDONLY)?,
                false,
                permit,
            )),
            Err(error) => Err(error),
        }
    }

    /// One call: what is resident behind a gap is not worth a second.
    fn read_if_resident(&self, position: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        let into = &mut [IoSliceMut::new(into)];
        loop {
            match rustix::io::preadv2(&self.descriptor, into, position, ReadWriteFlags::NOWAIT) {
                Ok(read) => return Ok(Some(read)),
                Err(Errno::INTR) => {}
                // Not resident; or a file system, or a kernel, that cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.descriptor)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn to_write(&self) -> io::Result<&OwnedFd> {
        match self.writable {
            true => Ok(&self.descriptor),
            false => Err(ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

/// A place for one chunk's map, which is dropped when the budget asks.
struct MapSlot {
    last_used: AtomicU64,
    map: Mutex<Option<Arc<Map>>>,
}

impl Evict for MapSlot {
    fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    fn evict(&self) -> bool {
        let Some(mut map) = self.map.try_lock() else {
            return false;
        };
        if map.as_ref().is_none_or(|map| Arc::strong_count(map) > 1) {
            return false;
        }
        *map = None;
        true
    }
}

impl RealFile {
    pub(super) fn new(shared: &Arc<Shared>, path: &str) -> Arc<RealFile> {
        Arc::new_cyclic(|this| RealFile {
            this: Weak::clone(this),
            shared: Arc::clone(shared),
            path: Mutex::new(path.to_owned()),
            removed: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            asking: Mutex::new(()),
            last_used: AtomicU64::new(shared.budget.files.now()),
            open: Mutex::default(),
            maps: Mutex::default(),
        })
    }

    /// Room for one descriptor of this file. Takes no lock of this file, but runs evictions.
    pub(super) fn permit(&self) -> Permit {
        let this: Weak<RealFile> = Weak::clone(&self.this);
        self.shared.budget.files.acquire(this)
    }

    pub(super) fn set_open(&self, file: OpenFile) {
        *self.open.lock() = Some(Arc::new(file));
    }

    pub(super) fn set_synced(&self) {
        self.synced.store(true, Relaxed);
    }

    pub(super) fn set_path(&self, path: &str) {
        path.clone_into(&mut self.path.lock());
    }

    /// The name is gone or means another file: from now on the descriptor cannot be got back.
    pub(super) fn set_removed(&self) {
        self.removed.store(true, Relaxed);
    }

    fn opened(&self) -> io::Result<Arc<OpenFile>> {
        self.last_used
            .store(self.shared.budget.files.now(), Relaxed);
        if let Some(file) = &*self.open.lock() {
            return Ok(Arc::clone(file));
        }
        self.shared.with_room(|| {
            let permit = self.permit();
            // The registry is held so that a rename cannot come between the path and the open.
            let _registry = self.shared.registry.lock();
            let mut open = self.open.lock();
            if let Some(file) = &*open {
                return Ok(Arc::clone(file));
            }
            if self.removed.load(Relaxed) {
                return Err(ErrorKind::NotFound.into());
            }
            let file = Arc::new(OpenFile::open(&self.shared, &self.path.lock(), permit)?);
            *open = Some(Arc::clone(&file));
            Ok(file)
        })
    }

    /// Nothing that was written to it could be lost: it is closed, and was synced before that.
    fn is_closed_and_synced(&self) -> bool {
        self.synced.load(Relaxed) && !self.sync_failed.load(Relaxed) && self.open.lock().is_none()
    }

    /// The cached map of a chunk, made if there is none.
    fn map(&self, position: u64) -> io::Result<Arc<Map>> {
        let start = chunk_start(position);
        let pool = &self.shared.budget.maps;
        let slot = {
            let mut maps = self.maps.lock();
            let slot = maps.entry(start).or_insert_with(|| {
                Arc::new(MapSlot {
                    last_used: AtomicU64::new(0),
                    map: Mutex::default(),
                })
            });
            Arc::clone(slot)
        };
        slot.last_used.store(pool.now(), Relaxed);
        if let Some(map) = &*slot.map.lock() {
            return Ok(Arc::clone(map));
        }
        let weak: Weak<MapSlot> = Arc::downgrade(&slot);
        let permit = pool.acquire(weak);
        let file = self.opened()?;
        // `maps` is held against a truncation that looks for live maps at the same time.
        let maps = self.maps.lock();
        if !maps
            .get(&start)
            .is_some_and(|current| Arc::ptr_eq(current, &slot))
        {
            return Err(ErrorKind::Interrupted.into()); // truncated meanwhile: the caller copies
        }
        let mut map = slot.map.lock();
        if let Some(map) = &*map {
            return Ok(Arc::clone(map));
        }
        let new = Arc::new(Map::new(file.descriptor.as_fd(), start, permit)?);
        *map = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Moves the first `len_bytes` to a new file under the same name, which is synced, and leaves
    /// the old one to those who still look at it.
    fn replace_by_copy(&self, old: &OpenFile, len_bytes: u64) -> io::Result<()> {
        self.shared
            .with_room(|| self.try_to_replace(old, len_bytes))
    }

    fn try_to_replace(&self, old: &OpenFile, len_bytes: u64) -> io::Result<()> {
        let permit = self.permit();
        let _registry = self.shared.registry.lock();
        if self.removed.load(Relaxed) {
            return Err(ErrorKind::NotFound.into());
        }
        let path = self.path.lock();
        let temporary = format!("{path}.truncating");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let new = OpenFile::new(self.shared.open_file(&temporary, flags)?, true, permit);
        copy(old, &new, len_bytes)?;
        rustix::fs::fdatasync(&new.descriptor)?;
        let root = &self.shared.root;
        rustix::fs::renameat(root, &temporary, root, &*path)?;
        self.shared.sync_dir(parent(&path))?;
        *self.open.lock() = Some(Arc::new(new));
        Ok(())
    }

    fn read_into(&self, file: &OpenFile, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            let at = position + filled as u64;
            match rustix::io::pread(&file.descriptor, &mut into[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        self.ask(|| {
            // Cleared first: a write during the sync leaves it dirty.
            file.dirty.store(false, Relaxed);
            rustix::fs::fdatasync(&file.descriptor)?;
            self.set_synced();
            Ok(())
        })
    }

    /// The kernel tells of a lost write only once through one descriptor: to the first who asks, be
    /// it by a sync or by waiting for a write-back. So that nobody else takes the silence for a
    /// success, one asks after the other, and what one was told counts for all.
    fn ask(&self, ask: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _alone = self.asking.lock();
        if self.sync_failed.load(Relaxed) {
            return Err(Errno::IO.into());
        }
        ask().inspect_err(|_| self.sync_failed.store(true, Relaxed))
    }

    /// Has the disk begin with a range. That asks for nothing; but what is told all the same is
    /// told to nobody else.
    fn begin_write_back(&self, file: &OpenFile, range: Range<u64>) -> io::Result<()> {
        let begun = mmap::start_write_back(file.descriptor.as_fd(), range);
        begun.inspect_err(|error| {
            let made = Errno::from_io_error(error);
            if made.is_some_and(|error| !NOT_BEGUN.contains(&error)) {
                self.sync_failed.store(true, Relaxed);
            }
        })
    }
}

impl RealFile {
    /// Closes the descriptor if nobody used it since that time of the budget, and if that costs
    /// nothing; true when it did.
    pub(super) fn close_if_idle(&self, since: u64) -> bool {
        self.last_used() < since && !self.is_costly() && self.evict()
    }
}

impl Evict for RealFile {
    fn last_used(&self) -> u64 {
        self.last_used.load(Relaxed)
    }

    fn is_costly(&self) -> bool {
        let open = self.open.try_lock();
        open.is_some_and(|open| open.as_ref().is_some_and(|file| file.dirty.load(Relaxed)))
    }

    fn prepare(&self) {
        if let Some(open) = self.open.try_lock()
            && let Some(file) = &*open
            && file.dirty.load(Relaxed)
        {
            // A hint; failures show at the sync.
            let _ = self.begin_write_back(file, 0..WHOLE_FILE_BYTES);
        }
    }

    fn evict(&self) -> bool {
        let Some(mut open) = self.open.try_lock() else {
            return false;
        };
        let Some(file) = &*open else { return false };
        if Arc::strong_count(file) > 1 || self.removed.load(Relaxed) {
            return false;
        }
        // A failed sync is remembered and reported by the next one.
        if file.dirty.load(Relaxed) && self.sync(file).is_err() {
            return false;
        }
        *open = None;
        true
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            return;
        }
        let mut registry = self.shared.registry.lock();
        let path = self.path.get_mut();
        if registry
            .get(path)
            .is_some_and(|known| Weak::ptr_eq(known, &self.this))
        {
            registry.remove(path);
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let file = self.opened()?;
        let result = write_all(file.to_write()?, position, parts);
        // After the write: an eviction in between is impossible, as `file` is in use.
        file.dirty.store(true, Relaxed);
        result
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.read_into(&*self.opened()?, position, into)
    }

    fn read_at_if_resident(&self, position: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.last_used
            .store(self.shared.budget.files.now(), Relaxed);
        // To open it, or to wait for whoever does, is to wait for the disk.
        let open = self.open.try_lock().and_then(|open| open.clone());
        match open {
            Some(file) => file.read_if_resident(position, into),
            None => Ok(None),
        }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.opened()?.len_bytes()
    }

    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        let file = self.opened()?;
        let flags = FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file.to_write()?, flags, 0, len_bytes) {
            // A file system without reservations reports a full disk at the write instead.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            // ext4 keeps what it could get, and would be full for everybody else too.
            Err(error @ Errno::NOSPC) => {
                rustix::fs::ftruncate(file.to_write()?, file.len_bytes()?)?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn truncate(&self, len_bytes: u64) -> io::Result<()> {
        let file = self.opened()?;
        let descriptor = file.to_write()?;
        // Held to the end: a map made meanwhile would show the file that is being left.
        let mut maps = self.maps.lock();
        let beyond = |start: &u64| start + mmap::CHUNK_SIZE_BYTES > len_bytes;
        let cut: Vec<u64> = maps.keys().copied().filter(beyond).collect();
        let slots: Vec<_> = cut.iter().filter_map(|start| maps.remove(start)).collect();
        let maps_live = slots.iter().any(|slot| {
            let map = slot.map.lock().take();
            map.is_some_and(|map| Arc::strong_count(&map) > 1)
        });
        if maps_live && len_bytes < file.len_bytes()? {
            maps.clear(); // the chunks before the cut belong to the old file as well
            return self.replace_by_copy(&file, len_bytes);
        }
        rustix::fs::ftruncate(descriptor, len_bytes)?;
        file.dirty.store(true, Relaxed);
        Ok(())
    }

    fn trim(&self, len_bytes: u64) -> io::Result<()> {
        let file = self.opened()?;
        rustix::fs::ftruncate(file.to_write()?, len_bytes)?;
        file.dirty.store(true, Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_closed_and_synced() {
            return Ok(());
        }
        match self.opened() {
            Ok(file) => self.sync(&file),
            // Removed and closed: there is nothing left that could be lost.
            Err(_) if self.removed.load(Relaxed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn start_write_back(&self, range: Range<u64>) -> io::Result<()> {
        let file = self.opened()?;
        self.begin_write_back(&file, range)
    }

    fn finish_write_back(&self, range: Range<u64>) -> io::Result<()> {
        let file = self.opened()?;
        self.begin_write_back(&file, range.clone())?;
        self.ask(|| mmap::wait_for_write_back(file.descriptor.as_fd(), range))
    }

    fn forget_clean(&self) -> io::Result<()> {
        let file = self.opened()?;
        // No length: to the end of the file.
        Ok(rustix::fs::fadvise(
            &file.descriptor,
            0,
            None,
            Advice::DontNeed,
        )?)
    }

    fn forget_range(&self, range: Range<u64>) -> io::Result<()> {
        let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) else {
            return Ok(());
        };
        let file = self.opened()?;
        let advice = Advice::DontNeed;
        Ok(rustix::fs::fadvise(
            &file.descriptor,
            range.start,
            Some(len),
            advice,
        )?)
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        let len_bytes = range.end.saturating_sub(range.start);
        if range.end > self.len_bytes()? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let one_chunk = range.end <= chunk_start(range.start) + mmap::CHUNK_SIZE_BYTES;
        if len_bytes >= MAP_SIZE_BYTES_MIN && one_chunk {
            // Whatever keeps the range from being mapped, a read names it or does without.
            let mapped = self
                .map(range.start)
                .and_then(|map| map.view(range.clone()));
            // The file may have been cut since its length was looked at, and the next append would
            // then write into the last page of the view. From now on it is not cut under the map.
            if let Ok(bytes) = mapped
                && range.end <= self.len_bytes()?
            {
                return Ok(bytes);
            }
        }
        read_exact_at(self, range)
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        let Ok(file) = self.opened() else { return true };
        let probe = |position| {
            let mut byte = [0];
            let into = &mut [IoSliceMut::new(&mut byte)];
            let flags = ReadWriteFlags::NOWAIT;
            let result = rustix::io::preadv2(&file.descriptor, into, position, flags);
            !matches!(result, Err(Errno::AGAIN))
        };
        range.is_empty()
            || (range.clone().step_by(PROBE_STRIDE_BYTES).all(probe) && probe(range.end - 1))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None // it may be closed at any time; a pinned file has one
    }

    fn pin(self: Arc<Self>) -> io::Result<Arc<dyn DiskFile>> {
        let open = self.opened()?;
        Ok(Arc::new(PinnedFile { file: self, open }))
    }
}

/// A file whose descriptor stays open.
struct PinnedFile {
    file: Arc<RealFile>,
    open: Arc<OpenFile>,
}

impl DiskFile for PinnedFile {
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.file.write_at(position, parts)
    }
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_into(&self.open, position, into)
    }
    fn read_at_if_resident(&self, position: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.open.read_if_resident(position, into)
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.open.len_bytes()
    }
    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        self.file.preallocate(len_bytes)
    }
    fn truncate(&self, len_bytes: u64) -> io::Result<()> {
        self.file.truncate(len_bytes)
    }
    fn trim(&self, len_bytes: u64) -> io::Result<()> {
        self.file.trim(len_bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn start_write_back(&self, range: Range<u64>) -> io::Result<()> {
        self.file.start_write_back(range)
    }
    fn finish_write_back(&self, range: Range<u64>) -> io::Result<()> {
        self.file.finish_write_back(range)
    }
    fn forget_clean(&self) -> io::Result<()> {
        self.file.forget_clean()
    }

    fn forget_range(&self, range: Range<u64>) -> io::Result<()> {
        self.file.forget_range(range)
    }
    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.file.view(range)
    }
    fn is_resident(&self, range: Range<u64>) -> bool {
        self.file.is_resident(range)
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.open.descriptor.as_fd())
    }
    fn pin(self: Arc<Self>) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self)
    }
}

/// Writes everything, in as few calls as the kernel allows.
fn write_all(to: &OwnedFd, mut position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
    for group in parts.chunks(PARTS_MAX) {
        let mut wanted: usize = group.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            continue;
        }
        let mut written = write_some(to, position, group)?;
        position += written as u64;
        if written == wanted {
            continue;
        }
        // Rare: a signal, or the disk ran full. Go on where it stopped; the error comes then.
        let mut copied = group.to_vec();
        let mut rest = copied.as_mut_slice();
        while written < wanted {
            IoSlice::advance_slices(&mut rest, written);
            wanted -= written;
            written = write_some(to, position, rest)?;
            position += written as u64;
        }
    }
    Ok(())
}

fn write_some(to: &OwnedFd, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let result = match parts {
            [part] => rustix::io::pwrite(to, part, position),
            _ => rustix::io::pwritev(to, parts, position),
        };
        match result {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn copy(from: &OpenFile, to: &OpenFile, len_bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_SIZE_BYTES];
    let mut position = 0;
    while position < len_bytes {
        let wanted = (len_bytes - position).min(COPY_SIZE_BYTES as u64) as usize;
        let read = match rustix::io::pread(&from.descriptor, &mut buffer[..wanted], position) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if read == 0 {
            break;
        }
        write_all(&to.descriptor, position, &[IoSlice::new(&buffer[..read])])?;
        position += read as u64;
    }
    Ok(rustix::fs::ftruncate(&to.descriptor, len_bytes)?)
}

#[cfg(test)]
mod schedules;
