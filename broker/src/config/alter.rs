//! Changing configuration at run time: which changes of a topic's, broker's, group's or client
//! metrics resource are allowed, and what they mean for the resource's stored set.
//!
//! Pure: takes what is stored, returns what to store. The caller submits the result to the
//! controller. Keys are checked against their rows, then what the topic would have against rules
//! between keys.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::cordon::{self, CordonError};
use super::group::{self, GroupConfigError};
use super::key::{Dynamic, Key, KeyType, ValueError, split_list};
use super::keys::{
    self, REMOVED_TOPIC_KEYS, broker_key, client_metrics_key, group_key, suggest_topic_key,
    topic_key,
};
use super::{CLIENT_METRICS_KEYS, Config, GROUP_KEYS, TopicConfig};

/// What kind of thing is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Topic,
    /// One broker.
    Broker,
    /// All brokers: the broker resource with the empty name.
    BrokerDefault,
    Group,
    ClientMetrics,
}

/// Operations of IncrementalAlterConfigs, with the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    pub fn from_code(code: i8) -> Option<Operation> {
        match code {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// One wanted change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub key: &'a str,
    pub operation: Operation,
    pub value: Option<&'a str>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AlterError {
    #[error("unknown key {key}{}", hint(*suggestion))]
    UnknownKey {
        key: String,
        suggestion: Option<&'static str>,
    },
    #[error("{key} no longer exists in Kafka 4: {why}")]
    RemovedKey { key: String, why: &'static str },
    #[error("invalid value for {key}: {problem}")]
    InvalidValue { key: String, problem: ValueError },
    #[error("{key} is read-only: change it in the configuration file and restart the broker")]
    ReadOnly { key: String },
    #[error("{key} can be set for one broker only, not as the default of all")]
    NotADefault { key: String },
    #[error("{key} is not a list, so nothing can be appended or subtracted")]
    NotAList { key: String },
    #[error("{key} needs a value")]
    NullValue { key: String },
    #[error("{key} is changed twice in one request")]
    DuplicateKey { key: String },
    #[error("min.compaction.lag.ms {min_ms} is above max.compaction.lag.ms {max_ms}")]
    CompactionLag { min_ms: i64, max_ms: i64 },
    #[error(transparent)]
    Group(#[from] GroupConfigError),
    #[error(transparent)]
    Cordon(#[from] CordonError),
}

fn hint(suggestion: Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// What to store: `None` removes the key.
pub type Changes = BTreeMap<String, Option<String>>;

/// IncrementalAlterConfigs: the operations turned into what to store, given what is stored now.
pub fn apply<K, V>(
    target: Target,
    current: &BTreeMap<K, V>,
    changes: &[Change<'_>],
    config: &Config,
) -> Result<Changes, AlterError>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let mut resolved = Changes::new();
    for change in changes {
        let now = current.get(change.key).map(AsRef::as_ref);
        let Some(value) = resolve(target, now, change, config)? else {
            continue;
        };
        if resolved.insert(change.key.to_owned(), value).is_some() {
            return Err(AlterError::DuplicateKey {
                key: change.key.to_owned(),
            });
        }
    }
    check_together(target, current, &resolved, config)?;
    Ok(resolved)
}

/// AlterConfigs, the older form: `wanted` replaces everything that is set.
pub fn replace<K, V>(
    target: Target,
    current: &BTreeMap<K, V>,
    wanted: &[(&str, Option<&str>)],
    config: &Config,
) -> Result<Changes, AlterError>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let mut resolved: Changes = current
        .keys()
        .map(|key| (key.borrow().to_owned(), None))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for (key, value) in wanted {
        if !seen.insert(*key) {
            return Err(AlterError::DuplicateKey {
                key: (*key).to_owned(),
            });
        }
        let change = Change {
            key,
            operation: Operation::Set,
            value: *value,
        };
        if let Some(value) = resolve(target, None, &change, config)? {
            resolved.insert((*key).to_owned(), value);
        }
    }
    check_together(target, current, &resolved, config)?;
    Ok(resolved)
}

/// The configs of a topic that is created, checked as if they were set on it.
pub fn check_new_topic<'a>(
    configs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    config: &Config,
) -> Result<BTreeMap<String, String>, AlterError> {
    let wanted: Vec<_> = configs.into_iter().collect();
    let nothing = BTreeMap::<String, String>::new();
    let changes = replace(Target::Topic, &nothing, &wanted, config)?;
    Ok(changes
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect())
}

/// What a change stores under its key; nothing for a dropped key that is accepted and forgotten.
fn resolve(
    target: Target,
    now: Option<&str>,
    change: &Change<'_>,
    config: &Config,
) -> Result<Option<Option<String>>, AlterError> {
    let name = change.key;
    if change.operation == Operation::Delete {
        // Whatever is stored can be removed, also what a later version no longer knows.
        return match find_key(target, name) {
            Ok(_) | Err(AlterError::UnknownKey { .. }) => Ok(Some(None)),
            Err(error) => Err(error),
        };
    }
    let removed = REMOVED_TOPIC_KEYS
        .iter()
        .find(|removed| removed.name == name);
    if let Some(removed) = removed.filter(|_| target == Target::Topic) {
        if config.strict_topic_keys {
            return Err(AlterError::RemovedKey {
                key: name.to_owned(),
                why: removed.why,
            });
        }
        return Ok(None);
    }
    let key = find_key(target, name)?;
    let wanted = change.value.ok_or_else(|| AlterError::NullValue {
        key: name.to_owned(),
    })?;
    let text = match change.operation {
        Operation::Set | Operation::Delete => wanted.trim().to_owned(),
        Operation::Append => edit_list(key, now, |items| {
            for item in split_list(wanted) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        })?,
        Operation::Subtract => edit_list(key, now, |items| {
            let gone = split_list(wanted);
            items.retain(|item| !gone.contains(item));
        })?,
    };
    key.parse(&text)
        .map_err(|problem| AlterError::InvalidValue {
            key: name.to_owned(),
            problem,
        })?;
    Ok(Some(Some(text)))
}

/// As in Kafka, a list that was never set starts from the key's built-in default.
fn edit_list(
    key: &Key,
    now: Option<&str>,
    edit: impl FnOnce(&mut Vec<String>),
) -> Result<String, AlterError> {
    if key.key_type != KeyType::List {
        return Err(AlterError::NotAList {
            key: key.name.to_owned(),
        });
    }
    let mut items = split_list(now.or(key.default).unwrap_or_default());
    edit(&mut items);
    Ok(items.join(","))
}

/// The row of a key that may be changed on this target.
fn find_key(target: Target, name: &str) -> Result<&'static Key, AlterError> {
    let unknown = |suggestion| AlterError::UnknownKey {
        key: name.to_owned(),
        suggestion,
    };
    let names = |keys: &'static [Key]| keys.iter().map(|key| key.name);
    match target {
        Target::Topic => topic_key(name).ok_or_else(|| unknown(suggest_topic_key(name))),
        Target::Group => {
            group_key(name).ok_or_else(|| unknown(keys::suggest(name, names(GROUP_KEYS))))
        }
        Target::ClientMetrics => client_metrics_key(name)
            .ok_or_else(|| unknown(keys::suggest(name, names(CLIENT_METRICS_KEYS)))),
        Target::Broker | Target::BrokerDefault => {
            let specific = keys::listener_specific(name);
            let key = broker_key(name)
                .or(specific)
                .ok_or_else(|| unknown(keys::suggest_broker_key(name)))?;
            let key_name = || name.to_owned();
            match key.dynamic {
                Dynamic::ReadOnly => Err(AlterError::ReadOnly { key: key_name() }),
                Dynamic::PerBroker if target == Target::BrokerDefault => {
                    Err(AlterError::NotADefault { key: key_name() })
                }
                _ => Ok(key),
            }
        }
    }
}

/// Rules between keys, on what the resource would have.
fn check_together<K, V>(
    target: Target,
    current: &BTreeMap<K, V>,
    changes: &Changes,
    config: &Config,
) -> Result<(), AlterError>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    if !matches!(target, Target::Topic | Target::Group) {
        let cordoned = changes.get(cordon::KEY).and_then(Option::as_deref);
        let cordoned = split_list(cordoned.unwrap_or_default());
        return Ok(cordon::check(&cordoned, &config.log_dirs)?);
    }
    let mut result: BTreeMap<&str, &str> = current
        .iter()
        .map(|(key, value)| (key.borrow(), value.as_ref()))
        .collect();
    for (key, value) in changes {
        match value {
            Some(value) => result.insert(key, value),
            None => result.remove(key.as_str()),
        };
    }
    if target == Target::Group {
        return Ok(group::check(result, config)?);
    }
    let nothing = BTreeMap::new();
    let topic = TopicConfig::effective(&result, &nothing, &nothing, config);
    let (min_ms, max_ms) = (topic.min_compaction_lag_ms, topic.max_compaction_lag_ms);
    if min_ms > max_ms {
        return Err(AlterError::CompactionLag { min_ms, max_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
