//! A disk that says no: full, failing writes, failing syncs, no descriptor to open a file with.

use std::sync::Arc;

use ottla_protocol::types::Offset;
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::disk::{Disk as _, is_out_of_descriptors};
use ottla_storage::log::{AppendError, Log, LogError};

use super::world::{DIR, World};

#[test]
fn a_full_disk_fails_appends_and_nothing_else_and_goes_on_when_there_is_room() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..20 {
            world.append().unwrap();
        }
        world.disk.set_capacity_bytes(Some(1));
        for _ in 0..5 {
            let full = world.append();
            assert!(
                matches!(full, Err(AppendError::Log(LogError::Io { .. }))),
                "{full:?}"
            );
            world.verify(&format!("seed {seed}, full"));
        }
        world.disk.set_capacity_bytes(None);
        assert!(!world.log().poisoned());
        for _ in 0..20 {
            world.append_idempotent().unwrap();
        }
        assert!(world.flush(true));
        world.crash(Crash::PowerLossOfAllUnsynced);
        world.reopen(&format!("seed {seed}, after the disk was full"));
    }
}

#[test]
fn zeros_that_cannot_be_written_ahead_cost_nothing_but_the_zeros() {
    for error in [InjectedError::NoSpace, InjectedError::Io] {
        for cut_too in [false, true] {
            for seed in 1..4 {
                let context = format!("seed {seed}, {error:?}, {cut_too}");
                let mut world = World::new(seed);
                world.config.segment_size_bytes = 100_000;
                world.config.segment_ms = i64::MAX;
                world.config.segment_index_bytes = 1 << 20;
                let config = world.config.clone();
                world.log().set_config(config);
                for _ in 0..10 {
                    world.append().unwrap();
                }
                let size = world.log().size_bytes();
                // The last write of the flush is that of the zeros.
                world.disk.inject(Injection::once(Operation::Write, error));
                if cut_too {
                    let cut = Injection::once(Operation::Truncate, error);
                    world.disk.inject(cut);
                }
                assert!(world.flush(false), "{context}");
                assert!(world.log().write_zeros_ahead().is_none(), "{context}");
                assert_eq!(world.log().size_bytes(), size, "{context}");
                world.append().unwrap();
                assert!(world.flush(true), "{context}");
                assert!(
                    world.log().write_zeros_ahead().is_none(),
                    "{context}: not again"
                );
                world.verify(&context);
                world.close().unwrap();
                world.crash(Crash::PowerLossOfAllUnsynced);
                let report = world.reopen(&context);
                assert!(report.damage.is_empty(), "{context}");
            }
        }
    }
}

#[test]
fn a_failed_write_leaves_the_log_as_it_was() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            world.append().unwrap();
        }
        world
            .disk
            .inject(Injection::once(Operation::Write, InjectedError::Io));
        assert!(world.append().is_err());
        assert!(!world.log().poisoned());
        world.verify(&format!("seed {seed}"));
        world.append().unwrap();
        world.crash(Crash::Process);
        world.reopen(&format!("seed {seed}, reopened"));
    }
}

/// It may be readable again: an end that is cut off is not.
#[test]
fn what_cannot_be_read_at_a_start_is_an_error_and_nothing_is_cut() {
    let mut world = World::new(12);
    for _ in 0..30 {
        world.append().unwrap();
    }
    let end = world.model.end();
    world.crash(Crash::Process);
    let unreadable = Injection::once(Operation::Read, InjectedError::Io);
    world.disk.inject(unreadable.on(".log"));
    let opened = Log::open(
        Arc::new(world.disk.clone()),
        DIR,
        world.config.clone(),
        world.saved,
        0,
    );
    let error = opened.map(|_| ()).expect_err("a sector cannot be read");
    assert!(error.to_string().contains(".log"), "{error}");
    world.reopen("now it can be read");
    assert_eq!(world.model.end(), end);
}

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            world.append().unwrap();
        }
        assert!(world.flush(false));
        let flushed = world.flushed;
        world.append().unwrap();
        world
            .disk
            .inject(Injection::once(Operation::Sync, InjectedError::Io));
        assert!(!world.flush(false));
        assert!(world.log().poisoned());
        assert_eq!(world.log().recovery_point().0, flushed);
        assert!(matches!(
            world.append(),
            Err(AppendError::Log(LogError::Poisoned))
        ));
        // A second sync would succeed, and lie.
        let work = world.log().begin_flush();
        assert!(work.is_empty());
        let result = work.run();
        world.log().finish_flush(work, result);
        assert_eq!(world.log().recovery_point().0, flushed);
        assert!(matches!(world.close(), Err(LogError::Poisoned)));
        world.crash(Crash::PowerLossOfAllUnsynced);
        world.reopen(&format!("seed {seed}"));
    }
}

#[test]
fn checkpoint_files_that_cannot_be_written_hold_nothing_up_but_the_checkpoint() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..30 {
            world.append_idempotent().unwrap();
        }
        let injection = Injection::once(Operation::Create, InjectedError::NoSpace);
        world.disk.inject(injection.on(".snapshot"));
        assert!(world.flush(true), "the records are durable");
        assert!(world.log().checkpointed_offset() < world.log().recovery_point());
        assert!(world.flush(true));
        assert_eq!(
            world.log().checkpointed_offset(),
            world.log().recovery_point()
        );
        world.crash(Crash::PowerLossOfAllUnsynced);
        let report = world.reopen(&format!("seed {seed}"));
        assert_eq!(report.checked_batches, 0);
    }
}

