//! What a sync costs on this disk, without any broker: after an append to a file that grows, to
//! one whose space is reserved, and to one that was written before.
//!
//! The three take turns within each round, so that a busy machine is as unkind to all. The third
//! is what small syncs of class `commit` get; ADR 12 says why larger ones do not.

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

const SIZES_BYTES: [usize; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Growing,
    Reserved,
    Prewritten,
}

const TAILS: [Tail; 3] = [Tail::Growing, Tail::Reserved, Tail::Prewritten];

fn open(folder: &Path, tail: Tail, len_bytes: u64) -> Result<File> {
    let path = folder.join(format!("{tail:?}"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match tail {
        Tail::Growing => {}
        Tail::Reserved => {
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len_bytes)?;
        }
        Tail::Prewritten => {
            let zeros = vec![0; 1 << 20];
            for position in (0..len_bytes).step_by(zeros.len()) {
                file.write_all_at(&zeros, position)?;
            }
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Appends `rounds` times to each of the three; prints a table.
pub fn run(folder: &Path, rounds: u32) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    println!("| written before the sync | tail | median, us | 99th percentile, us | write, us |");
    println!("|---|---|---|---|---|");
    for size in SIZES_BYTES {
        let payload = vec![b'x'; size];
        let len_bytes = (size as u64 * u64::from(rounds)).next_multiple_of(1 << 20);
        let mut files = Vec::new();
        for tail in TAILS {
            let file = open(folder.path(), tail, len_bytes)?;
            let (syncs, writes) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
            files.push((tail, file, syncs, writes));
        }
        for round in 0..u64::from(rounds) {
            for (_, file, syncs, writes) in &mut files {
                let began = Instant::now();
                file.write_all_at(&payload, round * size as u64)?;
                let written = Instant::now();
                file.sync_data()?;
                syncs.record(written.elapsed().as_micros() as u64)?;
                writes.record((written - began).as_micros() as u64)?;
            }
        }
        for (tail, _, syncs, writes) in &files {
            println!(
                "| {} KiB | {tail:?} | {} | {} | {} |",
                size >> 10,
                syncs.value_at_quantile(0.5),
                syncs.value_at_quantile(0.99),
                writes.value_at_quantile(0.5),
            );
        }
    }
    Ok(())
}
