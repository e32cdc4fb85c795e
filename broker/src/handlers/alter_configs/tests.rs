//! Changing configuration: every operation, every resource, every refusal.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_controller::record::ConfigResource;
use ottla_protocol::messages::{
    AlterConfigsRequest, IncrementalAlterConfigsRequest, StrBytes, alter_configs_request,
    incremental_alter_configs_request,
};

use crate::handlers::testing::TestBroker;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Op<'a> = (&'a str, i8, Option<&'a str>);
type Pair<'a> = (&'a str, Option<&'a str>);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn incremental(resources: &[(i8, &str, &[Op<'_>])]) -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let resources = resources.iter().map(|(kind, name, ops)| {
        let configs = ops.iter().map(|(key, operation, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        });
        AlterConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    });
    IncrementalAlterConfigsRequest::default().with_resources(resources.collect())
}

fn replacing(resources: &[(i8, &str, &[Pair<'_>])]) -> AlterConfigsRequest {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let resources = resources.iter().map(|(kind, name, pairs)| {
        let configs = pairs.iter().map(|(key, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_value(value.map(text))
        });
        AlterConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    });
    AlterConfigsRequest::default().with_resources(resources.collect())
}

fn alter(broker: &TestBroker, kind: i8, name: &str, ops: &[Op<'_>]) -> i16 {
    let response = broker.call(1, incremental(&[(kind, name, ops)]));
    let told = &response.responses[0];
    assert_eq!((told.resource_type, &*told.resource_name), (kind, name));
    assert_eq!(told.error_message.is_some(), told.error_code != 0);
    told.error_code
}

fn stored(broker: &TestBroker, resource: &ConfigResource) -> BTreeMap<String, String> {
    let image = broker.image();
    let set = image.configs.of(resource).iter();
    set.map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn topic() -> ConfigResource {
    ConfigResource::Topic(Arc::from("a"))
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn keys_are_set_and_deleted_one_by_one_in_every_version() {
    for version in [0, 1] {
        let broker = TestBroker::new();
        broker.create_topic("a", 1);
        let change = |ops: &[Op<'_>]| {
            let response = broker.call(version, incremental(&[(TOPIC, "a", ops)]));
            assert_eq!(response.responses[0].error_code, 0);
        };
        change(&[
            ("retention.ms", SET, Some("5")),
            ("segment.ms", SET, Some("100000")),
        ]);
        change(&[("retention.ms", SET, Some("6"))]);
        assert_eq!(
            stored(&broker, &topic()),
            map(&[("retention.ms", "6"), ("segment.ms", "100000")])
        );
        change(&[
            ("retention.ms", DELETE, None),
            ("never.heard.of", DELETE, None),
        ]);
        assert_eq!(stored(&broker, &topic()), map(&[("segment.ms", "100000")]));
    }
}

#[test]
fn lists_grow_and_shrink_from_what_they_are() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let policy = || stored(&broker, &topic()).get("cleanup.policy").cloned();
    let change = |operation, value| {
        assert_eq!(
            alter(
                &broker,
                TOPIC,
                "a",
                &[("cleanup.policy", operation, Some(value))]
            ),
            0
        );
    };
    change(APPEND, "compact");
    assert_eq!(policy().as_deref(), Some("delete,compact"));
    change(APPEND, "compact");
    assert_eq!(policy().as_deref(), Some("delete,compact"));
    change(SUBTRACT, "delete");
    assert_eq!(policy().as_deref(), Some("compact"));
    change(SUBTRACT, "delete");
    assert_eq!(policy().as_deref(), Some("compact"));
}

#[test]
fn changes_of_topics_are_refused_for_a_reason() {
    let table: &[(&[Op<'_>], i16)] = &[
        (&[("retention.ms", SET, Some("soon"))], 40),
        (&[("min.insync.replicas", SET, Some("0"))], 40),
        (&[("no.such.key", SET, Some("1"))], 40),
        (&[("retention.ms", APPEND, Some("1"))], 40),
        (&[("retention.ms", SUBTRACT, Some("1"))], 40),
        (&[("cleanup.policy", APPEND, Some("shred"))], 40),
        (&[("retention.ms", SET, None)], 42),
        (&[("cleanup.policy", APPEND, None)], 42),
        (&[("retention.ms", 9, Some("1"))], 42),
        (&[("retention.ms", -1, Some("1"))], 42),
        (
            &[
                ("retention.ms", SET, Some("1")),
                ("retention.ms", DELETE, None),
            ],
            42,
        ),
        (
            &[
                ("segment.ms", SET, Some("100000")),
                ("retention.ms", SET, Some("soon")),
            ],
            40,
        ),
    ];
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    for (ops, code) in table {
        assert_eq!(alter(&broker, TOPIC, "a", ops), *code, "{ops:?}");
        assert_eq!(
            stored(&broker, &topic()),
            BTreeMap::new(),
            "all keys of a resource or none"
        );
    }
}

#[test]
fn resources_are_refused_for_a_reason() {
    let broker = TestBroker::new();
    let segment: &[Op<'_>] = &[("segment.ms", SET, Some("100000"))];
    let retention: &[Op<'_>] = &[("log.retention.ms", SET, Some("100000"))];
    let session: &[Op<'_>] = &[("consumer.session.timeout.ms", SET, Some("50000"))];
    let table: &[(i8, &str, &[Op<'_>], i16)] = &[
        (TOPIC, "none", segment, 3),
        (TOPIC, "bad name", segment, 17),
        (BROKER, "7", retention, 42),
        (BROKER, "x", retention, 42),
        (BROKER, "1", &[("num.partitions", SET, Some("2"))], 42),
        (BROKER, "1", &[("node.id", SET, Some("2"))], 42),
        (
            BROKER,
            "",
            &[("listeners", SET, Some("PLAINTEXT://:1"))],
            42,
        ),
        (BROKER, "1", &[("no.such.key", SET, Some("1"))], 40),
        (BROKER, "1", &[("message.max.bytes", SET, Some("-5"))], 40),
        (BROKER, "1", retention, 0),
        (BROKER, "", retention, 0),
        (GROUP, "g", session, 0),
        (GROUP, "", session, 42),
        (GROUP, "g", &[("no.such.key", SET, Some("1"))], 40),
        (
            GROUP,
            "g",
            &[("consumer.session.timeout.ms", SET, Some("44999"))],
            40,
        ),
        (
            GROUP,
            "g",
            &[("consumer.session.timeout.ms", SET, Some("60001"))],
            40,
        ),
        (
            GROUP,
            "g",
            &[("consumer.heartbeat.interval.ms", SET, Some("0"))],
            40,
        ),
        (
            GROUP,
            "g",
            &[("consumer.heartbeat.interval.ms", SET, None)],
            42,
        ),
        (
            GROUP,
            "g",
            &[("consumer.assignment.interval.ms", SET, Some("15001"))],
            40,
        ),
        (
            CLIENT_METRICS,
            "m",
            &[("interval.ms", SET, Some("60000"))],
            42,
        ),
        (
            CLIENT_METRICS,
            "",
            &[("interval.ms", SET, Some("60000"))],
            42,
        ),
        (99, "x", segment, 42),
        (0, "x", segment, 42),
    ];
    for (kind, name, ops, code) in table {
        assert_eq!(
            alter(&broker, *kind, name, ops),
            *code,
            "{kind} {name} {ops:?}"
        );
    }
    let stored = |resource: ConfigResource| stored(&broker, &resource);
    let expected = map(&[("log.retention.ms", "100000")]);
    assert_eq!(stored(ConfigResource::BrokerDefault), expected);
    assert_eq!(
        stored(ConfigResource::Broker(ottla_protocol::types::BrokerId(1))),
        expected
    );
    assert_eq!(
        stored(ConfigResource::Group(Arc::from("g"))),
        map(&[("consumer.session.timeout.ms", "50000")])
    );
}

#[test]
fn each_resource_of_a_request_has_its_own_answer() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    broker.create_topic("b", 1);
    let good: &[Op<'_>] = &[("retention.ms", SET, Some("7"))];
    let bad: &[Op<'_>] = &[("retention.ms", SET, Some("soon"))];
    let request = incremental(&[(TOPIC, "b", bad), (TOPIC, "none", good), (TOPIC, "a", good)]);
    let response = broker.call(1, request);
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|told| (&*told.resource_name, told.error_code))
        .collect();
    assert_eq!(codes, [("b", 40), ("none", 3), ("a", 0)]);
    assert_eq!(stored(&broker, &topic()), map(&[("retention.ms", "7")]));
}

#[test]
fn a_resource_that_comes_twice_is_refused_each_time() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    broker.create_topic("b", 1);
    let ops: &[Op<'_>] = &[("retention.ms", SET, Some("7"))];
    let request = incremental(&[(TOPIC, "a", ops), (TOPIC, "b", ops), (TOPIC, "a", ops)]);
    let codes: Vec<_> = broker
        .call(1, request)
        .responses
        .iter()
        .map(|r| r.error_code)
        .collect();
    assert_eq!(codes, [42, 0, 42]);
    assert_eq!(stored(&broker, &topic()), BTreeMap::new());
}

#[test]
fn validation_changes_nothing() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let ops: &[Op<'_>] = &[("retention.ms", SET, Some("7"))];
    let request = incremental(&[(TOPIC, "a", ops), (TOPIC, "none", ops)]).with_validate_only(true);
    let codes: Vec<_> = broker
        .call(1, request)
        .responses
        .iter()
        .map(|r| r.error_code)
        .collect();
    assert_eq!(codes, [0, 3]);
    let pairs: &[Pair<'_>] = &[("retention.ms", Some("7"))];
    let request = replacing(&[(TOPIC, "a", pairs)]).with_validate_only(true);
    assert_eq!(broker.call(2, request).responses[0].error_code, 0);
    assert_eq!(stored(&broker, &topic()), BTreeMap::new());
}

#[test]
fn the_older_request_replaces_everything_that_is_set() {
    for version in 0..=2 {
        let broker = TestBroker::new();
        broker.create_topic("a", 1);
        alter(&broker, TOPIC, "a", &[("retention.ms", SET, Some("5"))]);
        let pairs: &[Pair<'_>] = &[("segment.ms", Some("100000"))];
        let response = broker.call(version, replacing(&[(TOPIC, "a", pairs)]));
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(stored(&broker, &topic()), map(&[("segment.ms", "100000")]));
        broker.call(version, replacing(&[(TOPIC, "a", &[])]));
        assert_eq!(stored(&broker, &topic()), BTreeMap::new());
    }
}

#[test]
fn the_older_request_is_refused_for_the_same_reasons() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let table: &[(i8, &str, &[Pair<'_>], i16)] = &[
        (TOPIC, "a", &[("segment.ms", None)], 42),
        (
            TOPIC,
            "a",
            &[("segment.ms", Some("1")), ("segment.ms", Some("2"))],
            42,
        ),
        (TOPIC, "a", &[("segment.ms", Some("never"))], 40),
        (TOPIC, "a", &[("no.such.key", Some("1"))], 40),
        (TOPIC, "none", &[("segment.ms", Some("100000"))], 3),
        (BROKER, "1", &[("num.partitions", Some("3"))], 42),
        (8, "1", &[("root", Some("INFO"))], 42),
        (CLIENT_METRICS, "m", &[], 42),
        (
            GROUP,
            "g",
            &[("consumer.session.timeout.ms", Some("50000"))],
            0,
        ),
    ];
    for (kind, name, pairs, code) in table {
        let response = broker.call(2, replacing(&[(*kind, name, pairs)]));
        assert_eq!(
            response.responses[0].error_code, *code,
            "{kind} {name} {pairs:?}"
        );
    }
    assert_eq!(stored(&broker, &topic()), BTreeMap::new());
}

#[test]
fn a_slow_controller_is_answered_with_a_timeout() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    broker.silence_controller();
    let ops: &[Op<'_>] = &[("retention.ms", SET, Some("7"))];
    let response = broker.call_until_timeout(1, incremental(&[(TOPIC, "a", ops)]));
    assert_eq!(response.responses[0].error_code, 7);
}

#[test]
fn log_levels_change_at_once_and_are_told_by_describe() {
    use ottla_protocol::messages::DescribeConfigsRequest;
    use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
    const LOGGER: &str = "ottla_broker::handlers::changed_by_a_test";
    let broker = TestBroker::new();
    let level = || {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(8)
            .with_resource_name(text("1"))
            .with_configuration_keys(Some(vec![text(LOGGER), text("root")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response = broker.call(4, request);
        let rows = &response.results[0].configs;
        assert!(
            rows.iter()
                .any(|row| &*row.name == "root" && row.config_source == 6)
        );
        let row = rows.iter().find(|row| &*row.name == LOGGER);
        row.map(|row| row.value.as_deref().unwrap().to_owned())
    };
    assert_eq!(level(), None);
    let validate = incremental(&[(8, "1", &[(LOGGER, SET, Some("debug"))])]);
    broker.call(1, validate.with_validate_only(true));
    assert_eq!(level(), None);
    assert_eq!(alter(&broker, 8, "1", &[(LOGGER, SET, Some("debug"))]), 0);
    assert_eq!(level().as_deref(), Some("DEBUG"));
    let refused: &[(&[Op<'_>], i16)] = &[
        (&[(LOGGER, SET, Some("LOUD"))], 40),
        (&[("kafka.server", SET, Some("INFO"))], 40),
        (&[("kafka.server", DELETE, None)], 40),
        (&[("root", DELETE, None)], 42),
        (&[(LOGGER, APPEND, Some("INFO"))], 42),
        (&[(LOGGER, 9, Some("INFO"))], 42),
        (&[(LOGGER, SET, None)], 42),
        (
            &[(LOGGER, SET, Some("INFO")), (LOGGER, SET, Some("WARN"))],
            42,
        ),
        (
            &[
                (LOGGER, SET, Some("INFO")),
                ("kafka.server", SET, Some("WARN")),
            ],
            40,
        ),
    ];
    for (ops, code) in refused {
        assert_eq!(alter(&broker, 8, "1", ops), *code, "{ops:?}");
    }
    assert_eq!(alter(&broker, 8, "7", &[(LOGGER, SET, Some("INFO"))]), 42);
    assert_eq!(
        level().as_deref(),
        Some("DEBUG"),
        "all changes of a request or none"
    );
    assert_eq!(alter(&broker, 8, "1", &[(LOGGER, DELETE, None)]), 0);
    assert_eq!(level(), None);
}

#[test]
fn a_changed_topic_refuses_what_it_took_before() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let large = vec![b'x'; 5_000];
    broker.append("a", 0, &[&large]);
    broker.set_config(TOPIC, "a", "max.message.bytes", "1000");
    assert!(broker.try_append("a", 0, &[&large]).is_err());
    broker.set_config(TOPIC, "a", "max.message.bytes", "10000");
    broker.append("a", 0, &[&large]);
    broker.set_config(BROKER, "", "message.max.bytes", "1000");
    broker.append("a", 0, &[&large]);
    alter(&broker, TOPIC, "a", &[("max.message.bytes", DELETE, None)]);
    assert!(broker.try_append("a", 0, &[&large]).is_err());
    broker.set_config(BROKER, "1", "message.max.bytes", "10000");
    broker.append("a", 0, &[&large]);
}

#[test]
fn a_changed_broker_key_is_in_force_at_once() {
    let broker = TestBroker::with_config(&[("max.connections", "100")]);
    let max = || broker.broker.live_config().max_connections;
    assert_eq!(max(), 100);
    broker.set_config(BROKER, "", "max.connections", "70");
    assert_eq!(max(), 70);
    broker.set_config(BROKER, "1", "max.connections", "50");
    assert_eq!(max(), 50);
    alter(&broker, BROKER, "1", &[("max.connections", DELETE, None)]);
    alter(&broker, BROKER, "", &[("max.connections", DELETE, None)]);
    assert_eq!(max(), 100);
}
