//! Bytes of released formats: single records, and whole directories as a crash left them. What
//! `tests/golden/` holds was written by a release and must stay readable, byte by byte the same
//! meaning, for ever. A new record type or version adds lines; no line is ever changed or removed.
//! `UPDATE_GOLDEN=1` appends lines for records that have none yet.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ottla_controller::command::{CreateTopics, NewTopic, RegisterBroker, TopicDefaults};
use ottla_controller::decide::supported_features;
use ottla_controller::record::{
    BrokerEndpoint, BrokerEpoch, BrokerRegistrationRecord, ConfigResource, FeatureRange,
    MetadataRecord, PartitionChangeRecord, PartitionEpoch, PartitionRecord, decode_batch,
    encode_batch,
};
use ottla_controller::{Command, Controller, ControllerOptions};
use ottla_protocol::types::{BrokerId, LeaderEpoch, ProducerId, TopicId};
use ottla_storage::disk::memory::Crash;
use ottla_storage::disk::{Disk, MemoryDisk, read_file, write_file_atomically};
use uuid::Uuid;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records.txt");

fn records() -> Vec<(&'static str, MetadataRecord)> {
    let topic_id = TopicId(Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef));
    let config = |resource: ConfigResource, value: Option<&str>| MetadataRecord::Config {
        resource,
        name: Arc::from("retention.ms"),
        value: value.map(Arc::from),
    };
    vec![
        (
            "cluster.1",
            MetadataRecord::Cluster {
                cluster_id: Arc::from("MkU3OEVBNTcwNTJENDM2Qk"),
            },
        ),
        (
            "feature.1",
            MetadataRecord::Feature {
                name: Arc::from("metadata.version"),
                level: 30,
                epoch: 7,
            },
        ),
        (
            "broker_registration.1",
            MetadataRecord::BrokerRegistration(registration()),
        ),
        (
            "broker_unregistered.1",
            MetadataRecord::BrokerUnregistered {
                broker_id: BrokerId(300),
            },
        ),
        (
            "leader_epochs_bumped.1",
            MetadataRecord::LeaderEpochsBumped {
                broker_id: BrokerId(1),
            },
        ),
        (
            "topic.1",
            MetadataRecord::Topic {
                topic_id,
                name: Arc::from("orders"),
            },
        ),
        ("remove_topic.1", MetadataRecord::RemoveTopic { topic_id }),
        (
            "partition.1",
            MetadataRecord::Partition(PartitionRecord {
                topic_id,
                partition: 5,
                replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
                isr: vec![BrokerId(1), BrokerId(3)],
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(4),
                partition_epoch: PartitionEpoch(9),
            }),
        ),
        (
            "partition_change.1",
            MetadataRecord::PartitionChange(PartitionChangeRecord {
                topic_id,
                partition: 5,
                isr: vec![BrokerId(3)],
                leader: BrokerId::NONE,
                leader_epoch: LeaderEpoch(5),
                partition_epoch: PartitionEpoch(10),
            }),
        ),
        (
            "config.topic.1",
            config(ConfigResource::Topic(Arc::from("orders")), Some("1000")),
        ),
        (
            "config.broker.1",
            config(ConfigResource::Broker(BrokerId(7)), None),
        ),
        (
            "config.broker_default.1",
            config(ConfigResource::BrokerDefault, Some("")),
        ),
        (
            "config.group.1",
            config(ConfigResource::Group(Arc::from("billing")), Some("9")),
        ),
        (
            "producer_ids.1",
            MetadataRecord::ProducerIds {
                next_producer_id: ProducerId(5_000),
            },
        ),
    ]
}

