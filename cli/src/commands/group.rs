//! `ottla group`: the groups of any Kafka cluster, of the classic protocol and of KIP-848: who is
//! in them, how far they are behind, and moving and removing their offsets.
//!
//! Everything here is asked over the Kafka protocol; only why a group last rebalanced is not in it
//! and comes from an Ottla broker's HTTP listener (see `group/rebalance.rs`).

mod delete;
mod describe;
mod lag;
mod list;
mod plan;
mod rebalance;
mod remove_member;
mod seek;
mod view;

use clap::Subcommand;

use crate::arguments::ClientArgs;
use crate::client::Cluster;
use crate::commands::whole_names;
use crate::fault::{Exit, Fault, Outcome};

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show groups: state, coordinator, members, offsets, lag, and why they last rebalanced
    Describe(describe::DescribeArgs),
    /// Show how far groups are behind, in records and in seconds
    ///
    /// Lag is the number of records from the committed offset to the end of the partition. Lag in
    /// seconds is the age of the oldest unread record: the time on this machine's clock minus the
    /// timestamp of the first record at or after the committed offset (or after the start of the
    /// log, when the records in between are gone). It is 0 when everything is read, and "-" when
    /// nothing is committed or the record has no time.
    Lag(describe::LagArgs),
    /// Show the members of groups and what they read
    Members(describe::MembersArgs),
    /// Move the committed offsets of a group without members
    ///
    /// Without --topic, the partitions that the group has committed offsets for are moved. An
    /// offset outside of a partition becomes its start or its end. Where nothing is committed,
    /// "current" means the end.
    Seek(seek::SeekArgs),
    /// Delete groups without members, and their offsets
    #[command(visible_alias = "rm")]
    Delete(delete::DeleteArgs),
    /// Delete committed offsets of topics that the group no longer reads
    #[command(visible_alias = "delete-offsets")]
    OffsetDelete(delete::OffsetDeleteArgs),
    /// Take members out of a group of the classic protocol
    RemoveMember(remove_member::RemoveMemberArgs),
}

pub(crate) fn run(command: GroupCommand, client: &ClientArgs) -> Outcome {
    match command {
        GroupCommand::List(args) => list::run(&args, client),
        GroupCommand::Describe(args) => describe::describe(&args, client),
        GroupCommand::Lag(args) => describe::lag(&args, client),
        GroupCommand::Members(args) => describe::members(&args, client),
        GroupCommand::Seek(args) => seek::run(&args, client),
        GroupCommand::Delete(args) => delete::delete(&args, client),
        GroupCommand::OffsetDelete(args) => delete::delete_offsets(&args, client),
        GroupCommand::RemoveMember(args) => remove_member::run(&args, client),
    }
}

/// The groups meant by `names`: themselves, or with `regex` all whose whole name matches one of
/// them.
fn resolve(cluster: &mut Cluster, names: &[String], regex: bool) -> Outcome<Vec<String>> {
    if !regex {
        return Ok(names.to_vec());
    }
    let matches = whole_names(names)?;
    let all = cluster.list_groups(&[], &[])?;
    let all = all.into_iter().map(|listed| listed.group);
    let found: Vec<String> = all.filter(|name| matches(name)).collect();
    if found.is_empty() {
        return Err(Fault::new("E1209", Exit::NotFound, "no group matches"));
    }
    Ok(found)
}

/// What a coordinator's refusal means to somebody who changes a group.
fn refused(cluster: &mut Cluster, group: &str, doing: &str, code: i16) -> Fault {
    match code {
        // A commit from outside is an unknown member's when the group has members.
        25 | 68 | 113 => Fault::new(
            "E1210",
            Exit::Conflict,
            format!("group \"{group}\" has members; {doing} is possible only while it is empty"),
        )
        .why(format!("the broker answered {}", error_name(code)))
        .hint(format!(
            "stop the consumers, or `ottla group remove-member {group} --all` if they are gone"
        )),
        69 => cluster.unknown_group(group),
        86 => Fault::new(
            "E1211",
            Exit::Conflict,
            format!("group \"{group}\" reads that topic"),
        )
        .why(format!("the broker answered {}", error_name(code)))
        .hint("stop the consumers that are subscribed to it first"),
        code => Fault::broker(&format!("{doing} of group \"{group}\""), code, None),
    }
}

fn error_name(code: i16) -> &'static str {
    ottla_protocol::error::ErrorCode(code).name()
}
