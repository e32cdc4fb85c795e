//! Unit tests only: locks and atomics that are real ones for a test with real threads, and
//! shuttle's for what is made inside of [`explore`], which runs a test under many schedules and
//! prints the one that failed.
//!
//! What it finds: any order of the steps between two locks or atomics, a lost wake-up, a deadlock.
//! What it cannot: shuttle gives every atomic the strongest order, so one that is too weak passes
//! here, and what two threads do between two such steps never happens at the same time. The broker
//! includes this file, too.

#![allow(dead_code)] // each crate uses what it needs

use std::fmt::{self, Debug, Display, Formatter};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync as shuttled;

/// Schedules per scheduler, unless `SCHEDULES=n` says otherwise.
const SCHEDULES: usize = 1_000;
/// How often PCT takes the running thread's turn away: most defects need one or two.
const PREEMPTIONS: usize = 3;
const SEED: u64 = 1;
/// Files and logs need more than shuttle's default.
const STACK_BYTES: usize = 512 << 10;

/// Runs `test` under a thousand schedules of a random scheduler, and as many of PCT's. Threads in
/// it are shuttle's, and so are the locks and atomics that are made in it.
pub(crate) fn explore(test: impl Fn() + Send + Sync + Clone + 'static) {
    explore_some(SCHEDULES, test);
}

/// The same with fewer schedules, for a test that takes longer.
pub(crate) fn explore_some(schedules: usize, test: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("SCHEDULES").map_or(schedules, |text| text.parse().unwrap());
    run(
        RandomScheduler::new_from_seed(SEED, schedules),
        test.clone(),
    );
    run(
        PctScheduler::new_from_seed(SEED, PREEMPTIONS, schedules),
        test,
    );
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::default();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true; // that it knows no weak order is said above
    shuttle::Runner::new(scheduler, config).run(test);
}

fn is_exploring() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

/// Either the real thing or shuttle's.
enum Either<R, S> {
    Real(R),
    Shuttled(S),
}

impl<R, S> Either<R, S> {
    fn new(real: impl FnOnce() -> R, shuttled: impl FnOnce() -> S) -> Either<R, S> {
        match is_exploring() {
            true => Either::Shuttled(shuttled()),
            false => Either::Real(real()),
        }
    }
}

/// Calls the same method on both.
macro_rules! either {
    ($either: expr, $it: ident => $call: expr) => {
        match $either {
            Either::Real($it) => $call,
            Either::Shuttled($it) => $call,
        }
    };
}

pub(crate) struct Mutex<T>(Either<parking_lot::Mutex<T>, shuttled::Mutex<T>>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Held<'a, T>,
}

/// Shuttle's is taken out while a condition is waited for.
type Held<'a, T> = Either<parking_lot::MutexGuard<'a, T>, Option<shuttled::MutexGuard<'a, T>>>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        let mut value = Some(value);
        let mut take = || value.take().expect("made once");
        Mutex(match is_exploring() {
            true => Either::Shuttled(shuttled::Mutex::new(take())),
            false => Either::Real(parking_lot::Mutex::new(take())),
        })
    }

    /// Without poison, as parking_lot.
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.held(match &self.0 {
            Either::Real(mutex) => Either::Real(mutex.lock()),
            Either::Shuttled(mutex) => {
                let guard = mutex.lock();
                Either::Shuttled(Some(guard.unwrap_or_else(|poison| poison.into_inner())))
            }
        })
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(self.held(match &self.0 {
            Either::Real(mutex) => Either::Real(mutex.try_lock()?),
            Either::Shuttled(mutex) => Either::Shuttled(Some(mutex.try_lock().ok()?)),
        }))
    }

    /// In an exploration it waits as long as it takes.
    pub(crate) fn try_lock_for(&self, wait: Duration) -> Option<MutexGuard<'_, T>> {
        match &self.0 {
            Either::Real(mutex) => Some(self.held(Either::Real(mutex.try_lock_for(wait)?))),
            Either::Shuttled(_) => Some(self.lock()),
        }
    }

    fn held<'a>(&'a self, held: Held<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { mutex: self, held }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Either::Real(mutex) => mutex.get_mut(),
            Either::Shuttled(mutex) => mutex.get_mut().unwrap_or_else(|poison| poison.into_inner()),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: Debug> Debug for Mutex<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> MutexGuard<'_, T> {
    /// Lets others have the lock while `f` runs.
    pub(crate) fn unlocked<U>(guard: &mut Self, f: impl FnOnce() -> U) -> U {
        match &mut guard.held {
            Either::Real(held) => parking_lot::MutexGuard::unlocked(held, f),
            Either::Shuttled(held) => {
                drop(held.take());
                let result = f();
                guard.held = guard.mutex.lock().held;
                result
            }
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.held {
            Either::Real(guard) => guard,
            Either::Shuttled(guard) => guard.as_ref().expect("held"),
        }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.held {
            Either::Real(guard) => guard,
            Either::Shuttled(guard) => guard.as_mut().expect("held"),
        }
    }
}

