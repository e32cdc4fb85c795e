//! The broker as a library: requests, connections, partitions, and the tokio glue around them.
//!
//! The core (`broker.rs`, `connection.rs`, `partition.rs`, the handlers) is synchronous and takes
//! time as an argument; only `net/`, `http/`, `start.rs` and the clock touch the outside world. The
//! simulator runs the same core in one thread.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::disallowed_methods))]

pub mod api;
pub mod assignments;
pub mod boot;
pub mod broker;
pub mod cleaner;
pub mod clock;
pub mod cold_reads;
pub mod config;
pub mod connection;
pub mod context;
pub mod controller_driver;
pub mod coordinators;
pub mod dirty;
pub mod errors;
pub mod failures;
pub mod fetch_session;
pub mod flusher;
pub mod handlers;
pub mod housekeeper;
pub mod http;
pub mod log_dirs;
pub mod log_starts;
pub mod logging;
pub mod metadata;
pub mod metrics;
pub mod mover;
pub mod net;
pub mod observe;
pub mod openers;
pub mod partition;
mod producer_ids;
pub mod purgatory;
pub mod recovery;
pub mod reply;
pub mod request_memory;
pub mod retention;
pub mod scrubber;
pub mod start;
pub mod strangers;
mod sync;
