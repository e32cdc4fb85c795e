//! Zeros that were written ahead: what a crash, a cut, a full table of descriptors or another
//! reader of the files makes of them. Every crash point is in `crashes.rs`.

use std::io::IoSlice;
use std::sync::Arc;

use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::disk::{Budget, Disk, DiskFile, MemoryDisk, RealDisk, RecordData};
use ottla_storage::log::{DamageKind, Log, LogConfig, OpenLog, TailBudget};

use super::idle::{append, flush};
use super::world::{CLIENT, DIR, World, again, read_all};

/// A log of one segment, all of it synced, with zeros behind it.
fn with_zeros(seed: u64) -> World {
    let mut world = World::new(seed);
    world.config = LogConfig {
        segment_size_bytes: 1 << 20,
        timestamp_after_max_ms: i64::MAX,
        zeros_from_bytes: 2_000,
        ..LogConfig::default()
    };
    let config = world.config.clone();
    world.log().set_config(config);
    while world.log().size_bytes() < 2_100 {
        world.append().unwrap();
    }
    assert!(world.flush(false));
    // With its sync the zeros are durable.
    world.append().unwrap();
    assert!(world.flush(false));
    assert!(zeros_of(&mut world) > 500, "seed {seed}");
    world
}

/// As it is after a crash, too.
fn file(world: &World) -> Arc<dyn DiskFile> {
    world.disk.open(&format!("{DIR}/{:020}.log", 0)).unwrap()
}

fn zeros_of(world: &mut World) -> u64 {
    file(world).len_bytes().unwrap() - world.log().size_bytes()
}

#[test]
fn after_a_kill_the_zeros_are_cut_off_and_nothing_is_reported() {
    for seed in 0..50 {
        let mut world = with_zeros(seed);
        world.crash(Crash::Process);
        let report = world.reopen(&format!("seed {seed}"));
        assert_eq!(report.damage, [], "seed {seed}");
        assert_eq!(report.truncated_bytes, 0, "seed {seed}");
        assert_eq!(zeros_of(&mut world), 0, "seed {seed}");
        world.append().unwrap();
        world.verify(&format!("seed {seed}, appended"));
    }
}

#[test]
fn a_close_cuts_the_zeros_off_durably() {
    for seed in 0..50 {
        let mut world = with_zeros(seed);
        let size = world.log().size_bytes();
        world.close().unwrap();
        world.crash(Crash::PowerLossOfAllUnsynced);
        assert_eq!(file(&world).len_bytes().unwrap(), size, "seed {seed}");
        let report = world.reopen(&format!("seed {seed}"));
        assert_eq!((report.damage.len(), report.checked_batches), (0, 0));
    }
}

#[test]
fn a_batch_that_is_torn_amid_zeros_is_cut_off_and_told() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = with_zeros(seed);
        let (before, kept) = (world.log().size_bytes(), world.model.batches.len());
        world.append().unwrap();
        let size = world.log().size_bytes() - before;
        // Its second half never came to the disk: zeros are there.
        let half = vec![0; (size - size / 2) as usize];
        file(&world)
            .write_at(before + size / 2, &[IoSlice::new(&half)])
            .unwrap();
        assert!(zeros_of(&mut world) > 0, "{context}");
        world.crash(Crash::Process);
        let report = world.reopen(&context);
        assert_eq!(world.model.batches.len(), kept, "{context}");
        assert_eq!(report.damage.len(), 1, "{context}");
        assert_eq!(report.damage[0].position, before, "{context}");
        assert_eq!(report.damage[0].kind, DamageKind::TornTail, "{context}");
    }
}

