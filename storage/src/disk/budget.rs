//! How many descriptors and maps the log directories of a process may hold, shared by all of them.
//!
//! A limited kernel resource is held through a [`Permit`]; when more are held than allowed, those
//! used longest ago are given back by their owners. Owners stamp a use with one relaxed store, so
//! the price of the order is paid at eviction (every sixteenth of the budget) and not per read.
//! What costs a sync to give back goes last, and then the disk works on all of it at once.
//!
//! The limits are soft: what is in use cannot be evicted, and an open never fails here. The one for
//! descriptors moves while the process runs, as clients come and go: files that are idle give way
//! to sockets. Deliberately absent: bytes; mapped pages belong to the page cache, which the kernel
//! bounds itself.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::{AtomicU64, AtomicUsize, Mutex};

/// Something that can be closed now and opened again at its next use.
pub(super) trait Evict: Send + Sync {
    /// The stamp of the last use.
    fn last_used(&self) -> u64;
    /// True when giving it back may have to wait for the disk.
    fn is_costly(&self) -> bool {
        false
    }
    /// It is about to be asked to give the resource back: a disk can begin with what that takes.
    fn prepare(&self) {}
    /// Gives the resource back; `false` when it is in use, or not held at all.
    fn evict(&self) -> bool;
}

/// The limits of one process.
pub struct Budget {
    pub(super) files: Arc<Pool>,
    pub(super) maps: Arc<Pool>,
}

impl Budget {
    pub fn new(open_files_max: usize, maps_max: usize) -> Arc<Budget> {
        let (files, maps) = (Pool::new(open_files_max), Pool::new(maps_max));
        Arc::new(Budget { files, maps })
    }

    /// Half of what this process may open, half of what it may map.
    pub fn for_process() -> Arc<Budget> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open_files_max = limit.map_or(usize::MAX, |limit| limit as usize) / 2;
        // The kernel's default of vm.max_map_count is 65,530. At 32 MiB a map this is 1 TiB.
        Budget::new(open_files_max.min(100_000), 32_000)
    }

    /// Changes how many descriptors of data files may be held, and closes those that are too many.
    pub fn set_open_files_max(&self, max: usize) {
        self.files.set_max(max);
    }

    pub fn open_files_max(&self) -> usize {
        self.files.max.load(Relaxed)
    }

    /// Descriptors of data files held now.
    pub fn open_files(&self) -> usize {
        self.files.held.load(Relaxed)
    }

    /// Maps held now.
    pub fn maps(&self) -> usize {
        self.maps.held.load(Relaxed)
    }
}

/// So many holders that are gone are not worth looking for.
const HOLDERS_SLACK: usize = 64;

/// Nobody waits longer for others who make room: what they close may be on a disk that hangs.
const TURN_MAX: Duration = Duration::from_millis(100);

/// One kind of resource.
pub(super) struct Pool {
    max: AtomicUsize,
    held: AtomicUsize,
    /// Ticks at every acquisition: coarse, and enough to tell idle from busy.
    clock: AtomicU64,
    holders: Mutex<Holders>,
    /// Of those who make room: it takes the holders away for a while, and whoever finds none then
    /// would believe that nobody has anything to give.
    turn: Mutex<()>,
}

/// Who may be asked.
#[derive(Default)]
struct Holders {
    list: Vec<Weak<dyn Evict>>,
    /// So many were left when those that are gone were last looked for. Most of them may hold
    /// nothing at the moment: it takes as many more until looking again is worth it.
    left: usize,
}

/// One unit of a resource; given back when dropped.
pub(super) struct Permit {
    pool: Arc<Pool>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.held.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    fn new(max: usize) -> Arc<Pool> {
        Arc::new(Pool {
            max: AtomicUsize::new(max.max(1)),
            held: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            holders: Mutex::default(),
            turn: Mutex::new(()),
        })
    }

