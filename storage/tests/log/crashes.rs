//! Every crash point of the operations that write: the disk stops after each single change, then
//! the machine goes down in several ways, and the log must come back whole.

use ottla_storage::disk::Disk;
use ottla_storage::disk::memory::Crash;
use ottla_storage::log::Retention;

use super::world::World;

type Story = fn(&mut World) -> Result<(), ()>;

const POWER_SEEDS: u64 = 8;

/// Runs a story to each of its crash points, and crashes there in each way.
fn at_every_crash_point(prepare: fn(&mut World), story: Story, worlds: u64) {
    let mut points = 0;
    for seed in 0..worlds {
        let mut counted = World::new(seed);
        prepare(&mut counted);
        let before = counted.disk.operations();
        story(&mut counted).unwrap();
        let operations = counted.disk.operations() - before;
        assert!(operations > 0, "the story writes");
        for halt_after in 0..=operations {
            for crash in crashes() {
                let context = format!("world {seed}, {halt_after} changes, {crash:?}");
                let mut world = World::new(seed);
                prepare(&mut world);
                world.disk.halt_after(halt_after);
                let result = story(&mut world);
                assert!(result.is_ok() || world.disk.halted(), "{context}");
                world.crash(crash);
                world.reopen(&context);
                // It must also go on, and survive once more.
                world.bump_epoch();
                for _ in 0..3 {
                    world.append().unwrap();
                }
                assert!(world.flush(true));
                world.crash(Crash::PowerLossOfAllUnsynced);
                world.reopen(&format!("{context}, again"));
                points += 1;
            }
        }
    }
    assert!(points > 100, "{points} points");
}

fn crashes() -> impl Iterator<Item = Crash> {
    let power = (0..POWER_SEEDS).map(|seed| Crash::PowerLoss { seed });
    [Crash::Process, Crash::PowerLossOfAllUnsynced]
        .into_iter()
        .chain(power)
}

fn some_history(world: &mut World) {
    world.bump_epoch();
    for step in 0..30 {
        match step % 4 {
            0 => world.append_transactional().unwrap(),
            1 => world.append().unwrap(),
            _ => world.append_idempotent().unwrap(),
        }
        if step == 12 {
            assert!(world.flush(true));
            world.bump_epoch();
        }
        if step == 22 {
            assert!(world.flush(false));
        }
    }
}

#[test]
fn a_crash_anywhere_in_appends_and_flushes_loses_nothing_that_was_flushed() {
    fn story(world: &mut World) -> Result<(), ()> {
        for _ in 0..3 {
            world.append().map_err(|_| ())?;
            world.append_idempotent().map_err(|_| ())?;
            world.flush(false).then_some(()).ok_or(())?;
        }
        Ok(())
    }
    at_every_crash_point(|_| {}, story, 4);
    at_every_crash_point(some_history, story, 4);
}

/// Zeros behind the data are written, synced by the next flush, cut by a roll, a release or a
/// close, and written over: whatever of that a crash leaves is no damage.
#[test]
fn a_crash_anywhere_around_zeros_written_ahead_loses_nothing_and_reports_nothing() {
    fn prepare(world: &mut World) {
        world.config.zeros_from_bytes = 100;
        let config = world.config.clone();
        world.log().set_config(config);
        some_history(world);
        assert!(world.flush(false));
    }
    fn story(world: &mut World) -> Result<(), ()> {
        let before = world.log().segment_count();
        while world.log().segment_count() < before + 2 {
            world.append().map_err(|_| ())?;
            world.flush(false).then_some(()).ok_or(())?;
        }
        world.flush(true).then_some(()).ok_or(())?;
        world.log().release_caches();
        world.append().map_err(|_| ())?;
        world.flush(false).then_some(()).ok_or(())?;
        world.close().map_err(|_| ())
    }
    at_every_crash_point(prepare, story, 3);
    let mut longer = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        prepare(&mut world);
        let files = world.disk.list(super::world::DIR).unwrap();
        let logs = files.iter().filter(|file| file.name.ends_with(".log"));
        let on_disk: u64 = logs.map(|file| file.len_bytes).sum();
        longer += u64::from(on_disk > world.log().size_bytes());
        world.crash(Crash::PowerLoss { seed });
        let report = world.reopen(&format!("seed {seed}"));
        assert_eq!(report.damage, [], "seed {seed}");
        assert_eq!(report.truncated_bytes, 0, "seed {seed}");
    }
    assert!(longer > 20, "zeros are there: {longer}");
}

