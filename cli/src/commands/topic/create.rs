//! `ottla topic create`.

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use crate::arguments::ClientArgs;
use crate::client::{str_bytes, topic_name};
use crate::commands::{first_of, said};
use crate::fault::{Fault, Outcome};
use crate::output::{OutputFormat, Table, say};
use crate::values::{config_value, key_value};

const TOPIC_ALREADY_EXISTS: i16 = 36;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Partitions of each topic; -1 is the broker's default
    #[arg(short, long, default_value_t = -1, allow_hyphen_values = true)]
    partitions: i32,
    /// Copies of each partition; -1 is the broker's default
    #[arg(short, long, default_value_t = -1, allow_hyphen_values = true)]
    replication_factor: i16,
    /// Configuration, for example -c retention.ms=7d -c cleanup.policy=compact
    #[arg(short, long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// An existing topic is fine
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it would work
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &CreateArgs, client: &ClientArgs) -> Outcome {
    let mut configs = Vec::new();
    for pair in &args.config {
        let (key, value) = key_value(pair)?;
        let mut config = api::create_topics_request::CreatableTopicConfig::default();
        config.name = str_bytes(&key);
        config.value = Some(str_bytes(&config_value(&key, &value)?));
        configs.push(config);
    }
    let mut cluster = client.connect()?;
    let timeout_ms = cluster.timeout_ms();
    let response = cluster.on_controller(|_version| {
        let mut request = api::CreateTopicsRequest::default();
        request.timeout_ms = timeout_ms;
        request.validate_only = args.dry_run;
        request.topics = args
            .topics
            .iter()
            .map(|name| {
                let mut topic = api::create_topics_request::CreatableTopic::default();
                topic.name = topic_name(name);
                topic.num_partitions = args.partitions;
                topic.replication_factor = args.replication_factor;
                topic.configs.clone_from(&configs);
                topic
            })
            .collect();
        request
    })?;
    report(args, client.output, &response)
}

fn report(
    args: &CreateArgs,
    output: OutputFormat,
    response: &api::CreateTopicsResponse,
) -> Outcome {
    let mut table = Table::new(&["topic", "partitions", "replicas", "status"]);
    let mut failures = Vec::new();
    let mut single_copy = false;
    for topic in &response.topics {
        let name = topic.name.0.as_str();
        let exists = topic.error_code == TOPIC_ALREADY_EXISTS;
        let status = match topic.error_code {
            0 if args.dry_run => "WOULD BE CREATED",
            0 => "CREATED",
            _ if exists && args.if_not_exists => "EXISTS",
            code => {
                let doing = format!("creating topic \"{name}\"");
                failures.push(Fault::broker(
                    &doing,
                    code,
                    said(topic.error_message.as_ref()),
                ));
                "FAILED"
            }
        };
        single_copy |= topic.error_code == 0 && topic.replication_factor == 1;
        let known = |count: i64| if count > 0 { json!(count) } else { json!(null) };
        table.row(vec![
            json!(name),
            known(topic.num_partitions.into()),
            known(topic.replication_factor.into()),
            json!(status),
        ]);
    }
    table.print(output);
    if single_copy && args.replication_factor < 0 && output == OutputFormat::Table {
        say("hint: one copy of each partition; its data is lost with that broker's disk");
    }
    first_of(failures, response.topics.len())
}
