//! One replica's log on one disk: segments in Kafka's file layout, checkpoints, and the seam to
//! the disk below. Synchronous; knows no network, no clients and no clock: callers pass `now`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

pub mod checkpoint;
pub mod disk;
pub mod image;
pub mod layout;
pub mod log;
mod sync;