#[test]
fn what_lies_behind_zeros_is_reported_and_kept_as_ever() {
    for seed in 0..50 {
        for whole_batch in [false, true] {
            let context = format!("seed {seed}, {whole_batch}");
            let mut world = with_zeros(seed);
            let end = world.log().size_bytes();
            let (mut batch, _) = world.batch(None);
            batch.stamp(world.log().log_end_offset().next(), LeaderEpoch(0));
            let bytes = match whole_batch {
                true => batch.bytes().to_vec(),
                false => vec![7; 50],
            };
            file(&world)
                .write_at(end + 300, &[IoSlice::new(&bytes)])
                .unwrap();
            world.crash(Crash::Process);
            let report = world.reopen(&context);
            assert_eq!(report.damage.len(), 1, "{context}");
            assert_eq!(report.damage[0].position, end, "{context}");
            let kept = matches!(report.damage[0].kind, DamageKind::CutOff { .. });
            assert_eq!(kept, whole_batch, "{context}: {:?}", report.damage);
        }
    }
}

#[test]
fn zeros_in_the_place_of_what_was_promised_are_reported() {
    for seed in 0..50 {
        let mut world = with_zeros(seed);
        assert!(world.flush(true));
        let last = world.model.batches.last().unwrap().bytes.len();
        let size = world.log().size_bytes();
        world.crash(Crash::Process);
        file(&world)
            .write_at(size - last as u64, &[IoSlice::new(&vec![0; last])])
            .unwrap();
        let disk = Arc::new(world.disk.clone());
        let (_, report) = Log::open(disk, DIR, world.config.clone(), world.saved, 0).unwrap();
        assert!(!report.damage.is_empty(), "seed {seed}");
        assert!(report.lost_below_recovery_point.is_some(), "seed {seed}");
    }
}

#[test]
fn a_segment_that_was_truncated_has_no_zeros_and_gets_none_but_the_next_one_does() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = with_zeros(seed);
        let middle = world.model.end() / 2;
        world.truncate(middle).unwrap();
        assert_eq!(zeros_of(&mut world), 0, "{context}");
        while world.log().size_bytes() < 3_000 {
            world.append().unwrap();
            assert!(world.flush(false));
            assert_eq!(zeros_of(&mut world), 0, "{context}");
        }
        let now_ms = world.now_ms;
        world.log().seal_active_segment(now_ms).unwrap();
        let sealed = world.log().size_bytes();
        while world.log().size_bytes() < sealed + 2_100 {
            world.append().unwrap();
        }
        assert!(world.flush(false));
        let files = world.disk.list(DIR).unwrap();
        let logs = files.iter().filter(|file| file.name.ends_with(".log"));
        let on_disk: u64 = logs.map(|file| file.len_bytes).sum();
        assert!(on_disk > world.log().size_bytes(), "{context}");
        world.verify(&context);
        world.crash(Crash::PowerLossOfAllUnsynced);
        assert_eq!(world.reopen(&context).damage, [], "{context}");
    }
}

#[test]
fn no_zeros_are_written_amid_batches_that_are_written_at_once() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = with_zeros(seed);
        // All that is left, so that more would be written now.
        while zeros_of(&mut world) > 60 {
            world.append().unwrap();
        }
        let (run, at) = (world.run(4), world.at(CLIENT));
        let mut batches: Vec<_> = run.iter().map(|(batch, ..)| again(batch)).collect();
        world.log().write_ahead(&mut batches, &at);
        assert!(world.log().write_zeros_ahead().is_none(), "{context}");
        for (batch, times, produced) in run {
            world.push(batch, times, produced, CLIENT).unwrap();
        }
        world.log().end_ahead();
        world.verify(&context);
        assert!(world.log().write_zeros_ahead().is_some(), "{context}");
        world.verify(&context);
        world.crash(Crash::Process);
        world.reopen(&context);
    }
}

