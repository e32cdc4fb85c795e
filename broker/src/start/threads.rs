//! The broker's own threads: each waits at a bell and works when it rings or a time has come.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::{Clock as _, RealClock};
use crate::sync::{Condvar, Mutex};

/// Nothing here needs deep stacks; untouched pages cost nothing anyway.
const STACK_BYTES: usize = 512 * 1024;
/// Stands for "no particular time".
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Wakes one waiting thread per ring; a ring without a waiter is kept.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rings: Mutex<u32>,
    rung: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        let mut rings = self.rings.lock();
        *rings = rings.saturating_add(1);
        drop(rings);
        self.rung.notify_one();
    }

    fn ring_all(&self) {
        *self.rings.lock() = u32::MAX / 2;
        self.rung.notify_all();
    }

    fn wait_until(&self, until: Instant) {
        let mut rings = self.rings.lock();
        while *rings == 0 {
            if self.rung.wait_until(&mut rings, until).timed_out() {
                return;
            }
        }
        *rings -= 1;
    }
}

/// What the niceness of a thread in the background is; 19 is the most.
const BACKGROUND_NICENESS: i32 = 10;
/// How long a pause goes on after it may end.
const PAUSE_STEP: Duration = Duration::from_millis(100);
/// How long threads get to end whose time others have used up.
const GRACE: Duration = Duration::from_millis(500);
/// How often an end is looked for.
const STOP_STEP: Duration = Duration::from_millis(2);

/// The calling thread gets out of the way of all others.
pub(super) fn lower_priority() {
    // On Linux "this process" means the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, BACKGROUND_NICENESS) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// Waits so long, or until `ended`; false then.
pub(super) fn pause(wait: Duration, ended: impl Fn() -> bool) -> bool {
    let mut left = wait;
    while !left.is_zero() {
        if ended() {
            return false;
        }
        let step = left.min(PAUSE_STEP);
        #[allow(clippy::disallowed_methods)] // a thread of its own, which nobody waits for
        std::thread::sleep(step);
        left -= step;
    }
    true
}

/// Waits for something, until then at most; whether it came.
fn wait_until(until: Instant, came: impl Fn() -> bool) -> bool {
    let clock = RealClock;
    loop {
        if came() {
            return true;
        }
        if clock.now() >= until {
            return false;
        }
        #[allow(clippy::disallowed_methods)]
        // the broker is ending: nothing else is to be done here
        std::thread::sleep(STOP_STEP);
    }
}

/// `work` on a thread of its own; `None` when it has not ended by then: it is left alone.
pub(super) fn within<T: Send + 'static>(
    until: Instant,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    #[allow(clippy::disallowed_methods)] // one of the few places that start threads
    let thread = builder.spawn(work).ok()?;
    match wait_until(until, || thread.is_finished()) {
        true => thread.join().ok(),
        false => None,
    }
}

/// Threads that share a bell and end together.
pub(super) struct Crew {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    pub(super) fn new() -> Crew {
        Crew {
            bell: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// `work` is called again and again; it says when it wants to be called at the latest, or
    /// `None` to end the thread.
    pub(super) fn add(
        &mut self,
        name: &str,
        mut work: impl FnMut() -> Option<Instant> + Send + 'static,
    ) -> io::Result<()> {
        let (bell, stop) = (Arc::clone(&self.bell), Arc::clone(&self.stop));
        let builder = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES);
        #[allow(clippy::disallowed_methods)] // one of the few places that start threads
        let thread = builder.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let Some(until) = work() else { return };
                bell.wait_until(until);
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// No thread begins anything new.
    pub(super) fn begin_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring_all();
    }

    /// Ends all threads after what they are doing, but waits until then at most; false when some
    /// go on: they are left alone. What comes after must not meet threads that are only late, so
    /// they get a moment even if it is that late already.
    pub(super) fn stop_until(&mut self, until: Instant) -> bool {
        self.begin_stop();
        let until = until.max(RealClock.now() + GRACE);
        let ended = wait_until(until, || self.threads.iter().all(JoinHandle::is_finished));
        let (over, stuck): (Vec<_>, Vec<_>) =
            self.threads.drain(..).partition(JoinHandle::is_finished);
        drop(stuck);
        self.threads = over;
        self.stop();
        ended
    }

    /// Ends all threads after what they are doing.
    pub(super) fn stop(&mut self) {
        self.begin_stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the broker ended by a defect");
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sync::explored::explore;

    #[test]
    fn a_crew_whose_time_others_have_used_up_still_ends() {
        let mut crew = Crew::new();
        for name in ["one", "two"] {
            let work = || Some(RealClock.now() + LONG);
            crew.add(name, work).unwrap();
        }
        assert!(crew.stop_until(RealClock.now()));
    }

    /// Planted and caught: rings that come together and count as one; a ring that is forgotten
    /// because nobody waits yet; an end that wakes only one.
    #[test]
    fn under_any_schedule_every_ring_is_answered_and_every_thread_ends() {
        explore(|| {
            let (bell, end) = (Arc::new(Bell::default()), RealClock.now() + LONG);
            let (jobs, stop) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(false)));
            let done = Arc::new(Bell::default());
            let work = |_| {
                let (bell, done) = (Arc::clone(&bell), Arc::clone(&done));
                let (jobs, stop) = (Arc::clone(&jobs), Arc::clone(&stop));
                shuttle::thread::spawn(move || {
                    while !*stop.lock() {
                        let found = std::mem::take(&mut *jobs.lock());
                        (0..found).for_each(|_| done.ring());
                        bell.wait_until(end);
                    }
                })
            };
            let threads: Vec<_> = (0..2).map(work).collect();
            for _ in 0..3 {
                *jobs.lock() += 1;
                bell.ring();
            }
            (0..3).for_each(|_| done.wait_until(end));
            *stop.lock() = true;
            bell.ring_all();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
    }
}
