//! `ottla topic delete` and `ottla topic alter`.

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use super::resolve;
use crate::arguments::ClientArgs;
use crate::client::topic_name;
use crate::commands::{first_of, said};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{Table, confirmed};

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// The names are regular expressions
    #[arg(short = 'e', long)]
    regex: bool,
    /// Show what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AlterArgs {
    /// Name of the topic
    topic: String,
    /// The new total number of partitions
    #[arg(short, long)]
    partitions: i32,
    /// Only check whether it would work
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn delete(args: &DeleteArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let names = resolve(&mut cluster, &args.topics, args.regex)?;
    let mut table = Table::new(&["topic", "status"]);
    if args.dry_run {
        cluster.existing_topics(&names)?;
        names
            .iter()
            .for_each(|name| table.row(vec![json!(name), json!("WOULD BE DELETED")]));
        table.print(client.output);
        return Ok(());
    }
    if names.is_empty() {
        return Err(Fault::new("E1204", Exit::NotFound, "no topic matches"));
    }
    let question = format!("Delete {} with all data?", names.join(", "));
    if !args.yes && !confirmed(&question) {
        return Err(Fault::usage("nothing was deleted").hint("add --yes to delete without asking"));
    }
    let timeout_ms = cluster.timeout_ms();
    let response = cluster.on_controller(|version| {
        let mut request = api::DeleteTopicsRequest::default();
        request.timeout_ms = timeout_ms;
        if version >= 6 {
            request.topics = names
                .iter()
                .map(|name| {
                    let mut topic = api::delete_topics_request::DeleteTopicState::default();
                    topic.name = Some(topic_name(name));
                    topic
                })
                .collect();
        } else {
            request.topic_names = names.iter().map(|name| topic_name(name)).collect();
        }
        request
    })?;
    let mut failures = Vec::new();
    for result in &response.responses {
        let name = result.name.as_ref().map_or("", |name| name.0.as_str());
        if result.error_code != 0 {
            let message = said(result.error_message.as_ref());
            failures.push(match result.error_code {
                3 => cluster.unknown_topic(name),
                code => Fault::broker(&format!("deleting topic \"{name}\""), code, message),
            });
        }
        let status = if result.error_code == 0 {
            "DELETED"
        } else {
            "FAILED"
        };
        table.row(vec![json!(name), json!(status)]);
    }
    table.print(client.output);
    first_of(failures, response.responses.len())
}

pub(crate) fn alter(args: &AlterArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    cluster.existing_topics(std::slice::from_ref(&args.topic))?;
    let timeout_ms = cluster.timeout_ms();
    let response = cluster.on_controller(|_version| {
        let mut topic = api::create_partitions_request::CreatePartitionsTopic::default();
        topic.name = topic_name(&args.topic);
        topic.count = args.partitions;
        topic.assignments = None;
        let mut request = api::CreatePartitionsRequest::default();
        request.topics = vec![topic];
        request.timeout_ms = timeout_ms;
        request.validate_only = args.dry_run;
        request
    })?;
    let mut table = Table::new(&["topic", "partitions", "status"]);
    for result in &response.results {
        if result.error_code != 0 {
            let doing = format!("altering topic \"{}\"", args.topic);
            let message = said(result.error_message.as_ref());
            return Err(Fault::broker(&doing, result.error_code, message));
        }
        let status = if args.dry_run {
            "WOULD BE ALTERED"
        } else {
            "ALTERED"
        };
        table.row(vec![
            json!(args.topic),
            json!(args.partitions),
            json!(status),
        ]);
    }
    table.print(client.output);
    Ok(())
}
