//! CreateTopics: each topic of the request is created or refused on its own, in one command to the
//! controller. Answers when the topics are durable and visible here, or when the client's time is
//! up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_controller::command::{CreateTopicError, CreateTopics, CreatedTopic, NewTopic};
use ottla_controller::{Command, CommandReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::{Broker, Topics};
use crate::config::alter::{self, AlterError};
use crate::context::{RequestContext, TimedOut};
use crate::errors::Failure;
use crate::handlers::describe_configs::topic_entries;
use crate::handlers::metadata::default_shape;
use crate::handlers::wire::{
    CLUSTER_METADATA_TOPIC, our_broker_ids, owned, text, unexpected, wire_name,
};
use crate::reply::Reply;

/// From here the answer carries the topic's configuration and shape.
const CONFIGS_FROM: i16 = 5;

type Outcome = Result<CreatedTopic, Failure>;

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: CreateTopicsRequest,
) -> Reply<CreateTopicsResponse> {
    let order = names_in_order(&request.topics);
    let repeated = repeated_names(&request.topics);
    let mut outcomes = BTreeMap::<Arc<str>, Outcome>::new();
    let mut accepted = Vec::new();
    for topic in &request.topics {
        let name = owned(&topic.name.0);
        let checked = match repeated.contains(&name) {
            true => Err(CreateTopicError::DuplicateInRequest { name: name.clone() }.into()),
            false => new_topic(&topics, topic),
        };
        match checked {
            Ok(topic) => accepted.push(topic),
            Err(failure) => {
                outcomes.insert(name, Err(failure));
            }
        }
    }
    let broker = Arc::clone(ctx.broker);
    let version = ctx.version;
    if accepted.is_empty() {
        return Reply::Now(response(&broker, version, &order, outcomes));
    }
    let command = Command::CreateTopics(CreateTopics {
        topics: accepted,
        defaults: default_shape(&topics),
        validate_only: request.validate_only,
    });
    ctx.submit(command, request.timeout_ms, move |reply| {
        merge(&mut outcomes, &order, reply);
        response(&broker, version, &order, outcomes)
    })
}

/// Each name once.
fn names_in_order(topics: &[CreatableTopic]) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    let names = topics.iter().map(|topic| owned(&topic.name.0));
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn repeated_names(topics: &[CreatableTopic]) -> BTreeSet<Arc<str>> {
    let mut seen = BTreeSet::new();
    let names = topics.iter().map(|topic| owned(&topic.name.0));
    names.filter(|name| !seen.insert(name.clone())).collect()
}

fn new_topic(topics: &Topics<'_>, topic: &CreatableTopic) -> Result<NewTopic, Failure> {
    let name = owned(&topic.name.0);
    if &*name == CLUSTER_METADATA_TOPIC {
        let message = format!("the name {CLUSTER_METADATA_TOPIC} is reserved");
        return Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
    }
    // One that is there already is refused for that.
    if topics.metadata.image().topics.by_name(&name).is_none() {
        if topic.assignments.is_empty() {
            topics.log_dirs.takes_more()?;
        }
        topics.log_dirs.room_for_more()?;
    }
    let assignments = topic.assignments.iter().map(|assigned| {
        (
            assigned.partition_index,
            our_broker_ids(&assigned.broker_ids),
        )
    });
    Ok(NewTopic {
        name,
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs(topics, &topic.configs)?,
    })
}

/// A key that is there twice has its last value, as in Kafka.
fn configs(
    topics: &Topics<'_>,
    configs: &[CreatableTopicConfig],
) -> Result<BTreeMap<Arc<str>, Arc<str>>, Failure> {
    let last: BTreeMap<&str, Option<&str>> = configs
        .iter()
        .map(|config| (&*config.name, config.value.as_deref()))
        .collect();
    match alter::check_new_topic(last, topics.config) {
        Ok(checked) => Ok(checked
            .iter()
            .map(|(key, value)| (owned(key), owned(value)))
            .collect()),
        // Elsewhere null is a malformed request; here Kafka takes it for a bad value.
        Err(error @ AlterError::NullValue { .. }) => {
            Err(Failure::new(ErrorCode::INVALID_CONFIG, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn merge(
    outcomes: &mut BTreeMap<Arc<str>, Outcome>,
    order: &[Arc<str>],
    reply: Result<CommandReply, TimedOut>,
) {
    let failure = match reply {
        Ok(CommandReply::TopicsCreated(results)) => {
            let results = results.into_iter();
            outcomes.extend(results.map(|(name, result)| (name, result.map_err(Failure::from))));
            return;
        }
        Ok(CommandReply::Refused(refusal)) => Failure::from(refusal),
        Ok(other) => unexpected(&other),
        Err(timed_out) => Failure::from(timed_out),
    };
    for name in order {
        outcomes
            .entry(name.clone())
            .or_insert_with(|| Err(failure.clone()));
    }
}

fn response(
    broker: &Broker,
    version: i16,
    order: &[Arc<str>],
    mut outcomes: BTreeMap<Arc<str>, Outcome>,
) -> CreateTopicsResponse {
    let results = order.iter().map(|name| {
        let result = CreatableTopicResult::default().with_name(wire_name(name));
        match outcomes
            .remove(name)
            .unwrap_or_else(|| Err(Failure::unanswered()))
        {
            Ok(created) if version >= CONFIGS_FROM => {
                described(result, created_configs(broker, &created), &created)
            }
            Ok(created) => result
                .with_topic_id(created.topic_id.0)
                .with_error_message(None),
            Err(failure) => result
                .with_error_code(failure.code.0)
                .with_error_message(Some(failure.message))
                .with_configs(Some(Vec::new())),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn described(
    result: CreatableTopicResult,
    configs: Vec<CreatableTopicConfigs>,
    created: &CreatedTopic,
) -> CreatableTopicResult {
    result
        .with_topic_id(created.topic_id.0)
        .with_error_message(None)
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs))
}

/// Everything the topic is configured to, its defaults included.
fn created_configs(broker: &Broker, created: &CreatedTopic) -> Vec<CreatableTopicConfigs> {
    let entries = topic_entries(
        &broker.configs(),
        &broker.metadata.image(),
        &created.configs,
    );
    let entries = entries.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(entry.value.map(text))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source as i8)
            .with_is_sensitive(entry.sensitive)
    });
    entries.collect()
}

#[cfg(test)]
mod tests;
