//! Batches that are written at once and appended one after another: nobody can tell but the disk.

use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::log::{AppendError, LogConfig};

use super::world::{CLIENT, World, again};

/// A log with something in it, whose segment has room; zeros lie behind it, most of the time.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.config = LogConfig {
        segment_size_bytes: 1 << 20,
        zeros_from_bytes: 100,
        ..LogConfig::default()
    };
    let config = world.config.clone();
    world.log().set_config(config);
    for _ in 0..3 {
        world.append_idempotent().unwrap();
    }
    if !seed.is_multiple_of(4) {
        assert!(world.flush(false));
    }
    world
}

fn all_good(appended: Vec<Result<(), AppendError>>, context: &str) {
    for appended in appended {
        appended.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

#[test]
fn batches_that_come_together_are_one_write() {
    for seed in 0..50 {
        let mut world = world(seed);
        let before = world.disk.operations();
        let run = world.run(5);
        all_good(world.append_run(run), &format!("seed {seed}"));
        assert_eq!(world.disk.operations() - before, 1, "seed {seed}");
        world.verify(&format!("seed {seed}"));
        world.crash(Crash::Process);
        world.reopen(&format!("seed {seed}, reopened"));
    }
}

#[test]
fn when_they_cannot_be_written_at_once_each_is_written_by_itself() {
    for seed in 0..50 {
        let mut world = world(seed);
        let write = Injection::once(Operation::Write, InjectedError::Io);
        world.disk.inject(write);
        let run = world.run(4);
        all_good(world.append_run(run), &format!("seed {seed}"));
        world.verify(&format!("seed {seed}"));
        world.crash(Crash::Process);
        world.reopen(&format!("seed {seed}, reopened"));
    }
}

#[test]
fn on_a_disk_that_takes_nothing_each_is_refused_and_can_be_sent_again() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = world(seed);
        let write = Injection::always(Operation::Write, InjectedError::Io);
        world.disk.inject(write);
        let run = world.run(4);
        let once_more = run
            .iter()
            .map(|(batch, times, produced)| (again(batch), times.clone(), *produced))
            .collect();
        for appended in world.append_run(run) {
            assert!(appended.is_err(), "{context}");
        }
        world.verify(&context);
        world.disk.clear_injections();
        all_good(world.append_run(once_more), &context);
        world.verify(&context);
        world.crash(Crash::Process);
        world.reopen(&format!("{context}, reopened"));
    }
}

#[test]
fn what_is_written_ahead_and_not_appended_is_gone_after_a_crash_too() {
    for seed in 0..50 {
        for appended in 0..4 {
            let context = format!("seed {seed}, {appended} appended");
            let mut world = world(seed);
            let (run, at) = (world.run(4), world.at(CLIENT));
            let mut batches: Vec<_> = run.iter().map(|(batch, ..)| again(batch)).collect();
            world.log().write_ahead(&mut batches, &at);
            for (batch, times, produced) in run.into_iter().take(appended) {
                world.push(batch, times, produced, CLIENT).unwrap();
            }
            world.log().end_ahead();
            world.verify(&context);
            world.crash(Crash::Process);
            world.reopen(&context);
        }
    }
}

#[test]
fn a_batch_that_is_refused_amid_others_leaves_no_trace() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = world(seed);
        let run: Vec<_> = (0..4).map(|_| world.batch(None)).collect();
        let at = world.at(CLIENT);
        let mut batches: Vec<_> = run.iter().map(|(batch, _)| again(batch)).collect();
        world.log().write_ahead(&mut batches, &at);
        for (place, (batch, times)) in run.into_iter().enumerate() {
            match place {
                1 => {
                    let header = *batch.header();
                    world.log().refused(&header);
                }
                _ => world.push(batch, times, None, CLIENT).unwrap(),
            }
        }
        world.log().end_ahead();
        world.verify(&context);
        world.crash(Crash::Process);
        world.reopen(&context);
    }
}

#[test]
fn a_gap_in_a_run_is_refused_as_it_is_without_one() {
    for seed in 0..50 {
        let context = format!("seed {seed}");
        let mut world = world(seed);
        let run = loop {
            let run = world.run(4);
            if run[0]
                .2
                .is_some_and(|produced| !world.history(produced.id).is_empty())
            {
                break run;
            }
        };
        let gap = run.into_iter().enumerate();
        let gap = gap.filter(|(place, _)| *place != 1).map(|(_, one)| one);
        let appended = world.append_run(gap.collect());
        assert!(appended[0].is_ok(), "{context}");
        for refused in &appended[1..] {
            assert!(
                matches!(refused, Err(AppendError::Producer(_))),
                "{context}: {refused:?}"
            );
        }
        world.verify(&context);
        world.crash(Crash::Process);
        world.reopen(&context);
    }
}
