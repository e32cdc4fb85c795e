//! Deleting by name and by id, and what is not deleted.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, StrBytes, TopicName};
use uuid::Uuid;

use crate::handlers::testing::TestBroker;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn by_name(text: &str) -> DeleteTopicState {
    DeleteTopicState::default().with_name(Some(name(text)))
}

fn by_id(id: Uuid) -> DeleteTopicState {
    DeleteTopicState::default()
        .with_name(None)
        .with_topic_id(id)
}

fn request(topics: Vec<DeleteTopicState>) -> DeleteTopicsRequest {
    DeleteTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
}

fn codes(response: &DeleteTopicsResponse) -> Vec<(String, i16)> {
    let name = |name: &Option<TopicName>| {
        name.as_ref()
            .map_or_else(|| "-".to_owned(), |n| n.0.to_string())
    };
    response
        .responses
        .iter()
        .map(|result| (name(&result.name), result.error_code))
        .collect()
}

fn told(expected: &[(&str, i16)]) -> Vec<(String, i16)> {
    expected
        .iter()
        .map(|(name, code)| ((*name).to_owned(), *code))
        .collect()
}

#[test]
fn topics_are_deleted_by_name_in_every_version() {
    for version in 1..=6 {
        let broker = TestBroker::new();
        broker.create_topic("a", 2);
        broker.create_topic("b", 1);
        let request = match version {
            6 => request(vec![by_name("a"), by_name("none")]),
            _ => DeleteTopicsRequest::default()
                .with_topic_names(vec![name("a"), name("none")])
                .with_timeout_ms(1000),
        };
        let response = broker.call(version, request);
        assert_eq!(
            codes(&response),
            told(&[("a", 0), ("none", 3)]),
            "version {version}"
        );
        let message = &response.responses[1].error_message;
        assert_eq!(message.is_some(), version >= 5);
        assert!(broker.image().topics.by_name("a").is_none());
        assert!(broker.image().topics.by_name("b").is_some());
    }
}

#[test]
fn by_id_the_answer_names_the_topic() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let id = broker.topic_id("a");
    let response = broker.call(6, request(vec![by_id(id), by_id(Uuid::from_u128(5))]));
    assert_eq!(codes(&response), told(&[("a", 0), ("-", 100)]));
    assert_eq!(response.responses[0].topic_id, id);
    assert_eq!(response.responses[1].topic_id, Uuid::from_u128(5));
}

#[test]
fn a_topic_created_again_has_another_id() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let first = broker.topic_id("a");
    broker.call(6, request(vec![by_name("a")]));
    broker.create_topic("a", 1);
    assert_ne!(broker.topic_id("a"), first);
    assert_eq!(
        codes(&broker.call(6, request(vec![by_id(first)]))),
        told(&[("-", 100)])
    );
}

#[test]
fn what_is_named_badly_or_twice_is_not_deleted() {
    let broker = TestBroker::new();
    for topic in ["a", "b", "c"] {
        broker.create_topic(topic, 1);
    }
    let (a, b) = (broker.topic_id("a"), broker.topic_id("b"));
    let response = broker.call(
        6,
        request(vec![
            by_name("a").with_topic_id(a),
            by_id(b),
            by_name("b"),
            by_id(Uuid::nil()),
            by_name("c"),
            by_name("c"),
            by_name("gone"),
            by_name("gone"),
        ]),
    );
    let expected = [("a", 42), ("b", 42), ("-", 42), ("c", 42), ("gone", 42)];
    assert_eq!(codes(&response), told(&expected));
    assert_eq!(broker.image().topics.len(), 3);
}

#[test]
fn deletion_can_be_switched_off() {
    let broker = TestBroker::with_config(&[("delete.topic.enable", "false")]);
    broker.create_topic("a", 1);
    let by_version = [(1, 42), (2, 42), (3, 73), (5, 73)];
    for (version, code) in by_version {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("a")]);
        assert_eq!(codes(&broker.call(version, request)), told(&[("a", code)]));
    }
    assert_eq!(
        codes(&broker.call(6, request(vec![by_name("a")]))),
        told(&[("a", 73)])
    );
    assert_eq!(broker.image().topics.len(), 1);
}

#[test]
fn a_slow_controller_is_answered_with_a_timeout() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    broker.silence_controller();
    let response = broker.call_until_timeout(6, request(vec![by_name("a"), by_id(Uuid::nil())]));
    assert_eq!(codes(&response), told(&[("a", 7), ("-", 42)]));
}
