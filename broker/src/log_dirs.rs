//! The log directories of a broker: which there are, which still work, and which gets the next
//! partition.
//!
//! A directory fails once and stays failed until the broker starts again: its partitions go
//! offline, everything else serves on. Whoever meets the error reports it here; taking partitions
//! offline is `crate::failures`. A new partition goes where the fewest are, as in Kafka.
//! Deliberately absent: files (`ottla_storage`), opening directories (`crate::start`).

mod errands;
mod hang;
mod space;

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_storage::checkpoint::PartitionOffsets;
use ottla_storage::disk::{AbsentDisk, Disk};
use ottla_storage::layout::DirectoryId;
use parking_lot::Mutex;

use crate::config::cordon::ALL;
use crate::dirty::DirtyBudget;
use crate::sync;
use errands::{Errands, Late};
use hang::{Hang, Inside};
use space::Space;
pub use space::{Marks, NoRoom, Room};

/// One directory that holds logs.
pub struct LogDir {
    /// As configured: for people and for DescribeLogDirs.
    pub path: Arc<str>,
    pub id: DirectoryId,
    pub disk: Arc<dyn Disk>,
    /// What waits for its disk.
    pub dirty: Arc<DirtyBudget>,
    /// What its file of log starts says; held while it is written.
    pub(crate) log_starts: Mutex<PartitionOffsets>,
    /// Partitions that are here or on their way here.
    replicas: AtomicUsize,
    /// A log in it could not be closed.
    unclean: AtomicBool,
    failure: OnceLock<String>,
    on_trouble: OnceLock<Box<dyn Fn(Trouble) + Send + Sync>>,
    /// Somebody looks whether it works.
    under_examination: AtomicBool,
    has_metadata: AtomicBool,
    /// It gets no new partitions.
    cordoned: AtomicBool,
    pub space: Space,
    pub hang: Hang,
    pub errands: Errands,
}

/// What there is to do about a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has failed: its partitions must go offline.
    Failed,
    /// Whether it works must be looked at.
    Suspected,
    /// Its disk does not answer: somebody must wait until it does.
    Hangs,
}

impl LogDir {
    pub fn new(path: Arc<str>, id: DirectoryId, disk: Arc<dyn Disk>) -> LogDir {
        LogDir {
            path,
            id,
            disk,
            dirty: Arc::default(),
            log_starts: Mutex::default(),
            replicas: AtomicUsize::new(0),
            unclean: AtomicBool::new(false),
            failure: OnceLock::new(),
            on_trouble: OnceLock::new(),
            under_examination: AtomicBool::new(false),
            has_metadata: AtomicBool::new(false),
            cordoned: AtomicBool::new(false),
            space: Space::default(),
            hang: Hang::default(),
            errands: Errands::default(),
        }
    }

    /// A configured directory that could not be opened.
    pub fn absent(path: Arc<str>, id: DirectoryId, why: String) -> LogDir {
        let dir = LogDir::new(path, id, Arc::new(AbsentDisk::new(why.clone())));
        let _ = dir.failure.set(why);
        dir
    }

