//! The coordinators of groups as pure machines: commands in, records, answers and deadlines out.
//!
//! One [`GroupCoordinator`] looks after the groups of one partition of `__consumer_offsets`. The
//! host hands in every command together with a [`Turn`]: the time, the limits, fresh ids, and the
//! [`Journal`] that appends records to that partition. What must survive is first appended and
//! then applied, by the same code that replays the partition when a coordinator is loaded; so a
//! failed append changes nothing. Who waits in a join or a sync, and every timer, is soft state:
//! it is lost with the coordinator, and clients come again.
//!
//! An answer counts only when everything appended up to it is committed: the host holds it back
//! until then.
//!
//! Law: replaying [`GroupCoordinator::snapshot`], and then the later records, gives an equal
//! coordinator (its durable part).
//!
//! Deliberately absent: I/O, clocks, randomness, wire structs and their versions.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod command;
mod consumer;
pub mod coordinator;
mod group;
mod offsets;
pub mod records;
mod timers;
pub mod topics;
pub mod turn;

pub use coordinator::GroupCoordinator;
pub use topics::{NoTopics, Topic, Topics};
pub use turn::{
    Answer, ConsumerLimits, GroupConfig, GroupLimits, Journal, JournalError, MigrationPolicy,
    Token, Turn,
};