#[test]
fn what_a_failed_write_left_behind_the_end_is_cut_off_when_the_disk_lets_it() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..10 {
            world.append().unwrap();
        }
        let cut = Injection::always(Operation::Truncate, InjectedError::ReadOnly);
        world.disk.inject(cut);
        let write = Injection::once(Operation::Write, InjectedError::Io);
        world.disk.inject(write);
        for attempt in 0..3 {
            assert!(world.append().is_err(), "seed {seed}, attempt {attempt}");
            assert!(!world.log().poisoned());
            world.verify(&format!("seed {seed}, attempt {attempt}"));
        }
        world.disk.clear_injections();
        world.append().unwrap();
        world.append().unwrap();
        world.crash(Crash::Process);
        world.reopen(&format!("seed {seed}, reopened"));
    }
}

#[test]
fn a_sync_that_is_out_of_memory_poisons_and_one_that_is_out_of_descriptors_is_due_again() {
    for (error, poisons) in [
        (InjectedError::OutOfMemory, true),
        (InjectedError::TooManyOpenFiles, false),
    ] {
        let mut world = World::new(1);
        world.append().unwrap();
        world.disk.inject(Injection::once(Operation::Sync, error));
        assert!(!world.flush(false));
        assert_eq!(world.log().poisoned(), poisons, "{error:?}");
        assert_eq!(world.flush(false) && !world.log().poisoned(), !poisons);
        assert_eq!(world.log().recovery_point().0 > 0, !poisons);
    }
}

fn scarce(operation: Operation) -> Injection {
    Injection::once(operation, InjectedError::TooManyOpenFiles)
}

fn is_scarce<T: std::fmt::Debug>(result: &Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::Io { source, .. }) if is_out_of_descriptors(source))
}

/// A log of some segments that is on the disk and holds no file open.
fn at_rest(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..30 {
        world.append_idempotent().unwrap();
    }
    assert!(world.flush(true));
    world.log().release_caches();
    world
}

#[test]
fn a_truncation_that_finds_no_descriptor_changes_nothing_and_works_later() {
    let mut refused = 0;
    for seed in 0..50 {
        for opens in 0..6 {
            let mut world = at_rest(seed);
            let end = world.model.end();
            world.disk.inject(scarce(Operation::Open).skip(opens));
            let cut = world.log().truncate_to(Offset(end / 2));
            if cut.is_ok() {
                // That many files were not opened, or it was an index, which the log replaces.
                continue;
            }
            refused += 1;
            let context = format!("seed {seed}, open {opens}");
            assert!(is_scarce(&cut), "{context}: {cut:?}");
            assert!(!world.log().poisoned(), "{context}");
            world.verify(&context);
            world.append_idempotent().unwrap();
            world.truncate(end / 2).unwrap();
            world.verify(&context);
            world.append_idempotent().unwrap();
            world.crash(Crash::PowerLoss { seed });
            world.reopen(&context);
        }
    }
    assert!(refused >= 50, "{refused}: the log and a snapshot at least");
}

#[test]
fn a_log_that_is_emptied_without_a_descriptor_for_its_first_segment_is_empty() {
    for seed in 0..50 {
        let mut world = at_rest(seed);
        world.disk.inject(scarce(Operation::Create).on(".log"));
        let emptied = world.log().truncate_fully_and_start_at(Offset(1_000));
        assert!(is_scarce(&emptied), "{emptied:?}");
        assert!(!world.log().poisoned());
        assert_eq!(world.log().log_end_offset(), Offset(1_000));
        world.start_over(1_000).unwrap();
        world.verify(&format!("seed {seed}"));
        world.append_idempotent().unwrap();
        assert!(world.flush(true));
        world.crash(Crash::PowerLossOfAllUnsynced);
        world.reopen(&format!("seed {seed}"));
    }
}

#[test]
fn a_close_that_finds_no_descriptor_can_be_tried_again() {
    for operation in [Operation::Sync, Operation::Create] {
        let mut world = World::new(3);
        for _ in 0..10 {
            world.append_idempotent().unwrap();
        }
        world.disk.inject(scarce(operation));
        let closed = world.close();
        assert!(is_scarce(&closed), "{operation:?}: {closed:?}");
        world.close().unwrap();
        world.crash(Crash::PowerLossOfAllUnsynced);
        assert_eq!(world.reopen("closed").checked_batches, 0);
    }
}

#[test]
fn a_recovery_that_finds_no_descriptor_throws_nothing_away() {
    for name in [".snapshot", "leader-epoch-checkpoint"] {
        let mut world = at_rest(5);
        let saved = world.saved;
        world.crash(Crash::PowerLossOfAllUnsynced);
        let names = world.disk.list(DIR).unwrap();
        world.disk.inject(scarce(Operation::Open).on(name));
        let disk = Arc::new(world.disk.clone());
        let opened = Log::open(disk, DIR, world.config.clone(), saved, 1);
        assert!(is_scarce(&opened.map(drop)), "{name}");
        assert_eq!(world.disk.list(DIR).unwrap(), names, "{name}");
        let report = world.reopen(name);
        assert!(!report.epochs_rebuilt && report.discarded_snapshots == 0);
    }
}