    /// Why it is offline.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub fn is_online(&self) -> bool {
        self.failure.get().is_none()
    }

    /// The directory is not used any more; false when that was known.
    pub fn fail(&self, why: String) -> bool {
        let new = self.failure.set(why).is_ok();
        if new {
            self.tell(Trouble::Failed);
        }
        new
    }

    fn tell(&self, trouble: Trouble) {
        if let Some(on_trouble) = self.on_trouble.get() {
            on_trouble(trouble);
        }
    }

    /// Somebody met this error here. Errors of the device take the whole directory offline, as in
    /// Kafka; a full or read-only disk and scarce descriptors do not.
    pub fn report(&self, what: &str, error: &io::Error) {
        if is_of_the_device(error) {
            self.fail(format!("{what}: {error}"));
        } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            self.space.set_read_only();
        }
    }

    /// A read failed, which may be one bad sector: somebody must look.
    pub fn suspect(&self, error: &io::Error) {
        let looked_at = || self.under_examination.swap(true, Ordering::AcqRel);
        if is_of_the_device(error) && self.is_online() && !looked_at() {
            self.tell(Trouble::Suspected);
        }
    }

    /// Fails if it takes no small file. Blocks on the disk.
    pub fn examine(&self) {
        let probed = space::probe(&*self.disk);
        self.under_examination.store(false, Ordering::Release);
        if let Err(error) = probed {
            self.report("a test of the directory", &error);
        }
    }

    /// For a thread of the network that may have to wait for the disk; `None`: it hangs.
    pub fn enter(&self) -> Option<Inside<'_>> {
        let inside = self.hang.enter();
        if inside.is_none() {
            self.found_hanging();
        }
        inside
    }

    /// The lock of something in here, for such a thread; `None`: its holder waits for a disk that
    /// hangs.
    pub(crate) fn lock<'a, T>(&self, mutex: &'a sync::Mutex<T>) -> Option<sync::MutexGuard<'a, T>> {
        let guard = self.hang.lock(mutex);
        if guard.is_none() {
            self.found_hanging();
        }
        guard
    }

    /// Has `work` done by a thread of the directory, and waits for it; `None`: its disk hangs, and
    /// it is done when that is over.
    pub fn errand<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.send_errand(work, (Late::CarryOut, drop))
    }

    /// The same for what nobody needs later: what was begun by then is for `take_back`.
    pub fn attempt<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        take_back: impl FnOnce(T) + Send + 'static,
    ) -> Option<T> {
        self.send_errand(work, (Late::Drop, take_back))
    }

    fn send_errand<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        late: (Late, impl FnOnce(T) + Send + 'static),
    ) -> Option<T> {
        let result = self.errands.send(work, late, self.hang.hangs());
        if result.is_none() {
            self.found_hanging();
        }
        result
    }

    fn found_hanging(&self) {
        if self.hang.begins() {
            tracing::error!(
                log_dir = %self.path,
                "the disk of a log directory hangs: its requests are refused until it answers"
            );
            self.tell(Trouble::Hangs);
        }
    }

    /// Writes a small file, however long that takes. Then the disk does not hang any more.
    pub fn await_answer(&self) {
        let probed = space::probe(&*self.disk);
        tracing::warn!(log_dir = %self.path, "the disk of a log directory answers again");
        self.hang.is_over();
        if let Err(error) = probed {
            self.report("a test of the directory", &error);
        }
    }

    /// Whether a batch of a client may be written.
    pub fn admit(&self, bytes: u64) -> Result<(), NoRoom> {
        if self.space.admits(bytes) {
            return Ok(());
        }
        let path = Arc::clone(&self.path);
        Err(match self.space.room() {
            Room::ReadOnly => NoRoom::ReadOnly { path },
            _ => NoRoom::Full {
                path,
                free_bytes: self.space.free_bytes(),
                reject_bytes: self.space.reject_bytes(),
            },
        })
    }

    /// `on_trouble` is called without this directory's locks. Only the first call counts.
    pub fn on_trouble(&self, on_trouble: impl Fn(Trouble) + Send + Sync + 'static) {
        let _ = self.on_trouble.set(Box::new(on_trouble));
    }

    /// The metadata log is in it, too.
    pub fn set_has_metadata(&self) {
        self.has_metadata.store(true, Ordering::Release);
    }

    pub fn has_metadata(&self) -> bool {
        self.has_metadata.load(Ordering::Acquire)
    }

    pub fn is_cordoned(&self) -> bool {
        self.cordoned.load(Ordering::Acquire)
    }

    /// A log here could not be closed: the next start must check the directory's logs.
    pub fn set_unclean(&self) {
        self.unclean.store(true, Ordering::Release);
    }

    pub fn is_clean(&self) -> bool {
        !self.unclean.load(Ordering::Acquire)
    }

    /// How many partitions are here or on their way here.
    pub fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    /// A place for one partition, counted as long as it lives.
    pub fn seat(self: &Arc<Self>) -> Seat {
        self.replicas.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

impl std::fmt::Debug for LogDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogDir({})", self.path)
    }
}

