//! IncrementalAlterConfigs and AlterConfigs: changes of the configuration of topics, brokers, the
//! default of all brokers and groups, which are replicated, and of this process's log levels, which
//! are not.
//!
//! Values are checked here against the tables of keys; who exists, and what a list is appended to,
//! is decided by the controller. Each resource succeeds or fails on its own, with all of its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_controller::command::{ConfigAlteration, ConfigChange, ConfigOp};
use ottla_controller::record::ConfigResource;
use ottla_controller::{Command, CommandReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use ottla_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, StrBytes, alter_configs_response,
    incremental_alter_configs_response,
};

use crate::broker::Configs;
use crate::config::alter::{self, Change, Operation, Target};
use crate::config::{broker_key, group_key, topic_key};
use crate::context::{RequestContext, TimedOut};
use crate::errors::Failure;
use crate::handlers::loggers::{self, LoggerChange};
use crate::handlers::resource::Resource;
use crate::handlers::wire::{owned, unexpected};
use crate::reply::Reply;

/// The requests have no timeout of their own.
const TIMEOUT_MS: i32 = 30_000;

/// A resource as the request names it, told back in the answer.
struct Named {
    kind: i8,
    name: StrBytes,
}

/// What is wanted of one resource.
enum Wanted {
    Replicated(ConfigAlteration),
    Loggers(Vec<LoggerChange>),
}

/// One resource of a request on its way to an answer.
struct Entry {
    named: Named,
    wanted: Result<Wanted, Failure>,
}

pub fn incremental(
    configs: Configs<'_>,
    ctx: &RequestContext<'_>,
    request: IncrementalAlterConfigsRequest,
) -> Reply<IncrementalAlterConfigsResponse> {
    let entries = request.resources.iter().map(|resource| {
        let named = Named {
            kind: resource.resource_type,
            name: resource.resource_name.clone(),
        };
        let wanted = Resource::parse(named.kind, &named.name, configs.node_id)
            .and_then(|parsed| incremental_change(&configs, parsed, &resource.configs));
        Entry { named, wanted }
    });
    let answers = alter(ctx, entries.collect(), request.validate_only);
    answers.map(|answers| {
        let responses = answers.into_iter().map(|(named, result)| {
            let (code, message) = told(result);
            incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(named.kind)
                .with_resource_name(named.name)
        });
        IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
    })
}

pub fn replace(
    configs: Configs<'_>,
    ctx: &RequestContext<'_>,
    request: AlterConfigsRequest,
) -> Reply<AlterConfigsResponse> {
    let entries = request.resources.iter().map(|resource| {
        let named = Named {
            kind: resource.resource_type,
            name: resource.resource_name.clone(),
        };
        let pairs = resource
            .configs
            .iter()
            .map(|config| (&*config.name, config.value.as_deref()));
        let pairs: Vec<_> = pairs.collect();
        let wanted = Resource::parse(named.kind, &named.name, configs.node_id)
            .and_then(|parsed| replacement(&configs, parsed, &pairs));
        Entry { named, wanted }
    });
    let answers = alter(ctx, entries.collect(), request.validate_only);
    answers.map(|answers| {
        let responses = answers.into_iter().map(|(named, result)| {
            let (code, message) = told(result);
            alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(named.kind)
                .with_resource_name(named.name)
        });
        AlterConfigsResponse::default().with_responses(responses.collect())
    })
}

fn told(result: Result<(), Failure>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (ErrorCode::NONE.0, None),
        Err(failure) => (failure.code.0, Some(failure.message)),
    }
}

fn invalid_request(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::INVALID_REQUEST, message)
}

fn no_log_levels() -> Failure {
    invalid_request("log levels are changed one by one, with IncrementalAlterConfigs")
}

fn no_client_metrics() -> Failure {
    invalid_request("this broker does not collect the metrics of clients")
}

/// Checks the changes as a whole against what is set now. What is sent on are the operations
/// themselves, not their result: two clients that append to a list at the same time must both find
/// their element in it.
fn incremental_change(
    configs: &Configs<'_>,
    resource: Resource,
    changes: &[AlterableConfig],
) -> Result<Wanted, Failure> {
    let resource = match resource {
        Resource::Replicated(resource) => resource,
        Resource::ClientMetrics => return Err(no_client_metrics()),
        Resource::Loggers => return loggers::changes(changes).map(Wanted::Loggers),
    };
    let mut wanted = Vec::with_capacity(changes.len());
    for change in changes {
        let Some(operation) = Operation::from_code(change.config_operation) else {
            let number = change.config_operation;
            return Err(invalid_request(format!(
                "there is no config operation {number}"
            )));
        };
        wanted.push(Change {
            key: &change.name,
            operation,
            value: change.value.as_deref(),
        });
    }
    let image = configs.metadata.image();
    let current = image.configs.of(&resource);
    let target = target(&resource);
    let stored = alter::apply(target, current, &wanted, configs.config)?;
    let ops = wanted.iter().filter_map(|change| {
        let op = match change.operation {
            _ if !stored.contains_key(change.key) => return None,
            Operation::Delete => ConfigOp::Delete,
            Operation::Set => ConfigOp::Set(owned(stored.get(change.key)?.as_deref()?)),
            Operation::Append => ConfigOp::Append {
                elements: elements(change.value),
                default: owned(key_default(target, change.key)),
            },
            Operation::Subtract => ConfigOp::Subtract {
                elements: elements(change.value),
                default: owned(key_default(target, change.key)),
            },
        };
        Some((owned(change.key), op))
    });
    let change = ConfigChange::Incremental(ops.collect());
    Ok(Wanted::Replicated(ConfigAlteration { resource, change }))
}

