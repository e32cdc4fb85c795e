//! A disk in memory that can lose power, by seed: for the simulator, for tests, and (without the
//! bookkeeping of faults) for a broker that is told to keep nothing.
//!
//! Owns a tree of directories and files, each with what is visible now and what would survive a
//! power cut. A crash makes every handle of before fail, as the process that held it is gone.
//!
//! The model is stricter than ext4: syncing a file does not sync its name, names of one directory
//! survive independently of each other, and unsynced writes survive in any combination, torn at
//! 512 bytes, 4 KiB or one byte. The same seed and the same operations give the same outcome;
//! [`MemoryDisk::trace_hash`] proves it. Syncs can be made to hang until told. Deliberately absent:
//! time, slow operations.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::{DirEntry, Disk, DiskFile};

mod content;
mod faults;
mod tree;

#[cfg(test)]
mod tests;

use content::Content;
pub use faults::{Crash, InjectedError, Injection, Operation};
use faults::{CrashPlan, Faults};
use tree::{Node, Tree};

/// A disk in memory. Clones share the content.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

struct Shared {
    /// False: nothing is recorded for crashes and no fault can be injected.
    tracked: bool,
    resident: AtomicBool,
    coldness: Coldness,
    /// Incremented by each crash; a handle of an older generation is dead.
    generation: AtomicU64,
    state: Mutex<State>,
    /// Syncs of files and directories hang while it is true.
    hangs: Mutex<bool>,
    goes_on: Condvar,
}

/// What is not in memory, as far as this disk pretends that something is not.
#[derive(Default)]
struct Coldness {
    every: AtomicU64,
    drawn: AtomicU64,
    waiting_reads: AtomicU64,
}

impl Coldness {
    fn strikes(&self) -> bool {
        let every = self.every.load(Relaxed);
        if every == 0 {
            return false;
        }
        // A Weyl sequence, mixed: as random as a page cache.
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let drawn = self.drawn.fetch_add(step, Relaxed).wrapping_add(step);
        let mixed = (drawn ^ (drawn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).is_multiple_of(every)
    }
}

struct State {
    tree: Tree,
    faults: Faults,
}

struct MemoryFile {
    shared: Arc<Shared>,
    generation: u64,
    path: String,
    content: Arc<Mutex<Content>>,
}

impl Shared {
    fn wait_while_hanging(&self) {
        let mut hangs = self.hangs.lock();
        while *hangs {
            self.goes_on.wait(&mut hangs);
        }
    }
}

impl Default for MemoryDisk {
    fn default() -> MemoryDisk {
        MemoryDisk::new()
    }
}

impl MemoryDisk {
    /// A disk with the full fault model and seed 0.
    pub fn new() -> MemoryDisk {
        MemoryDisk::with_seed(0)
    }

    /// `seed` decides what a failed sync leaves on the disk; a crash brings its own seed.
    pub fn with_seed(seed: u64) -> MemoryDisk {
        MemoryDisk::build(true, seed)
    }

    /// A disk for use, not for tests: no fault model, syncs cost nothing.
    pub fn volatile() -> MemoryDisk {
        MemoryDisk::build(false, 0)
    }

    fn build(tracked: bool, seed: u64) -> MemoryDisk {
        let state = State {
            tree: Tree::new(tracked),
            faults: Faults::new(seed),
        };
        MemoryDisk {
            shared: Arc::new(Shared {
                tracked,
                resident: AtomicBool::new(true),
                coldness: Coldness::default(),
                generation: AtomicU64::new(0),
                state: Mutex::new(state),
                hangs: Mutex::new(false),
                goes_on: Condvar::new(),
            }),
        }
    }

    /// Ends the process, or the power, and starts over: handles of before fail from now on,
    /// injected errors and a pending [`MemoryDisk::halt_after`] are forgotten.
    pub fn crash(&self, crash: Crash) {
        assert!(
            self.shared.tracked,
            "a volatile disk keeps nothing to crash with"
        );
        self.shared.generation.fetch_add(1, Relaxed);
        let state = &mut *self.shared.state.lock();
        state.faults.restart();
        if let Some(mut plan) = CrashPlan::new(crash, state.faults.operations()) {
            state.tree.crash(&mut plan);
        }
        state.faults.trace(b'!', "", &[]);
    }

    /// How many operations that change the disk have succeeded or failed so far.
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().faults.operations()
    }

    /// Lets `count` more changing operations through; every operation after them fails as if the
    /// process were gone, until [`MemoryDisk::crash`]. To visit every crash point of a story: run
    /// it once, take the difference of [`MemoryDisk::operations`], then run it for each count.
    pub fn halt_after(&self, count: u64) {
        self.shared.state.lock().faults.halt_after(count);
    }

