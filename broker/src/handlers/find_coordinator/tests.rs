//! Groups have a coordinator from the first question on; transactions have none yet, and clients
//! are told so in words they understand.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::{FindCoordinatorRequest, StrBytes};

use crate::handlers::testing::TestBroker;

fn key(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[test]
fn one_key_per_request_before_version_4() {
    let broker = TestBroker::new();
    for version in 0..=3 {
        for (key_type, code) in [(1, 15), (2, 42), (9, 42)] {
            if version == 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default()
                .with_key(key("g"))
                .with_key_type(key_type);
            let response = broker.call(version, request);
            assert_eq!(response.error_code, code);
            assert_eq!(
                (response.node_id.0, response.port, &*response.host),
                (-1, -1, "")
            );
        }
    }
}

#[test]
fn many_keys_with_an_answer_each_from_version_4() {
    let broker = TestBroker::new();
    for version in 4..=6 {
        let share = if version == 6 { [42, 15, 42] } else { [42; 3] };
        for (key_type, codes) in [(1, [15; 3]), (2, share), (9, [42; 3])] {
            let keys = vec![key("a"), key("g:x:cAxsVmRDTE2kF0Zf0Zk8AA:0"), key("")];
            let request = FindCoordinatorRequest::default()
                .with_coordinator_keys(keys.clone())
                .with_key_type(key_type);
            let response = broker.call(version, request);
            let told: Vec<_> = response
                .coordinators
                .iter()
                .map(|c| (c.key.clone(), c.error_code))
                .collect();
            assert_eq!(told, keys.into_iter().zip(codes).collect::<Vec<_>>());
            assert!(
                response
                    .coordinators
                    .iter()
                    .all(|c| c.node_id.0 == -1 && c.port == -1)
            );
        }
    }
}

#[test]
fn the_first_question_for_a_group_creates_the_topic_of_the_groups() {
    for version in 0..=6 {
        let broker = TestBroker::with_config(&[("offsets.topic.num.partitions", "3")]);
        assert!(
            broker
                .image()
                .topics
                .by_name("__consumer_offsets")
                .is_none()
        );
        let request = if version < 4 {
            FindCoordinatorRequest::default().with_key(key("g"))
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key("g"), key("h")])
        };
        let response = broker.call(version, request);
        let told: Vec<_> = if version < 4 {
            vec![(
                response.error_code,
                response.node_id.0,
                response.host.to_string(),
                response.port,
            )]
        } else {
            let told = response.coordinators.iter();
            told.map(|c| (c.error_code, c.node_id.0, c.host.to_string(), c.port))
                .collect()
        };
        let asked = if version < 4 { 1 } else { 2 };
        assert_eq!(told, vec![(0, 1, "127.0.0.1".to_owned(), 9092); asked]);
        let image = broker.image();
        let topic = image.topics.by_name("__consumer_offsets").unwrap();
        assert_eq!(topic.partitions.len(), 3);
    }
}
