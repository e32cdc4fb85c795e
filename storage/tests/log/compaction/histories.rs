//! Random histories of everything that can happen to a compacted log.
//!
//! `just model 5000` runs millions of steps. Two long runs, seeds 1,700 to 4,999 with 1.3 million
//! steps and 10,000 to 12,599 with 1.0 million, found no difference; seed 1774 had found a
//! tombstone that aged too early (`rules.rs`, past a full table).

use ottla_protocol::types::LeaderEpoch;
use rand::Rng;

use super::world::{DELETE_RETENTION_MS, World};
use crate::seeds::{any_crash, seeds};

#[test]
fn random_histories_with_compactions_truncations_retention_and_crashes_match_the_model() {
    let mut rounds = 0;
    for seed in seeds(30) {
        let mut world = World::new(seed);
        world.small_maps = true;
        world.with(|log| log.assign_leader_epoch(LeaderEpoch(0)));
        let deletes = world.rng.random_bool(0.5);
        for step in 0..400 {
            let context = format!("seed {seed} step {step}");
            random_step(&mut world, deletes, &context);
        }
        world.verify(&format!("seed {seed} at the end"));
        rounds += world.rounds;
    }
    assert!(rounds > 0);
}

fn random_step(world: &mut World, deletes: bool, context: &str) {
    match world.rng.random_range(0..1_000) {
        0..500 => world.append(),
        500..600 => world.append_transactional(),
        600..680 => world.end_transaction(),
        680..760 => assert!(world.checkpoint()),
        760..860 => world.compact_and_check(context),
        860..890 => world.now_ms += world.rng.random_range(0..2 * DELETE_RETENTION_MS),
        890..910 => {
            let back = world.rng.random_range(0..20);
            world.truncate(back).unwrap();
        }
        910..920 if deletes => world.delete_start(),
        920..930 => {
            world.with(|log| log.release_caches());
        }
        930..940 => world.verify(context),
        940..960 => {
            world.close();
            *world.log.0.lock() = None;
            world.reopen(context);
        }
        960..1_000 => {
            let crash = any_crash(&mut world.rng);
            world.crash(crash);
            world.reopen(&format!("{context} {crash:?}"));
        }
        _ => {}
    }
}
