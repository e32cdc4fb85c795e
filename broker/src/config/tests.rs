//! Building configurations: every table row is usable, keys that work together do, errors name
//! their key.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn build(pairs: &[(&str, &str)]) -> (Config, Vec<Notice>) {
    let mut values = StaticValues::default();
    for (name, text) in pairs {
        values.set(*name, *text, Origin::Override);
    }
    build::build(values, &build::Surroundings::default()).unwrap()
}

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    let errors = Config::from_pairs(pairs.iter().copied()).unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

fn effective(overrides: &[(&str, &str)], config: &Config) -> TopicConfig {
    let overrides: BTreeMap<String, String> = overrides
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    TopicConfig::effective(&overrides, &BTreeMap::new(), &BTreeMap::new(), config)
}

#[test]
fn every_row_has_a_unique_name_a_sentence_and_a_default_that_satisfies_its_rule() {
    let tables: Vec<Vec<&Key>> = vec![
        keys::all_broker_keys().collect(),
        TOPIC_KEYS.iter().collect(),
        GROUP_KEYS.iter().collect(),
        CLIENT_METRICS_KEYS.iter().collect(),
    ];
    for table in tables {
        let names: BTreeSet<&str> = table.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), table.len());
        for key in table {
            key.default_value();
            assert!(key.doc.ends_with('.'), "{} needs a sentence", key.name);
            assert_ne!(
                key.why_without_effect(),
                Some(""),
                "{} does not say its effect",
                key.name
            );
        }
    }
}

#[test]
fn every_synonym_is_a_broker_key_of_the_same_kind_and_default() {
    for key in TOPIC_KEYS.iter().chain(GROUP_KEYS) {
        for (name, factor) in key.synonyms {
            let broker = broker_key(name).unwrap_or_else(|| panic!("{name} is not a key"));
            assert!(*factor > 1 || broker.key_type == key.key_type, "{name}");
        }
        let inherited =
            topic::broker_wide_value(key, &Layers::static_only(&StaticValues::default()));
        if let Some(inherited) = inherited {
            assert_eq!(inherited, key.default_value(), "default of {}", key.name);
        }
    }
    for key in keys::all_broker_keys().filter(|key| matches!(key.effect, Effect::TopicDefault)) {
        let used = TOPIC_KEYS
            .iter()
            .any(|topic| topic.synonyms.iter().any(|(n, _)| *n == key.name));
        assert!(used, "no topic key inherits {}", key.name);
    }
}

#[test]
fn the_defaults_are_kafkas_except_the_named_ones() {
    let config = Config::default();
    assert_eq!((config.node_id, config.num_partitions), (1, 1));
    assert!(config.auto_create_topics && config.delete_topics);
    assert_eq!(config.socket_request_max_bytes, 104_857_600);
    assert_eq!(config.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.queued_max_request_bytes, None);
    assert_eq!(
        config.listeners[0].to_string(),
        "PLAINTEXT://127.0.0.1:9092"
    );
    assert_eq!(config.advertised_listeners, config.listeners);
    assert_eq!(
        config.http_listeners[0].to_string(),
        "http://127.0.0.1:8080"
    );
    assert_eq!(config.log_dirs, [PathBuf::from("/var/lib/ottla")]);
    let topic = &config.topic_defaults;
    assert_eq!(topic.max_message_bytes, 1_048_588);
    assert_eq!(topic.retention_ms, Some(604_800_000));
    assert_eq!(
        (topic.retention_bytes, topic.flush_ms, topic.flush_messages),
        (None, None, None)
    );
    assert_eq!(
        (topic.segment_ms, topic.segment_bytes),
        (604_800_000, 1 << 30)
    );
    assert_eq!(topic.durability, Durability::Commit);
    assert_eq!(
        topic.cleanup_policy,
        CleanupPolicy {
            delete: true,
            compact: false
        }
    );
}

