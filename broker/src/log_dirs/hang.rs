//! Whether a directory's disk answers at all, and who may find that out by waiting for it.
//!
//! A thread inside a write to a disk that hangs comes back when the disk does, and nobody can call
//! it off. So with several directories fewer threads may be inside one of them than serve the
//! network ([`Hang::bound`]): whoever comes then, or finds a partition locked, waits for a bounded
//! time. After that the directory is known to hang: its requests are refused at once, without a
//! look at the disk, until a write that somebody waits for has come back ([`Hang::is_over`]).
//! With one directory nothing is bounded: there is nothing else to serve.
//!
//! Deliberately absent: threads, and what is done about it (`crate::failures`).

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard};

/// A wait is cut into pieces: whoever waits beside the one who gave up first gives up as well.
const PIECE: Duration = Duration::from_millis(10);

/// What is known about it.
pub struct Hang {
    /// Pieces of the longest wait; 0: as long as it takes.
    patience: AtomicU32,
    inside: AtomicUsize,
    inside_max: AtomicUsize,
    hangs: AtomicBool,
    /// Threads that wait for others to come out.
    waiting: AtomicUsize,
    door: Mutex<()>,
    opened: Condvar,
}

impl Default for Hang {
    fn default() -> Hang {
        Hang {
            patience: AtomicU32::new(0),
            inside: AtomicUsize::new(0),
            inside_max: AtomicUsize::new(usize::MAX),
            hangs: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            door: Mutex::default(),
            opened: Condvar::new(),
        }
    }
}

/// A thread that may wait for the disk; until it is dropped. Nobody counts while nothing is
/// bounded.
pub struct Inside<'a>(Option<&'a Hang>);

impl Hang {
    /// At most so many threads at once wait for the disk as long as it takes, the others this long.
    pub fn bound(&self, inside_max: usize, patience: Duration) {
        let pieces = patience.as_millis() / PIECE.as_millis();
        self.inside_max.store(inside_max.max(1), SeqCst);
        self.patience
            .store(u32::try_from(pieces.max(1)).unwrap_or(u32::MAX), SeqCst);
    }

    /// Somebody gives up at some time.
    pub fn is_bounded(&self) -> bool {
        self.patience.load(SeqCst) > 0
    }

    /// The disk was found not to answer, and has not answered since.
    pub fn hangs(&self) -> bool {
        self.hangs.load(SeqCst)
    }

    /// It answers again.
    pub(super) fn is_over(&self) {
        self.hangs.store(false, SeqCst);
    }

    /// True when this is news.
    pub(super) fn begins(&self) -> bool {
        !self.hangs.swap(true, SeqCst)
    }

    /// Lets the caller in; `None`: the disk hangs.
    pub(super) fn enter(&self) -> Option<Inside<'_>> {
        if !self.is_bounded() {
            return Some(Inside(None));
        }
        if self.hangs() {
            return None;
        }
        self.try_enter().or_else(|| self.wait_to_enter())
    }

    fn try_enter(&self) -> Option<Inside<'_>> {
        let before = self.inside.fetch_add(1, SeqCst);
        if before < self.inside_max.load(SeqCst) {
            return Some(Inside(Some(self)));
        }
        self.leave();
        None
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            // Whoever waits has looked before this, or sleeps and hears it.
            drop(self.door.lock());
            self.opened.notify_one();
        }
    }

    #[cold]
    fn wait_to_enter(&self) -> Option<Inside<'_>> {
        self.waiting.fetch_add(1, SeqCst);
        let (mut entered, mut pieces) = (None, 0);
        let mut door = self.door.lock();
        while pieces < self.patience.load(SeqCst) {
            entered = self.enter_through(&mut door);
            if entered.is_some() || self.hangs() {
                break;
            }
            // Woken in vain: somebody else was quicker, and the disk answers.
            if self.opened.wait_for(&mut door, PIECE).timed_out() {
                pieces += 1;
            }
        }
        drop(door);
        self.waiting.fetch_sub(1, SeqCst);
        entered
    }

    /// A refused attempt takes the door to tell the others, so it is made with the door unlocked.
    /// Whoever was quicker may leave before the door is locked again, and nobody hears it: only
    /// after another look may one sleep.
    fn enter_through(&self, door: &mut MutexGuard<'_, ()>) -> Option<Inside<'_>> {
        while self.inside.load(SeqCst) < self.inside_max.load(SeqCst) {
            let entered = MutexGuard::unlocked(door, || self.try_enter());
            if entered.is_some() {
                return entered;
            }
        }
        None
    }

    /// The lock of something that is written to this disk; `None`: its holder does not come back.
    pub(super) fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> Option<MutexGuard<'a, T>> {
        mutex.try_lock().or_else(|| self.wait_for(mutex))
    }

    #[cold]
    fn wait_for<'a, T>(&self, mutex: &'a Mutex<T>) -> Option<MutexGuard<'a, T>> {
        let patience = self.patience.load(SeqCst);
        if patience == 0 {
            return Some(mutex.lock());
        }
        (0..patience)
            .take_while(|_| !self.hangs())
            .find_map(|_| mutex.try_lock_for(PIECE))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(hang) = self.0 {
            hang.leave();
        }
    }
}

