//! The locks and atomics of the places where threads meet on more than one lock: parking_lot's and
//! std's.
//!
//! In unit tests they are wrapped (`storage/src/sync/explored.rs`), so that shuttle can run the
//! code that uses them under many schedules. Absent: locks that only guard one value and are held
//! by one short function at a time; they are taken from parking_lot directly.

#[cfg(test)]
#[path = "../../storage/src/sync/explored.rs"]
pub(crate) mod explored;

#[cfg(test)]
pub(crate) use explored::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard,
};
#[cfg(not(test))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize},
};
