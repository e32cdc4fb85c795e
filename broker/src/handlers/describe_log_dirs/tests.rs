//! Directories, partitions and their sizes.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, StrBytes, TopicName,
};

use ottla_storage::disk::Disk;

use crate::handlers::testing::TestBroker;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

type Asked<'a> = Option<&'a [(&'a str, &'a [i32])]>;

/// Topic, partition and size of everything that is told.
fn told(broker: &TestBroker, version: i16, asked: Asked<'_>) -> Vec<(String, i32, i64)> {
    let topics = asked.map(|topics| {
        let topics = topics.iter().map(|(topic, partitions)| {
            DescribableLogDirTopic::default()
                .with_topic(name(topic))
                .with_partitions(partitions.to_vec())
        });
        topics.collect()
    });
    let response = broker.call(
        version,
        DescribeLogDirsRequest::default().with_topics(topics),
    );
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    let dir = &response.results[0];
    assert_eq!((dir.error_code, &*dir.log_dir), (0, "/data"));
    assert!(!dir.is_cordoned);
    if version >= 4 {
        assert!(dir.usable_bytes > 0 && dir.total_bytes >= dir.usable_bytes);
    }
    let mut told = Vec::new();
    for topic in &dir.topics {
        for partition in &topic.partitions {
            assert!(!partition.is_future_key && partition.offset_lag == 0);
            let index = partition.partition_index;
            told.push((topic.name.0.to_string(), index, partition.partition_size));
        }
    }
    told
}

#[test]
fn partitions_are_told_with_their_true_sizes_in_every_version() {
    let broker = TestBroker::new();
    broker.create_topic("b", 1);
    broker.create_topic("a", 2);
    let written = broker.append("a", 1, &[b"one", b"two"]);
    assert!(written > 0);
    let rows = |rows: &[(&str, i32, i64)]| {
        rows.iter()
            .map(|(topic, index, size)| ((*topic).to_owned(), *index, *size))
            .collect()
    };
    let everything: Vec<_> = rows(&[("a", 0, 0), ("a", 1, written), ("b", 0, 0)]);
    for version in 1..=5 {
        assert_eq!(told(&broker, version, None), everything);
        assert_eq!(told(&broker, version, Some(&[])), rows(&[]));
        let asked: Asked<'_> = Some(&[("a", &[1, 7]), ("none", &[0]), ("b", &[])]);
        assert_eq!(told(&broker, version, asked), rows(&[("a", 1, written)]));
    }
}

#[test]
fn zeros_written_ahead_are_no_part_of_a_size() {
    let broker = TestBroker::new();
    let from = &broker.broker.zeros_from_bytes;
    from.store(1_000, std::sync::atomic::Ordering::Relaxed);
    broker.create_topic("a", 1);
    let mut written = 0;
    for _ in 0..20 {
        written += broker.append("a", 0, &[&[7; 200]]);
        broker.sync("a", 0);
    }
    let file = broker.disk.open("a-0/00000000000000000000.log").unwrap();
    assert!(i64::try_from(file.len_bytes().unwrap()).unwrap() > written);
    assert_eq!(told(&broker, 4, None), [("a".to_owned(), 0, written)]);
}

#[test]
fn replicas_stay_in_the_directory_they_are_in() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    for version in [1, 2] {
        for (path, topic, partition, code) in [
            ("/data", "a", 0, 0),
            ("/data", "a", 1, 3),
            ("/data", "b", 0, 3),
            ("/none", "a", 0, 57),
        ] {
            let topic = AlterReplicaLogDirTopic::default()
                .with_name(name(topic))
                .with_partitions(vec![partition]);
            let dir = AlterReplicaLogDir::default()
                .with_path(StrBytes::from_static_str(path))
                .with_topics(vec![topic]);
            let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
            let response = broker.call(version, request);
            assert_eq!(response.results[0].partitions[0].error_code, code);
        }
    }
}
