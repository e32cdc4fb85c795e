//! What happens when a log directory fails while the broker runs: its partitions go offline, and
//! everything else serves on. When it was the last one, or had the metadata log, the broker ends,
//! as Kafka does: a start checks what is on the disk, a running broker cannot.
//!
//! Whoever meets an error reports it to `crate::log_dirs`; the work is done on a flusher thread.
//! A failed read may be one bad sector, so it only raises the suspicion: a file that can be
//! written and synced clears the directory.

use std::sync::{Arc, Weak};

use crate::broker::Broker;
use crate::flusher::Job;
use crate::log_dirs::{LogDir, Trouble};

/// From now on the broker acts when one of its directories is in trouble.
pub fn watch(broker: &Arc<Broker>) {
    for (number, dir) in broker.log_dirs.iter().enumerate() {
        let watching: Weak<Broker> = Arc::downgrade(broker);
        dir.on_trouble(move |trouble| {
            let Some(broker) = watching.upgrade() else {
                return;
            };
            let watching = Weak::clone(&watching);
            let work = move || {
                let Some(broker) = watching.upgrade() else {
                    return;
                };
                let Some(dir) = broker.log_dirs.iter().nth(number) else {
                    return;
                };
                match trouble {
                    Trouble::Failed => went_offline(&broker, dir),
                    Trouble::Suspected => dir.examine(),
                    Trouble::Hangs => dir.await_answer(),
                }
            };
            // What must be done about a failed disk does not wait in its queue.
            let place = match trouble {
                Trouble::Failed => None,
                Trouble::Suspected | Trouble::Hangs => broker.log_dirs.iter().nth(number).cloned(),
            };
            let work = Box::new(work);
            // Nor does what ends the refusals behind all that is queued for the disk.
            broker.flush.push_first(Job::Call { place, work });
        });
    }
}

/// Takes the partitions of a failed directory offline and looks whether the broker can go on.
pub fn went_offline(broker: &Broker, dir: &Arc<LogDir>) {
    let partitions = broker.partitions.all();
    let here = partitions.iter().filter(|partition| partition.is_in(dir));
    let offline = here.map(|partition| partition.take_offline()).count();
    let why = dir.failure().unwrap_or_default();
    tracing::error!(
        log_dir = %dir.path, error = why, partitions = offline,
        "a log directory has failed: its partitions are offline until the broker is started again"
    );
    if dir.has_metadata() {
        broker.end(format!(
            "log directory {}, which has the metadata log, has failed: {why}",
            dir.path
        ));
    } else if broker.log_dirs.online().next().is_none() {
        broker.end(format!(
            "the last log directory, {}, has failed: {why}",
            dir.path
        ));
    }
}

#[cfg(test)]
mod tests;
