//! The quorum as `kafka-metadata-quorum` asks for it.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::{
    DescribeQuorumRequest, DescribeQuorumResponse, StrBytes, TopicName,
};

use crate::handlers::testing::TestBroker;

fn ask(version: i16, topic: &'static str, partitions: &[i32]) -> DescribeQuorumResponse {
    let partitions = partitions
        .iter()
        .map(|index| PartitionData::default().with_partition_index(*index));
    let topic = TopicData::default()
        .with_topic_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(partitions.collect());
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    TestBroker::new().call(version, request)
}

#[test]
fn the_metadata_partition_has_a_leader_voters_and_positions() {
    for version in 0..=2 {
        let response = ask(version, "__cluster_metadata", &[0]);
        assert_eq!(response.error_code, 0);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id.0), (0, 1));
        assert_eq!((partition.leader_epoch, partition.high_watermark), (3, 42));
        let voters: Vec<_> = partition
            .current_voters
            .iter()
            .map(|v| (v.replica_id.0, v.log_end_offset))
            .collect();
        assert_eq!(voters, [(1, 42), (2, -1)]);
        let caught_up: Vec<bool> = partition
            .current_voters
            .iter()
            .map(|v| v.last_caught_up_timestamp > 0)
            .collect();
        assert_eq!(caught_up, [version >= 1, false]);
        assert!(partition.observers.is_empty());
        let nodes: Vec<_> = response.nodes.iter().map(|node| node.node_id.0).collect();
        assert_eq!(nodes, if version >= 2 { vec![1, 2] } else { vec![] });
        if version >= 2 {
            let listener = &response.nodes[0].listeners[0];
            assert_eq!((&*listener.host, listener.port), ("127.0.0.1", 9092));
        }
    }
}

#[test]
fn other_partitions_have_no_quorum() {
    for version in 0..=2 {
        for (topic, partition) in [("__cluster_metadata", 1), ("other", 0)] {
            let response = ask(version, topic, &[partition]);
            assert_eq!(response.error_code, 0);
            assert!(response.nodes.is_empty());
            let told = &response.topics[0].partitions[0];
            assert_eq!((told.partition_index, told.error_code), (partition, 3));
        }
    }
}
