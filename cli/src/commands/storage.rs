//! `ottla storage`: looks at, checks, repairs and takes over data directories, offline.
//!
//! Everything but `dump` takes the directory's lock, so that no broker uses it meanwhile. What is
//! done with the files is in `ottla_storage`; here are arguments, progress and tables.

mod adopt;
mod check;
mod directory;
mod dump;
mod repair;

use clap::Subcommand;

use crate::fault::Outcome;
use crate::output::OutputFormat;

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Read every batch of a data directory and say what is wrong where
    Check(check::CheckArgs),
    /// Show what is in segments, indexes, snapshots and checkpoints
    Dump(dump::DumpArgs),
    /// Rebuild derived files, and take damaged records out of a log; nothing is dropped
    Repair(repair::RepairArgs),
    /// Take over a directory that Apache Kafka wrote, with all topics, records and groups
    Adopt(adopt::AdoptArgs),
}

pub(crate) fn run(command: &StorageCommand, output: OutputFormat) -> Outcome {
    match command {
        StorageCommand::Check(args) => check::run(args, output),
        StorageCommand::Dump(args) => dump::run(args, output),
        StorageCommand::Repair(args) => repair::run(args, output),
        StorageCommand::Adopt(args) => adopt::run(args, output),
    }
}