    /// Whether [`MemoryDisk::halt_after`] has taken effect.
    pub fn halted(&self) -> bool {
        self.shared.state.lock().faults.halted()
    }

    pub fn inject(&self, injection: Injection) {
        self.shared.state.lock().faults.inject(injection);
    }

    pub fn clear_injections(&self) {
        self.shared.state.lock().faults.clear_injections();
    }

    /// Every change fails with `ReadOnlyFilesystem` while set.
    pub fn set_read_only(&self, read_only: bool) {
        self.shared.state.lock().faults.set_read_only(read_only);
    }

    /// While set, a sync of a file or directory does not return: a disk that has stopped answering.
    pub fn set_hanging(&self, hangs: bool) {
        *self.shared.hangs.lock() = hangs;
        self.shared.goes_on.notify_all();
    }

    /// Writes and reservations beyond the capacity fail with `StorageFull`.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.shared
            .state
            .lock()
            .faults
            .set_capacity_bytes(capacity_bytes);
    }

    /// What `is_resident` answers, and whether reads that must not wait find anything.
    pub fn set_resident(&self, resident: bool) {
        self.shared.resident.store(resident, Relaxed);
    }

    /// From now on one of so many reads that must not wait finds nothing, by seed; 0: none.
    pub fn set_cold_every(&self, every: u64, seed: u64) {
        self.shared.coldness.drawn.store(seed, Relaxed);
        self.shared.coldness.every.store(every, Relaxed);
    }

    /// How many reads so far would have waited for a real disk if nothing was in memory.
    pub fn waiting_reads(&self) -> u64 {
        self.shared.coldness.waiting_reads.load(Relaxed)
    }

    /// Changes bytes behind everybody's back, synced and unsynced alike: bit rot, a misdirected
    /// write. Not an operation: nothing is counted and no fault applies.
    pub fn corrupt(&self, path: &str, position: u64, bytes: &[u8]) -> io::Result<()> {
        let content = self.shared.state.lock().tree.file(path)?;
        content.lock().overwrite(position, bytes);
        Ok(())
    }

    /// A hash over everything that was asked of this disk; equal for equal histories.
    pub fn trace_hash(&self) -> u64 {
        self.shared.state.lock().faults.trace_hash()
    }

    fn handle(&self, path: &str, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile {
            shared: Arc::clone(&self.shared),
            generation: self.shared.generation.load(Relaxed),
            path: path.to_owned(),
            content,
        })
    }

    /// Runs a change of the tree, after the faults had their say.
    fn change<T>(
        &self,
        operation: Operation,
        path: &str,
        change: impl FnOnce(&mut Tree, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        super::check_path(path)?;
        let state = &mut *self.shared.state.lock();
        let sequence = match self.shared.tracked {
            true => state.faults.begin(operation, path, &[])?,
            false => 0,
        };
        change(&mut state.tree, sequence)
    }

    fn look<T>(&self, path: &str, look: impl FnOnce(&Tree) -> io::Result<T>) -> io::Result<T> {
        super::check_path(path)?;
        let state = &mut *self.shared.state.lock();
        if self.shared.tracked {
            state.faults.begin_read(path)?;
        }
        look(&state.tree)
    }
}

