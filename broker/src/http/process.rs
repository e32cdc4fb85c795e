//! What the system knows of this process: memory, processor time, open files. Read from `/proc`
//! when somebody asks; the names are those of Prometheus' client libraries.

use crate::metrics::ProcessSample;

/// `None` where there is no `/proc`.
pub(super) fn sample() -> Option<ProcessSample> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let mut sample = parse_stat(
        &stat,
        rustix::param::clock_ticks_per_second(),
        rustix::param::page_size(),
    )?;
    sample.max_fds = limit.unwrap_or(u64::MAX);
    sample.open_fds = open_fds();
    Some(sample)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: /proc is not a disk of ours"
)]
fn open_fds() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Fields are counted after the command's name, which may contain blanks and parentheses.
fn parse_stat(stat: &str, ticks_per_second: u64, page_bytes: usize) -> Option<ProcessSample> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let ticks = number(11)? + number(12)?;
    Some(ProcessSample {
        cpu_seconds: ticks as f64 / ticks_per_second.max(1) as f64,
        threads: number(17)?,
        virtual_memory_bytes: number(20)?,
        resident_memory_bytes: number(21)? * page_bytes as u64,
        ..ProcessSample::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_name_may_contain_anything() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 7 18 19 4096 3 22";
        let sample = parse_stat(stat, 100, 4096).unwrap();
        assert_eq!((sample.cpu_seconds, sample.threads), (2.0, 7));
        assert_eq!(
            (sample.virtual_memory_bytes, sample.resident_memory_bytes),
            (4096, 12288)
        );
        assert_eq!(parse_stat("42 (x) S 1", 100, 4096), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let sample = sample().unwrap();
        assert!(sample.resident_memory_bytes > 0 && sample.threads > 0 && sample.open_fds > 2);
        assert!(sample.max_fds >= sample.open_fds);
    }
}
