//! What the random histories share: which seeds to run, and how a process ends.

use std::ops::Range;

use ottla_storage::disk::memory::Crash;
use rand::Rng;
use rand::rngs::StdRng;

/// `SEED=n` starts at that history, `SEEDS=n` runs so many: the recipe `just model` runs millions
/// of steps.
pub(crate) fn seeds(default: u64) -> Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + number("SEEDS").unwrap_or(1),
        None => 0..number("SEEDS").unwrap_or(default),
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}

pub(crate) fn any_crash(rng: &mut StdRng) -> Crash {
    match rng.random_range(0..4) {
        0 => Crash::Process,
        1 => Crash::PowerLossOfAllUnsynced,
        _ => Crash::PowerLoss { seed: rng.random() },
    }
}
