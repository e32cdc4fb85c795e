//! What we answer to DescribeConfigs against what Apache Kafka 4.3.0 itself answers, key by key.
//! The facts in `broker/tests/data/kafka_4_3_configs.tsv` were measured on a freshly formatted
//! single node; every wanted difference is named below with its reason.

use std::collections::{BTreeMap, BTreeSet};

use ottla_broker::config::describe::{self, ConfigEntry, ConfigSource};
use ottla_broker::config::{Config, KeyType};

const FACTS: &str = include_str!("data/kafka_4_3_configs.tsv");

/// What the measured node was started with.
const MEASURED_NODE: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("process.roles", "broker,controller"),
    (
        "listeners",
        "PLAINTEXT://127.0.0.1:9592,CONTROLLER://127.0.0.1:9593",
    ),
    ("controller.listener.names", "CONTROLLER"),
    ("controller.quorum.voters", "1@127.0.0.1:9593"),
    ("log.dirs", "DIR"),
    ("offsets.topic.replication.factor", "1"),
];

/// Differences we want: resource, key, column, our value, why.
const WANTED: &[(&str, &str, &str, &str, &str)] = &[(
    "BROKER",
    "log.dir",
    "value",
    "/var/lib/ottla",
    "the data directory is never a temporary one",
)];

/// Keys that only we have.
fn is_our_own(name: &str) -> bool {
    name.starts_with("ottla.")
}

fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
        ConfigSource::DynamicClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
        ConfigSource::DynamicGroup => "GROUP_CONFIG",
    }
}

const COLUMNS: [&str; 6] = ["type", "value", "source", "update", "sensitive", "synonyms"];

fn columns(entry: &ConfigEntry) -> [String; 6] {
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|synonym| format!("{}:{}", source_name(synonym.source), synonym.name))
        .collect();
    [
        entry
            .key_type
            .map_or("UNKNOWN", KeyType::name)
            .to_uppercase(),
        entry.value.clone().unwrap_or_else(|| "null".to_owned()),
        source_name(entry.source).to_owned(),
        if entry.read_only {
            "read-only"
        } else {
            "dynamic"
        }
        .to_owned(),
        if entry.sensitive { "sensitive" } else { "" }.to_owned(),
        synonyms.join(","),
    ]
}

fn our_answers() -> BTreeMap<(&'static str, String), ConfigEntry> {
    let config = Config::from_pairs(MEASURED_NODE.iter().copied()).expect("Kafka's file is valid");
    let none = BTreeMap::<String, String>::new();
    // Eligible leader replicas make Kafka set this for the whole cluster.
    let cluster = BTreeMap::from([("min.insync.replicas".to_owned(), "1".to_owned())]);
    let answers = [
        (
            "BROKER",
            describe::describe_broker(&none, &cluster, &config),
        ),
        (
            "TOPIC",
            describe::describe_topic(&none, &none, &cluster, &config),
        ),
        (
            "GROUP",
            describe::describe_group(&none, &none, &cluster, &config),
        ),
        ("CLIENT_METRICS", describe::describe_client_metrics(&none)),
    ];
    answers
        .into_iter()
        .flat_map(|(resource, entries)| {
            entries
                .into_iter()
                .map(move |entry| ((resource, entry.name.clone()), entry))
        })
        .collect()
}

