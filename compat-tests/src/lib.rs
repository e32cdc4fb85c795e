//! Black-box tests: unmodified clients against the built binary, over TCP and HTTP only.
//!
//! This library starts and ends brokers on free ports and in temporary folders ([`broker`]), runs
//! the clients' programs with a time limit ([`process`]), knows the clients and what each of them
//! can do ([`clients`], and as members of groups [`groups`]), and keeps the page with the result
//! ([`matrix`]). [`wire`] and [`group_wire`] speak just enough of the protocol by hand to send what
//! no client would. It ends only processes that it started, and it knows no crate of ours: what it
//! finds is what a user would find.

pub mod batch;
pub mod broker;
pub mod clients;
pub mod group_wire;
pub mod groups;
pub mod harness;
pub mod matrix;
pub mod power;
pub mod process;
pub mod rust_client;
pub mod scenario;
pub mod usage;
pub mod wire;
pub mod witness;
