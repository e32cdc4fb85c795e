//! DescribeConfigs: every key of a resource with its value, where the value comes from, and the
//! other sources it would fall back to, in precedence order.
//!
//! The rules of sources and synonyms are Kafka's, because tools compare them: a topic's value is
//! `DynamicTopic` only if it was set on the topic itself. One difference is wanted: a topic value
//! that comes from `log.retention.hours` in the file says so, where Kafka calls it a default.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::key::{Key, KeyType, Value};
use super::keys::{self, broker_key};
use super::source::{Layers, Origin};
use super::topic::broker_wide_value;
use super::{CLIENT_METRICS_KEYS, Config, GROUP_KEYS, TOPIC_KEYS};

/// Where a value comes from; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
    DynamicClientMetrics = 7,
    DynamicGroup = 8,
}

/// One source a value could come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    /// `None` for secrets.
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: null, or a secret.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
    /// Highest precedence first, the value in force included.
    pub synonyms: Vec<Synonym>,
    /// `None`: a key of the file that nobody knows; its value may be a secret and is not shown.
    pub key_type: Option<KeyType>,
    pub doc: &'static str,
}

impl ConfigEntry {
    /// The protocol's number of the type; 0 for unknown.
    pub fn type_code(&self) -> i8 {
        self.key_type.map_or(0, |key_type| key_type as i8)
    }
}

/// What one broker has: its own dynamic configs, those of all brokers, its file.
pub fn describe_broker<K, V>(
    broker_dynamic: &BTreeMap<K, V>,
    cluster_dynamic: &BTreeMap<K, V>,
    config: &Config,
) -> Vec<ConfigEntry>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let layers = Layers::new(broker_dynamic, cluster_dynamic, &config.static_values);
    let is_set = |key: &Key| !layered_synonyms(key, key.name, &layers, false).is_empty();
    let known = keys::all_broker_keys()
        .filter(|key| !key.listed_when_set || is_set(key))
        .map(|key| broker_entry(key, &layers));
    let unknown = config
        .static_values
        .iter()
        .filter(|(name, _)| is_unknown(name))
        .map(|(name, _)| unknown_entry(name));
    known.chain(unknown).collect()
}

/// The defaults of all brokers: only what was set.
pub fn describe_broker_defaults<K, V>(cluster_dynamic: &BTreeMap<K, V>) -> Vec<ConfigEntry>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let set = cluster_dynamic.iter();
    set.filter_map(|(name, text)| {
        let key = broker_key(name.borrow())?;
        let value = shown(key, text.as_ref());
        let source = ConfigSource::DynamicDefaultBroker;
        let synonyms = vec![Synonym {
            name: key.name.to_owned(),
            value: value.clone(),
            source,
        }];
        Some(entry(key, value, source, synonyms))
    })
    .collect()
}

pub fn describe_topic<K, V>(
    topic_overrides: &BTreeMap<K, V>,
    broker_dynamic: &BTreeMap<K, V>,
    cluster_dynamic: &BTreeMap<K, V>,
    config: &Config,
) -> Vec<ConfigEntry>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let layers = Layers::new(broker_dynamic, cluster_dynamic, &config.static_values);
    let set = |name: &str| topic_overrides.get(name).map(AsRef::as_ref);
    let source = ConfigSource::DynamicTopic;
    TOPIC_KEYS
        .iter()
        .map(|key| inheriting_entry(key, set(key.name), source, &layers))
        .collect()
}

pub fn describe_group<K, V>(
    group_overrides: &BTreeMap<K, V>,
    broker_dynamic: &BTreeMap<K, V>,
    cluster_dynamic: &BTreeMap<K, V>,
    config: &Config,
) -> Vec<ConfigEntry>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let layers = Layers::new(broker_dynamic, cluster_dynamic, &config.static_values);
    let set = |name: &str| group_overrides.get(name).map(AsRef::as_ref);
    let source = ConfigSource::DynamicGroup;
    let describe = |key: &'static Key| {
        let mut entry = inheriting_entry(key, set(key.name), source, &layers);
        if key.synonyms.is_empty() {
            // A group key without a broker key is its own default.
            let value = key.default.map(str::to_owned);
            let source = ConfigSource::Default;
            entry.synonyms.push(Synonym {
                name: key.name.to_owned(),
                value,
                source,
            });
        }
        entry
    };
    GROUP_KEYS.iter().map(describe).collect()
}