/// Which table of keys applies.
fn target(resource: &ConfigResource) -> Target {
    match resource {
        ConfigResource::Topic(_) => Target::Topic,
        ConfigResource::Broker(_) => Target::Broker,
        ConfigResource::BrokerDefault => Target::BrokerDefault,
        ConfigResource::Group(_) => Target::Group,
    }
}

/// What a list is appended to while nothing is set.
fn key_default(target: Target, name: &str) -> &'static str {
    let key = match target {
        Target::Topic => topic_key(name),
        Target::Group => group_key(name),
        Target::Broker | Target::BrokerDefault => broker_key(name),
        Target::ClientMetrics => None,
    };
    key.and_then(|key| key.default).unwrap_or_default()
}

fn elements(value: Option<&str>) -> Vec<Arc<str>> {
    let elements = value.unwrap_or_default().split(',').map(str::trim);
    elements
        .filter(|element| !element.is_empty())
        .map(owned)
        .collect()
}

fn replacement(
    configs: &Configs<'_>,
    resource: Resource,
    wanted: &[(&str, Option<&str>)],
) -> Result<Wanted, Failure> {
    let resource = match resource {
        Resource::Replicated(resource) => resource,
        Resource::ClientMetrics => return Err(no_client_metrics()),
        Resource::Loggers => return Err(no_log_levels()),
    };
    let image = configs.metadata.image();
    let current = image.configs.of(&resource);
    let stored = alter::replace(target(&resource), current, wanted, configs.config)?;
    let pairs = stored
        .iter()
        .filter_map(|(key, value)| Some((owned(key), owned(value.as_ref()?))));
    let change = ConfigChange::Replace(pairs.collect());
    Ok(Wanted::Replicated(ConfigAlteration { resource, change }))
}

/// Sends what was accepted to the controller and gives every entry its answer, in the order asked.
fn alter(
    ctx: &RequestContext<'_>,
    mut entries: Vec<Entry>,
    validate_only: bool,
) -> Reply<Vec<(Named, Result<(), Failure>)>> {
    refuse_repeated(&mut entries);
    let mut alterations = Vec::new();
    for entry in &mut entries {
        match &entry.wanted {
            Ok(Wanted::Replicated(alteration)) => alterations.push(alteration.clone()),
            Ok(Wanted::Loggers(changes)) if !validate_only => {
                if let Err(failure) = loggers::apply(changes) {
                    entry.wanted = Err(failure);
                }
            }
            Ok(Wanted::Loggers(_)) | Err(_) => {}
        }
    }
    if alterations.is_empty() {
        let outcomes = BTreeMap::new();
        return Reply::Now(answers(entries, &outcomes, &Failure::unanswered()));
    }
    let command = Command::AlterConfigs {
        resources: alterations,
        validate_only,
    };
    ctx.submit(command, TIMEOUT_MS, move |reply| {
        let (outcomes, otherwise) = outcomes(reply);
        answers(entries, &outcomes, &otherwise)
    })
}

/// A resource that comes twice is refused each time, before anything is changed.
fn refuse_repeated(entries: &mut [Entry]) {
    let key = |named: &Named| (named.kind, named.name.to_string());
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> = entries
        .iter()
        .map(|entry| key(&entry.named))
        .filter(|key| !seen.insert(key.clone()))
        .collect();
    for entry in entries
        .iter_mut()
        .filter(|entry| repeated.contains(&key(&entry.named)))
    {
        entry.wanted = Err(invalid_request(
            "each resource may appear once in a request",
        ));
    }
}

type Outcomes = BTreeMap<ConfigResource, Result<(), Failure>>;

/// What the controller said of each resource, and what to say of those it did not mention.
fn outcomes(reply: Result<CommandReply, TimedOut>) -> (Outcomes, Failure) {
    match reply {
        Ok(CommandReply::ConfigsAltered(results)) => {
            let results = results.into_iter();
            let told = results.map(|(resource, result)| (resource, result.map_err(Failure::from)));
            (told.collect(), Failure::unanswered())
        }
        Ok(CommandReply::Refused(refusal)) => (Outcomes::new(), refusal.into()),
        Ok(other) => (Outcomes::new(), unexpected(&other)),
        Err(timed_out) => (Outcomes::new(), timed_out.into()),
    }
}

fn answers(
    entries: Vec<Entry>,
    outcomes: &Outcomes,
    otherwise: &Failure,
) -> Vec<(Named, Result<(), Failure>)> {
    let answer = |wanted: Result<Wanted, Failure>| match wanted? {
        Wanted::Loggers(_) => Ok(()),
        Wanted::Replicated(alteration) => {
            let outcome = outcomes.get(&alteration.resource).cloned();
            outcome.unwrap_or_else(|| Err(otherwise.clone()))
        }
    };
    entries
        .into_iter()
        .map(|entry| (entry.named, answer(entry.wanted)))
        .collect()
}

#[cfg(test)]
mod tests;
