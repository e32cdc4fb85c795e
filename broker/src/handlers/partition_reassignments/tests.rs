//! Replicas stay where they are.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ListPartitionReassignmentsRequest, StrBytes,
    TopicName,
};

use crate::handlers::testing::TestBroker;

#[test]
fn only_the_replicas_a_partition_has_can_be_assigned_to_it() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let table: &[(&str, i32, Option<&[i32]>, i16)] = &[
        ("a", 0, Some(&[1]), 0),
        ("a", 0, None, 85),
        ("a", 0, Some(&[]), 39),
        ("a", 0, Some(&[1, 1]), 39),
        ("a", 0, Some(&[2]), 39),
        ("a", 0, Some(&[1, 2]), 39),
        ("a", 1, Some(&[1]), 3),
        ("none", 0, None, 3),
    ];
    for version in [0, 1] {
        for (topic, partition, replicas, code) in table {
            let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
            let partition = ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(replicas);
            let topic = ReassignableTopic::default()
                .with_name(TopicName(StrBytes::from_string((*topic).to_owned())))
                .with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let response = broker.call(version, request);
            assert_eq!(response.error_code, 0);
            let told = &response.responses[0].partitions[0];
            assert_eq!(told.error_code, *code);
            assert_eq!(told.error_message.is_some(), *code != 0);
        }
    }
}

#[test]
fn no_reassignment_is_ever_under_way() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let response = broker.call(
        0,
        ListPartitionReassignmentsRequest::default().with_topics(None),
    );
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}
