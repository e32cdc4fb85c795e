//! A crash, or a disk that fails, at every point of a round.

use std::sync::Arc;

use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::log::Log;

use super::world::{DIR, World};
use crate::world::read_all;

/// A log with something to do for a round, all of it checkpointed.
pub(super) fn prepared(seed: u64) -> World {
    let mut world = World::new(seed);
    for step in 0..60 {
        match step % 6 {
            0 => world.append_transactional(),
            5 => world.end_transaction(),
            _ => world.append(),
        }
    }
    while let Some(id) = world.open_transactions().first().copied() {
        let before = world.open_transactions().len();
        world.end_transaction();
        assert!(world.open_transactions().len() <= before, "{id}");
    }
    world.append();
    assert!(world.checkpoint());
    assert!(world.with(|log| log.segment_count()) > 3);
    world
}

#[test]
fn a_crash_anywhere_in_a_round_leaves_every_group_as_it_was_or_compacted() {
    let mut points = 0;
    for seed in 0..2 {
        let mut counted = prepared(seed);
        let before = counted.disk.operations();
        counted.compact().unwrap();
        assert!(counted.checkpoint());
        let operations = counted.disk.operations() - before;
        for halt_after in 0..=operations {
            let power = (0..2).map(|seed| Crash::PowerLoss { seed });
            for crash in [Crash::Process, Crash::PowerLossOfAllUnsynced]
                .into_iter()
                .chain(power)
            {
                let context = format!("seed {seed}, {halt_after} changes, {crash:?}");
                let mut world = prepared(seed);
                world.disk.halt_after(halt_after);
                let done = world.compact().is_ok() && world.checkpoint();
                assert!(done || world.disk.halted(), "{context}");
                world.crash(crash);
                world.reopen(&context);
                // It goes on, and another round comes to the end.
                world.append();
                assert!(world.checkpoint(), "{context}");
                world.compact_and_check(&context);
                world.crash(Crash::PowerLossOfAllUnsynced);
                world.reopen(&format!("{context}, again"));
                points += 1;
            }
        }
    }
    assert!(points > 200, "{points}");
}

#[test]
fn a_crash_anywhere_in_completing_a_swap_is_recovered_from() {
    for seed in 0..2 {
        let mut counted = prepared(seed);
        let before = counted.disk.operations();
        counted.compact().unwrap();
        let operations = counted.disk.operations() - before;
        for halt_after in 0..=operations {
            for second in 0..6 {
                let context = format!("seed {seed}, {halt_after} then {second} changes");
                let mut world = prepared(seed);
                world.disk.halt_after(halt_after);
                let _ = world.compact();
                world.crash(Crash::PowerLoss { seed: second });
                world.disk.halt_after(second);
                let disk = Arc::new(world.disk.clone());
                let _ = Log::open(disk, DIR, world.config.clone(), world.saved, 0);
                world.crash(Crash::PowerLoss { seed: second + 9 });
                world.reopen(&context);
            }
        }
    }
}

#[test]
fn a_disk_that_fails_ends_the_round_and_leaves_the_log_as_it_was() {
    for (operation, error) in [
        (Operation::Create, InjectedError::TooManyOpenFiles),
        (Operation::Write, InjectedError::NoSpace),
        (Operation::Sync, InjectedError::Io),
        (Operation::Rename, InjectedError::Io),
    ] {
        let mut world = prepared(1);
        let wanted = world.with(|log| read_all(log));
        world
            .disk
            .inject(Injection::once(operation, error).on(".cleaned"));
        let failed = world.compact();
        let failed = failed.expect_err("the disk said no");
        assert!(!failed.is_lasting(), "{failed}");
        assert_eq!(world.with(|log| read_all(log)), wanted);
        assert!(!world.with(|log| log.poisoned()), "{operation:?}");
        world.append();
        assert!(world.checkpoint());
        world.compact_and_check(&format!("{operation:?}"));
    }
}