fn registration() -> BrokerRegistrationRecord {
    BrokerRegistrationRecord {
        broker_id: BrokerId(1),
        broker_epoch: BrokerEpoch(42),
        incarnation_id: Uuid::from_u128(0xfeed_beef),
        endpoints: vec![BrokerEndpoint {
            listener: Arc::from("PLAINTEXT"),
            host: Arc::from("broker.example"),
            port: 9092,
            security_protocol: 0,
        }],
        features: vec![FeatureRange {
            name: Arc::from("metadata.version"),
            min: 7,
            max: 30,
        }],
        rack: Some(Arc::from("a")),
        log_dirs: vec![Uuid::from_u128(77)],
        fenced: false,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

#[test]
fn records_of_every_release_are_read_and_written_as_that_release_did() {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let mut golden: BTreeMap<&str, &str> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let mut appended = text.clone();
    for (name, record) in records() {
        let bytes = encode_batch(std::slice::from_ref(&record));
        let Some(expected) = golden.remove(name) else {
            assert!(
                std::env::var_os("UPDATE_GOLDEN").is_some(),
                "no golden bytes for {name}"
            );
            appended.push_str(&format!("{name} {}\n", hex(&bytes)));
            continue;
        };
        assert_eq!(decode_batch(&unhex(expected)), Ok(vec![record]), "{name}");
        assert_eq!(hex(&bytes), expected, "{name}");
    }
    assert!(
        golden.is_empty(),
        "golden bytes that no test reads: {golden:?}"
    );
    if appended != text {
        std::fs::write(FILE, appended).unwrap();
    }
}

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/metadata.1");
const IMAGE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/metadata.1.image.txt"
);
const DIRECTORIES: [&str; 2] = ["ottla-metadata", "ottla-metadata/log"];

/// A small cluster: some of it in a snapshot, some of it in the log behind it.
fn write_metadata(disk: &MemoryDisk) {
    let options = ControllerOptions {
        snapshot_entries: 5,
        ..ControllerOptions::single(BrokerId(1), 42)
    };
    let now = Instant::now();
    let mut controller = Controller::open(Arc::new(disk.clone()), options, now).unwrap();
    let BrokerRegistrationRecord {
        endpoints,
        rack,
        log_dirs,
        ..
    } = registration();
    let mut commands = vec![Command::RegisterBroker(RegisterBroker {
        broker_id: BrokerId(1),
        cluster_id: None,
        incarnation_id: Uuid::from_u128(1),
        endpoints,
        features: supported_features(),
        rack,
        log_dirs,
    })];
    commands.extend(["a", "b", "c", "d", "e", "f"].map(|name| {
        Command::CreateTopics(CreateTopics {
            topics: vec![NewTopic {
                name: Arc::from(name),
                partitions: 2,
                replication_factor: 1,
                assignments: Vec::new(),
                configs: [(Arc::from("retention.ms"), Arc::from("5"))].into(),
            }],
            defaults: TopicDefaults {
                partitions: 1,
                replication_factor: 1,
            },
            validate_only: false,
        })
    }));
    for command in commands {
        controller.submit(command, 1_700_000_000_000);
        controller.poll(now).unwrap();
    }
    disk.crash(Crash::Process);
}

fn save(disk: &MemoryDisk) {
    for directory in DIRECTORIES {
        let path = Path::new(DIRECTORY).join(directory);
        std::fs::create_dir_all(&path).unwrap();
        for entry in disk
            .list(directory)
            .unwrap()
            .into_iter()
            .filter(|entry| !entry.is_dir)
        {
            let bytes = read_file(disk, &format!("{directory}/{}", entry.name), 1 << 20).unwrap();
            std::fs::write(path.join(&entry.name), bytes).unwrap();
        }
    }
}

fn load() -> MemoryDisk {
    let disk = MemoryDisk::new();
    for directory in DIRECTORIES {
        disk.create_dir(directory).unwrap();
        for entry in std::fs::read_dir(Path::new(DIRECTORY).join(directory)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
                let bytes = std::fs::read(entry.path()).unwrap();
                write_file_atomically(&disk, &path, &bytes).unwrap();
            }
        }
    }
    disk
}

fn image(disk: &MemoryDisk) -> Vec<MetadataRecord> {
    let options = ControllerOptions::single(BrokerId(1), 7);
    let opened = Controller::open(Arc::new(disk.clone()), options, Instant::now());
    opened.unwrap().image().snapshot()
}

#[test]
fn a_metadata_directory_of_every_release_is_opened_with_everything_in_it() {
    if !Path::new(IMAGE).exists() {
        assert!(
            std::env::var_os("UPDATE_GOLDEN").is_some(),
            "no golden directory"
        );
        let disk = MemoryDisk::new();
        write_metadata(&disk);
        save(&disk);
        std::fs::write(IMAGE, hex(&encode_batch(&image(&disk)))).unwrap();
    }
    let expected = decode_batch(&unhex(&std::fs::read_to_string(IMAGE).unwrap())).unwrap();
    assert_eq!(image(&load()), expected);
    let topics = expected
        .iter()
        .filter(|r| matches!(r, MetadataRecord::Topic { .. }))
        .count();
    assert_eq!(topics, 6);
}
