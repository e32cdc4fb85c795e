//! Kafka's own `DumpLogSegments` over a directory that we wrote: every file of the layout must be
//! what Kafka expects, index entries must lead where it looks, snapshots must load.
//!
//! Needs Java and Kafka's jars (`scripts/kafka-jars`). Without them it says loudly that nothing was
//! checked; with `OTTLA_REQUIRE_KAFKA` set that is a failure.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression, RecordBatchView};
use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicId};
use ottla_storage::disk::{Budget, RealDisk};
use ottla_storage::log::compact::{CompactionLimits, CompactionPolicy, LogAccess, compact};
use ottla_storage::log::{AppendAt, Log, LogConfig, OldFiles, OpenLog, Origin};
use parking_lot::Mutex;
use uuid::Uuid;

fn jars() -> Option<PathBuf> {
    let cache = std::env::var_os("OTTLA_CACHE").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/ottla"));
    let jars = cache.or_else(home)?.join("kafka/cp");
    let java = Command::new("java").arg("-version").output();
    (jars.join(".complete-4.3.0").exists() && java.is_ok_and(|o| o.status.success()))
        .then_some(jars)
}

fn at(leader_epoch: i32, origin: Origin) -> AppendAt {
    AppendAt {
        leader_epoch: LeaderEpoch(leader_epoch),
        now_ms: 1_700_000_000_000,
        origin,
    }
}

/// Segments, epochs, codecs, idempotent producers, transactions, a truncation and a reopening.
fn write_log(disk: Arc<RealDisk>) {
    let config = LogConfig {
        segment_size_bytes: 64 << 10,
        index_interval_bytes: 1_000,
        ..LogConfig::default()
    };
    let id = TopicId(Uuid::from_u128(0x1234_5678));
    let mut log = Log::create(disk.clone(), "t-0", id, config.clone()).unwrap();
    let client = Origin::Client {
        produce_version: 11,
    };
    log.assign_leader_epoch(LeaderEpoch(0));
    append_some(&mut log, 0, client);
    let end = log.log_end_offset();
    log.truncate_to(Offset(end.0 - 37)).unwrap();
    log.assign_leader_epoch(LeaderEpoch(1));
    append_some(&mut log, 1, client);
    log.close().unwrap();
    let open = OpenLog {
        recovery_point: log.checkpointed_offset(),
        log_start_offset: Offset(0),
        clean: true,
        synced: false,
    };
    let end = log.log_end_offset();
    let (mut log, report) = Log::open(disk, "t-0", config, open, 0).unwrap();
    assert_eq!((log.log_end_offset(), report.checked_batches), (end, 0));
    append_some(&mut log, 2, client);
    log.close().unwrap();
}

fn append_some(log: &mut Log, epoch: i32, client: Origin) {
    let start = 1_699_999_990_000 + i64::from(epoch) * 1_000;
    let mut sequence = 0;
    for step in 0..400i64 {
        let codec = Compression::ALL[(step % 5) as usize];
        let mut builder = BatchBuilder::new().compression(codec);
        let idempotent = step % 3 == 0;
        if idempotent {
            builder = builder.producer(ProducerId(10 + i64::from(epoch)), 0, sequence);
        }
        for record in 0..(step % 7 + 1) {
            let value = vec![b'a' + (step % 26) as u8; 20 + (step * 13 % 200) as usize];
            // Times go up and down.
            let time = start + step * 2 - (step * 7 % 11) + record;
            builder.append(time, Some(b"key"), Some(&value), &[(b"header", Some(b"x"))]);
        }
        if idempotent {
            sequence += builder.record_count();
        }
        log.append(builder.build().unwrap(), &at(epoch, client))
            .unwrap();
        if step % 50 == 20 {
            transaction(log, epoch, step % 100 == 20);
        }
    }
}

fn transaction(log: &mut Log, epoch: i32, committed: bool) {
    let mut data = BatchBuilder::new()
        .producer(ProducerId(99), 0, -1)
        .transactional(true);
    data.append(1_699_999_995_000, Some(b"k"), Some(b"v"), &[]);
    log.append(data.build().unwrap(), &at(epoch, Origin::Coordinator))
        .unwrap();
    let mut marker = BatchBuilder::new()
        .producer(ProducerId(99), 0, -1)
        .transactional(true)
        .control(true);
    let key = [0, 0, 0, u8::from(committed)];
    marker.append(
        1_699_999_995_000,
        Some(&key),
        Some(&[0, 0, 0, 0, 0, 1]),
        &[],
    );
    log.append(marker.build().unwrap(), &at(epoch, Origin::Coordinator))
        .unwrap();
}

