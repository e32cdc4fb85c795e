//! Configuration as tools read it.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use ottla_protocol::messages::{DescribeConfigsRequest, StrBytes};

use crate::config::{GROUP_KEYS, TOPIC_KEYS};
use crate::handlers::testing::TestBroker;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().copied().map(text).collect()))
}

fn ask(
    broker: &TestBroker,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource(kind, name, keys)])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    let mut response = broker.call(version, request);
    assert_eq!(response.results.len(), 1);
    response.results.remove(0)
}

fn row<'a>(result: &'a DescribeConfigsResult, key: &str) -> &'a DescribeConfigsResourceResult {
    result
        .configs
        .iter()
        .find(|config| &*config.name == key)
        .unwrap()
}

/// Value, source, synonyms as (name, source).
fn told(row: &DescribeConfigsResourceResult) -> (Option<&str>, i8, Vec<(&str, i8)>) {
    let synonyms = row
        .synonyms
        .iter()
        .map(|synonym| (&*synonym.name, synonym.source));
    (row.value.as_deref(), row.config_source, synonyms.collect())
}

#[test]
fn a_topic_has_every_key_in_every_version() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    for version in 1..=4 {
        let result = ask(&broker, version, TOPIC, "a", None);
        assert_eq!(
            (
                result.error_code,
                result.resource_type,
                &*result.resource_name
            ),
            (0, 2, "a")
        );
        let keys: Vec<&str> = result.configs.iter().map(|config| &*config.name).collect();
        assert_eq!(
            keys,
            TOPIC_KEYS.iter().map(|key| key.name).collect::<Vec<_>>()
        );
        let retention = row(&result, "retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.config_source),
            (Some("604800000"), 5)
        );
        assert!(!retention.read_only && !retention.is_sensitive);
        assert_eq!(retention.config_type, if version >= 3 { 5 } else { 0 });
        let documented = retention
            .documentation
            .as_ref()
            .is_some_and(|text| !text.is_empty());
        assert_eq!(documented, version >= 3);
    }
}

#[test]
fn keys_synonyms_and_documentation_come_as_asked() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let names = |keys: Option<&[&str]>| {
        let result = ask(&broker, 4, TOPIC, "a", keys);
        result
            .configs
            .iter()
            .map(|config| config.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(Some(&["segment.bytes", "no.such.key"])),
        ["segment.bytes"]
    );
    assert_eq!(names(Some(&[])).len(), TOPIC_KEYS.len());
    assert_eq!(names(None).len(), TOPIC_KEYS.len());

    let request =
        DescribeConfigsRequest::default().with_resources(vec![resource(TOPIC, "a", None)]);
    let response = broker.call(4, request);
    for config in &response.results[0].configs {
        assert!(config.synonyms.is_empty() && config.documentation.is_none());
    }
}

#[test]
fn a_value_says_who_set_it() {
    let broker = TestBroker::with_config(&[("log.segment.bytes", "2097152")]);
    broker.create_topic("a", 1);
    let source = |key: &str| {
        let result = ask(&broker, 4, TOPIC, "a", Some(&[key]));
        let row = row(&result, key);
        let synonyms: Vec<i8> = row.synonyms.iter().map(|synonym| synonym.source).collect();
        (
            row.value.as_deref().unwrap().to_owned(),
            row.config_source,
            synonyms,
        )
    };
    assert_eq!(
        source("segment.bytes"),
        ("2097152".to_owned(), 4, vec![4, 5])
    );
    broker.set_config(BROKER, "", "log.segment.bytes", "3145728");
    assert_eq!(
        source("segment.bytes"),
        ("3145728".to_owned(), 3, vec![3, 4, 5])
    );
    broker.set_config(BROKER, "1", "log.segment.bytes", "4194304");
    assert_eq!(
        source("segment.bytes"),
        ("4194304".to_owned(), 2, vec![2, 3, 4, 5])
    );
    broker.set_config(TOPIC, "a", "segment.bytes", "5242880");
    assert_eq!(
        source("segment.bytes"),
        ("5242880".to_owned(), 1, vec![1, 2, 3, 4, 5])
    );
}

#[test]
fn a_broker_has_every_key_and_its_defaults_only_what_is_set() {
    let broker = TestBroker::with_config(&[("num.partitions", "4")]);
    let result = ask(&broker, 4, BROKER, "1", None);
    assert_eq!(result.error_code, 0);
    assert!(result.configs.len() > 300);
    let partitions = row(&result, "num.partitions");
    assert_eq!(
        told(partitions),
        (
            Some("4"),
            4,
            vec![("num.partitions", 4), ("num.partitions", 5)]
        )
    );
    assert!(partitions.read_only);
    assert!(ask(&broker, 4, BROKER, "", None).configs.is_empty());
    broker.set_config(BROKER, "", "message.max.bytes", "2000000");
    let result = ask(&broker, 4, BROKER, "", None);
    assert_eq!(result.configs.len(), 1);
    let row = row(&result, "message.max.bytes");
    assert_eq!(
        told(row),
        (Some("2000000"), 3, vec![("message.max.bytes", 3)])
    );
}

#[test]
fn secrets_are_not_told() {
    let broker = TestBroker::with_config(&[("ssl.key.password", "hush")]);
    let result = ask(&broker, 4, BROKER, "1", Some(&["ssl.key.password"]));
    let row = row(&result, "ssl.key.password");
    assert!(row.is_sensitive && row.value.is_none());
    assert!(row.synonyms.iter().all(|synonym| synonym.value.is_none()));
}

#[test]
fn a_group_has_its_keys_whether_or_not_it_exists() {
    let broker = TestBroker::new();
    broker.set_config(GROUP, "g", "consumer.session.timeout.ms", "50000");
    let result = ask(&broker, 4, GROUP, "g", None);
    assert_eq!(result.configs.len(), GROUP_KEYS.len());
    let row_ = row(&result, "consumer.session.timeout.ms");
    assert_eq!(
        (row_.value.as_deref(), row_.config_source),
        (Some("50000"), 8)
    );
    let other = ask(&broker, 4, GROUP, "other", None);
    assert_eq!(row(&other, "consumer.session.timeout.ms").config_source, 5);
}

#[test]
fn what_cannot_be_described_says_why_without_spoiling_the_rest() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let table = [
        (TOPIC, "a", 0),
        (TOPIC, "none", 3),
        (TOPIC, "bad name", 17),
        (TOPIC, "", 17),
        (BROKER, "1", 0),
        (BROKER, "7", 42),
        (BROKER, "x", 42),
        (BROKER, "", 0),
        (LOGGER, "1", 0),
        (LOGGER, "7", 42),
        (LOGGER, "", 42),
        (CLIENT_METRICS, "m", 0),
        (CLIENT_METRICS, "", 42),
        (GROUP, "g", 0),
        (GROUP, "", 42),
        (0, "q", 42),
        (1, "q", 42),
        (99, "q", 42),
        (-1, "q", 42),
    ];
    for version in 1..=4 {
        let resources = table
            .iter()
            .map(|(kind, name, _)| resource(*kind, name, None));
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let response = broker.call(version, request);
        let told: Vec<_> = response
            .results
            .iter()
            .map(|result| {
                (
                    result.resource_type,
                    &*result.resource_name,
                    result.error_code,
                )
            })
            .collect();
        assert_eq!(told, table);
        for result in &response.results {
            let explained = result
                .error_message
                .as_ref()
                .is_some_and(|text| !text.is_empty());
            assert_eq!(explained, result.error_code != 0);
        }
    }
}