    /// Counts one more unit, held by `holder`, and makes room if that is too many. The caller
    /// holds none of its own locks, as others' `evict` runs here.
    pub(super) fn acquire(self: &Arc<Pool>, holder: Weak<dyn Evict>) -> Permit {
        self.clock.fetch_add(1, Relaxed);
        let held = self.held.fetch_add(1, Relaxed) + 1;
        let permit = Permit {
            pool: Arc::clone(self),
        };
        self.keep_within(held, self.max.load(Relaxed));
        let mut holders = self.holders.lock();
        if holders.list.len() > 2 * held.max(holders.left) + HOLDERS_SLACK {
            holders.forget_gone();
        }
        holders.list.push(holder);
        drop(holders);
        permit
    }

    fn set_max(&self, max: usize) {
        let max = max.max(1);
        if self.max.swap(max, Relaxed) > max {
            self.keep_within(self.held.load(Relaxed), max);
        }
    }

    /// The limit is soft: where somebody makes room already, nobody waits for that.
    fn keep_within(&self, held: usize, max: usize) {
        if held > max
            && let Some(_turn) = self.turn.try_lock()
        {
            self.evict_idle(held - max + max / 16);
        }
    }

    /// The stamp of a use that happens now.
    pub(super) fn now(&self) -> u64 {
        self.clock.load(Relaxed)
    }

    /// A later time than that of every use so far.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed) + 1
    }

    /// Has so many units given back, as far as there are idle ones; answers how many. The caller
    /// holds none of its own locks.
    pub(super) fn make_room(&self, wanted: usize) -> usize {
        match self.turn.try_lock_for(TURN_MAX) {
            Some(_turn) => self.evict_idle(wanted),
            None => 0,
        }
    }

    fn evict_idle(&self, wanted: usize) -> usize {
        let holders = std::mem::take(&mut self.holders.lock().list);
        let mut live: Vec<Arc<dyn Evict>> = holders.iter().filter_map(Weak::upgrade).collect();
        // Asked once each: it changes while others use their files.
        live.sort_by_cached_key(|holder| (holder.is_costly(), holder.last_used()));
        live.iter().take(wanted).for_each(|holder| holder.prepare());
        let mut kept = Vec::with_capacity(live.len());
        let mut evicted = 0;
        for holder in live {
            if evicted < wanted && holder.evict() {
                evicted += 1;
            } else {
                kept.push(Arc::downgrade(&holder));
            }
        }
        self.holders.lock().list.append(&mut kept);
        evicted
    }
}

