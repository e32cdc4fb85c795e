//! `ottla topic config`: show, set and reset the configuration of one topic.

use clap::Args;
use ottla_protocol::messages as api;
use serde_json::json;

use crate::arguments::ClientArgs;
use crate::client::{Cluster, str_bytes};
use crate::commands::said;
use crate::fault::{Fault, Outcome};
use crate::output::Table;
use crate::values::{config_value, key_value};

const RESOURCE_TOPIC: i8 = 2;
const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const SOURCE_TOPIC: i8 = 1;

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Name of the topic
    topic: String,
    /// Set a key, for example --set retention.ms=7d
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go back to the default of a key
    #[arg(long, value_name = "KEY")]
    reset: Vec<String>,
    /// Show every key, not only those set on the topic
    #[arg(short, long)]
    all: bool,
    /// Only check whether the change would work
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &ConfigArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    cluster.existing_topics(std::slice::from_ref(&args.topic))?;
    if !args.set.is_empty() || !args.reset.is_empty() {
        change(args, &mut cluster)?;
    }
    show(args, client, &mut cluster)
}

fn change(args: &ConfigArgs, cluster: &mut Cluster) -> Outcome {
    let mut changes = Vec::new();
    for pair in &args.set {
        let (key, value) = key_value(pair)?;
        let value = config_value(&key, &value)?;
        changes.push((key, OPERATION_SET, Some(value)));
    }
    changes.extend(
        args.reset
            .iter()
            .map(|key| (key.clone(), OPERATION_DELETE, None)),
    );
    let response = cluster.on_controller(|_version| {
        let mut resource = api::incremental_alter_configs_request::AlterConfigsResource::default();
        resource.resource_type = RESOURCE_TOPIC;
        resource.resource_name = str_bytes(&args.topic);
        resource.configs = changes
            .iter()
            .map(|(key, operation, value)| {
                let mut config = api::incremental_alter_configs_request::AlterableConfig::default();
                config.name = str_bytes(key);
                config.config_operation = *operation;
                config.value = value.as_deref().map(str_bytes);
                config
            })
            .collect();
        let mut request = api::IncrementalAlterConfigsRequest::default();
        request.resources = vec![resource];
        request.validate_only = args.dry_run;
        request
    })?;
    for result in &response.responses {
        if result.error_code != 0 {
            let doing = format!("changing topic \"{}\"", args.topic);
            let message = said(result.error_message.as_ref());
            return Err(Fault::broker(&doing, result.error_code, message));
        }
    }
    Ok(())
}

fn show(args: &ConfigArgs, client: &ClientArgs, cluster: &mut Cluster) -> Outcome {
    let response = cluster.any(|version| {
        let mut resource = api::describe_configs_request::DescribeConfigsResource::default();
        resource.resource_type = RESOURCE_TOPIC;
        resource.resource_name = str_bytes(&args.topic);
        resource.configuration_keys = None;
        let mut request = api::DescribeConfigsRequest::default();
        request.resources = vec![resource];
        if version >= 3 {
            request.include_documentation = true;
        }
        request
    })?;
    let mut table = Table::new(&["key", "value", "source", "documentation"]);
    for result in &response.results {
        if result.error_code != 0 {
            let doing = format!("describing topic \"{}\"", args.topic);
            let message = said(result.error_message.as_ref());
            return Err(Fault::broker(&doing, result.error_code, message));
        }
        let mut configs: Vec<_> = result.configs.iter().collect();
        configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        for config in configs {
            if !args.all && config.config_source != SOURCE_TOPIC {
                continue;
            }
            table.row(vec![
                json!(config.name.as_str()),
                json!(config.value.as_ref().map(|value| value.as_str())),
                json!(source_name(config.config_source)),
                json!(config.documentation.as_ref().map(|text| text.as_str())),
            ]);
        }
    }
    if table.is_empty() && !args.all {
        crate::output::say("nothing is set on this topic; --all shows the defaults");
    }
    table.print(client.output);
    Ok(())
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "cluster",
        4 => "broker file",
        5 => "default",
        6 => "logger",
        _ => "unknown",
    }
}
