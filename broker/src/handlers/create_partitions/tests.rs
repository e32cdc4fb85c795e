//! More partitions, and why not.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, StrBytes, TopicName,
};

use crate::handlers::testing::TestBroker;

fn topic(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignments = assignments.map(|assignments| {
        let assigned = assignments.iter().map(|ids| {
            let ids = ids.iter().copied().map(BrokerId).collect();
            CreatePartitionsAssignment::default().with_broker_ids(ids)
        });
        assigned.collect()
    });
    CreatePartitionsTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_count(count)
        .with_assignments(assignments)
}

fn request(topics: Vec<CreatePartitionsTopic>) -> CreatePartitionsRequest {
    CreatePartitionsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
}

fn codes(response: &CreatePartitionsResponse) -> Vec<(String, i16)> {
    response
        .results
        .iter()
        .map(|result| (result.name.0.to_string(), result.error_code))
        .collect()
}

#[test]
fn the_count_is_the_total_afterwards_in_every_version() {
    for version in 0..=3 {
        let broker = TestBroker::new();
        broker.create_topic("a", 2);
        let response = broker.call(version, request(vec![topic("a", 5, None)]));
        assert_eq!(codes(&response), [("a".to_owned(), 0)]);
        assert_eq!(response.results[0].error_message, None);
        assert_eq!(
            broker.image().topics.by_name("a").unwrap().partitions.len(),
            5
        );
    }
}

#[test]
fn every_topic_has_its_own_answer() {
    type Assignments = Option<&'static [&'static [i32]]>;
    let table: &[(i32, Assignments, i16)] = &[
        (3, None, 0),
        // An empty list is what some clients send for "place them yourself".
        (3, Some(&[]), 0),
        (3, Some(&[&[1]]), 0),
        (2, None, 37),
        (1, None, 37),
        (0, None, 37),
        (-1, None, 37),
        (4, Some(&[&[1]]), 39),
        (3, Some(&[&[1], &[1]]), 39),
        (3, Some(&[&[9]]), 39),
        (3, Some(&[&[]]), 39),
        (3, Some(&[&[1, 1]]), 39),
        (2_000_000, None, 44),
    ];
    for (count, assignments, code) in table {
        let broker = TestBroker::new();
        broker.create_topic("a", 2);
        let asked = vec![topic("a", *count, *assignments), topic("none", 3, None)];
        let response = broker.call(3, request(asked));
        let expected = [("a".to_owned(), *code), ("none".to_owned(), 3)];
        assert_eq!(codes(&response), expected, "{count} {assignments:?}");
        assert_eq!(response.results[0].error_message.is_some(), *code != 0);
        let partitions = broker.image().topics.by_name("a").unwrap().partitions.len();
        assert_eq!(partitions, if *code == 0 { 3 } else { 2 });
    }
}

#[test]
fn a_topic_named_twice_is_refused_once() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let asked = vec![topic("a", 2, None), topic("a", 3, None)];
    assert_eq!(
        codes(&broker.call(3, request(asked))),
        [("a".to_owned(), 42)]
    );
}

#[test]
fn validation_changes_nothing() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let asked = request(vec![topic("a", 4, None)]).with_validate_only(true);
    assert_eq!(codes(&broker.call(3, asked)), [("a".to_owned(), 0)]);
    assert_eq!(
        broker.image().topics.by_name("a").unwrap().partitions.len(),
        1
    );
}

#[test]
fn a_slow_controller_is_answered_with_a_timeout() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    broker.silence_controller();
    let response = broker.call_until_timeout(3, request(vec![topic("a", 4, None)]));
    assert_eq!(codes(&response), [("a".to_owned(), 7)]);
}
