//! The broker as a library: requests, connections, partitions, and the tokio glue around them.
//!
//! The core (`broker.rs`, `connection.rs`, `partition.rs`, the handlers) is synchronous and takes
//! time as an argument; only `net/`, `http/`, `start.rs` and the clock touch the outside world. The
//! simulator runs the same core in one thread.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

pub mod api;
pub mod broker;
pub mod clock;
pub mod config;
pub mod context;
pub mod errors;
pub mod handlers;
pub mod metadata;
pub mod metrics;
mod producer_ids;
pub mod purgatory;
pub mod reply;