impl std::fmt::Debug for Hang {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hangs, inside) = (self.hangs(), self.inside.load(SeqCst));
        write!(f, "Hang(hangs: {hangs}, inside: {inside})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sync::explored::explore;

    const PATIENCE: Duration = Duration::from_millis(40);

    #[test]
    fn without_a_bound_everybody_waits_as_long_as_it_takes() {
        let hang = Hang::default();
        let all: Vec<_> = (0..100).map(|_| hang.enter().unwrap()).collect();
        drop(all);
        let lock = Mutex::new(());
        assert!(hang.lock(&lock).is_some());
    }

    #[test]
    fn who_comes_when_all_places_are_taken_gives_up_in_time() {
        let hang = Hang::default();
        hang.bound(2, PATIENCE);
        let (first, second) = (hang.enter().unwrap(), hang.enter().unwrap());
        assert!(hang.enter().is_none());
        drop(first);
        let third = hang.enter().unwrap();
        drop((second, third));
        assert!(hang.begins() && !hang.begins());
        assert!(hang.enter().is_none(), "not even with a place free");
        hang.is_over();
        assert!(hang.enter().is_some());
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // others come and go for a while
    fn who_finds_others_quicker_again_and_again_does_not_take_the_disk_for_hung() {
        let hang = Hang::default();
        hang.bound(1, Duration::from_millis(500));
        let inside = hang.enter().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    std::thread::sleep(Duration::from_millis(1));
                    drop(hang.door.lock());
                    hang.opened.notify_one();
                }
                drop(inside);
            });
            assert!(hang.enter().is_some());
        });
    }

    #[test]
    fn a_place_that_becomes_free_is_taken_at_once() {
        let hang = Hang::default();
        hang.bound(1, Duration::from_secs(60));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        drop(hang.enter().unwrap());
                    }
                });
            }
        });
        assert_eq!(hang.inside.load(SeqCst), 0);
        assert_eq!(hang.waiting.load(SeqCst), 0);
    }

    /// Planted and caught: a leaver that does not take the door; one look only before the sleep (as
    /// it was until this test).
    #[test]
    fn under_any_schedule_nobody_sleeps_beside_a_free_place() {
        explore(|| {
            let hang = Arc::new(Hang::default());
            hang.bound(1, Duration::from_secs(60));
            let come_and_go = |_| {
                let hang = Arc::clone(&hang);
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        drop(hang.enter().unwrap());
                    }
                })
            };
            let threads: Vec<_> = (0..3).map(come_and_go).collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            let (inside, waiting) = (hang.inside.load(SeqCst), hang.waiting.load(SeqCst));
            assert_eq!((inside, waiting), (0, 0));
        });
    }

    #[test]
    fn a_lock_whose_holder_does_not_come_back_is_given_up() {
        let hang = Hang::default();
        hang.bound(1, PATIENCE);
        let lock = Mutex::new(());
        let held = lock.lock();
        assert!(hang.lock(&lock).is_none());
        drop(held);
        assert!(hang.lock(&lock).is_some());
        assert!(hang.begins());
        assert!(
            hang.lock(&lock).is_some(),
            "a free lock takes no look at the disk"
        );
    }
}
