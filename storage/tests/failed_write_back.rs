//! A write-back that fails while somebody only waits for it: the kernel tells that one, and not the
//! sync that comes next, which must fail all the same.
//!
//! The calls are made to fail with strace, in a process of its own: this test once more.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, RealDisk};
use ottla_storage::log::{AppendAt, Log, LogConfig, Origin};

const TEST: &str = "a_write_back_that_failed_is_not_forgotten_by_the_next_sync";
/// Where the traced process works, and whether its log must be poisoned in the end.
const ROOT: &str = "OTTLA_TEST_ROOT";
const POISONED: &str = "OTTLA_TEST_POISONED";

/// Appends until a stretch is to be written back, has that done, and syncs.
fn write_back_and_sync(root: &Path) -> Log {
    let disk = RealDisk::open(root, &Budget::new(10, 10)).unwrap();
    let config = LogConfig::default();
    let mut log = Log::create(Arc::new(disk), "t-0", TopicId::ZERO, config).unwrap();
    let at = AppendAt {
        leader_epoch: LeaderEpoch(0),
        now_ms: 1,
        origin: Origin::Coordinator,
    };
    let write_back = loop {
        let mut builder = BatchBuilder::new();
        builder.append(1, None, Some(&[7; 1_000_000]), &[]);
        let appended = log.append(builder.build().unwrap(), &at).unwrap();
        if let Some(write_back) = appended.write_back {
            break write_back;
        }
    };
    assert!(write_back.finish().is_err(), "strace lets it fail");
    let work = log.begin_flush();
    let result = work.run();
    log.finish_flush(work, result);
    log
}

/// `failure`: as strace takes it. A wait is two calls: the first begins, and the second waits.
fn traced(failure: &str, poisoned: bool) {
    let root = tempfile::tempdir().unwrap();
    let status = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=sync_file_range",
        ])
        .args(["-e", &format!("inject=sync_file_range:error={failure}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(ROOT, root.path())
        .env(POISONED, poisoned.to_string())
        .status();
    assert!(status.unwrap().success(), "{failure}");
}

#[test]
fn a_write_back_that_failed_is_not_forgotten_by_the_next_sync() {
    if let Some(root) = std::env::var_os(ROOT) {
        let poisoned = std::env::var(POISONED).unwrap() == "true";
        let log = write_back_and_sync(Path::new(&root));
        assert_eq!(log.poisoned(), poisoned);
        assert_eq!(log.recovery_point() > Offset(0), !poisoned);
        return;
    }
    let mut tracer = Command::new("strace");
    tracer.args(["-o", "/dev/null", "true"]);
    let possible = tracer.output().is_ok_and(|traced| traced.status.success());
    if !possible {
        eprintln!("NOT RUN: {TEST} needs strace, and to be allowed to trace");
        return;
    }
    traced("EIO:when=1", true);
    traced("EIO:when=2", true);
    traced("ENOSPC:when=2", true);
    // Where the call is not known, or there is no memory to begin with, nothing was lost.
    traced("ENOSYS", false);
    traced("ENOMEM:when=1", false);
}
