//! `ottla cluster`: what belongs to no topic and no group, on any Kafka cluster.

mod log_dirs;

use clap::Subcommand;

use crate::arguments::ClientArgs;
use crate::fault::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the log directories of all brokers: state, room, and what takes it
    #[command(visible_alias = "log-dirs")]
    Logdirs(log_dirs::LogDirsArgs),
}

pub(crate) fn run(command: &ClusterCommand, client: &ClientArgs) -> Outcome {
    match command {
        ClusterCommand::Logdirs(args) => log_dirs::run(args, client),
    }
}
