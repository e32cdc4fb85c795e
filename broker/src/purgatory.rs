//! Waiting without threads: a request that cannot be answered yet is parked on its connection,
//! and whoever makes the awaited thing true fires its waiter.
//!
//! Three layers, none of which knows about sockets: [`ConnectionSignal`] (one per connection:
//! "somebody has something for you"), [`Waiter`] (one per parked request) and [`Watches`] (the
//! requests that wait on one partition). Firing only sets flags; the connection resumes the
//! request on its own thread. A watch is told how many bytes became readable and fires when its
//! request's sum reaches what it asked for, so an append wakes only requests that it completes.
//!
//! Invariant: whoever re-checks a condition calls [`Waiter::rearm`] first, so that nothing that
//! becomes true during the check is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, AtomicI64, AtomicUsize};

/// Tells the owner of a connection (a tokio task, the simulator's scheduler) to call `process`
/// again.
pub struct ConnectionSignal {
    raised: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl ConnectionSignal {
    /// `wake` is called once per raise that was not yet taken; it must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<ConnectionSignal> {
        Arc::new(ConnectionSignal {
            raised: AtomicBool::new(false),
            wake: Box::new(wake),
        })
    }

    /// Wakes the owner unless a wake-up is already on its way.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// True when it was raised since the last call.
    pub fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }
}

impl std::fmt::Debug for ConnectionSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionSignal")
            .field("raised", &self.raised)
            .finish_non_exhaustive()
    }
}

/// One parked request's bell.
#[derive(Debug)]
pub struct Waiter {
    fired: AtomicBool,
    signal: Arc<ConnectionSignal>,
}

impl Waiter {
    pub fn new(signal: &Arc<ConnectionSignal>) -> Arc<Waiter> {
        Arc::new(Waiter {
            fired: AtomicBool::new(false),
            signal: Arc::clone(signal),
        })
    }

    /// Marks the request as worth another look and signals its connection. Callable from any
    /// thread.
    pub fn fire(&self) {
        if !self.fired.swap(true, Ordering::AcqRel) {
            self.signal.raise();
        }
    }

    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }

    /// Clears the flag; to be called before the condition is checked again.
    pub fn rearm(&self) {
        self.fired.store(false, Ordering::Release);
    }
}

/// A fetch that waits for bytes on any number of partitions.
#[derive(Debug)]
pub struct FetchWait {
    waiter: Arc<Waiter>,
    missing_bytes: AtomicI64,
}

impl FetchWait {
    pub fn new(waiter: Arc<Waiter>, missing_bytes: i64) -> Arc<FetchWait> {
        Arc::new(FetchWait {
            waiter,
            missing_bytes: AtomicI64::new(missing_bytes),
        })
    }

    pub fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// Sets what is still missing, after the partitions were read again.
    pub fn expect(&self, missing_bytes: i64) {
        self.missing_bytes.store(missing_bytes, Ordering::Release);
    }

    /// `bytes` became readable; true when the request has enough and must be fired.
    fn credit(&self, bytes: i64) -> bool {
        self.missing_bytes.fetch_sub(bytes, Ordering::AcqRel) <= bytes
    }
}

/// A produce that waits until every one of its partitions has committed its batch. It counts one
/// for the request itself, so that it cannot fire before the last partition was added.
#[derive(Debug)]
pub struct ProduceWait {
    waiter: Arc<Waiter>,
    remaining: AtomicUsize,
}

impl ProduceWait {
    pub fn new(waiter: Arc<Waiter>) -> Arc<ProduceWait> {
        Arc::new(ProduceWait {
            waiter,
            remaining: AtomicUsize::new(1),
        })
    }

    /// One more partition must commit.
    pub fn add_one(&self) {
        self.remaining.fetch_add(1, Ordering::AcqRel);
    }

    pub fn waiter(&self) -> &Arc<Waiter> {
        &self.waiter
    }

    /// True when the last one is done.
    pub fn is_complete(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// One partition is done, well or badly; the last one fires the request.
    pub fn complete_one(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.fire();
        }
    }
}

/// Makes a request's [`ProduceWait`] when the first partition needs it: most requests of the
/// classes that do not wait never pay for one.
pub struct LazyWait<'a> {
    signal: &'a Arc<ConnectionSignal>,
    /// The bell to ring; made when it is needed.
    waiter: Option<Arc<Waiter>>,
    wait: Option<Arc<ProduceWait>>,
}