#[test]
fn every_answer_is_kafkas_except_the_wanted_differences() {
    let ours = our_answers();
    let mut differences = Vec::new();
    let mut wanted: BTreeSet<_> = WANTED.iter().map(|(r, k, c, _, _)| (*r, *k, *c)).collect();
    let mut seen = BTreeSet::new();
    for line in FACTS.lines().skip(1) {
        let facts: Vec<&str> = line.split('\t').collect();
        let [resource, name, facts @ ..] = facts.as_slice() else {
            panic!("{line}")
        };
        seen.insert(((*resource).to_owned(), (*name).to_owned()));
        let Some((_, entry)) = ours.iter().find(|((r, n), _)| r == resource && n == name) else {
            differences.push(format!("{resource} {name} is missing"));
            continue;
        };
        let ours = columns(entry);
        for (at, column) in COLUMNS.iter().enumerate() {
            let theirs = facts.get(at).copied().unwrap_or("");
            if ours[at] == theirs {
                continue;
            }
            let is_wanted = WANTED.iter().any(|(r, k, c, value, _)| {
                (r, k, c) == (resource, name, column) && *value == ours[at]
            });
            if !is_wanted {
                differences.push(format!(
                    "{resource} {name} {column}: {} not {theirs}",
                    ours[at]
                ));
            }
            wanted.remove(&(*resource, *name, *column));
        }
    }
    for (resource, name) in ours.keys() {
        if !is_our_own(name) && !seen.contains(&((*resource).to_owned(), name.clone())) {
            differences.push(format!("{resource} {name} is not in Kafka"));
        }
    }
    differences.extend(
        wanted
            .iter()
            .map(|difference| format!("{difference:?} is no difference")),
    );
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    assert_eq!(seen.len(), 393);
}

#[test]
fn every_answer_has_a_sentence_of_documentation() {
    for ((resource, name), entry) in our_answers() {
        assert!(entry.doc.ends_with('.'), "{resource} {name}");
    }
}

fn entry<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
    entries
        .iter()
        .find(|entry| entry.name == name)
        .expect("a described key")
}

fn synonyms(entry: &ConfigEntry) -> Vec<String> {
    let show = |s: &describe::Synonym| {
        let value = s.value.as_deref().unwrap_or("null");
        format!("{}:{}={value}", source_name(s.source), s.name)
    };
    entry.synonyms.iter().map(show).collect()
}

#[test]
fn a_topics_source_is_the_topic_only_for_keys_set_on_it() {
    let config = Config::from_pairs([("log.segment.bytes", "2097152")]).expect("valid");
    let topic = BTreeMap::from([("segment.bytes", "4194304")]);
    let cluster = BTreeMap::from([
        ("log.segment.bytes", "3145728"),
        ("message.max.bytes", "77"),
    ]);
    let none = BTreeMap::new();
    let entries = describe::describe_topic(&topic, &none, &cluster, &config);
    assert_eq!(
        synonyms(entry(&entries, "segment.bytes")),
        [
            "DYNAMIC_TOPIC_CONFIG:segment.bytes=4194304",
            "DYNAMIC_DEFAULT_BROKER_CONFIG:log.segment.bytes=3145728",
            "STATIC_BROKER_CONFIG:log.segment.bytes=2097152",
            "DEFAULT_CONFIG:log.segment.bytes=1073741824",
        ]
    );
    let inherited = entry(&entries, "max.message.bytes");
    assert_eq!(inherited.value.as_deref(), Some("77"));
    assert_eq!(inherited.source, ConfigSource::DynamicDefaultBroker);
    assert_eq!(
        entry(&entries, "retention.ms").source,
        ConfigSource::Default
    );
}

#[test]
fn a_topic_inherits_hours_from_the_file_and_says_so() {
    let config = Config::from_pairs([("log.retention.hours", "24")]).expect("valid");
    let none = BTreeMap::<String, String>::new();
    let entries = describe::describe_topic(&none, &none, &none, &config);
    let retention = entry(&entries, "retention.ms");
    assert_eq!(retention.value.as_deref(), Some("86400000"));
    assert_eq!(
        synonyms(retention),
        ["STATIC_BROKER_CONFIG:log.retention.hours=24"]
    );
}

