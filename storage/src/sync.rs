//! The locks and atomics of the places where threads meet on more than one lock: parking_lot's and
//! std's.
//!
//! In unit tests they are wrapped (`sync/explored.rs`), so that shuttle can run the code that uses
//! them under thousands of schedules. Absent: locks that only guard one value and are held by one
//! short function at a time; they are taken from parking_lot directly.

#[cfg(test)]
pub(crate) mod explored;

#[cfg(test)]
pub(crate) use explored::{AtomicBool, AtomicU64, AtomicUsize, Mutex};
#[cfg(not(test))]
pub(crate) use {
    parking_lot::Mutex,
    std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