impl<'a> LazyWait<'a> {
    pub fn new(signal: &'a Arc<ConnectionSignal>) -> LazyWait<'a> {
        LazyWait {
            signal,
            waiter: None,
            wait: None,
        }
    }

    /// One that rings the bell of a request that has one already.
    pub fn on(waiter: &'a Arc<Waiter>) -> LazyWait<'a> {
        LazyWait {
            waiter: Some(Arc::clone(waiter)),
            ..LazyWait::new(&waiter.signal)
        }
    }

    /// The bell of the request.
    pub fn waiter(&mut self) -> &Arc<Waiter> {
        self.waiter.get_or_insert_with(|| Waiter::new(self.signal))
    }

    /// The wait, counting one more partition.
    pub fn add_one(&mut self) -> Arc<ProduceWait> {
        let signal = self.signal;
        let waiter = self.waiter.get_or_insert_with(|| Waiter::new(signal));
        let wait = self
            .wait
            .get_or_insert_with(|| ProduceWait::new(Arc::clone(waiter)));
        wait.add_one();
        Arc::clone(wait)
    }

    /// The request is through all its partitions; `None` when none of them waits.
    pub fn finish(self) -> Option<Arc<ProduceWait>> {
        let wait = self.wait?;
        wait.complete_one();
        Some(wait)
    }
}

/// Names one registered watch of one partition; used once, to take it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchKey(usize);

/// The fetches that wait on one partition. Lives under a lock of that partition. Registering and
/// removing are O(1); an idle partition holds no memory for it.
#[derive(Debug, Default)]
pub struct Watches {
    slots: Vec<Option<Arc<FetchWait>>>,
    free: Vec<usize>,
}

impl Watches {
    pub fn register(&mut self, wait: Arc<FetchWait>) -> WatchKey {
        match self.free.pop() {
            Some(slot) => {
                debug_assert!(self.slots[slot].is_none(), "a free slot holds no watch");
                self.slots[slot] = Some(wait);
                WatchKey(slot)
            }
            None => {
                self.slots.push(Some(wait));
                WatchKey(self.slots.len() - 1)
            }
        }
    }

    pub fn remove(&mut self, key: WatchKey) {
        if self
            .slots
            .get_mut(key.0)
            .is_some_and(|slot| slot.take().is_some())
        {
            self.free.push(key.0);
        }
        if self.free.len() == self.slots.len() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Credits `bytes` to every watch; those that now have enough are pushed to `fire`, to be
    /// fired by the caller outside the lock.
    pub fn credit(&self, bytes: u64, fire: &mut Vec<Arc<Waiter>>) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        for wait in self.slots.iter().flatten() {
            if wait.credit(bytes) {
                fire.push(Arc::clone(&wait.waiter));
            }
        }
    }

    /// Everybody must look again: leadership, log start or availability changed.
    pub fn fire_all(&self, fire: &mut Vec<Arc<Waiter>>) {
        fire.extend(
            self.slots
                .iter()
                .flatten()
                .map(|wait| Arc::clone(&wait.waiter)),
        );
    }

    pub fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn signal() -> (Arc<ConnectionSignal>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let signal = ConnectionSignal::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (signal, wakes)
    }

    #[test]
    fn many_waiters_of_one_connection_cause_one_wake_up_until_it_is_taken() {
        let (signal, wakes) = signal();
        let (a, b) = (Waiter::new(&signal), Waiter::new(&signal));
        a.fire();
        a.fire();
        b.fire();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(signal.take() && !signal.take());
        a.rearm();
        a.fire();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert!(b.fired());
    }

    #[test]
    fn a_watch_fires_only_when_the_bytes_it_asked_for_are_there() {
        let (signal, _) = signal();
        let wait = FetchWait::new(Waiter::new(&signal), 100);
        let (mut a, mut b) = (Watches::default(), Watches::default());
        let key = a.register(Arc::clone(&wait));
        b.register(Arc::clone(&wait));
        let mut fire = Vec::new();
        a.credit(60, &mut fire);
        assert!(fire.is_empty());
        b.credit(40, &mut fire);
        assert_eq!(fire.len(), 1, "the sum over both partitions counts");
        a.remove(key);
        fire.clear();
        a.credit(1000, &mut fire);
        assert!(fire.is_empty() && a.is_empty());
    }

    #[test]
    fn a_produce_over_three_partitions_fires_once_at_the_last() {
        let (signal, wakes) = signal();
        let wait = ProduceWait::new(Waiter::new(&signal));
        for _ in 0..3 {
            wait.add_one();
            wait.complete_one();
        }
        assert!(!wait.waiter().fired(), "the request itself is not through");
        wait.complete_one();
        assert!(wait.waiter().fired());
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn removed_slots_are_reused() {
        let (signal, _) = signal();
        let mut watches = Watches::default();
        let wait = FetchWait::new(Waiter::new(&signal), 1);
        let a = watches.register(Arc::clone(&wait));
        let b = watches.register(Arc::clone(&wait));
        watches.remove(a);
        watches.remove(a);
        let c = watches.register(wait);
        assert_eq!(c, a);
        watches.remove(b);
        watches.remove(c);
        assert!(watches.is_empty() && watches.slots.capacity() == 0);
    }
}
