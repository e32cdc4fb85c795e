//! The cluster as admin clients see it.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::DescribeClusterRequest;

use crate::handlers::testing::TestBroker;

#[test]
fn the_cluster_its_brokers_and_its_controller_are_told_in_every_version() {
    let broker = TestBroker::new();
    for version in 0..=2 {
        for asked in [false, true] {
            let request =
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(asked);
            let response = broker.call(version, request);
            assert_eq!(response.error_code, 0);
            assert_eq!(*response.cluster_id, *broker.image().cluster_id);
            assert_eq!(response.controller_id.0, 1);
            let brokers: Vec<_> = response
                .brokers
                .iter()
                .map(|b| (b.broker_id.0, &*b.host, b.port))
                .collect();
            assert_eq!(brokers, [(1, "127.0.0.1", 9092)]);
            let operations = if asked { 8096 } else { i32::MIN };
            assert_eq!(response.cluster_authorized_operations, operations);
        }
    }
}

#[test]
fn fenced_brokers_are_told_only_on_request() {
    let broker = TestBroker::new();
    broker.fence();
    for (version, asked, count) in [(0, false, 0), (1, false, 0), (2, false, 0), (2, true, 1)] {
        let request = DescribeClusterRequest::default().with_include_fenced_brokers(asked);
        let response = broker.call(version, request);
        assert_eq!(response.brokers.len(), count);
        assert!(response.brokers.iter().all(|broker| broker.is_fenced));
    }
}

#[test]
fn a_request_for_controllers_came_to_the_wrong_place() {
    let broker = TestBroker::new();
    for (endpoint_type, code) in [(1, 0), (2, 114), (3, 115), (-1, 115)] {
        for version in [1, 2] {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
            let response = broker.call(version, request);
            assert_eq!(response.error_code, code);
            assert_eq!(response.error_message.is_some(), code != 0);
            assert_eq!(response.brokers.is_empty(), code != 0);
        }
    }
}
