//! DescribeConfigs: every key of a topic, broker, group, the default of all brokers, or this
//! process's log levels, with its value and where that comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_controller::record::ConfigResource;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use ottla_protocol::types::BrokerId;

use crate::broker::Configs;
use crate::config::describe::{self, ConfigEntry};
use crate::context::RequestContext;
use crate::errors::Failure;
use crate::handlers::loggers;
use crate::handlers::resource::Resource;
use crate::handlers::wire::text;
use crate::reply::Reply;

pub fn handle(
    configs: Configs<'_>,
    _ctx: &RequestContext<'_>,
    request: DescribeConfigsRequest,
) -> Reply<DescribeConfigsResponse> {
    let image = configs.metadata.image();
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(&configs, &image, resource) {
            Ok(entries) => {
                let rows = wanted(entries, resource).map(|entry| row(entry, &request));
                result.with_configs(rows.collect())
            }
            Err(failure) => result
                .with_error_code(failure.code.0)
                .with_error_message(Some(failure.message)),
        }
    });
    Reply::Now(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn entries(
    configs: &Configs<'_>,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Failure> {
    let name = &*resource.resource_name;
    let parsed = Resource::parse(resource.resource_type, name, configs.node_id)?;
    let resource = match parsed {
        Resource::Replicated(resource) => resource,
        Resource::Loggers => return Ok(loggers::entries()),
        Resource::ClientMetrics => {
            return Ok(describe::describe_client_metrics(
                &BTreeMap::<String, String>::new(),
            ));
        }
    };
    let (broker, cluster) = broker_layers(configs.node_id, image);
    match &resource {
        ConfigResource::Topic(name) if image.topics.by_name(name).is_none() => {
            let message = format!("topic '{name}' does not exist");
            Err(Failure::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message))
        }
        ConfigResource::Topic(_) => Ok(topic_entries(configs, image, image.configs.of(&resource))),
        // Only the broker itself knows its file.
        ConfigResource::Broker(id) if *id != configs.node_id => {
            let message = format!("this is broker {}; ask broker {id} itself", configs.node_id);
            Err(Failure::new(ErrorCode::INVALID_REQUEST, message))
        }
        ConfigResource::Broker(_) => Ok(describe::describe_broker(broker, cluster, configs.config)),
        ConfigResource::BrokerDefault => Ok(describe::describe_broker_defaults(cluster)),
        ConfigResource::Group(_) => {
            let set = image.configs.of(&resource);
            Ok(describe::describe_group(
                set,
                broker,
                cluster,
                configs.config,
            ))
        }
    }
}

type Set = BTreeMap<Arc<str>, Arc<str>>;

/// What is set for this broker, and for all of them.
fn broker_layers(node_id: BrokerId, image: &MetadataImage) -> (&Set, &Set) {
    let broker = image.configs.of(&ConfigResource::Broker(node_id));
    (broker, image.configs.of(&ConfigResource::BrokerDefault))
}

/// What a topic on which `set` is set is configured to.
pub(super) fn topic_entries(
    configs: &Configs<'_>,
    image: &MetadataImage,
    set: &Set,
) -> Vec<ConfigEntry> {
    let (broker, cluster) = broker_layers(configs.node_id, image);
    describe::describe_topic(set, broker, cluster, configs.config)
}

/// No list of keys means all of them; so does an empty one, in Kafka and so here.
fn wanted(
    entries: Vec<ConfigEntry>,
    resource: &DescribeConfigsResource,
) -> impl Iterator<Item = ConfigEntry> {
    let keys = resource.configuration_keys.as_ref();
    let keys = keys.filter(|keys| !keys.is_empty());
    let keys: Option<BTreeSet<&str>> = keys.map(|keys| keys.iter().map(|key| &**key).collect());
    entries
        .into_iter()
        .filter(move |entry| keys.as_ref().is_none_or(|keys| keys.contains(&*entry.name)))
}

fn row(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let type_code = entry.type_code();
    let synonyms = entry
        .synonyms
        .into_iter()
        .filter(|_| request.include_synonyms);
    let synonyms = synonyms.map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(synonym.value.map(text))
            .with_source(synonym.source as i8)
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(type_code)
        .with_documentation(request.include_documentation.then(|| text(entry.doc)))
}

#[cfg(test)]
mod tests;