#[test]
fn a_run_that_is_not_appended_takes_the_zeros_along_and_the_cut_is_synced() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = with_zeros(seed);
        let (run, at) = (world.run(4), world.at(CLIENT));
        let mut batches: Vec<_> = run.iter().map(|(batch, ..)| again(batch)).collect();
        world.log().write_ahead(&mut batches, &at);
        world.log().end_ahead();
        assert_eq!(zeros_of(&mut world), 0, "{context}");
        // Nothing was appended, and yet there is something to sync.
        let work = world.log().begin_flush();
        assert_eq!(work.files.len(), 1, "{context}");
        let size = world.log().size_bytes();
        let result = work.run();
        world.log().finish_flush(work, result);
        assert!(world.log().begin_flush().is_empty(), "{context}");
        world.crash(Crash::PowerLossOfAllUnsynced);
        assert_eq!(file(&world).len_bytes().unwrap(), size, "{context}");
        world.reopen(&context);
    }
}

#[test]
fn the_sync_of_zeros_fails_as_any_other_and_the_log_is_poisoned() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = with_zeros(seed);
        let (flushed, len) = (world.flushed, file(&world).len_bytes().unwrap());
        world.append().unwrap();
        let failure = Injection::once(Operation::Sync, InjectedError::Io);
        world.disk.inject(failure);
        assert!(!world.flush(false), "{context}");
        assert!(world.log().poisoned(), "{context}");
        assert!(world.log().write_zeros_ahead().is_none(), "{context}");
        assert!(!world.log().release_caches(), "{context}");
        assert_eq!(
            file(&world).len_bytes().unwrap(),
            len,
            "{context}: left alone"
        );
        world.crash(Crash::PowerLossOfAllUnsynced);
        let report = world.reopen(&context);
        assert_eq!(report.damage, [], "{context}");
        assert!(world.flushed >= flushed, "{context}");
    }
}

#[test]
fn large_syncs_are_not_followed_by_zeros() {
    let mut world = World::new(1);
    world.config = LogConfig {
        max_message_bytes: 1 << 20,
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    };
    let config = world.config.clone();
    world.log().set_config(config);
    let disk = world.disk.clone();
    let mut log = world.log.take().unwrap();
    let zeros = |log: &Log| {
        let file = disk.open(&format!("{DIR}/{:020}.log", 0)).unwrap();
        file.len_bytes().unwrap() - log.size_bytes()
    };
    for n in 0..20 {
        append(&mut log, n, 200_000);
        flush(&mut log, Log::begin_flush);
        assert!(log.write_zeros_ahead().is_none());
        assert_eq!(zeros(&log), 0);
    }
    let wanted = (0..40).find(|n| {
        append(&mut log, 20 + n, 1_000);
        flush(&mut log, Log::begin_flush);
        log.write_zeros_ahead().is_some()
    });
    assert!(wanted.is_some_and(|after| after > 3), "{wanted:?}");
    assert!(zeros(&log) > 100_000);
}

/// What a start has to read of a log of 9 MB that was killed right after a checkpoint.
fn reads_of_a_start(zeros: bool) -> u64 {
    let disk = MemoryDisk::new();
    let config = LogConfig {
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    };
    let opened: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = Log::create(Arc::clone(&opened), DIR, TopicId::ZERO, config.clone()).unwrap();
    for n in 0..90 {
        append(&mut log, n, 100_000);
        flush(&mut log, Log::begin_flush);
    }
    while log.write_zeros_ahead().is_none() {
        append(&mut log, 90, 1_000);
        flush(&mut log, Log::begin_flush);
    }
    if !zeros {
        log.release_caches();
    }
    flush(&mut log, Log::begin_checkpoint);
    let (end, size) = (log.log_end_offset(), log.size_bytes());
    assert_eq!(log.checkpointed_offset(), end);
    drop(log);
    disk.crash(Crash::Process);
    let saved = OpenLog {
        recovery_point: end,
        log_start_offset: Offset(0),
        clean: false,
        synced: true,
    };
    let path = format!("{DIR}/{:020}.log", 0);
    let len = disk.open(&path).unwrap().len_bytes().unwrap();
    assert_eq!(len > size, zeros);
    let before = disk.waiting_reads();
    let (log, report) = Log::open(opened, DIR, config, saved, 1).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(log.log_end_offset(), end);
    disk.waiting_reads() - before
}

