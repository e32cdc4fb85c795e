//! How much of what was written waits for the disk, per log directory.
//!
//! Classes `interval` and `memory` acknowledge from the page cache. Left alone, a producer that is
//! faster than the disk fills it until the kernel stops everybody at once. So each directory has a
//! budget: while it is spent, a batch is answered only when it is on the disk, and its connection
//! begins no other request (`handlers/produce.rs`) but those that came together with it. Producers
//! then go at the disk's speed, each for itself. Class `commit` waits anyway.
//!
//! What is counted is what was appended and neither synced nor known to be written back. It slows
//! producers and promises nothing: only a sync makes records durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The budget of one directory.
#[derive(Debug)]
pub struct DirtyBudget {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
    appended_bytes: AtomicU64,
}

impl Default for DirtyBudget {
    fn default() -> DirtyBudget {
        DirtyBudget {
            limit_bytes: AtomicU64::new(u64::MAX),
            used_bytes: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
        }
    }
}

impl DirtyBudget {
    pub fn set_limit(&self, bytes: u64) {
        self.limit_bytes.store(bytes, Relaxed);
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Relaxed)
    }

    /// Of all its partitions since the start, clean or not.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Relaxed)
    }

    pub fn is_spent(&self) -> bool {
        self.used_bytes() > self.limit_bytes.load(Relaxed)
    }
}

/// What one partition has used of it. Positions are bytes appended since the log was opened.
#[derive(Debug)]
pub struct DirtyShare {
    budget: Arc<DirtyBudget>,
    appended: u64,
    clean: u64,
}

impl DirtyShare {
    pub fn new(budget: &Arc<DirtyBudget>) -> DirtyShare {
        DirtyShare {
            budget: Arc::clone(budget),
            appended: 0,
            clean: 0,
        }
    }

    pub fn appended(&mut self, bytes: u64) {
        self.appended += bytes;
        self.budget.used_bytes.fetch_add(bytes, Relaxed);
        self.budget.appended_bytes.fetch_add(bytes, Relaxed);
    }

    /// Everything up to this position.
    pub fn position(&self) -> u64 {
        self.appended
    }

    /// The disk has everything up to `position`.
    pub fn clean_to(&mut self, position: u64) {
        let freed = position.min(self.appended).saturating_sub(self.clean);
        self.clean += freed;
        self.budget.used_bytes.fetch_sub(freed, Relaxed);
    }

    pub fn is_spent(&self) -> bool {
        self.budget.is_spent()
    }
}

impl Drop for DirtyShare {
    fn drop(&mut self) {
        self.clean_to(self.appended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_use_one_budget_and_give_back_what_is_clean() {
        let budget = Arc::new(DirtyBudget::default());
        budget.set_limit(100);
        let (mut a, mut b) = (DirtyShare::new(&budget), DirtyShare::new(&budget));
        a.appended(60);
        b.appended(40);
        assert!(!budget.is_spent(), "it is used up to the limit");
        a.appended(1);
        assert!(budget.is_spent());
        a.clean_to(50);
        a.clean_to(30);
        assert_eq!(budget.used_bytes(), 51, "what is clean stays clean");
        b.clean_to(1_000);
        assert_eq!(budget.used_bytes(), 11);
        drop(a);
        assert_eq!(budget.used_bytes(), 0);
        drop(b);
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(budget.appended_bytes(), 101);
    }
}
