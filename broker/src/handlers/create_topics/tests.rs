//! Creating topics: what is answered for each, and what is really there afterwards.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, StrBytes, TopicName,
};
use uuid::Uuid;

use crate::handlers::testing::TestBroker;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

fn configured(name: &str, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let configs = configs.iter().map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(value.map(text))
    });
    topic(name, 1, 1).with_configs(configs.collect())
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(partition, ids)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*partition)
            .with_broker_ids(ids.iter().copied().map(BrokerId).collect())
    });
    topic(name, -1, -1).with_assignments(assignments.collect())
}

fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
}

fn codes(response: &CreateTopicsResponse) -> Vec<(String, i16)> {
    response
        .topics
        .iter()
        .map(|result| (result.name.0.to_string(), result.error_code))
        .collect()
}

fn told(expected: &[(&str, i16)]) -> Vec<(String, i16)> {
    expected
        .iter()
        .map(|(name, code)| ((*name).to_owned(), *code))
        .collect()
}

#[test]
fn topics_are_created_in_every_version_and_described_from_version_5() {
    for version in 2..=7 {
        let broker = TestBroker::new();
        let response = broker.call(version, request(vec![topic("a", 3, 1), topic("b", 1, 1)]));
        assert_eq!(
            codes(&response),
            told(&[("a", 0), ("b", 0)]),
            "version {version}"
        );
        let a = &response.topics[0];
        assert_eq!(a.error_message, None);
        let created = broker.image().topics.by_name("a").cloned().unwrap();
        assert_eq!(created.partitions.len(), 3);
        if version >= 5 {
            assert_eq!((a.num_partitions, a.replication_factor), (3, 1));
            assert_eq!(a.topic_config_error_code, 0);
            assert!(a.configs.as_ref().unwrap().len() >= 30);
        }
        assert_eq!(
            a.topic_id,
            if version >= 7 {
                created.id.0
            } else {
                Uuid::nil()
            }
        );
    }
}

#[test]
fn minus_one_means_the_brokers_default() {
    let broker = TestBroker::with_config(&[("num.partitions", "4")]);
    let response = broker.call(7, request(vec![topic("a", -1, -1), topic("b", -1, 1)]));
    for result in &response.topics {
        assert_eq!(
            (
                result.error_code,
                result.num_partitions,
                result.replication_factor
            ),
            (0, 4, 1)
        );
    }
}

#[test]
fn what_cannot_be_created_says_why() {
    let long = "x".repeat(250);
    let table = [
        (topic("exists", 1, 1), 36),
        (topic("a_b", 1, 1), 17),
        (topic("bad name", 1, 1), 17),
        (topic("", 1, 1), 17),
        (topic(".", 1, 1), 17),
        (topic("..", 1, 1), 17),
        (topic(&long, 1, 1), 17),
        (topic("__cluster_metadata", 1, 1), 42),
        (topic("t", 0, 1), 37),
        (topic("t", -2, 1), 37),
        (topic("t", 1, 0), 38),
        (topic("t", 1, -2), 38),
        (topic("t", 1, 2), 38),
        (topic("t", 2_000_000, 1), 44),
        (assigned("t", &[(0, &[1]), (2, &[1])]), 39),
        (assigned("t", &[(0, &[1]), (0, &[1])]), 39),
        (assigned("t", &[(0, &[1, 1])]), 39),
        (assigned("t", &[(0, &[7])]), 39),
        (assigned("t", &[(0, &[])]), 39),
        (assigned("t", &[(0, &[1])]).with_num_partitions(1), 42),
        (assigned("t", &[(0, &[1])]).with_replication_factor(1), 42),
        (configured("t", &[("retention.ms", Some("soon"))]), 40),
        (configured("t", &[("no.such.key", Some("1"))]), 40),
        (configured("t", &[("retention.ms", None)]), 40),
        (configured("t", &[("min.insync.replicas", Some("0"))]), 40),
        (configured("t", &[("cleanup.policy", Some("shred"))]), 40),
    ];
    for (refused, code) in table {
        let broker = TestBroker::new();
        broker.create_topic("exists", 1);
        broker.create_topic("a.b", 1);
        let name = refused.name.0.to_string();
        let response = broker.call(7, request(vec![refused, topic("fine", 1, 1)]));
        assert_eq!(codes(&response), told(&[(&name, code), ("fine", 0)]));
        let refused = &response.topics[0];
        assert!(
            refused
                .error_message
                .as_ref()
                .is_some_and(|message| !message.is_empty())
        );
        assert_eq!(
            (refused.num_partitions, refused.replication_factor),
            (-1, -1)
        );
        assert!(refused.topic_id.is_nil());
        assert_eq!(broker.image().topics.len(), 3, "{name}");
    }
}

#[test]
fn replicas_placed_by_the_client_are_taken() {
    let broker = TestBroker::new();
    let response = broker.call(7, request(vec![assigned("a", &[(1, &[1]), (0, &[1])])]));
    let a = &response.topics[0];
    assert_eq!(
        (a.error_code, a.num_partitions, a.replication_factor),
        (0, 2, 1)
    );
}

#[test]
fn a_name_that_comes_twice_is_refused_once_whatever_else_is_wrong_with_it() {
    let broker = TestBroker::new();
    let bad = configured("a", &[("no.such.key", Some("1"))]);
    let response = broker.call(7, request(vec![topic("a", 1, 1), bad, topic("b", 1, 1)]));
    assert_eq!(codes(&response), told(&[("a", 42), ("b", 0)]));
    assert!(broker.image().topics.by_name("a").is_none());
}

#[test]
fn configs_are_stored_and_told_with_their_source() {
    let broker = TestBroker::new();
    let asked = configured(
        "a",
        &[
            ("retention.ms", Some("1000")),
            ("cleanup.policy", Some("compact")),
        ],
    );
    let response = broker.call(7, request(vec![asked]));
    let configs = response.topics[0].configs.as_ref().unwrap();
    let of = |name: &str| {
        let config = configs.iter().find(|config| &*config.name == name).unwrap();
        (
            config.value.as_deref().unwrap().to_owned(),
            config.config_source,
        )
    };
    assert_eq!(of("retention.ms"), ("1000".to_owned(), 1));
    assert_eq!(of("cleanup.policy"), ("compact".to_owned(), 1));
    assert_eq!(of("segment.bytes"), ("1073741824".to_owned(), 5));
}

#[test]
fn validation_creates_nothing_and_answers_like_creation() {
    for version in 2..=7 {
        let broker = TestBroker::new();
        broker.create_topic("exists", 1);
        let asked = vec![topic("a", 3, 1), topic("exists", 1, 1), topic("b", 1, 5)];
        let response = broker.call(version, request(asked).with_validate_only(true));
        assert_eq!(
            codes(&response),
            told(&[("a", 0), ("exists", 36), ("b", 38)])
        );
        assert_eq!(broker.image().topics.len(), 1);
        assert!(response.topics[0].topic_id.is_nil());
    }
}

#[test]
fn a_slow_controller_is_answered_with_a_timeout() {
    let broker = TestBroker::new();
    broker.silence_controller();
    let asked = request(vec![topic("a", 1, 1), topic("bad name", 1, 1)]);
    let response = broker.call_until_timeout(7, asked);
    // The name of the second would have been refused by the controller.
    assert_eq!(codes(&response), told(&[("a", 7), ("bad name", 7)]));
}
