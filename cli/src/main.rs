//! The one binary: `ottla server` and `ottla dev` run the broker, everything else is a client of
//! any Kafka cluster.
//!
//! Standard output carries data, standard error talk; exit codes are in `fault.rs`.

mod arguments;
mod client;
mod commands;
mod fault;
mod output;
mod record_format;
mod values;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use arguments::ClientArgs;
use commands::{cluster, config, consume, dev, group, produce, server, storage, topic};
use output::{OutputFormat, say};

/// A Kafka wire-protocol compatible, distributed commit log.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one broker with no configuration at all
    Dev(dev::DevArgs),
    /// Run a broker from Kafka's server.properties
    Server(server::ServerArgs),
    /// Check configuration files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Create, show and change topics
    #[command(subcommand, visible_alias = "t")]
    Topic(topic::TopicCommand),
    /// Show groups and how far they are behind, move and delete their offsets
    #[command(subcommand, visible_alias = "g")]
    Group(group::GroupCommand),
    /// Show what belongs to no topic and no group
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Check, show and take over data directories, offline
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Write records to a topic
    Produce(produce::ProduceArgs),
    /// Read records of topics
    Consume(consume::ConsumeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Dev(args) => dev::run(args),
        Command::Server(args) => server::run(&args),
        Command::Config(command) => config::run(&command, cli.client.output),
        Command::Topic(command) => topic::run(command, &cli.client),
        Command::Group(command) => group::run(command, &cli.client),
        Command::Cluster(command) => cluster::run(&command, &cli.client),
        Command::Storage(command) => storage::run(&command, cli.client.output),
        Command::Produce(args) => produce::run(&args, &cli.client),
        Command::Consume(args) => consume::run(&args, &cli.client),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            match cli.client.output {
                OutputFormat::Json | OutputFormat::Ndjson => say(&fault.json().to_string()),
                OutputFormat::Table | OutputFormat::Csv => say(&fault.to_string()),
            }
            ExitCode::from(fault.exit as u8)
        }
    }
}