#[test]
fn a_topic_key_wins_over_the_broker_and_milliseconds_over_minutes_over_hours() {
    let retention = |pairs: &[(&str, &str)]| build(pairs).0.topic_defaults.retention_ms;
    assert_eq!(retention(&[("log.retention.hours", "2")]), Some(7_200_000));
    assert_eq!(retention(&[("log.retention.hours", "-1")]), None);
    let minutes = [("log.retention.hours", "2"), ("log.retention.minutes", "3")];
    assert_eq!(retention(&minutes), Some(180_000));
    let (config, _) = build(&[("log.retention.ms", "5"), ("log.retention.minutes", "3")]);
    assert_eq!(config.topic_defaults.retention_ms, Some(5));
    assert_eq!(
        effective(&[("retention.ms", "7")], &config).retention_ms,
        Some(7)
    );
    assert_eq!(effective(&[], &config).retention_ms, Some(5));
}

#[test]
fn dynamic_broker_configs_change_topics_and_the_broker_but_not_read_only_keys() {
    let (config, _) = build(&[("message.max.bytes", "1000"), ("num.partitions", "3")]);
    let cluster = BTreeMap::from([("message.max.bytes", "2000"), ("max.connections", "9")]);
    let broker = BTreeMap::from([("max.connections", "8"), ("num.partitions", "7")]);
    let changed = config.with_dynamic(&broker, &cluster);
    assert_eq!(changed.topic_defaults.max_message_bytes, 2000);
    assert_eq!((changed.max_connections, changed.num_partitions), (8, 3));
    let none = BTreeMap::new();
    let topic = BTreeMap::from([("segment.bytes", "2097152")]);
    let topic = TopicConfig::effective(&topic, &none, &cluster, &config);
    assert_eq!(
        (topic.max_message_bytes, topic.segment_bytes),
        (2000, 2_097_152)
    );
}

#[test]
fn broker_id_is_an_alias_of_node_id() {
    assert_eq!(build(&[("broker.id", "7")]).0.node_id, 7);
    assert_eq!(
        build(&[("node.id", "8")]).0.static_values.text("broker.id"),
        Some("8")
    );
    assert_eq!(
        errors(&[("node.id", "1"), ("broker.id", "2")]),
        ["override: broker.id: node.id is 1 and broker.id is 2; set only node.id"]
    );
}

#[test]
fn listeners_derive_from_advertised_listeners_alone() {
    let (config, notices) = build(&[
        (
            "advertised.listeners",
            "OUTSIDE://broker.example:9094,PLAINTEXT://localhost:9092",
        ),
        ("listener.security.protocol.map", "OUTSIDE:PLAINTEXT"),
    ]);
    let bound: Vec<String> = config.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(
        bound,
        ["OUTSIDE://0.0.0.0:9094", "PLAINTEXT://0.0.0.0:9092"]
    );
    assert_eq!(
        config.advertised_listeners[0].to_string(),
        "OUTSIDE://broker.example:9094"
    );
    assert_eq!(
        notices
            .iter()
            .filter(|n| matches!(n, Notice::Unauthenticated { .. }))
            .count(),
        2
    );
}

#[test]
fn controller_listeners_are_known_but_not_served_to_clients() {
    let (config, _) = build(&[
        ("process.roles", "broker,controller"),
        ("controller.quorum.voters", "1@localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listeners",
            "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
        ),
        (
            "advertised.listeners",
            "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
        ),
    ]);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.advertised_listeners.len(), 1);
    assert_eq!(config.controller_listeners[0].port, 9093);
}

#[test]
fn an_address_nobody_can_connect_to_is_not_advertised() {
    let error = errors(&[("listeners", "PLAINTEXT://0.0.0.0:9092")]).join("\n");
    assert!(error.contains("set advertised.listeners"), "{error}");
    let mut values = StaticValues::default();
    values.set("listeners", "PLAINTEXT://:9092", Origin::Override);
    let surroundings = build::Surroundings {
        insecure: false,
        hostname: "broker-7".to_owned(),
    };
    let (config, _) = build::build(values, &surroundings).unwrap();
    assert_eq!(config.advertised_listeners[0].host, "broker-7");
}

