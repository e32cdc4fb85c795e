//! The last part of a clean shutdown: what is queued is done, logs are closed, checkpoint files and
//! the markers of a clean shutdown are written.
//!
//! Each log directory is ended by a thread of its own, and nobody waits for one for ever: a disk
//! that hangs costs its directory the marker, so that the next start checks its logs, and costs the
//! others nothing. Deliberately absent: the end of connections and of the broker's own threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_storage::log::LogError;
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::housekeeper::{self, StopError};
use crate::log_dirs::LogDir;
use crate::partition::Partition;

use super::threads::within;
use super::{ALONE_MAX, in_parallel};

/// How long the end of the broker's threads may take, the images after them, and then the logs.
pub(super) const STOP_MAX: Duration = Duration::from_secs(20);

/// Closes everything, and waits for no part longer than `limit`; the first error, after all
/// directories were tried.
pub(super) fn close(broker: &Arc<Broker>, limit: Duration) -> Result<(), StopError> {
    let until = broker.clock.now() + limit;
    let owned = Arc::clone(broker);
    let images = move || owned.coordinators.finish_images(&owned);
    if within(until, "end-images", images).is_none() {
        tracing::error!("the images of the groups were left behind: a disk hangs");
    }
    let until = broker.clock.now() + limit;
    #[allow(clippy::disallowed_methods)] // one of the few places that start threads
    let ended: Vec<Result<usize, StopError>> = thread::scope(|scope| {
        let dirs: Vec<_> = broker.log_dirs.iter().enumerate().collect();
        let threads: Vec<_> = dirs
            .into_iter()
            .map(|(line, dir)| scope.spawn(move || close_dir_until(broker, line, dir, until)))
            .collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or(Ok(1));
        threads.into_iter().map(ended).collect()
    });
    // Nothing of it waits for a disk.
    if broker.log_dirs.are_several() {
        while broker.flush.run_one_of(broker.log_dirs.iter().len()) {}
    }
    let failed = ended.into_iter().collect::<Result<Vec<usize>, _>>()?;
    match failed.into_iter().sum() {
        0 => Ok(()),
        failed => Err(StopError::Logs { failed }),
    }
}

fn close_dir_until(
    broker: &Arc<Broker>,
    line: usize,
    dir: &Arc<LogDir>,
    until: Instant,
) -> Result<usize, StopError> {
    let (owned, place) = (Arc::clone(broker), Arc::clone(dir));
    let work = move || close_dir(&owned, line, &place);
    within(until, "end-logs", work).unwrap_or_else(|| {
        tracing::error!(
            log_dir = %dir.path,
            "a log directory was left behind because its disk hangs: the next start checks its logs"
        );
        Err(StopError::Hung {
            path: Arc::clone(&dir.path),
        })
    })
}

/// Answers how many logs could not be closed.
fn close_dir(broker: &Arc<Broker>, line: usize, dir: &Arc<LogDir>) -> Result<usize, StopError> {
    // What was queued and not begun: write-back hints and removals; logs are closed below.
    while broker.flush.run_one_of(line) {}
    let failed = close_logs(broker, dir);
    if dir.is_online() {
        housekeeper::finish_dir(broker, dir)?;
    }
    Ok(failed)
}

/// Closes every log of a directory, so that the next start has nothing to check. Those that find no
/// descriptor beside others are closed after them, one by one.
fn close_logs(broker: &Broker, dir: &Arc<LogDir>) -> usize {
    let mut partitions = broker.partitions.all();
    partitions.retain(|partition| partition.is_in(dir));
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let closed = |partition: &Arc<Partition>, closed: Result<(), LogError>| {
        if let Err(error) = closed {
            failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(?partition, %error, "a log could not be closed");
        }
    };
    let late = Mutex::new(Vec::new());
    let close = || {
        while let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
            match partition.close_if_possible() {
                Err(error) if error.is_out_of_descriptors() => late.lock().push(partition),
                other => closed(partition, other),
            }
        }
    };
    in_parallel(
        broker.config.io_threads.min(partitions.len() / ALONE_MAX),
        close,
    );
    for partition in late.into_inner() {
        closed(partition, partition.close());
    }
    failed.into_inner()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ottla_storage::disk::Disk as _;
    use ottla_storage::disk::memory::{InjectedError, Injection, Operation};

    use super::*;
    use crate::handlers::testing::TestBroker;

    #[test]
    fn logs_that_find_no_descriptor_are_closed_after_the_others() {
        let test = TestBroker::new();
        test.create_topic("t", 3);
        for partition in 0..3 {
            test.append("t", partition, &[b"value"]);
        }
        let scarce = Injection::once(Operation::Sync, InjectedError::TooManyOpenFiles);
        test.disk.inject(scarce.on("t-1/"));
        close(&test.broker, Duration::from_secs(20)).unwrap();
        assert!(test.disk.exists(".kafka_cleanshutdown").unwrap());

        let test = TestBroker::new();
        test.create_topic("t", 1);
        test.append("t", 0, &[b"value"]);
        let error = InjectedError::TooManyOpenFiles;
        test.disk
            .inject(Injection::always(Operation::Sync, error).on("t-0/"));
        let ended = close(&test.broker, Duration::from_secs(20));
        assert!(
            matches!(ended, Err(StopError::Logs { failed: 1 })),
            "{ended:?}"
        );
        assert!(!test.disk.exists(".kafka_cleanshutdown").unwrap());
    }

    #[test]
    fn a_directory_that_hangs_does_not_hold_the_end() {
        let test = TestBroker::with_disks(2, &[]);
        test.create_topic("t", 2);
        for partition in 0..2 {
            test.append("t", partition, &[b"value"]);
        }
        test.disks[1].set_hanging(true);
        let ended = close(&test.broker, Duration::from_millis(300));
        assert!(
            matches!(&ended, Err(StopError::Hung { path }) if **path == *"/data1"),
            "{ended:?}"
        );
        let marked = |n: usize| {
            let entries = test.disks[n].list("").unwrap();
            entries
                .iter()
                .any(|entry| entry.name == ".kafka_cleanshutdown")
        };
        assert!(marked(0), "the healthy one is closed");
        assert!(!marked(1));
        test.disks[1].set_hanging(false);
    }
}
