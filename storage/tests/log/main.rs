//! The log against a model: random histories, every crash point, damage of every kind, on the
//! memory disk; readers beside all of it on a real one. Seeds and counts are fixed, so a failure
//! repeats; its message names the seed.
#![allow(clippy::unwrap_used)]

mod ahead;
mod compaction;
mod crashes;
mod faults;
mod hostile;
mod idle;
mod model;
mod readers;
mod retention;
mod seeds;
mod torn;
mod world;
mod zeros;
