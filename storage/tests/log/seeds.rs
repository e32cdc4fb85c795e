//! What the random histories share: which seeds to run, how a process ends, and a disk with nothing
//! but segments.

use std::ops::Range;

use ottla_storage::disk::memory::Crash;
use ottla_storage::disk::{Disk, MemoryDisk};
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

/// Another disk, with the segments of a log and none of what is made from them.
pub(crate) fn segments_alone(disk: &MemoryDisk, dir: &str) -> MemoryDisk {
    let copy = MemoryDisk::volatile();
    copy.create_dir(dir).unwrap();
    let entries = disk.list(dir).unwrap_or_default();
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".log")) {
        let path = format!("{dir}/{}", entry.name);
        let mut bytes = vec![0; entry.len_bytes as usize];
        disk.open(&path).unwrap().read_at(0, &mut bytes).unwrap();
        let to = copy.create(&path).unwrap();
        to.write_at(0, &[std::io::IoSlice::new(&bytes)]).unwrap();
    }
    copy
}
