//! A disk that says no: full, failing writes, failing syncs.

use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::log::{AppendError, LogError};

use super::world::World;

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
