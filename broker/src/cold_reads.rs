//! Reads of records that have to wait for the disk, so that the threads of the network need not.
//!
//! The queue has no threads: the glue has [`ColdReads::run_one`] called on threads that may wait,
//! once per push; the simulator does it when its seed says so. Until somebody does, whoever reads
//! waits for the disk itself. A fetch queues one read at a time, so the queue is bounded by the
//! requests that are in flight.

use std::collections::VecDeque;
use std::sync::OnceLock;

use crate::sync::Mutex;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct ColdReads {
    jobs: Mutex<VecDeque<Job>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl ColdReads {
    /// From now on somebody calls [`ColdReads::run_one`] after each `wake`. Only the first call
    /// counts.
    pub fn on_push(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Whether anybody carries out what is pushed.
    pub fn is_served(&self) -> bool {
        self.wake.get().is_some()
    }

    pub fn push(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.lock().push_back(Box::new(job));
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes one read and carries it out; false when there was none.
    pub fn run_one(&self) -> bool {
        let job = self.jobs.lock().pop_front();
        job.is_some_and(|job| {
            job();
            true
        })
    }
}
