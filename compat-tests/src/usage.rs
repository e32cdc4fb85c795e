//! What a process holds of the machine: memory, descriptors, maps, threads and CPU time, as
//! `/proc` says.

use anyhow::{Context as _, Result};
use std::time::Duration;

/// What one process holds at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub resident_bytes: u64,
    pub descriptors: usize,
    pub maps: usize,
    pub threads: usize,
    /// Of the whole life of the process.
    pub cpu: Duration,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} MiB resident, {} descriptors, {} maps, {} threads, {:?} of CPU",
            self.resident_bytes as f64 / f64::from(1 << 20),
            self.descriptors,
            self.maps,
            self.threads,
            self.cpu
        )
    }
}

/// Of a process that runs.
pub fn of(pid: u32) -> Result<Usage> {
    let status = read(pid, "status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse()?)
    };
    Ok(Usage {
        resident_bytes: field("VmRSS:")? * 1024,
        descriptors: descriptors(pid)?,
        maps: read(pid, "maps")?.lines().count(),
        threads: field("Threads:")?.try_into()?,
        cpu: cpu(pid)?,
    })
}

pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// User and system time, in the kernel's ticks of 10 ms.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name of the program may contain anything, but ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| path)
}