impl Holders {
    /// Drops what is left of holders that are gone: it keeps their memory. One that closed and
    /// opened again without being asked is there twice.
    fn forget_gone(&mut self) {
        self.list.retain(|holder| holder.strong_count() > 0);
        self.list.sort_by_key(|holder| holder.as_ptr().addr());
        self.list.dedup_by_key(|holder| holder.as_ptr().addr());
        self.left = self.list.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explored::explore;

    struct Holder {
        last_used: AtomicU64,
        permit: Mutex<Option<Permit>>,
        busy: bool,
    }

    impl Evict for Holder {
        fn last_used(&self) -> u64 {
            self.last_used.load(Relaxed)
        }
        fn evict(&self) -> bool {
            !self.busy && self.permit.lock().take().is_some()
        }
    }

    fn hold(pool: &Arc<Pool>, busy: bool) -> Arc<Holder> {
        let permit = Mutex::new(None);
        let holder = Arc::new(Holder {
            last_used: AtomicU64::new(0),
            permit,
            busy,
        });
        let weak: Weak<Holder> = Arc::downgrade(&holder);
        *holder.permit.lock() = Some(pool.acquire(weak));
        holder.last_used.store(pool.now(), Relaxed);
        holder
    }

    #[test]
    fn the_least_recently_used_give_way_and_the_busy_ones_stay() {
        let pool = Pool::new(32);
        let busy = hold(&pool, true);
        let holders: Vec<_> = (0..31).map(|_| hold(&pool, false)).collect();
        holders[0].last_used.store(pool.now() + 1, Relaxed);
        let newest = hold(&pool, false);
        let open = |holder: &Holder| holder.permit.lock().is_some();
        assert!(open(&busy) && open(&newest) && open(&holders[0]));
        assert!(!open(&holders[1]) && !open(&holders[2]) && !open(&holders[3]));
        assert!(open(&holders[4]));
        assert_eq!(pool.held.load(Relaxed), 30);
    }

    #[test]
    fn a_lower_limit_closes_the_oldest_at_once_and_a_higher_one_makes_room_again() {
        let pool = Pool::new(64);
        let holders: Vec<_> = (0..64).map(|_| hold(&pool, false)).collect();
        pool.set_max(32);
        assert_eq!(pool.held.load(Relaxed), 30);
        let open = |holder: &Holder| holder.permit.lock().is_some();
        assert!(!open(&holders[0]) && open(&holders[63]));
        pool.set_max(64);
        let _more: Vec<_> = (0..34).map(|_| hold(&pool, false)).collect();
        assert_eq!(pool.held.load(Relaxed), 64);
    }

    /// Opens, closes and uses holders, and moves the limit.
    fn come_and_go(pool: &Arc<Pool>, round: usize) -> Vec<Arc<Holder>> {
        let mut kept = Vec::new();
        for step in 0..3 {
            let holder = hold(pool, false);
            match (step + round) % 3 {
                0 => drop(holder),
                1 => {
                    pool.set_max(1 + round);
                    kept.push(holder);
                }
                _ => kept.push(holder),
            }
        }
        kept
    }

    /// Planted and caught: the holders that came while room was made are forgotten; a permit that
    /// is counted twice.
    #[test]
    fn under_any_schedule_permits_are_counted_and_every_holder_can_be_found_again() {
        explore(|| {
            let pool = Pool::new(2);
            let threads: Vec<_> = (0..3)
                .map(|round| {
                    let pool = Arc::clone(&pool);
                    shuttle::thread::spawn(move || come_and_go(&pool, round))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            let holders: Vec<_> = joined.flatten().collect();
            let open = || {
                let is_open = |holder: &&Arc<Holder>| holder.permit.lock().is_some();
                holders.iter().filter(is_open).count()
            };
            assert_eq!(pool.held.load(Relaxed), open());
            pool.make_room(usize::MAX);
            assert_eq!((open(), pool.held.load(Relaxed)), (0, 0));
        });
    }

    #[test]
    fn whoever_makes_room_at_the_same_time_finds_something_to_take_as_well() {
        explore(|| {
            let pool = Pool::new(100);
            let idle: Vec<_> = (0..3).map(|_| hold(&pool, false)).collect();
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let pool = Arc::clone(&pool);
                    shuttle::thread::spawn(move || pool.make_room(1))
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), 1);
            }
            assert_eq!(pool.held.load(Relaxed), 0);
            drop(idle);
        });
    }

    #[test]
    fn dropped_holders_are_forgotten_also_far_below_the_limit() {
        for max in [4, 1_000_000] {
            let pool = Pool::new(max);
            for _ in 0..1000 {
                drop(hold(&pool, false));
            }
            assert_eq!(pool.held.load(Relaxed), 0);
            let _held: Vec<_> = (0..5).map(|_| hold(&pool, false)).collect();
            assert!(pool.holders.lock().list.len() <= HOLDERS_SLACK + 5);
        }
    }

    #[test]
    fn holders_that_hold_nothing_at_the_moment_are_not_looked_through_at_each_open() {
        let pool = Pool::new(1_000_000);
        let idle: Vec<_> = (0..1_000).map(|_| hold(&pool, false)).collect();
        for holder in &idle {
            holder.permit.lock().take();
        }
        assert_eq!(pool.held.load(Relaxed), 0);
        let known = || pool.holders.lock().list.len();
        drop(hold(&pool, false));
        let before = known();
        for _ in 0..500 {
            drop(hold(&pool, false));
        }
        assert_eq!(known(), before + 500, "nobody looked");
        for _ in 0..10_000 {
            drop(hold(&pool, false));
            assert!(known() <= 2 * idle.len() + HOLDERS_SLACK + 3);
        }
    }
}
