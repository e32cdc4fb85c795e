//! What a process has used, from `/proc`.

use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Ticks per second of the times in `/proc/PID/stat`; fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process so far, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything, so fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(") ").context("a stat line has a name")?;
    let field = |index: usize| {
        fields
            .split(' ')
            .nth(index)
            .and_then(|text| text.parse().ok())
    };
    let (user, system): (f64, f64) = (field(11).context("utime")?, field(12).context("stime")?);
    Ok((user + system) / TICKS_PER_SECOND)
}

/// Resident memory now, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory so far, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .context("a status line")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?;
    Ok(kib * 1024)
}

/// Bytes that the process has had the disk read for it, `sendfile` included.
pub fn read_bytes(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(line.context("read_bytes")?.parse()?)
}

/// Open descriptors.
pub fn open_descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Mapped areas of memory, those of the program and its heap included.
pub fn maps(pid: u32) -> Result<usize> {
    Ok(fs::read_to_string(format!("/proc/{pid}/maps"))?
        .lines()
        .count())
}

pub fn threads(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// What the files below a folder take of the disk, reserved space included.
pub fn allocated_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file may go while it is looked at.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += allocated_bytes(&entry.path())?;
        }
    }
    Ok(sum)
}

/// The load average of the last minute: the company that a figure was taken in.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn our_own_process_has_used_something() {
        let pid = std::process::id();
        assert!(super::cpu_seconds(pid).unwrap() >= 0.0);
        let resident = super::resident_bytes(pid).unwrap();
        assert!(resident > 100_000 && resident <= super::peak_resident_bytes(pid).unwrap());
    }
}
