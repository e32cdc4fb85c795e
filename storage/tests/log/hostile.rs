//! Directories full of lies: damaged, missing, foreign and misnamed files. Opening answers with an
//! error or a log, never with a panic; files that can be rebuilt cost no record.

use std::io::IoSlice;
use std::sync::Arc;

use ottla_protocol::types::{LeaderEpoch, Offset};
use ottla_storage::disk::memory::Crash;
use ottla_storage::disk::{Disk, MemoryDisk};
use ottla_storage::log::{Log, LogConfig, OpenLog, Resident};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{DIR, World};

fn history(seed: u64) -> World {
    let mut world = World::new(seed);
    world.bump_epoch();
    for step in 0..60 {
        match step % 4 {
            0 => world.append_transactional().unwrap(),
            1 => world.append().unwrap(),
            _ => world.append_idempotent().unwrap(),
        }
        if step % 20 == 19 {
            assert!(world.flush(true));
            world.bump_epoch();
        }
    }
    world
}

fn overwrite(disk: &MemoryDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(path).unwrap();
    file.truncate(0).unwrap();
    file.write_at(0, &[IoSlice::new(bytes)]).unwrap();
}

/// Damages a file in one of many ways.
fn damage(disk: &MemoryDisk, path: &str, rng: &mut StdRng) {
    let len = disk.open(path).unwrap().len_bytes().unwrap() as usize;
    match rng.random_range(0..6) {
        0 => disk.remove(path).unwrap(),
        1 => overwrite(disk, path, b""),
        2 => {
            let bytes: Vec<u8> = (0..rng.random_range(1..200))
                .map(|_| rng.random())
                .collect();
            overwrite(disk, path, &bytes);
        }
        3 => overwrite(disk, path, &vec![0; len + 7]),
        4 => {
            let cut = rng.random_range(0..=len as u64);
            disk.open(path).unwrap().truncate(cut).unwrap();
        }
        _ if len > 0 => {
            let at = rng.random_range(0..len as u64);
            disk.corrupt(path, at, &[rng.random()]).unwrap();
        }
        _ => {}
    }
}

