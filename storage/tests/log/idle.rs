//! What a log holds that nobody uses: nothing but a little memory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, Disk, RealDisk};
use ottla_storage::log::{AppendAt, FlushWork, Log, LogConfig, OpenLog, Origin};

use super::world::read_all;

pub(crate) fn append(log: &mut Log, timestamp: i64, value_bytes: usize) {
    let mut builder = BatchBuilder::new();
    builder.append(timestamp, None, Some(&vec![7; value_bytes]), &[]);
    let at = AppendAt {
        leader_epoch: LeaderEpoch(0),
        now_ms: 1,
        origin: Origin::Coordinator,
    };
    log.append(builder.build().unwrap(), &at).unwrap();
}

pub(crate) fn flush(log: &mut Log, begin: fn(&Log) -> FlushWork) {
    let work = begin(log);
    let result = work.run();
    log.finish_flush(work, result);
    assert!(!log.poisoned());
}

fn config() -> LogConfig {
    LogConfig {
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    }
}

fn youngest(log: &Log) -> i64 {
    log.max_timestamp().unwrap().unwrap().timestamp
}

#[test]
fn idle_logs_hold_no_descriptor_no_map_and_no_index_and_go_on_as_before() {
    let root = tempfile::tempdir().unwrap();
    let budget = Budget::new(1_000, 1_000);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path(), &budget).unwrap());
    let name = |n: i64| format!("t-{n}");
    let mut logs: Vec<Log> = (0..100)
        .map(|n| Log::create(Arc::clone(&disk), &name(n), TopicId::ZERO, config()).unwrap())
        .collect();
    for (n, log) in (0..).zip(&mut logs) {
        // The youngest record is not the last one, so that it is in no index file yet.
        append(log, 1_000 + n, 20_000);
        append(log, n, 100);
        assert!(!log.release_caches(), "what is not synced is kept");
        flush(log, Log::begin_flush);
    }
    assert!(budget.open_files() >= 100);
    for log in &mut logs {
        assert!(!log.release_caches());
        assert_eq!(log.index_heap_bytes(), 0);
    }
    assert_eq!((budget.open_files(), budget.maps()), (0, 0));
    for (n, log) in (0..).zip(&mut logs) {
        assert_eq!(youngest(log), 1_000 + n);
        append(log, n, 100);
        assert_eq!(youngest(log), 1_000 + n);
        log.close().unwrap();
    }
    drop(logs);
    let clean = OpenLog {
        recovery_point: Offset(3),
        log_start_offset: Offset(0),
        clean: true,
        synced: false,
    };
    let open = |n| Log::open(Arc::clone(&disk), &name(n), config(), clean, 1);
    let logs: Vec<Log> = (0..100).map(|n| open(n).unwrap().0).collect();
    assert_eq!((budget.open_files(), budget.maps()), (0, 0));
    for (n, log) in (0..).zip(&logs) {
        assert_eq!(
            (youngest(log), log.log_end_offset()),
            (1_000 + n, Offset(3))
        );
        assert!(read_all(log).len() > 20_200);
    }
}

#[test]
fn an_idle_log_of_some_size_writes_its_index_first_and_gives_reserved_space_back() {
    let root = tempfile::tempdir().unwrap();
    let budget = Budget::new(100, 100);
    let disk = RealDisk::open(root.path(), &budget).unwrap();
    let mut log = Log::create(Arc::new(disk), "t-0", TopicId::ZERO, config()).unwrap();
    for n in 0..200 {
        append(&mut log, n, 5_000);
    }
    flush(&mut log, Log::begin_checkpoint);
    let file = root.path().join("t-0/00000000000000000000.log");
    let allocated = |file: &Path| std::fs::metadata(file).unwrap().blocks() * 512;
    let before = allocated(&file);
    assert!(log.release_caches(), "an idle checkpoint would free more");
    assert!(log.index_heap_bytes() > 0);
    flush(&mut log, Log::begin_idle_checkpoint);
    assert!(!log.release_caches());
    assert_eq!((log.index_heap_bytes(), budget.open_files()), (0, 0));
    let after = allocated(&file);
    assert!(
        after < before && after < log.size_bytes() + 65_536,
        "{before} {after}"
    );
    append(&mut log, 7, 5_000);
    assert_eq!(youngest(&log), 199);
    assert!(
        log.read(Offset(150), 100, Offset(200), true)
            .unwrap()
            .size_bytes
            > 5_000
    );
}