impl<T: Display> Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&**self, f)
    }
}

pub(crate) struct Condvar(Either<parking_lot::Condvar, shuttled::Condvar>);

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar(Either::new(
            parking_lot::Condvar::new,
            shuttled::Condvar::new,
        ))
    }

    pub(crate) fn notify_one(&self) {
        match &self.0 {
            Either::Real(condvar) => {
                condvar.notify_one();
            }
            Either::Shuttled(condvar) => condvar.notify_one(),
        }
    }

    pub(crate) fn notify_all(&self) {
        match &self.0 {
            Either::Real(condvar) => {
                condvar.notify_all();
            }
            Either::Shuttled(condvar) => condvar.notify_all(),
        }
    }

    /// In an exploration the time never comes: whoever is not woken waits forever, and shuttle
    /// calls that a deadlock.
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> TimedOut {
        match (&self.0, &mut guard.held) {
            (Either::Real(condvar), Either::Real(guard)) => {
                TimedOut(condvar.wait_until(guard, until).timed_out())
            }
            (Either::Shuttled(condvar), Either::Shuttled(guard)) => {
                let held = condvar.wait(guard.take().expect("held"));
                *guard = Some(held.unwrap_or_else(|poison| poison.into_inner()));
                TimedOut(false)
            }
            _ => panic!("a lock and its condition variable are made in the same place"),
        }
    }
}

impl Condvar {
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, wait: Duration) -> TimedOut {
        self.wait_until(guard, Instant::now() + wait)
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl Debug for Condvar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

macro_rules! atomic {
    ($name: ident, $value: ty) => {
        pub(crate) struct $name(Either<std::sync::atomic::$name, shuttled::atomic::$name>);

        impl $name {
            pub(crate) fn new(value: $value) -> $name {
                let real = || std::sync::atomic::$name::new(value);
                $name(Either::new(real, || shuttled::atomic::$name::new(value)))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                either!(&self.0, atomic => atomic.load(order))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                either!(&self.0, atomic => atomic.store(value, order));
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                either!(&self.0, atomic => atomic.swap(value, order))
            }

            pub(crate) fn get_mut(&mut self) -> &mut $value {
                either!(&mut self.0, atomic => atomic.get_mut())
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                either!(&self.0, atomic => atomic.compare_exchange(current, new, success, failure))
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                either!(&self.0, atomic => atomic.fetch_update(set, fetch, f))
            }
        }

        impl Debug for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                either!(&self.0, atomic => Debug::fmt(atomic, f))
            }
        }
    };
    ($name: ident, $value: ty, number) => {
        atomic!($name, $value);

        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                either!(&self.0, atomic => atomic.fetch_add(value, order))
            }

            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                either!(&self.0, atomic => atomic.fetch_sub(value, order))
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8, number);
atomic!(AtomicU32, u32, number);
atomic!(AtomicU64, u64, number);
atomic!(AtomicUsize, usize, number);
atomic!(AtomicI64, i64, number);