fn is_rebuildable(name: &str) -> bool {
    [
        ".index",
        ".timeindex",
        ".snapshot",
        "leader-epoch-checkpoint",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

#[test]
fn damaged_indexes_snapshots_and_epochs_cost_no_record_after_a_crash() {
    for seed in 0..150 {
        let mut world = history(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        world.crash(Crash::Process);
        for entry in world.disk.list(DIR).unwrap() {
            if is_rebuildable(&entry.name) && rng.random_bool(0.4) {
                let path = format!("{DIR}/{}", entry.name);
                // A single flipped bit in an index may pass for an index: only what is checked
                // when it is loaded can be refused.
                if entry.name.ends_with("index") {
                    world.disk.remove(&path).unwrap();
                } else {
                    damage(&world.disk, &path, &mut rng);
                }
            }
        }
        // With the producers' snapshots damaged everything is scanned; nothing may be missing.
        world.flushed = world.model.end();
        world.reopen(&format!("seed {seed}"));
    }
}

#[test]
fn damaged_offset_indexes_never_lead_a_read_astray() {
    for seed in 0..150 {
        let mut world = history(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        world.close().unwrap();
        world.crash(Crash::Process);
        for entry in world.disk.list(DIR).unwrap() {
            if entry.name.ends_with(".index") {
                damage(&world.disk, &format!("{DIR}/{}", entry.name), &mut rng);
            }
        }
        world.reopen(&format!("seed {seed}"));
    }
}

#[test]
fn lost_files_of_aborted_transactions_are_found_again_in_the_log() {
    let mut lost = 0;
    for seed in 0..60 {
        let mut world = history(seed);
        world.close().unwrap();
        world.crash(Crash::Process);
        for entry in world.disk.list(DIR).unwrap() {
            if entry.name.ends_with("index") {
                world.disk.remove(&format!("{DIR}/{}", entry.name)).unwrap();
            }
        }
        world.reopen(&format!("seed {seed}"));
        lost += found_without_waiting(&mut world);
    }
    assert!(lost > 20, "{lost}");
}

/// The same by a reader that must not wait: somebody else searches the log, which then knows.
/// Answers how often somebody had to.
fn found_without_waiting(world: &mut World) -> u32 {
    let log = world.log.as_mut().unwrap();
    let (from, upper) = (log.log_start_offset(), log.log_end_offset());
    let wanted = log.aborted_transactions(from, upper).unwrap();
    for searches in 0.. {
        let waited = world.disk.waiting_reads();
        let found = log.aborted_transactions_resident(from, upper).unwrap();
        assert_eq!(world.disk.waiting_reads(), waited, "it must not wait");
        match found {
            Resident::Found(found) => {
                assert_eq!(found, wanted);
                return searches;
            }
            Resident::Cold(work) => {
                assert!(work.run().unwrap().is_none());
                assert!(log.adopt(*work), "nothing has changed");
            }
        }
        assert!(searches < 10, "what was found is not kept");
    }
    unreachable!("it returns")
}

#[test]
fn a_directory_of_garbage_is_an_error_or_a_log_but_never_a_panic() {
    for seed in 0..600 {
        let mut world = history(seed % 40);
        let mut rng = StdRng::seed_from_u64(seed);
        if rng.random_bool(0.3) {
            world.close().unwrap();
        }
        world.crash(Crash::Process);
        for entry in world.disk.list(DIR).unwrap() {
            if rng.random_bool(0.3) {
                damage(&world.disk, &format!("{DIR}/{}", entry.name), &mut rng);
            }
        }
        for name in [
            "99999999999999999999.log",
            "00000000000000000003.log",
            "09223372036854775807.log",
            "09223372036854775807.snapshot",
            "00000000000000000001.index.deleted",
            "leader-epoch-checkpoint.tmp",
            "x.log",
            "00000000000000000777.txnindex",
        ] {
            if rng.random_bool(0.15) {
                let bytes: Vec<u8> = (0..rng.random_range(0..300))
                    .map(|_| rng.random())
                    .collect();
                if let Ok(file) = world.disk.create(&format!("{DIR}/{name}")) {
                    file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
                }
            }
        }
        let open = OpenLog {
            recovery_point: Offset(rng.random_range(-1..200)),
            log_start_offset: Offset(rng.random_range(-1..100)),
            clean: rng.random_bool(0.5),
            synced: false,
        };
        let disk = Arc::new(world.disk.clone());
        let Ok((mut log, _)) = Log::open(disk, DIR, world.config.clone(), open, 0) else {
            continue;
        };
        use_everything(&mut log, &mut rng);
    }
}

/// Whatever a hostile directory made of a log, its methods answer.
fn use_everything(log: &mut Log, rng: &mut StdRng) {
    log.check_invariants();
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    for _ in 0..20 {
        let from = Offset(rng.random_range(start..=end));
        if let Ok(read) = log.read(from, rng.random_range(0..5_000), Offset(end), true) {
            assert!(read.next_offset >= from);
        }
        let _ = log.offset_for_timestamp(rng.random_range(0..2_000_000), Offset(end));
        let _ = log.aborted_transactions(from, Offset(end));
    }
    let _ = log.max_timestamp();
    let _ = log.end_offset_for_epoch(LeaderEpoch(3));
    let _ = log.last_stable_offset(Offset(end));
    let _ = log.truncate_to(Offset(rng.random_range(start..=end)));
    let work = log.begin_checkpoint();
    let result = work.run();
    log.finish_flush(work, result);
    let _ = log.delete_segments_below_log_start();
    let _ = log.close();
}

#[test]
fn a_directory_that_does_not_exist_is_an_empty_log() {
    let open = OpenLog {
        recovery_point: Offset(5),
        log_start_offset: Offset(3),
        clean: false,
        synced: false,
    };
    let disk = Arc::new(MemoryDisk::new());
    let (log, report) = Log::open(disk, DIR, LogConfig::default(), open, 0).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(3), Offset(3))
    );
    assert_eq!(report.lost_below_recovery_point, Some(Offset(5)));
}
