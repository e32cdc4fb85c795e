//! The simulator: a whole broker in one thread, on simulated disk, clock, randomness and network,
//! by seed.
//!
//! It boots the broker's real cores (request handling, log, controller, fetch sessions, purgatory)
//! and hands them time, bytes and disk faults in an order that one random generator decides.
//! [`model`] is the oracle, with one of its own for groups. What cannot run in here is in the wrong
//! room. Absent on purpose: threads, tokio, sockets (see `broker/tests/` for the glue).
//!
//! Faults: a process that dies at any moment, power loss that keeps, drops or tears what was not
//! synced, failed writes and syncs, a full disk, broken connections, bytes that arrive in pieces of
//! any size, and any of them one after another (a failed sync, a restart, then a power cut); images
//! of groups that are older than they should be or gone. Not simulated yet: several brokers, bit
//! rot, slow disks.

mod admin;
pub mod clock;
mod consumer;
mod consumer_member;
mod group_model;
mod link;
mod member;
pub mod model;
mod node;
mod producer;
mod world;

pub use world::{Summary, run};
