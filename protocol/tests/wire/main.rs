//! Tests over every message type, in one binary: they share the code of 174 message types.
#![allow(clippy::unwrap_used)]

mod allocation;
mod any;
mod encode;
mod fetch;
mod golden;
mod guard;
mod produce;
mod replay;