pub fn describe_client_metrics<K, V>(overrides: &BTreeMap<K, V>) -> Vec<ConfigEntry>
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    let describe = |key: &'static Key| {
        let set = overrides.get(key.name).map(AsRef::as_ref);
        let synonym = set.map(|text| Synonym {
            name: key.name.to_owned(),
            value: shown(key, text),
            source: ConfigSource::DynamicClientMetrics,
        });
        let value = set.or(key.default).and_then(|text| shown(key, text));
        let source = synonym
            .as_ref()
            .map_or(ConfigSource::Default, |synonym| synonym.source);
        entry(key, value, source, synonym.into_iter().collect())
    };
    CLIENT_METRICS_KEYS.iter().map(describe).collect()
}

/// The broker-logger resource: rows of logger and level, as `logging::levels` has them.
pub fn describe_broker_loggers(rows: Vec<(String, &'static str)>) -> Vec<ConfigEntry> {
    let describe = |(name, level): (String, &'static str)| ConfigEntry {
        name,
        value: Some(level.to_owned()),
        source: ConfigSource::DynamicBrokerLogger,
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        key_type: Some(KeyType::String),
        doc: "Level of the log lines of a module and everything below it.",
    };
    rows.into_iter().map(describe).collect()
}

fn broker_entry(key: &'static Key, layers: &Layers<'_>) -> ConfigEntry {
    let mut synonyms = Vec::new();
    for name in names_sharing_a_meaning(key.name) {
        let same = broker_key(name).expect("names of one meaning are keys");
        synonyms.extend(layered_synonyms(same, name, layers, true));
    }
    sort_by_precedence(&mut synonyms);
    // What only another unit's key says is not this key's value.
    let own = synonyms.iter().position(|synonym| synonym.name == key.name);
    synonyms.drain(..own.unwrap_or(synonyms.len()));
    let source = synonyms
        .first()
        .map_or(ConfigSource::Default, |synonym| synonym.source);
    let value = synonyms.first().and_then(|synonym| synonym.value.clone());
    let mut entry = entry(key, value, source, synonyms);
    entry.read_only = key.is_read_only();
    entry
}

/// A topic's or group's key: its own value, then what its synonyms have.
fn inheriting_entry(
    key: &'static Key,
    set: Option<&str>,
    source_when_set: ConfigSource,
    layers: &Layers<'_>,
) -> ConfigEntry {
    let mut synonyms = Vec::new();
    for (name, _) in key.synonyms {
        let broker = broker_key(name).expect("a synonym is a broker key");
        synonyms.extend(layered_synonyms(broker, name, layers, true));
    }
    sort_by_precedence(&mut synonyms);
    // The default of another unit's key is not listed: the key's own default says the same.
    let first = key.synonyms.first().map(|(name, _)| *name);
    let stray = |synonym: &Synonym| {
        synonym.source == ConfigSource::Default && Some(synonym.name.as_str()) != first
    };
    if !synonyms
        .iter()
        .any(|synonym| Some(synonym.name.as_str()) == first)
    {
        synonyms.retain(|synonym| !stray(synonym));
    }
    if let Some(text) = set {
        let value = shown(key, text);
        let name = key.name.to_owned();
        synonyms.insert(
            0,
            Synonym {
                name,
                value,
                source: source_when_set,
            },
        );
    }
    let value = match set {
        Some(text) => shown(key, text),
        None => broker_wide_value(key, layers)
            .map(|value| value.to_string())
            .or_else(|| key.default.map(str::to_owned)),
    };
    let source = synonyms
        .first()
        .map_or(ConfigSource::Default, |synonym| synonym.source);
    entry(key, value, source, synonyms)
}

/// The sources that give one broker key a value, highest first.
fn layered_synonyms(
    key: &Key,
    name: &str,
    layers: &Layers<'_>,
    with_default: bool,
) -> Vec<Synonym> {
    let synonym = |text: &str, source| Synonym {
        name: name.to_owned(),
        value: shown(key, text),
        source,
    };
    let mut synonyms = Vec::new();
    if let Some(text) = layers.broker_dynamic(name) {
        synonyms.push(synonym(text, ConfigSource::DynamicBroker));
    }
    if let Some(text) = layers.cluster_dynamic(name) {
        synonyms.push(synonym(text, ConfigSource::DynamicDefaultBroker));
    }
    // An empty value of a key without default is null, and null is not a source.
    let set = layers.static_values().get(name);
    let set = set.filter(|value| key.default.is_some() || !value.text.trim().is_empty());
    let product_default = set.filter(|value| value.origin == Origin::Default);
    if let Some(value) = set.filter(|value| value.origin != Origin::Default) {
        synonyms.push(synonym(&value.text, ConfigSource::StaticBroker));
    }
    let default = product_default
        .map(|value| value.text.as_str())
        .or(key.default);
    if let Some(text) = default.filter(|_| with_default) {
        synonyms.push(synonym(text, ConfigSource::Default));
    }
    synonyms
}

/// The keys that say the same in other units (`log.retention.ms`, `.minutes`, `.hours`), highest
/// precedence first; most keys are alone.
fn names_sharing_a_meaning(name: &'static str) -> Vec<&'static str> {
    let shared = TOPIC_KEYS
        .iter()
        .find(|key| key.synonyms.len() > 1 && key.synonyms.iter().any(|(one, _)| *one == name));
    shared.map_or_else(
        || vec![name],
        |key| key.synonyms.iter().map(|(one, _)| *one).collect(),
    )
}

/// Sources first, units second: a stable sort keeps the units' order within a source.
fn sort_by_precedence(synonyms: &mut [Synonym]) {
    synonyms.sort_by_key(|synonym| synonym.source as i8);
}

/// A row that can be changed; only broker keys may be read-only.
fn entry(
    key: &'static Key,
    value: Option<String>,
    source: ConfigSource,
    synonyms: Vec<Synonym>,
) -> ConfigEntry {
    ConfigEntry {
        name: key.name.to_owned(),
        value,
        source,
        read_only: false,
        sensitive: key.is_sensitive(),
        synonyms,
        key_type: Some(key.key_type),
        doc: key.doc,
    }
}

fn is_unknown(name: &str) -> bool {
    matches!(
        keys::unknown_key_notice(name, &Origin::Override),
        Some(super::Notice::UnknownKey { .. })
    ) && broker_key(name).is_none()
}

fn unknown_entry(name: &str) -> ConfigEntry {
    let source = ConfigSource::StaticBroker;
    ConfigEntry {
        name: name.to_owned(),
        value: None,
        source,
        read_only: true,
        sensitive: true,
        synonyms: vec![Synonym {
            name: name.to_owned(),
            value: None,
            source,
        }],
        key_type: None,
        doc: "",
    }
}

/// A value as Kafka prints it; nothing for a secret.
fn shown(key: &Key, text: &str) -> Option<String> {
    if key.is_sensitive() {
        return None;
    }
    Some(
        key.parse(text)
            .map_or_else(|_| text.trim().to_owned(), |value| value.to_string()),
    )
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Short(value) => write!(f, "{value}"),
            Value::Long(value) => write!(f, "{value}"),
            Value::Double(value) => f.write_str(&java_double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Java prints large and small numbers with an exponent, and always a decimal point.
fn java_double(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        let text = format!("{value:E}");
        return match text.split_once('E') {
            Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
            _ => text,
        };
    }
    format!("{value:?}")
}
