//! What the controller's thread has to do on a directory's disk: done by a thread of the
//! directory, one errand after another, so that a disk that hangs does not hold the metadata.
//!
//! Until somebody serves the errands (with one directory nobody does, nor in the simulator) they
//! are carried out by whoever has them. Deliberately absent: threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A name that a disk does not take in this time is taken by no disk that works.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks for progress in that time.
const PIECES: u32 = 10;

type Job = Box<dyn FnOnce() + Send>;

pub struct Errands {
    jobs: Mutex<VecDeque<Job>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Errands carried out, and parts of them: a disk that is only slow goes on counting.
    steps: AtomicU64,
    patience: Duration,
}

impl Default for Errands {
    fn default() -> Errands {
        Errands {
            jobs: Mutex::default(),
            wake: OnceLock::new(),
            steps: AtomicU64::new(0),
            patience: PATIENCE,
        }
    }
}

/// What becomes of an errand that nobody waits for any more before it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    CarryOut,
    Drop,
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
            self.step();
            true
        })
    }

    /// A part of an errand is done: whoever waits goes on waiting.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
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

    /// Waits for the result as long as the directory's errands get on, unless `at_once` says not
    /// to; `None`: they do not. Then `late` gets the result, if the errand was begun or is to be
    /// carried out all the same.
    pub(super) fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        (when_late, late): (Late, impl FnOnce(T) + Send + 'static),
        at_once: bool,
    ) -> Option<T> {
        if self.wake.get().is_none() {
            return Some(work());
        }
        let awaited = Awaited::new(match at_once {
            true => State::GivenUp,
            false => State::Waiting,
        });
        let told = Arc::clone(&awaited);
        self.push(move || {
            if when_late == Late::CarryOut || !told.is_given_up() {
                told.tell(work(), late);
            }
        });
        awaited.wait(self)
    }

    /// Waits for the result, however long that takes.
    pub fn send_and_wait<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.wake.get().is_none() {
            return work();
        }
        let awaited = Awaited::new(State::Waiting);
        let told = Arc::clone(&awaited);
        self.push(move || told.tell(work(), drop));
        awaited.wait_until_done()
    }
}

impl<T> Awaited<T> {
    fn new(state: State<T>) -> Arc<Awaited<T>> {
        Arc::new(Awaited {
            state: Mutex::new(state),
            done: Condvar::new(),
        })
    }

    fn is_given_up(&self) -> bool {
        matches!(*self.state.lock(), State::GivenUp)
    }

    fn tell(&self, result: T, late: impl FnOnce(T)) {
        let mut state = self.state.lock();
        if matches!(*state, State::GivenUp) {
            drop(state);
            return late(result);
        }
        *state = State::Done(result);
        self.done.notify_one();
    }

    fn wait(&self, errands: &Errands) -> Option<T> {
        let mut state = self.state.lock();
        let (mut steps, mut idle) = (errands.steps.load(Ordering::Relaxed), 0);
        let waits = |state: &mut State<T>| matches!(state, State::Waiting);
        while idle < PIECES {
            let piece = errands.patience / PIECES;
            if !self
                .done
                .wait_while_for(&mut state, waits, piece)
                .timed_out()
            {
                break;
            }
            let before = std::mem::replace(&mut steps, errands.steps.load(Ordering::Relaxed));
            idle = if before == steps { idle + 1 } else { 0 };
        }
        match std::mem::replace(&mut *state, State::GivenUp) {
            State::Done(result) => Some(result),
            State::Waiting | State::GivenUp => None,
        }
    }

    fn wait_until_done(&self) -> T {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, State::Waiting) {
                State::Done(result) => return result,
                State::Waiting | State::GivenUp => self.done.wait(&mut state),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn an_errand_that_nobody_serves_is_done_at_once() {
        let errands = Errands::default();
        let done = errands.send(|| 7, (Late::Drop, |_| {}), false);
        assert_eq!((done, errands.send_and_wait(|| 8)), (Some(7), 8));
        assert!(!errands.run_one());
    }

    #[test]
    fn a_result_that_comes_too_late_is_somebody_elses_business() {
        let errands = Arc::new(Errands::default());
        errands.on_push(|| {});
        let late = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&late);
        let tell = move |result| told.store(result, Ordering::SeqCst);
        assert_eq!(errands.send(|| 7, (Late::CarryOut, tell), true), None);
        assert_eq!(late.load(Ordering::SeqCst), 0);
        assert!(errands.run_one());
        assert_eq!(late.load(Ordering::SeqCst), 7);
        let serving = Arc::clone(&errands);
        std::thread::scope(|scope| {
            scope.spawn(move || while !serving.run_one() {});
            let done = errands.send(|| 8, (Late::CarryOut, |_| {}), false);
            assert_eq!(done, Some(8));
        });
    }

    fn impatient() -> Arc<Errands> {
        let errands = Errands {
            patience: Duration::from_millis(400),
            ..Errands::default()
        };
        errands.on_push(|| {});
        Arc::new(errands)
    }

    #[test]
    fn an_errand_that_nobody_waits_for_any_more_is_not_begun_unless_it_is_needed_anyway() {
        let errands = impatient();
        let begun = Arc::new(AtomicUsize::new(0));
        for when_late in [Late::Drop, Late::CarryOut] {
            let begun = Arc::clone(&begun);
            let work = move || begun.fetch_add(1, Ordering::SeqCst);
            assert_eq!(errands.send(work, (when_late, drop), false), None);
        }
        while errands.run_one() {}
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    /// Carries out so many errands, if they come.
    #[allow(clippy::disallowed_methods)] // a thread of the directory
    fn serve(errands: &Errands, mut left: u32) {
        for _ in 0..1_000 {
            left -= u32::from(left > 0 && errands.run_one());
            std::thread::sleep(Duration::from_millis(5));
            if left == 0 {
                return;
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // a disk that is slow
    fn slow(errands: &Arc<Errands>, steps: bool) -> impl FnOnce() + Send + 'static {
        let errands = Arc::clone(errands);
        move || {
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(100));
                if steps {
                    errands.step();
                }
            }
        }
    }

    #[test]
    fn a_disk_that_is_only_slow_is_waited_for_and_one_that_does_nothing_is_not() {
        let errands = impatient();
        std::thread::scope(|scope| {
            scope.spawn(|| serve(&errands, 4));
            let done = errands.send(slow(&errands, true), (Late::Drop, drop), false);
            assert_eq!(done, Some(()), "one that is carried out");
            errands.push(slow(&errands, true));
            let done = errands.send(|| 7, (Late::Drop, drop), false);
            assert_eq!(done, Some(7), "one behind it");
            let done = errands.send(slow(&errands, false), (Late::Drop, drop), false);
            assert_eq!(done, None);
        });
    }
}
