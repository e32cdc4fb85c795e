//! `ottla topic`: create, list, describe, delete, alter, trim and configure topics, on any Kafka
//! cluster; and have them compacted, by an Ottla broker.

mod change;
mod compact;
mod configure;
mod create;
mod describe;
mod trim;

pub(crate) use describe::offsets_of;

use clap::Subcommand;

use crate::arguments::ClientArgs;
use crate::client::Cluster;
use crate::commands::{name_of, whole_names};
use crate::fault::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(create::CreateArgs),
    /// List topics
    #[command(visible_alias = "ls")]
    List(describe::ListArgs),
    /// Show partitions, leaders, offsets and configuration
    Describe(describe::DescribeArgs),
    /// Delete topics and their data
    #[command(visible_alias = "rm")]
    Delete(change::DeleteArgs),
    /// Raise the number of partitions
    Alter(change::AlterArgs),
    /// Delete the oldest records
    #[command(visible_alias = "delete-records")]
    Trim(trim::TrimArgs),
    /// Show or change the configuration of a topic
    Config(configure::ConfigArgs),
    /// Have a compacted topic compacted now (an Ottla broker, over HTTP)
    Compact(compact::CompactArgs),
}

pub(crate) fn run(command: TopicCommand, client: &ClientArgs) -> Outcome {
    match command {
        TopicCommand::Create(args) => create::run(&args, client),
        TopicCommand::List(args) => describe::list(&args, client),
        TopicCommand::Describe(args) => describe::describe(&args, client),
        TopicCommand::Delete(args) => change::delete(&args, client),
        TopicCommand::Alter(args) => change::alter(&args, client),
        TopicCommand::Trim(args) => trim::run(&args, client),
        TopicCommand::Config(args) => configure::run(&args, client),
        TopicCommand::Compact(args) => compact::run(&args, client),
    }
}

/// The topics meant by `names`: themselves, or with `regex` all whose whole name matches one of
/// them.
fn resolve(cluster: &mut Cluster, names: &[String], regex: bool) -> Outcome<Vec<String>> {
    if !regex {
        return Ok(names.to_vec());
    }
    let matches = whole_names(names)?;
    let all = cluster.metadata(None, false)?;
    let all = all.topics.iter().map(name_of);
    Ok(all
        .filter(|name| matches(name))
        .map(str::to_owned)
        .collect())
}
