//! No descriptor is left in the process: idle files give theirs, a directory is synced without one,
//! and where that is not enough an error changes nothing.
//!
//! One test in a process of its own: the limit is the process's.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, Disk, DiskFile, FileRange, RealDisk, is_out_of_descriptors};
use ottla_storage::log::compact::{
    CompactionLimits, CompactionPolicy, CompactionStats, LogAccess, compact,
};
use ottla_storage::log::{AppendAt, Log, LogConfig, LogError, OpenLog, Origin};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes every descriptor that the process may still have.
fn take_all() -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    while let Ok(descriptor) = rustix::io::dup(std::io::stderr()) {
        taken.push(descriptor);
    }
    taken
}

fn put(disk: &RealDisk, name: &str) -> Arc<dyn DiskFile> {
    let file = disk.create(name).unwrap();
    file.write_at(0, &[IoSlice::new(b"0123")]).unwrap();
    file.sync_data().unwrap();
    file
}

fn files_that_nobody_uses_give_theirs(budget: &Arc<Budget>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path(), budget).unwrap();
    let files: Vec<_> = (0..40).map(|n| put(&disk, &format!("f{n}"))).collect();
    let mut taken = take_all();
    assert!(budget.open_files() == 40 && !taken.is_empty());
    // One is left: a list needs no more.
    taken.pop();
    assert_eq!(disk.list("").unwrap().len(), 40);
    assert_eq!(budget.open_files(), 40, "nobody had to give one");
    taken.extend(take_all());
    put(&disk, "new");
    assert_eq!(disk.list("").unwrap().len(), 41);
    for file in &files {
        let mut bytes = [0; 4];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 4);
        assert_eq!(&bytes, b"0123");
    }

    let in_flight: Vec<_> = files
        .iter()
        .filter_map(|file| FileRange::new(file, 0, 4).ok())
        .collect();
    let rest = take_all();
    let refused = disk.create("refused").map(drop).unwrap_err();
    assert!(is_out_of_descriptors(&refused), "{refused}");
    disk.create_dir("made").unwrap();
    disk.create_dir("made").unwrap();
    disk.sync_dir("made").unwrap();
    disk.sync_dir("").unwrap();
    assert!(disk.sync_dir("missing").is_err());
    for file in &files {
        file.sync_data().unwrap();
    }
    drop((taken, rest, in_flight));
    put(&disk, "refused");
}

fn config() -> LogConfig {
    LogConfig {
        segment_size_bytes: 2_000,
        timestamp_after_max_ms: i64::MAX,
        compacted: true,
        ..LogConfig::default()
    }
}

fn append(log: &mut Log, key: &str) {
    let mut builder = BatchBuilder::new();
    builder.append(1, Some(key.as_bytes()), Some(&[7; 100]), &[]);
    let at = AppendAt {
        leader_epoch: LeaderEpoch(0),
        now_ms: 1,
        origin: Origin::Coordinator,
    };
    log.append(builder.build().unwrap(), &at).unwrap();
}

/// A hundred records of ten keys, in several segments, all of it on the disk.
fn log_of(disk: &Arc<dyn Disk>, dir: &str) -> Log {
    let mut log = Log::create(Arc::clone(disk), dir, TopicId::ZERO, config()).unwrap();
    (0..100).for_each(|n| append(&mut log, &format!("key {}", n % 10)));
    let work = log.begin_idle_checkpoint();
    let result = work.run();
    log.finish_flush(work, result);
    log.release_caches();
    assert!(log.segment_count() > 3 && !log.poisoned());
    log
}

fn reopen(disk: &Arc<dyn Disk>, dir: &str) -> Log {
    let clean = OpenLog {
        recovery_point: Offset(i64::MAX),
        log_start_offset: Offset(0),
        clean: true,
        synced: false,
    };
    Log::open(Arc::clone(disk), dir, config(), clean, 1)
        .unwrap()
        .0
}

fn a_truncation_waits_for_better_times(disk: &Arc<dyn Disk>) {
    let mut log = log_of(disk, "t-0");
    let taken = take_all();
    let refused = log.truncate_to(Offset(50)).unwrap_err();
    assert!(matches!(&refused, LogError::Io { source, .. } if is_out_of_descriptors(source)));
    assert!(!log.poisoned());
    assert_eq!(log.log_end_offset(), Offset(100));
    drop(taken);
    log.truncate_to(Offset(50)).unwrap();
    append(&mut log, "again");
    log.close().unwrap();
    drop(log);
    assert_eq!(reopen(disk, "t-0").log_end_offset(), Offset(51));
}

/// Nothing is left as soon as a group of segments is to be swapped in.
struct Scarce {
    log: RefCell<Log>,
    asked: Cell<u32>,
    taken: RefCell<Vec<OwnedFd>>,
}

impl LogAccess for Scarce {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() == 2 {
            *self.taken.borrow_mut() = take_all();
        }
        Some(f(&mut self.log.borrow_mut()))
    }
}

fn compacted(scarce: &Scarce) -> CompactionStats {
    let policy = CompactionPolicy {
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
    };
    let limits = CompactionLimits {
        map_memory_bytes: 1 << 20,
        map_load_factor: 0.9,
        io_buffer_bytes: 4 << 10,
        delete_retention_ms: 0,
        now_ms: 1,
        hash_key: (1, 2),
    };
    let cleanable = scarce.log.borrow_mut().cleanable(&policy, Offset(100), 1);
    let (cleanable, mut old_files) = (cleanable.unwrap(), |_| {});
    compact(scarce, &cleanable, limits, &mut |_| true, &mut old_files).unwrap()
}

fn a_compaction_swaps_its_segments_in_all_the_same(disk: &Arc<dyn Disk>) {
    let scarce = Scarce {
        log: RefCell::new(log_of(disk, "t-1")),
        asked: Cell::new(0),
        taken: RefCell::default(),
    };
    let stats = compacted(&scarce);
    assert!(scarce.asked.get() >= 4, "{stats:?}");
    assert!(!scarce.taken.borrow().is_empty(), "nothing was scarce");
    scarce.taken.borrow_mut().clear();
    let mut log = scarce.log.into_inner();
    assert!(!log.poisoned());
    let names = disk.list("t-1").unwrap();
    assert!(names.iter().all(|entry| !entry.name.ends_with(".swap")));
    append(&mut log, "again");
    log.close().unwrap();
    assert!(log.size_bytes() < 10_000, "{} bytes", log.size_bytes());
    drop(log);
    assert_eq!(reopen(disk, "t-1").log_end_offset(), Offset(101));
}

#[test]
fn without_a_descriptor_idle_files_give_theirs_and_no_log_is_lost() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(128),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let budget = Budget::new(10_000, 16);
    files_that_nobody_uses_give_theirs(&budget);
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path(), &budget).unwrap());
    a_truncation_waits_for_better_times(&disk);
    a_compaction_swaps_its_segments_in_all_the_same(&disk);
}