#[test]
fn units_of_one_setting_are_synonyms_of_each_other() {
    let config = Config::from_pairs([("log.retention.ms", "5")]).expect("valid");
    let none = BTreeMap::<String, String>::new();
    let entries = describe::describe_broker(&none, &none, &config);
    assert_eq!(
        synonyms(entry(&entries, "log.retention.ms")),
        [
            "STATIC_BROKER_CONFIG:log.retention.ms=5",
            "DEFAULT_CONFIG:log.retention.hours=168"
        ]
    );
    let hours = entry(&entries, "log.retention.hours");
    assert_eq!(
        (hours.value.as_deref(), hours.source),
        (Some("168"), ConfigSource::Default)
    );
}

#[test]
fn secrets_and_unknown_keys_never_show_their_value() {
    let pairs = [
        ("ssl.key.password", "s3cret"),
        ("some.plugin.token", "s3cret"),
    ];
    let config = Config::from_pairs(pairs).expect("valid");
    let none = BTreeMap::<String, String>::new();
    let entries = describe::describe_broker(&none, &none, &config);
    for name in ["ssl.key.password", "some.plugin.token"] {
        let entry = entry(&entries, name);
        assert!(entry.sensitive && entry.value.is_none(), "{name}");
        assert!(
            entry.synonyms.iter().all(|synonym| synonym.value.is_none()),
            "{name}"
        );
        assert_eq!(entry.source, ConfigSource::StaticBroker);
    }
    assert!(!format!("{entries:?}").contains("s3cret"));
    assert_eq!(entry(&entries, "some.plugin.token").type_code(), 0);
}

#[test]
fn keys_outside_the_main_table_are_described_once_set_and_removed_ones_never() {
    let none = BTreeMap::<String, String>::new();
    let pairs = [
        ("super.users", "User:admin"),
        ("inter.broker.protocol.version", "3.9"),
    ];
    let config = Config::from_pairs(pairs).expect("valid");
    let set = describe::describe_broker(&none, &none, &config);
    assert_eq!(
        entry(&set, "super.users").value.as_deref(),
        Some("User:admin")
    );
    assert!(
        set.iter()
            .all(|entry| entry.name != "inter.broker.protocol.version")
    );
    let unset = describe::describe_broker(&none, &none, &Config::default());
    assert!(unset.iter().all(|entry| entry.name != "super.users"));
    let throttled = BTreeMap::from([(
        "leader.replication.throttled.rate".to_owned(),
        "9".to_owned(),
    )]);
    let dynamic = describe::describe_broker(&throttled, &none, &Config::default());
    let rate = entry(&dynamic, "leader.replication.throttled.rate");
    assert_eq!(rate.source, ConfigSource::DynamicBroker);
}

#[test]
fn the_default_of_all_brokers_lists_only_what_was_set() {
    let cluster = BTreeMap::from([("log.cleaner.threads", "2")]);
    let entries = describe::describe_broker_defaults(&cluster);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].source, ConfigSource::DynamicDefaultBroker);
    assert_eq!(
        synonyms(&entries[0]),
        ["DYNAMIC_DEFAULT_BROKER_CONFIG:log.cleaner.threads=2"]
    );
    assert!(!entries[0].read_only);
}

#[test]
fn values_are_printed_as_kafka_prints_them() {
    let config = Config::from_pairs([
        ("auto.create.topics.enable", "FALSE"),
        ("num.partitions", " 007 "),
        ("log.cleanup.policy", "compact , delete"),
        ("log.cleaner.min.cleanable.ratio", "1"),
    ])
    .expect("valid");
    let none = BTreeMap::<String, String>::new();
    let entries = describe::describe_broker(&none, &none, &config);
    let value = |name| entry(&entries, name).value.clone().unwrap_or_default();
    assert_eq!(value("auto.create.topics.enable"), "false");
    assert_eq!(value("num.partitions"), "7");
    assert_eq!(value("log.cleanup.policy"), "compact,delete");
    assert_eq!(value("log.cleaner.min.cleanable.ratio"), "1.0");
    assert_eq!(
        value("log.cleaner.io.max.bytes.per.second"),
        "1.7976931348623157E308"
    );
}