/// What a disk without a capacity says it has.
const ENDLESS_BYTES: u64 = 1 << 50;

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.change(Operation::Create, path, |tree, sequence| {
            let content = Arc::new(Mutex::new(Content::new(self.shared.tracked)));
            tree.insert(path, Node::File(Arc::clone(&content)), sequence)?;
            Ok(content)
        })?;
        Ok(self.handle(path, content))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.look(path, |tree| tree.file(path))?;
        self.shared.state.lock().faults.begin_open(path)?;
        Ok(self.handle(path, content))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.look(path, |tree| Ok(tree.node(path).is_ok()))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        match self.look(path, |tree| tree.dir(path)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.change(Operation::Create, path, |tree, sequence| {
            tree.insert(path, tree.new_dir(), sequence)
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.look(dir, |tree| tree.list(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        super::check_path(to)?;
        self.change(Operation::Rename, from, |tree, sequence| {
            tree.rename(from, to, sequence)
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(Operation::Remove, path, |tree, sequence| {
            tree.file(path)?;
            tree.unlink(path, sequence)
        })
    }

    /// One operation per name, innermost first, so that a crash can leave a part of it.
    fn remove_dir_all(&self, path: &str) -> io::Result<()> {
        for entry in self.list(path)? {
            let child = format!("{path}/{}", entry.name);
            match entry.is_dir {
                true => self.remove_dir_all(&child)?,
                false => self.remove(&child)?,
            }
        }
        self.change(Operation::Remove, path, |tree, sequence| {
            tree.unlink(path, sequence)
        })
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.shared.wait_while_hanging();
        self.change(Operation::SyncDir, path, |tree, _| tree.sync_dir(path))
    }

    fn modified_ms(&self, _path: &str) -> io::Result<Option<i64>> {
        Ok(None)
    }

    fn set_modified_ms(&self, _path: &str, _modified_ms: i64) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.shared.state.lock();
        Ok(match state.faults.capacity_bytes() {
            Some(capacity) => capacity.saturating_sub(state.tree.used_bytes()),
            None => ENDLESS_BYTES,
        })
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let state = self.shared.state.lock();
        Ok(state.faults.capacity_bytes().unwrap_or(ENDLESS_BYTES))
    }
}

impl MemoryFile {
    /// Counts and traces a change; the sequence number orders it among all changes of the disk.
    /// `grown_to`: the length or reservation the file would reach, checked against the capacity.
    fn begin(
        &self,
        operation: Operation,
        parts: &[IoSlice<'_>],
        grown_to: Option<u64>,
    ) -> io::Result<u64> {
        self.check_alive()?;
        if !self.shared.tracked {
            return Ok(0);
        }
        let state = &mut *self.shared.state.lock();
        let sequence = state.faults.begin(operation, &self.path, parts)?;
        if let (Some(capacity), Some(size)) = (state.faults.capacity_bytes(), grown_to) {
            let growth = size.saturating_sub(self.content.lock().allocated_bytes());
            if growth > 0 && state.tree.used_bytes() + growth > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(sequence)
    }

    fn begin_read(&self) -> io::Result<()> {
        self.check_alive()?;
        match self.shared.tracked {
            true => self.shared.state.lock().faults.begin_read(&self.path),
            false => Ok(()),
        }
    }

    fn check_alive(&self) -> io::Result<()> {
        match self.generation == self.shared.generation.load(Relaxed) {
            true => Ok(()),
            false => Err(faults::gone()),
        }
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let end = position + len as u64;
        match self.begin(Operation::Write, parts, Some(end)) {
            Ok(sequence) => {
                self.content.lock().write(position, parts, len, sequence);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                // A full disk takes a part of the write before it says so.
                let all = content::joined(parts);
                let half = [IoSlice::new(&all[..len / 2])];
                let sequence = self.shared.state.lock().faults.operations();
                self.content
                    .lock()
                    .write(position, &half, len / 2, sequence);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.begin_read()?;
        self.shared.coldness.waiting_reads.fetch_add(1, Relaxed);
        Ok(self.content.lock().read(position, into))
    }

    fn read_at_if_resident(&self, position: u64, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.check_alive()?;
        if !self.shared.resident.load(Relaxed) || self.shared.coldness.strikes() {
            return Ok(None);
        }
        self.begin_read()?;
        Ok(Some(self.content.lock().read(position, into)))
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.check_alive()?;
        Ok(self.content.lock().len_bytes())
    }

    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        self.begin(Operation::Preallocate, &[], Some(len_bytes))?;
        self.content.lock().reserve(len_bytes);
        Ok(())
    }

    fn truncate(&self, len_bytes: u64) -> io::Result<()> {
        let sequence = self.begin(Operation::Truncate, &[], Some(len_bytes))?;
        self.content.lock().truncate(len_bytes, sequence);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.wait_while_hanging();
        match self.begin(Operation::Sync, &[], None) {
            Ok(_) => {
                self.content.lock().sync();
                Ok(())
            }
            // A file that could not be opened again: nothing was tried.
            Err(error) if super::is_out_of_descriptors(&error) => Err(error),
            Err(error) => {
                // A sync that failed for the disk's reasons (not because the process is gone)
                // leaves some of the data and calls all of it clean.
                if self.shared.tracked && self.check_alive().is_ok() {
                    let state = &mut *self.shared.state.lock();
                    if !state.faults.halted() {
                        self.content
                            .lock()
                            .lose_unsynced(&mut state.faults.failed_sync_plan());
                    }
                }
                Err(error)
            }
        }
    }

    fn start_write_back(&self, _range: Range<u64>) -> io::Result<()> {
        self.check_alive()
    }

    fn finish_write_back(&self, _range: Range<u64>) -> io::Result<()> {
        self.check_alive()
    }

    fn forget_clean(&self) -> io::Result<()> {
        self.check_alive()?;
        self.content.lock().forget_clean();
        Ok(())
    }

    fn forget_range(&self, _range: Range<u64>) -> io::Result<()> {
        self.check_alive()
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        super::read_exact_at(self, range)
    }

    fn is_resident(&self, _range: Range<u64>) -> bool {
        self.shared.resident.load(Relaxed)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn pin(self: Arc<Self>) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self)
    }
}
