//! The cluster's metadata: a log of records that a quorum agrees on, and the image that they make.
//!
//! ```text
//! Command ─► decide(image) ─► records + reply ─► raft log (fsync, quorum)
//!         ─► apply ─► MetadataImage + MetadataDelta
//! ```
//!
//! Owns topics, partitions, configuration, broker registrations, producer-id blocks, features and
//! the cluster id. `decide` is pure and may refuse; `apply` is infallible and deterministic; the
//! reply is given once the records are committed. One node is a quorum of one: there is no other
//! code path. What is deliberately absent: sockets, threads, clocks and timers (messages and time
//! go in and out as values), wire structs of Kafka's protocol, and the meaning of configuration
//! keys.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::type_complexity))]

pub mod command;
pub mod decide;
pub mod delta;
pub mod elect;
pub mod image;
pub mod kafka;
pub mod raft;
pub mod reconstruct;
pub mod record;

pub use crate::raft::{
    Controller, ControllerError, ControllerOptions, Event, QuorumState, StepError,
};
pub use command::{Command, CommandReply, Refusal};
pub use decide::{Decision, Limits, decide};
pub use delta::MetadataDelta;
pub use image::MetadataImage;
pub use record::MetadataRecord;