fn dump(jars: &Path, arguments: &[&str], files: &[PathBuf]) -> String {
    let (success, text) = run_tool(jars, arguments, files);
    assert!(success, "{text}");
    text
}

/// Whether it came to its end, and what it said.
fn run_tool(jars: &Path, arguments: &[&str], files: &[PathBuf]) -> (bool, String) {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let output = Command::new("java")
        .args([
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-cp",
        ])
        .arg(format!("{}/*", jars.display()))
        .arg("org.apache.kafka.tools.DumpLogSegments")
        .args(arguments)
        .args(["--files", &files.join(",")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// The same history, compacted twice: gaps, empty batches, delete horizons, merged segments.
fn write_compacted_log(disk: Arc<RealDisk>) {
    write_log(Arc::clone(&disk));
    let config = LogConfig {
        segment_size_bytes: 64 << 10,
        index_interval_bytes: 1_000,
        ..LogConfig::default()
    };
    let open = OpenLog {
        recovery_point: Offset(i64::MAX),
        log_start_offset: Offset(0),
        clean: true,
        synced: false,
    };
    let (log, _) = Log::open(disk, "t-0", config, open, 0).unwrap();
    let log = Shared(Mutex::new(log));
    for round in 0..2 {
        let mut locked = log.0.lock();
        for n in 0..300u32 {
            let mut builder = BatchBuilder::new().compression(Compression::Zstd);
            for key in 0..8u32 {
                let value = [b'x'; 100];
                let value = (key != round).then_some(&value[..]);
                builder.append(1, Some(&(n % 50 * 8 + key).to_be_bytes()), value, &[]);
            }
            let at = at(2, Origin::Coordinator);
            locked.append(builder.build().unwrap(), &at).unwrap();
        }
        locked.seal_active_segment(0).unwrap();
        checkpoint(&mut locked);
        let policy = CompactionPolicy {
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        };
        let end = locked.log_end_offset();
        let cleanable = locked.cleanable(&policy, end, 1).unwrap();
        drop(locked);
        let limits = CompactionLimits {
            map_memory_bytes: 1 << 20,
            map_load_factor: 0.9,
            io_buffer_bytes: 1 << 16,
            delete_retention_ms: 1_000,
            now_ms: 1_700_000_000_000,
            hash_key: (1, 2),
        };
        let mut remove = |old: OldFiles| old.remove().unwrap();
        let stats = compact(&log, &cleanable, limits, &mut |_| true, &mut remove).unwrap();
        assert!(stats.records_kept < stats.records_read, "{stats:?}");
    }
    // An active segment with something in its indexes: of empty ones the tool says nothing.
    let mut locked = log.0.lock();
    for n in 0..20u32 {
        let mut builder = BatchBuilder::new();
        builder.append(2, Some(&n.to_be_bytes()), Some(&[b'x'; 500]), &[]);
        let at = at(2, Origin::Coordinator);
        locked.append(builder.build().unwrap(), &at).unwrap();
    }
    checkpoint(&mut locked);
    locked.close().unwrap();
}

fn checkpoint(log: &mut Log) {
    let work = log.begin_checkpoint();
    let result = work.run();
    log.finish_flush(work, result);
}

struct Shared(Mutex<Log>);

impl LogAccess for Shared {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        Some(f(&mut self.0.lock()))
    }
}

#[test]
fn kafkas_dump_tool_finds_nothing_to_complain_about() {
    check_with_kafka(write_log, 3);
}

#[test]
fn kafkas_dump_tool_finds_nothing_to_complain_about_in_a_compacted_log() {
    check_with_kafka(write_compacted_log, 1);
}

/// Each entry leads to the batch whose last offset it names.
fn check_offset_indexes(indexes: &[PathBuf]) {
    for index in indexes {
        let name = index.file_stem().unwrap().to_str().unwrap();
        let base: i64 = name.parse().unwrap();
        let log = std::fs::read(index.with_extension("log")).unwrap();
        let bytes = std::fs::read(index).unwrap();
        for entry in bytes.chunks(8) {
            let relative = u32::from_be_bytes(entry[..4].try_into().unwrap());
            let position = u32::from_be_bytes(entry[4..].try_into().unwrap()) as usize;
            let batch = RecordBatchView::parse(&log[position..]).unwrap();
            assert_eq!(batch.last_offset().0, base + i64::from(relative), "{name}");
            assert!(batch.header().record_count > 0, "{name} at {position}");
        }
    }
}

/// With the tool's own lookups; it must also notice one entry that leads to the wrong place.
fn verify_indexes(jars: &Path, indexes: &[PathBuf], to_damage: [PathBuf; 2]) {
    let verified = dump(jars, &["--verify-index-only"], indexes);
    let complaints = ["Mismatches", "not found", "out of order", "Found"];
    for complaint in complaints {
        assert!(!verified.contains(complaint), "{verified}");
    }
    for file in to_damage {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[7] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (ended, damaged) = run_tool(jars, &["--verify-index-only"], &[file]);
        let noticed = |complaint: &&str| damaged.contains(*complaint);
        // Where an entry leads to bytes that are no batch, the tool looks for one all the same.
        let lost = !ended && damaged.contains("NoSuchElementException");
        assert!(lost || complaints.iter().any(noticed), "{damaged}");
    }
}

fn jars_or_say() -> Option<PathBuf> {
    let jars = jars();
    if jars.is_none() {
        let missing =
            "NOT CHECKED: Kafka's DumpLogSegments (no Java or no jars: scripts/kafka-jars)";
        assert!(
            std::env::var_os("OTTLA_REQUIRE_KAFKA").is_none(),
            "{missing}"
        );
        eprintln!("{missing}");
    }
    jars
}

/// After a crash zeros may lie behind the data, as with Kafka's `preallocate`: its tool shows all
/// batches and then ends with an exception, its broker cuts them off at the start. A close leaves
/// none.
#[test]
fn kafka_reads_up_to_zeros_that_a_crash_left_and_finds_none_after_a_close() {
    let Some(jars) = jars_or_say() else { return };
    let root = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(root.path(), &Budget::for_process()).unwrap());
    let config = LogConfig {
        zeros_from_bytes: 1_000,
        ..LogConfig::default()
    };
    let mut log = Log::create(disk, "t-0", TopicId::ZERO, config).unwrap();
    let client = Origin::Client {
        produce_version: 11,
    };
    for _ in 0..20 {
        let mut builder = BatchBuilder::new();
        builder.append(1_699_999_990_000, None, Some(&[7; 200]), &[]);
        log.append(builder.build().unwrap(), &at(0, client))
            .unwrap();
        let work = log.begin_flush();
        let result = work.run();
        log.finish_flush(work, result);
        log.write_zeros_ahead();
    }
    let file = root.path().join("t-0/00000000000000000000.log");
    let zeros = std::fs::metadata(&file).unwrap().len() - log.size_bytes();
    assert!(zeros > 0);
    let whole = |text: &str| text.matches("isvalid: true").count();
    let files = std::slice::from_ref(&file);
    let (ended, text) = run_tool(&jars, &["--deep-iteration"], files);
    assert_eq!((ended, whole(&text)), (false, 20), "{text}");
    assert!(text.contains("Found record size 0"), "{text}");
    log.close().unwrap();
    let text = dump(&jars, &["--deep-iteration"], &[file]);
    assert_eq!(whole(&text), 20, "{text}");
    assert!(!text.contains("invalid bytes"), "{text}");
}

/// `segments`: more than so many must have been written.
fn check_with_kafka(write: fn(Arc<RealDisk>), segments: usize) {
    let Some(jars) = jars_or_say() else { return };
    let root = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(root.path(), &Budget::for_process()).unwrap());
    write(disk);
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.path().join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let of = |extension: &str| -> Vec<PathBuf> {
        let of = |file: &&PathBuf| file.extension().is_some_and(|found| found == extension);
        files.iter().filter(of).cloned().collect()
    };
    assert!(of("log").len() > segments, "{files:?}");
    for extension in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        assert!(!of(extension).is_empty(), "no {extension} was written");
    }
    check_offset_indexes(&of("index"));
    // Deep: every record is decompressed and its offset and checksum looked at.
    let logs = dump(&jars, &["--deep-iteration"], &of("log"));
    assert!(
        logs.contains("isvalid: true") && !logs.contains("isvalid: false"),
        "{logs}"
    );
    assert!(
        !logs.contains("Found ") && !logs.contains("invalid bytes"),
        "{logs}"
    );
    let indexes: Vec<PathBuf> = [of("index"), of("timeindex")].concat();
    let checked = dump(&jars, &["--index-sanity-check"], &indexes);
    assert_eq!(
        checked.matches("passed sanity check").count(),
        indexes.len(),
        "{checked}"
    );
    let damaged = [of("index").remove(0), of("timeindex").remove(0)];
    verify_indexes(&jars, &indexes, damaged);
    let aborted = dump(&jars, &[], &of("txnindex"));
    assert!(aborted.contains("producerId: 99"), "{aborted}");
    let snapshots = dump(&jars, &[], &of("snapshot"));
    assert!(
        snapshots.contains("producerId: 12") && !snapshots.contains("corrupt"),
        "{snapshots}"
    );
}