/// Whether an error says that the device does not work, rather than that it or a limit is full.
pub fn is_of_the_device(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let device = [
        Errno::IO,
        Errno::NXIO,
        Errno::NODEV,
        Errno::STALE,
        Errno::UCLEAN,
        Errno::REMOTEIO,
        Errno::SHUTDOWN,
        Errno::NOTCONN,
        Errno::NOMEDIUM,
    ];
    let code = error.raw_os_error();
    device
        .iter()
        .any(|device| code == Some(device.raw_os_error()))
}

/// A partition's place in a directory.
pub struct Seat(Arc<LogDir>);

impl Seat {
    pub fn dir(&self) -> &Arc<LogDir> {
        &self.0
    }
}

impl Deref for Seat {
    type Target = LogDir;

    fn deref(&self) -> &LogDir {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.replicas.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The directories that hold logs, in the order of the configuration; at least one. Clones are the
/// same directories.
#[derive(Clone)]
pub struct LogDirs {
    dirs: Vec<Arc<LogDir>>,
    /// A partition is being placed: the next one must see where it went.
    placing: Arc<Mutex<()>>,
}

impl LogDirs {
    pub fn new(dirs: Vec<Arc<LogDir>>) -> LogDirs {
        assert!(!dirs.is_empty(), "a broker has a log directory");
        LogDirs {
            dirs,
            placing: Arc::default(),
        }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Arc<LogDir>> {
        self.dirs.iter()
    }

    pub fn online(&self) -> impl Iterator<Item = &Arc<LogDir>> {
        self.dirs.iter().filter(|dir| dir.is_online())
    }

    pub fn first_offline(&self) -> Option<&Arc<LogDir>> {
        self.dirs.iter().find(|dir| !dir.is_online())
    }

    /// How much may wait for the disk of each.
    pub fn limit_dirty(&self, bytes: u64) {
        self.dirs.iter().for_each(|dir| dir.dirty.set_limit(bytes));
    }

    /// Cordons these, as `cordoned.log.dirs` names them, and no others.
    pub fn cordon(&self, named: &[String]) {
        for dir in &self.dirs {
            let cordoned = named.iter().any(|name| name == ALL || **name == *dir.path);
            dir.cordoned.store(cordoned, Ordering::Release);
        }
    }

    /// The place of a directory in the configuration.
    pub fn number_of(&self, dir: &LogDir) -> Option<usize> {
        self.dirs
            .iter()
            .position(|known| std::ptr::eq(&**known, dir))
    }

    /// The same, by its disk.
    pub fn number_of_disk(&self, disk: &Arc<dyn Disk>) -> Option<usize> {
        let same = |dir: &Arc<LogDir>| std::ptr::addr_eq(Arc::as_ptr(&dir.disk), Arc::as_ptr(disk));
        self.dirs.iter().position(same)
    }

    /// More than one is configured.
    pub fn are_several(&self) -> bool {
        self.dirs.len() > 1
    }

    pub fn by_path(&self, path: &str) -> Option<&Arc<LogDir>> {
        self.dirs.iter().find(|dir| *dir.path == *path)
    }

    /// Where the next partition goes: the directory with the fewest, the first of several such;
    /// one whose disk answers and has room, if there is one, and one that is not cordoned, if there
    /// is one (a topic whose creator says which brokers host it gets a place anyway, as in Kafka).
    /// `None`: no directory works.
    pub fn place(&self) -> Option<Seat> {
        let _placing = self.placing.lock();
        let no_room = |dir: &LogDir| !dir.space.room().takes_records();
        let by_need = |dir: &&Arc<LogDir>| {
            let (cordoned, hangs) = (dir.is_cordoned(), dir.hang.hangs());
            (cordoned, hangs, no_room(dir), dir.replicas())
        };
        Some(self.online().min_by_key(by_need)?.seat())
    }

    /// Whether there is a place to be found for partitions: all directories that work are cordoned
    /// otherwise.
    pub fn takes_more(&self) -> Result<(), NoRoom> {
        let mut cordoned = self.online().map(|dir| dir.is_cordoned()).peekable();
        match cordoned.peek().is_some() && cordoned.all(|is| is) {
            true => Err(NoRoom::Cordoned),
            false => Ok(()),
        }
    }

    /// Whether a topic may be created: some directory that may get it has room for its records.
    pub fn room_for_more(&self) -> Result<(), NoRoom> {
        let mut refused = None;
        let all_cordoned = self.takes_more().is_err();
        for dir in self
            .online()
            .filter(|dir| all_cordoned || !dir.is_cordoned())
        {
            match dir.admit(0) {
                Ok(()) => return Ok(()),
                Err(no_room) => refused = refused.or(Some(no_room)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// A place in the first directory, for a partition that cannot be anywhere.
    pub fn nowhere(&self) -> Seat {
        self.dirs[0].seat()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ottla_storage::disk::MemoryDisk;
    use rustix::io::Errno;
    use uuid::Uuid;

    use super::*;

    fn dirs(count: u128) -> LogDirs {
        let dir = |n: u128| {
            let path = Arc::from(format!("/data{n}"));
            let id = DirectoryId(Uuid::from_u128(n + 1));
            Arc::new(LogDir::new(path, id, Arc::new(MemoryDisk::new())))
        };
        LogDirs::new((0..count).map(dir).collect())
    }

    #[test]
    fn a_partition_goes_where_the_fewest_are() {
        let dirs = dirs(3);
        let mut seats: Vec<Seat> = (0..7).map(|_| dirs.place().unwrap()).collect();
        let counts = || dirs.iter().map(|dir| dir.replicas()).collect::<Vec<_>>();
        assert_eq!(counts(), [3, 2, 2]);
        seats.retain(|seat| *seat.path != *"/data1");
        assert_eq!(counts(), [3, 0, 2]);
        seats.extend((0..3).map(|_| dirs.place().unwrap()));
        assert_eq!(counts(), [3, 3, 2], "0 to 2, then the first of two equals");
        drop(seats);
        assert_eq!(counts(), [0, 0, 0]);
    }

    #[test]
    fn a_cordoned_directory_gets_nothing_while_another_is_not() {
        let dirs = dirs(2);
        let cordon = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            dirs.cordon(&names);
        };
        let place = || dirs.place().unwrap().path.to_string();
        cordon(&["/data0"]);
        let seats: Vec<Seat> = (0..3).map(|_| dirs.place().unwrap()).collect();
        assert!(seats.iter().all(|seat| *seat.path == *"/data1"));
        assert_eq!(dirs.takes_more(), Ok(()));
        // Cordoned weighs more than full.
        let second = dirs.by_path("/data1").unwrap();
        second.report("a write", &Errno::ROFS.into());
        assert_eq!(place(), "/data1");
        assert!(dirs.room_for_more().is_err());
        for all in [&["*"][..], &["/data1", "/data0"]] {
            cordon(all);
            assert_eq!(dirs.takes_more(), Err(NoRoom::Cordoned));
            assert_eq!(dirs.room_for_more(), Ok(()), "for whoever names a broker");
            assert_eq!(place(), "/data0");
        }
        cordon(&[]);
        assert_eq!((dirs.takes_more(), place()), (Ok(()), "/data0".to_owned()));
        cordon(&["/data1"]);
        dirs.by_path("/data0")
            .unwrap()
            .fail("it is gone".to_owned());
        assert_eq!(dirs.takes_more(), Err(NoRoom::Cordoned));
    }

    #[test]
    fn a_failed_directory_gets_nothing_and_says_why_once() {
        let dirs = dirs(2);
        let first = dirs.iter().next().unwrap();
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        first.on_trouble(move |trouble| {
            assert_eq!(trouble, Trouble::Failed);
            counted.fetch_add(1, Ordering::Relaxed);
        });
        first.report("a write", &Errno::NOSPC.into());
        first.report("a write", &Errno::MFILE.into());
        first.report("a write", &Errno::ROFS.into());
        assert!(first.is_online());
        assert_eq!(first.space.room(), Room::ReadOnly);
        first.report("a sync", &Errno::IO.into());
        first.report("a read", &Errno::IO.into());
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert!(first.failure().unwrap().starts_with("a sync: "));
        let seats: Vec<Seat> = (0..3).map(|_| dirs.place().unwrap()).collect();
        assert!(seats.iter().all(|seat| *seat.path == *"/data1"));
        seats[0].fail("it is gone".to_owned());
        assert!(dirs.place().is_none());
    }
}