#[test]
fn a_start_reads_no_more_of_a_log_because_zeros_lie_behind_it() {
    let (with, without) = (reads_of_a_start(true), reads_of_a_start(false));
    assert!(with <= without + 4, "{with} reads, {without} without zeros");
}

/// On a real disk with fewer descriptors than logs: files are closed and opened again all the time.
#[test]
fn logs_that_share_few_descriptors_keep_what_they_wrote_and_their_zeros() {
    const LOGS: i64 = 12;
    let config = || LogConfig {
        timestamp_after_max_ms: i64::MAX,
        zeros_from_bytes: 2_000,
        ..LogConfig::default()
    };
    let root = tempfile::tempdir().unwrap();
    let budget = Budget::new(4, 4);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path(), &budget).unwrap());
    let name = |n: i64| format!("t-{n}");
    let len = |n: i64| {
        let path = format!("{}/{:020}.log", name(n), 0);
        std::fs::metadata(root.path().join(path)).unwrap().len()
    };
    let create = |n| Log::create(Arc::clone(&disk), &name(n), TopicId::ZERO, config()).unwrap();
    let mut logs: Vec<Log> = (0..LOGS).map(create).collect();
    for round in 0..40 {
        for log in &mut logs {
            append(log, round, 300);
            flush(log, Log::begin_flush);
            if let Some(zeros) = log.write_zeros_ahead() {
                zeros.start().unwrap();
            }
        }
        assert!(budget.open_files() <= 5, "{}", budget.open_files());
    }
    let contents: Vec<_> = logs.iter().map(read_all).collect();
    for (n, log) in (0..).zip(&logs) {
        assert!(len(n) > log.size_bytes(), "{n}");
    }
    // The first half is closed, the others are killed.
    for (n, log) in (0..LOGS / 2).zip(&mut logs) {
        log.close().unwrap();
        assert_eq!(len(n), log.size_bytes(), "{n}");
    }
    drop(logs);
    for (n, wanted) in (0..).zip(&contents) {
        let saved = OpenLog {
            recovery_point: Offset(if n < LOGS / 2 { 40 } else { 0 }),
            log_start_offset: Offset(0),
            clean: n < LOGS / 2,
            synced: false,
        };
        let opened = Log::open(Arc::clone(&disk), &name(n), config(), saved, 1);
        let (log, report) = opened.unwrap();
        assert_eq!(report.damage, [], "{n}");
        assert!(read_all(&log) == *wanted, "{n}");
        assert_eq!(len(n), log.size_bytes(), "{n}");
    }
}

/// What a reader was to send when it was cut off must fail, and never be sent as zeros, which the
/// next append would change under it.
#[test]
fn a_reader_of_batches_that_were_cut_off_never_gets_zeros_in_their_place() {
    let root = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(root.path(), &Budget::new(100, 100)).unwrap());
    let config = LogConfig {
        timestamp_after_max_ms: i64::MAX,
        zeros_from_bytes: 2_000,
        tail_budget: TailBudget::new(0),
        ..LogConfig::default()
    };
    let mut log = Log::create(disk, "t-0", TopicId::ZERO, config).unwrap();
    for n in 0..30 {
        append(&mut log, n, 300);
        flush(&mut log, Log::begin_flush);
    }
    append(&mut log, 30, 5_000);
    let read = log.read(Offset(30), 10_000, Offset(31), true).unwrap();
    let RecordData::File(range) = &read.data[0] else {
        panic!("{read:?}")
    };
    assert!(range.read().is_ok());
    log.truncate_to(Offset(30)).unwrap();
    append(&mut log, 30, 300);
    flush(&mut log, Log::begin_flush);
    log.write_zeros_ahead();
    assert!(range.read().is_err());
}
