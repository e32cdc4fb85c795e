//! Changing dynamic configuration. Lists are appended to and subtracted from here, over the
//! committed value, so that two clients that append at the same time both succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::command::{
    AlterConfigsError, BrokerNotRegistered, CommandReply, ConfigAlteration, ConfigChange, ConfigOp,
    LimitExceeded,
};
use crate::decide::{Decision, Limits};
use crate::image::MetadataImage;
use crate::record::{ConfigResource, MetadataRecord};

type Configs = BTreeMap<Arc<str>, Arc<str>>;

pub(super) fn alter(
    image: &MetadataImage,
    limits: &Limits,
    resources: &[ConfigAlteration],
    validate_only: bool,
) -> Decision {
    let mut seen = BTreeMap::<&ConfigResource, usize>::new();
    for alteration in resources {
        *seen.entry(&alteration.resource).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut results = Vec::new();
    let mut answered = BTreeSet::new();
    for alteration in resources {
        let resource = &alteration.resource;
        // A resource that is there twice is answered once.
        if !answered.insert(resource) {
            continue;
        }
        let result = match seen[resource] {
            1 => target(image, limits, alteration),
            _ => Err(AlterConfigsError::DuplicateResource),
        };
        let result = result.map(|target| {
            if !validate_only {
                append_difference(resource, image.configs.of(resource), &target, &mut records);
            }
        });
        results.push((resource.clone(), result));
    }
    Decision {
        records,
        reply: CommandReply::ConfigsAltered(results),
    }
}

/// What the resource's configuration is to be.
fn target(
    image: &MetadataImage,
    limits: &Limits,
    alteration: &ConfigAlteration,
) -> Result<Configs, AlterConfigsError> {
    check_exists(image, &alteration.resource)?;
    let current = image.configs.of(&alteration.resource);
    let target = match &alteration.change {
        ConfigChange::Replace(pairs) => {
            check_keys(pairs.iter().map(|(name, _)| name))?;
            pairs.iter().cloned().collect()
        }
        ConfigChange::Incremental(ops) => {
            check_keys(ops.iter().map(|(name, _)| name))?;
            let mut target = current.clone();
            for (name, op) in ops {
                match resolve(current.get(name), op) {
                    Some(value) => target.insert(name.clone(), value),
                    None => target.remove(name),
                };
            }
            target
        }
    };
    check_values(
        limits,
        target.iter().map(|(name, value)| (&**name, &**value)),
    )?;
    Ok(target)
}

fn check_exists(image: &MetadataImage, resource: &ConfigResource) -> Result<(), AlterConfigsError> {
    match resource {
        ConfigResource::Topic(name) if image.topics.by_name(name).is_none() => {
            Err(AlterConfigsError::UnknownTopic { name: name.clone() })
        }
        ConfigResource::Broker(id) if image.brokers.get(*id).is_none() => {
            Err(BrokerNotRegistered(*id).into())
        }
        ConfigResource::Group(name) if name.is_empty() => Err(AlterConfigsError::EmptyGroupName),
        _ => Ok(()),
    }
}

fn check_keys<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Result<(), AlterConfigsError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(AlterConfigsError::DuplicateKey { name: name.clone() });
        }
    }
    Ok(())
}

/// Keys and values of one resource stay within the limits.
pub(super) fn check_values<'a>(
    limits: &Limits,
    configs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), LimitExceeded> {
    let mut keys = 0;
    for (name, value) in configs {
        keys += 1;
        if name.len().max(value.len()) > limits.config_value_bytes_max {
            return Err(LimitExceeded::ConfigValueSize {
                max: limits.config_value_bytes_max,
            });
        }
    }
    if keys > limits.config_keys_max {
        return Err(LimitExceeded::ConfigKeys {
            max: limits.config_keys_max,
        });
    }
    Ok(())
}

fn resolve(current: Option<&Arc<str>>, op: &ConfigOp) -> Option<Arc<str>> {
    match op {
        ConfigOp::Set(value) => Some(value.clone()),
        ConfigOp::Delete => None,
        ConfigOp::Append { elements, default } => {
            let mut list = list(current.unwrap_or(default));
            for element in elements {
                if !list.contains(&&**element) {
                    list.push(element);
                }
            }
            Some(Arc::from(list.join(",")))
        }
        ConfigOp::Subtract { elements, default } => {
            let mut list = list(current.unwrap_or(default));
            list.retain(|element| !elements.iter().any(|gone| &**gone == *element));
            Some(Arc::from(list.join(",")))
        }
    }
}

fn list(value: &str) -> Vec<&str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect()
}

fn append_difference(
    resource: &ConfigResource,
    current: &Configs,
    target: &Configs,
    records: &mut Vec<MetadataRecord>,
) {
    let mut push = |name: &Arc<str>, value: Option<&Arc<str>>| {
        records.push(MetadataRecord::Config {
            resource: resource.clone(),
            name: name.clone(),
            value: value.cloned(),
        });
    };
    for name in current.keys().filter(|name| !target.contains_key(*name)) {
        push(name, None);
    }
    for (name, value) in target {
        if current.get(name) != Some(value) {
            push(name, Some(value));
        }
    }
}