#[test]
fn a_crash_anywhere_in_batches_that_are_written_at_once_leaves_a_prefix() {
    fn story(world: &mut World) -> Result<(), ()> {
        for count in 2..7 {
            let run = world.run(count);
            for appended in world.append_run(run) {
                appended.map_err(|_| ())?;
            }
            world.flush(false).then_some(()).ok_or(())?;
        }
        Ok(())
    }
    at_every_crash_point(some_history, story, 4);
}

#[test]
fn a_crash_anywhere_around_a_roll_leaves_a_prefix() {
    fn story(world: &mut World) -> Result<(), ()> {
        let before = world.log().segment_count();
        while world.log().segment_count() < before + 3 {
            world.append().map_err(|_| ())?;
        }
        world.flush(false).then_some(()).ok_or(())?;
        world.append().map_err(|_| ())
    }
    at_every_crash_point(some_history, story, 4);
}

#[test]
fn a_crash_anywhere_in_a_checkpoint_or_a_close_leaves_everything_flushed() {
    fn checkpoint(world: &mut World) -> Result<(), ()> {
        world.flush(true).then_some(()).ok_or(())?;
        world.append().map_err(|_| ())?;
        world.flush(true).then_some(()).ok_or(())
    }
    fn close(world: &mut World) -> Result<(), ()> {
        world.close().map_err(|_| ())
    }
    at_every_crash_point(some_history, checkpoint, 4);
    at_every_crash_point(some_history, close, 4);
}

#[test]
fn a_crash_anywhere_in_a_truncation_leaves_a_prefix_that_cannot_mix_with_what_follows() {
    fn story(world: &mut World) -> Result<(), ()> {
        let (start, end) = (world.model.start, world.model.end());
        world.truncate(start + (end - start) / 3).map_err(|_| ())?;
        world.bump_epoch();
        for _ in 0..4 {
            world.append_idempotent().map_err(|_| ())?;
        }
        world.flush(true).then_some(()).ok_or(())
    }
    at_every_crash_point(some_history, story, 4);
}

#[test]
fn a_crash_anywhere_in_starting_over_leaves_the_old_log_or_the_new_one() {
    fn story(world: &mut World) -> Result<(), ()> {
        let end = world.model.end();
        world.start_over(end + 100).map_err(|_| ())?;
        world.append().map_err(|_| ())?;
        world.flush(true).then_some(()).ok_or(())
    }
    at_every_crash_point(some_history, story, 4);
}

#[test]
fn a_crash_anywhere_in_deleting_old_segments_leaves_a_log_from_the_new_start() {
    fn story(world: &mut World) -> Result<(), ()> {
        let (start, end) = (world.model.start, world.model.end());
        world.flush(true).then_some(()).ok_or(())?;
        world
            .delete_start(start + (end - start) * 2 / 3)
            .map_err(|_| ())?;
        world.append().map_err(|_| ())?;
        world.flush(true).then_some(()).ok_or(())
    }
    at_every_crash_point(some_history, story, 4);
}

#[test]
fn a_crash_anywhere_in_retention_leaves_a_log_from_its_old_or_its_new_start() {
    fn part(world: &mut World) -> Result<(), ()> {
        let max_bytes = Some(world.log().size_bytes() / 3);
        let retention = Retention {
            max_age_ms: None,
            max_bytes,
        };
        let expired = world.expire(&retention).map_err(|_| ())?;
        assert!(expired);
        world.append().map_err(|_| ())?;
        world.flush(true).then_some(()).ok_or(())
    }
    fn all(world: &mut World) -> Result<(), ()> {
        let retention = Retention {
            max_age_ms: None,
            max_bytes: Some(0),
        };
        let expired = world.expire(&retention).map_err(|_| ())?;
        assert!(expired);
        world.append().map_err(|_| ())?;
        world.flush(false).then_some(()).ok_or(())
    }
    fn flushed_history(world: &mut World) {
        some_history(world);
        assert!(world.flush(true));
    }
    at_every_crash_point(flushed_history, part, 4);
    at_every_crash_point(flushed_history, all, 4);
}

/// A recovery writes too: it cuts, syncs and removes. It must be able to crash as well.
#[test]
fn a_crash_anywhere_in_a_recovery_is_recovered_from() {
    for seed in 0..40 {
        for halt_after in 0..12 {
            let mut world = World::new(seed);
            some_history(&mut world);
            world.crash(Crash::PowerLoss { seed });
            world.disk.halt_after(halt_after);
            let saved = world.saved;
            let disk = std::sync::Arc::new(world.disk.clone());
            let config = world.config.clone();
            let _ = ottla_storage::log::Log::open(disk, super::world::DIR, config, saved, 0);
            world.crash(Crash::PowerLoss { seed: seed + 1_000 });
            world.reopen(&format!("seed {seed}, recovery halted after {halt_after}"));
        }
    }
}
