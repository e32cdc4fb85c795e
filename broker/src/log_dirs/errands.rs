//! What the controller's thread has to do on a directory's disk: done by a thread of the
//! directory, one errand after another, so that a disk that hangs does not hold the metadata.
//!
//! Until somebody serves the errands (with one directory nobody does, nor in the simulator) they
//! are carried out by whoever has them. Deliberately absent: threads.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A name that a disk does not take in this time is taken by no disk that works.
const PATIENCE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Errands {
    jobs: Mutex<VecDeque<Job>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// One errand that somebody waits for.
struct Awaited<T> {
    state: Mutex<State<T>>,
    done: Condvar,
}

enum State<T> {
    Waiting,
    Done(T),
    GivenUp,
}

impl Errands {
    /// From now on somebody calls [`Errands::run_one`] after each `wake`, from one thread. Only the
    /// first call counts.
    pub fn on_push(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Takes one errand and carries it out; false when there was none.
    pub fn run_one(&self) -> bool {
        let job = self.jobs.lock().pop_front();
        job.is_some_and(|job| {
            job();
            true
        })
    }

    /// To be done some time.
    pub fn push(&self, work: impl FnOnce() + Send + 'static) {
        match self.wake.get() {
            Some(wake) => {
                self.jobs.lock().push_back(Box::new(work));
                wake();
            }
            None => work(),
        }
    }

    /// Waits for the result, unless `at_once` says not to; `None`: it takes too long, and `late`
    /// gets it.
    pub(super) fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        late: impl FnOnce(T) + Send + 'static,
        at_once: bool,
    ) -> Option<T> {
        if self.wake.get().is_none() {
            return Some(work());
        }
        let state = match at_once {
            true => State::GivenUp,
            false => State::Waiting,
        };
        let awaited = Arc::new(Awaited {
            state: Mutex::new(state),
            done: Condvar::new(),
        });
        let told = Arc::clone(&awaited);
        self.push(move || told.tell(work(), late));
        awaited.wait()
    }
}

impl<T> Awaited<T> {
    fn tell(&self, result: T, late: impl FnOnce(T)) {
        let mut state = self.state.lock();
        if matches!(*state, State::GivenUp) {
            drop(state);
            return late(result);
        }
        *state = State::Done(result);
        self.done.notify_one();
    }

    fn wait(&self) -> Option<T> {
        let mut state = self.state.lock();
        let waits = |state: &mut State<T>| matches!(state, State::Waiting);
        let _ = self.done.wait_while_for(&mut state, waits, PATIENCE);
        match std::mem::replace(&mut *state, State::GivenUp) {
            State::Done(result) => Some(result),
            State::Waiting | State::GivenUp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_errand_that_nobody_serves_is_done_at_once() {
        let errands = Errands::default();
        assert_eq!(errands.send(|| 7, |_| {}, false), Some(7));
        assert!(!errands.run_one());
    }

    #[test]
    fn a_result_that_comes_too_late_is_somebody_elses_business() {
        let errands = Arc::new(Errands::default());
        errands.on_push(|| {});
        let late = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&late);
        let tell = move |result| told.store(result, Ordering::SeqCst);
        assert_eq!(errands.send(|| 7, tell, true), None);
        assert_eq!(late.load(Ordering::SeqCst), 0);
        assert!(errands.run_one());
        assert_eq!(late.load(Ordering::SeqCst), 7);
        let serving = Arc::clone(&errands);
        std::thread::scope(|scope| {
            scope.spawn(move || while !serving.run_one() {});
            assert_eq!(errands.send(|| 8, |_| {}, false), Some(8));
        });
    }
}
