//! Elections that nobody needs.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::{ElectLeadersRequest, StrBytes, TopicName};

use crate::handlers::testing::TestBroker;

fn partitions(topic: &'static str, partitions: &[i32]) -> TopicPartitions {
    TopicPartitions::default()
        .with_topic(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(partitions.to_vec())
}

#[test]
fn each_partition_is_told_why_it_has_no_election() {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    for (fenced, kind, top, codes) in [
        (false, 0, 0, [84, 84, 3]),
        (false, 1, 0, [84, 84, 3]),
        (false, 7, 42, [42, 42, 42]),
        (true, 0, 0, [80, 80, 3]),
        (true, 1, 0, [83, 83, 3]),
    ] {
        if fenced {
            broker.fence();
        }
        for version in 0..=2 {
            if version == 0 && kind != 0 {
                continue;
            }
            let asked = vec![partitions("a", &[0, 1, 2]), partitions("none", &[0])];
            let request = ElectLeadersRequest::default()
                .with_election_type(kind)
                .with_topic_partitions(Some(asked));
            let response = broker.call(version, request);
            assert_eq!(response.error_code, top);
            let results = &response.replica_election_results;
            let of = |index: usize| -> Vec<i16> {
                results[index]
                    .partition_result
                    .iter()
                    .map(|p| p.error_code)
                    .collect()
            };
            assert_eq!(of(0), codes);
            assert_eq!(of(1), [if top == 0 { 3 } else { 42 }]);
        }
    }
}

#[test]
fn an_election_for_all_partitions_elects_none() {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    let request = ElectLeadersRequest::default().with_topic_partitions(None);
    let response = broker.call(2, request);
    assert_eq!(response.error_code, 0);
    let results = &response.replica_election_results;
    assert!(results.len() == 1 && results[0].partition_result.is_empty());
}