#[test]
fn a_named_open_listener_starts_with_a_warning_and_an_unnamed_one_needs_insecure() {
    let (_, notices) = build(&[("ottla.http.listeners", "http://0.0.0.0:8080")]);
    assert!(matches!(
        notices[..],
        [Notice::Unauthenticated {
            key: "ottla.http.listeners",
            ..
        }]
    ));
    let refuse = ("ottla.unauthenticated.listeners", "refuse");
    let open = ("listeners", "PLAINTEXT://:9092");
    assert!(errors(&[refuse, open])[0].contains("--insecure"));

    let mut values = StaticValues::default();
    values.set("listeners", "PLAINTEXT://:9092", Origin::Default);
    let strict = build::Surroundings::default();
    assert!(build::build(values.clone(), &strict).is_err());
    let insecure = build::Surroundings {
        insecure: true,
        ..strict
    };
    let (_, notices) = build::build(values, &insecure).unwrap();
    assert_eq!(notices, []);
}

#[test]
fn what_is_not_served_is_refused_with_what_to_do() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("listeners", "SSL://localhost:9093")],
            "uses SSL, which is not served yet",
        ),
        (&[("process.roles", "broker")], "both broker and controller"),
        (
            &[("controller.quorum.voters", "1@a:1,2@b:1,3@c:1")],
            "names 3 nodes",
        ),
        (
            &[("controller.quorum.voters", "4@a:1")],
            "names node 4, but this node is 1",
        ),
        (
            &[("controller.quorum.voters", "a:1")],
            "not of the form id@host:port",
        ),
        (
            &[
                ("advertised.listeners", "OTHER://h:1"),
                ("listeners", "PLAINTEXT://localhost:1"),
            ],
            "OTHER has no entry",
        ),
        (&[("log.dirs", " , ")], "at least one directory"),
        (&[("log.dirs", "/a,/a")], "named twice"),
        (&[("num.partitions", "0")], "0 is below the minimum 1"),
        (
            &[("num.partitions", "many")],
            "'many' is not a whole number of 32 bits",
        ),
        (&[("compression.type", "rar")], "not one of uncompressed"),
        (
            &[("max.connections.per.ip.overrides", "host")],
            "not an address followed by",
        ),
    ];
    for (pairs, expected) in cases {
        let found = errors(pairs).join("\n");
        assert!(found.contains(expected), "{pairs:?}: {found}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let found = errors(&[
        ("num.partitions", "x"),
        ("log.segment.bytes", "1"),
        ("node.id", "y"),
    ]);
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn unknown_and_removed_keys_and_java_classes_are_noticed() {
    let (_, notices) = build(&[
        ("num.partitons", "3"),
        ("retention.ms", "3"),
        ("zookeeper.connect", "zk:2181"),
        ("inter.broker.protocol.version", "3.9"),
        ("create.topic.policy.class.name", "com.example.Policy"),
        ("completely.different", "1"),
        ("listener.name.internal.nonsense", "1"),
    ]);
    let text: Vec<String> = notices.iter().map(ToString::to_string).collect();
    let has = |part: &str| assert!(text.iter().any(|t| t.contains(part)), "{part}: {text:#?}");
    has("num.partitons is not a known key and is ignored; did you mean num.partitions?");
    has("retention.ms is not a known key and is ignored; did you mean log.retention.ms?");
    has("zookeeper.connect no longer exists");
    has("inter.broker.protocol.version no longer exists");
    has("names the Java class com.example.Policy");
    has("completely.different is not a known key and is ignored");
    assert_eq!(notices.len(), 7);
}

#[test]
fn connection_limits_of_single_addresses_are_parsed() {
    let (config, _) = build(&[("max.connections.per.ip.overrides", "10.0.0.7:20, [::1]:3")]);
    let limits = &config.max_connections_per_ip_overrides;
    assert_eq!(limits[&"10.0.0.7".parse::<IpAddr>().unwrap()], 20);
    assert_eq!(limits[&"::1".parse::<IpAddr>().unwrap()], 3);
}

#[test]
fn replication_factors_of_internal_topics_are_clamped_to_the_brokers() {
    let (config, notices) = build(&[("offsets.topic.replication.factor", "3")]);
    let key = broker_key("offsets.topic.replication.factor").unwrap();
    assert_eq!(config.internal_replication_factor(key, 1), 1);
    assert_eq!(config.internal_replication_factor(key, 5), 3);
    assert!(notices.iter().any(|n| matches!(
        n,
        Notice::Clamped {
            wanted: 3,
            brokers: 1,
            ..
        }
    )));
    assert!(build(&[]).1.is_empty());
}
