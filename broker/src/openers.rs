//! Work on the records of batches that takes too long for the threads of the data path: opening
//! compressed batches to check them, and compressing them anew.
//!
//! The queue has no threads: the glue runs [`Openers::run_one`] on threads of its own, so that
//! neither sockets nor syncs wait for a codec. Until somebody does, in the simulator and in tests,
//! the work is carried out at once. Batches that may expand far are opened one at a time, so what
//! codecs keep in memory does not grow with the number of threads.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// A codec may have to remember all that came out so far; above this, one batch at a time.
const LARGE_BYTES: u64 = 24 << 20;

/// The work on one batch.
struct Job {
    plain_bytes_max: u64,
    work: Box<dyn FnOnce() + Send>,
}

pub struct Openers {
    jobs: Mutex<VecDeque<Job>>,
    large: Mutex<()>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Openers {
    /// The clock is for the metrics only.
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Openers {
        Openers {
            jobs: Mutex::default(),
            large: Mutex::default(),
            wake: OnceLock::new(),
            clock,
            metrics,
        }
    }

    /// From now on somebody calls [`Openers::run_one`] after each `wake`. Only the first call
    /// counts.
    pub fn on_push(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Has `work` carried out; it opens a batch that may expand to so many bytes.
    pub fn push(&self, plain_bytes_max: u64, work: impl FnOnce() + Send + 'static) {
        let work = Box::new(work);
        let job = Job {
            plain_bytes_max,
            work,
        };
        match self.wake.get() {
            Some(wake) => {
                self.jobs.lock().push_back(job);
                wake();
            }
            None => self.run(job),
        }
    }

    /// Takes one job and carries it out; false when there was none.
    pub fn run_one(&self) -> bool {
        let Some(job) = self.jobs.lock().pop_front() else {
            return false;
        };
        self.run(job);
        true
    }

    fn run(&self, job: Job) {
        let began = self.clock.now();
        let _alone = (job.plain_bytes_max > LARGE_BYTES).then(|| self.large.lock());
        (job.work)();
        let took = self.clock.now().saturating_duration_since(began);
        self.metrics.opened(took);
    }
}
