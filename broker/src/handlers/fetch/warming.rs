//! A fetch whose records are not in memory: the read is carried out on a thread that may wait for
//! the disk, and fires the fetch. Whether the answer is still right is the reader's business.

use std::sync::{Arc, Weak};

use crate::broker::Broker;
use crate::partition::{ColdPart, Partition, PartitionError, PartitionRead, ReadFrom, Warmed};
use crate::purgatory::Waiter;
use crate::sync::Mutex;

/// The log may change under a read without its lock; after so many attempts it takes the lock.
const ATTEMPTS_MAX: u32 = 8;

/// A read of one of a fetch's targets that has to wait.
#[derive(Debug)]
pub(super) struct ColdTarget {
    pub(super) index: usize,
    pub(super) attempts: u32,
    /// The partition's change counter from before it was found cold.
    pub(super) seen: u64,
    pub(super) partition: Arc<Partition>,
    pub(super) from: ReadFrom,
    pub(super) part: ColdPart,
}

/// What became of it.
pub(super) enum Outcome {
    Warmed(Warmed),
    /// It was read to the end.
    Read(Result<PartitionRead, PartitionError>),
    /// The work ended by a defect.
    Lost,
}

/// An outcome, of which target and after how many attempts.
pub(super) struct Offer {
    pub(super) index: usize,
    pub(super) attempts: u32,
    pub(super) seen: u64,
    pub(super) outcome: Outcome,
}

/// A read that is being carried out. When it is dropped before, nobody reads.
pub(super) struct Warming {
    waiter: Arc<Waiter>,
    offer: Mutex<Option<Offer>>,
}

impl Outcome {
    fn size_bytes(&self) -> u64 {
        match self {
            Outcome::Warmed(warmed) => warmed.size_bytes(),
            Outcome::Read(Ok(read)) => read.size_bytes,
            Outcome::Read(Err(_)) | Outcome::Lost => 0,
        }
    }
}

impl ColdTarget {
    fn read(self) -> Outcome {
        match self.attempts < ATTEMPTS_MAX {
            true => Outcome::Warmed(self.partition.warm(self.part)),
            false => Outcome::Read(self.partition.read(&self.from)),
        }
    }
}

impl Warming {
    pub(super) fn begin(broker: &Broker, waiter: &Arc<Waiter>, cold: ColdTarget) -> Arc<Warming> {
        let warming = Arc::new(Warming {
            waiter: Arc::clone(waiter),
            offer: Mutex::new(None),
        });
        let wanted = Arc::downgrade(&warming);
        let (clock, metrics) = (Arc::clone(&broker.clock), Arc::clone(&broker.metrics));
        let began = clock.now();
        let line = broker.flush.line_of(&cold.partition.log_dir());
        broker.cold_reads.push(line, move || {
            if let Some(found_bytes) = carry_out(&wanted, cold) {
                let waited = clock.now().saturating_duration_since(began);
                metrics.cold_read(waited, found_bytes);
            }
        });
        warming
    }

    /// What was found; `None` while it is being read.
    pub(super) fn take(&self) -> Option<Offer> {
        self.offer.lock().take()
    }
}

/// Answers how many bytes were found; `None`: the connection went away.
fn carry_out(wanted: &Weak<Warming>, cold: ColdTarget) -> Option<u64> {
    let warming = wanted.upgrade()?;
    let mut tell = Tell {
        warming,
        offer: Some(Offer {
            index: cold.index,
            attempts: cold.attempts + 1,
            seen: cold.seen,
            outcome: Outcome::Lost,
        }),
    };
    let outcome = cold.read();
    let found_bytes = outcome.size_bytes();
    if let Some(offer) = &mut tell.offer {
        offer.outcome = outcome;
    }
    Some(found_bytes)
}

/// Tells the fetch when it is dropped: also when the work ended by a defect.
struct Tell {
    warming: Arc<Warming>,
    offer: Option<Offer>,
}

impl Drop for Tell {
    fn drop(&mut self) {
        *self.warming.offer.lock() = self.offer.take();
        self.warming.waiter.fire();
    }
}
