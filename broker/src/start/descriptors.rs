//! Who gets the process's descriptors: segment files, clients, and the rest.
//!
//! Few clients leave room for many open segment files: that saves opening them again, and what is
//! written and not synced need not wait for the disk to make room. A crowd takes that room: idle
//! files are closed as connections come, down to a floor with which the logs still work, and are
//! opened again when the crowd has left. Logs that nobody uses close theirs anyway. A file that is
//! written and not synced stays open; then that many fewer clients get in. So neither accepting nor
//! opening a file fails for want of a descriptor.

use std::sync::Arc;

use ottla_storage::disk::Budget;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors that are neither segment files nor clients: listeners, HTTP, the metadata log, the
/// image of groups, event queues, and opens that are over in a moment.
const OTHER: u64 = 512;
/// Without clients, segment files may take this share of the descriptors, and at most so many ...
const FILES_SHARE: u64 = 2;
const FILES_MAX: u64 = 16_384;
/// ... and in a crowd they keep this one, and at most so many.
const FILES_KEPT_SHARE: u64 = 32;
const FILES_KEPT_MAX: u64 = 1024;

/// The division of one process's descriptors.
pub(super) struct Descriptors {
    limit: u64,
    files_max: u64,
    files_kept: u64,
    /// `None` when there are no files.
    budget: Option<Arc<Budget>>,
}

impl Descriptors {
    pub(super) fn of_process(config: &Config, budget: Option<&Arc<Budget>>) -> Descriptors {
        Descriptors::new(limit(), config.max_open_files as u64, budget)
    }

    /// `files_wanted` is `ottla.max.open.files`; 0 leaves it to us.
    fn new(limit: u64, files_wanted: u64, budget: Option<&Arc<Budget>>) -> Descriptors {
        let files_max = files_max_of(limit, files_wanted);
        let files_kept = match files_wanted {
            0 => (limit / FILES_KEPT_SHARE).min(FILES_KEPT_MAX),
            // Who asks for a number gets it.
            wanted => wanted,
        };
        Descriptors {
            limit,
            files_max,
            files_kept: files_kept.min(files_max),
            budget: budget.map(Arc::clone),
        }
    }

    /// Most connections, as far as descriptors go.
    pub(super) fn connections_max(&self) -> u32 {
        let held = self.budget.as_ref().map_or(0, |budget| budget.open_files());
        let files = self.files_kept.max(held as u64);
        let left = self.limit.saturating_sub(self.other() + files).max(1);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Closes files when so many connections need their descriptors; lets them be opened again
    /// when there are fewer.
    pub(super) fn give_way_to(&self, connections: u32) {
        let Some(budget) = &self.budget else {
            return;
        };
        let taken = self.other() + u64::from(connections);
        let files = self.limit.saturating_sub(taken);
        budget.set_open_files_max(files.clamp(self.files_kept, self.files_max) as usize);
    }

    /// A process with few descriptors cannot keep so many aside.
    fn other(&self) -> u64 {
        OTHER.min(self.limit / 4)
    }
}

/// Most segment files at a time.
pub(super) fn files_max(config: &Config) -> usize {
    files_max_of(limit(), config.max_open_files as u64) as usize
}

fn files_max_of(limit: u64, files_wanted: u64) -> u64 {
    match files_wanted {
        0 => (limit / FILES_SHARE).min(FILES_MAX),
        wanted => wanted,
    }
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// As many descriptors as the system lets this process have.
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_gets_nine_of_ten_descriptors() {
        let descriptors = Descriptors::new(20_000, 0, None);
        assert_eq!(descriptors.connections_max(), 20_000 - 512 - 625);
        assert!(Descriptors::new(1024, 0, None).connections_max() > 700);
        assert_eq!(Descriptors::new(2, 0, None).connections_max(), 2);
    }

    #[test]
    fn files_give_way_to_connections_down_to_their_floor() {
        let budget = Budget::new(1, 1);
        let descriptors = Descriptors::new(20_000, 0, Some(&budget));
        let files_max = |connections| {
            descriptors.give_way_to(connections);
            budget.open_files_max()
        };
        assert_eq!(files_max(0), 10_000);
        assert_eq!(files_max(16_000), 20_000 - 512 - 16_000);
        assert_eq!(files_max(18_863), 625);
        assert_eq!(files_max(u32::MAX), 625);
        assert_eq!(files_max(10), 10_000);
    }

    #[test]
    fn a_configured_number_of_files_is_kept_whatever_comes() {
        let budget = Budget::new(1, 1);
        let descriptors = Descriptors::new(20_000, 5_000, Some(&budget));
        descriptors.give_way_to(19_000);
        assert_eq!(budget.open_files_max(), 5_000);
        assert_eq!(descriptors.connections_max(), 20_000 - 512 - 5_000);
    }
}
