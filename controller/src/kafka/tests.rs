//! Metadata logs made byte by byte: a snapshot and a log make one state, and what we cannot serve
//! is refused by name. What a real Kafka writes is tested in `compat-tests/tests/adopt.rs`.

use std::io::IoSlice;

use ottla_protocol::batch::BatchBuilder;
use ottla_storage::disk::MemoryDisk;
use uuid::Uuid;

use super::*;
use crate::image::MetadataImage;

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

/// Numbers and lengths here are small enough for one byte each.
fn framed(key: u8, version: u8, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![1, key, version];
    body(&mut out);
    out.push(0);
    out
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8 + 1);
    out.extend_from_slice(text.as_bytes());
}

fn topic(name: &str, topic: TopicId) -> Vec<u8> {
    framed(2, 0, |out| {
        put_string(out, name);
        out.extend_from_slice(topic.0.as_bytes());
    })
}

fn ids_of(out: &mut Vec<u8>, ids: &[i32]) {
    out.push(ids.len() as u8 + 1);
    ids.iter()
        .for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
}

fn partition(topic: TopicId, index: i32, replicas: &[i32], epoch: i32) -> Vec<u8> {
    framed(3, 1, |out| {
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(topic.0.as_bytes());
        ids_of(out, replicas);
        ids_of(out, replicas);
        ids_of(out, &[]);
        ids_of(out, &[]);
        for number in [1, epoch, epoch + 1] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(1);
    })
}

/// The leader changes: tag 1.
fn leader(topic: TopicId, index: i32, leader: i32) -> Vec<u8> {
    let mut out = vec![1, 5, 0];
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(topic.0.as_bytes());
    out.extend_from_slice(&[1, 1, 4]);
    out.extend_from_slice(&leader.to_be_bytes());
    out
}

fn config(kind: i8, resource: &str, name: &str, value: &str) -> Vec<u8> {
    framed(4, 0, |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        for text in [resource, name, value] {
            put_string(out, text);
        }
    })
}

fn broker(id: i32) -> Vec<u8> {
    framed(0, 4, |out| out.extend_from_slice(&id.to_be_bytes()))
}

fn put(disk: &MemoryDisk, name: &str, base: i64, records: &[Vec<u8>]) {
    disk.create_dir(KAFKA_METADATA_DIR).unwrap();
    let file = disk
        .create(&format!("{KAFKA_METADATA_DIR}/{name}"))
        .unwrap();
    let mut position = 0;
    for (offset, record) in (base..).zip(records) {
        let mut builder = BatchBuilder::new().base_offset(Offset(offset));
        builder.append(1, None, Some(record), &[]);
        let batch = builder.build().unwrap();
        file.write_at(position, &[IoSlice::new(batch.bytes())])
            .unwrap();
        position += batch.size_bytes() as u64;
    }
}

fn log(disk: &MemoryDisk, base: i64, records: &[Vec<u8>]) {
    put(disk, &SegmentFile::Log.name(Offset(base)), base, records);
}

fn adopted(disk: &MemoryDisk) -> Adopted {
    let metadata = KafkaMetadata::read(disk).unwrap();
    metadata.adopt(BrokerId(1), "c", &|_, name| name != "odd.key", false)
}

#[test]
fn a_snapshot_and_the_log_behind_it_make_one_cluster() {
    let disk = MemoryDisk::new();
    let snapshot = [
        topic("a", id(1)),
        partition(id(1), 0, &[1], 5),
        config(record::TOPIC, "a", "retention.ms", "7"),
    ];
    put(
        &disk,
        "00000000000000000010-0000000001.checkpoint",
        0,
        &snapshot,
    );
    put(
        &disk,
        "00000000000000000012-0000000001.checkpoint.part",
        0,
        &[vec![9]],
    );
    // Offsets below 10 are in the snapshot: they would undo what it says.
    let records = [
        config(record::TOPIC, "a", "retention.ms", "1"),
        topic("b", id(2)),
        partition(id(2), 0, &[1], 0),
        leader(id(1), 0, -1),
        broker(1),
        config(record::BROKER, "", "odd.key", "x"),
        framed(15, 0, |out| {
            out.extend_from_slice(&1i32.to_be_bytes());
            out.extend_from_slice(&4i64.to_be_bytes());
            out.extend_from_slice(&3_000i64.to_be_bytes());
        }),
    ];
    log(&disk, 9, &records);
    let adopted = adopted(&disk);
    assert_eq!(adopted.refusals, Vec::<String>::new());
    assert_eq!(adopted.notes.len(), 1, "{:?}", adopted.notes);
    let image = MetadataImage::from_snapshot(&adopted.records, Offset(1), 1);
    image.check_invariants();
    assert_eq!(
        (&*image.cluster_id, image.next_producer_id),
        ("c", ProducerId(3_000))
    );
    assert_eq!(image.topics.by_name("b").unwrap().id, id(2));
    let a = &image.topics.by_name("a").unwrap().partitions[0];
    assert_eq!((a.leader, a.leader_epoch), (BrokerId(1), LeaderEpoch(6)));
    assert_eq!(a.partition_epoch, PartitionEpoch(7));
    let configs = image.configs.of(&ConfigResource::Topic(Arc::from("a")));
    assert_eq!(configs.get("retention.ms").map(|value| &**value), Some("7"));
    assert_eq!(image.features.iter().count(), FEATURES.len());
}

#[test]
fn a_transaction_counts_when_it_ends_and_a_torn_end_does_not_count() {
    let disk = MemoryDisk::new();
    let empty = |key| framed(key, 0, |_| {});
    log(
        &disk,
        0,
        &[
            framed(23, 0, |_| {}),
            topic("gone", id(1)),
            empty(25),
            framed(23, 0, |_| {}),
            topic("kept", id(2)),
            empty(24),
            topic("torn", id(3)),
        ],
    );
    let path = format!("{KAFKA_METADATA_DIR}/{}", SegmentFile::Log.name(Offset(0)));
    let file = disk.open(&path).unwrap();
    file.truncate(file.len_bytes().unwrap() - 1).unwrap();
    let metadata = KafkaMetadata::read(&disk).unwrap();
    let names: Vec<_> = metadata
        .topics
        .values()
        .map(|topic| topic.0.as_str())
        .collect();
    assert_eq!(names, ["kept"]);
    // The same in the middle is damage.
    disk.corrupt(&path, 100, &[0xee; 4]).unwrap();
    let error = KafkaMetadata::read(&disk).unwrap_err();
    assert!(
        matches!(error, KafkaMetadataError::Damaged { .. }),
        "{error}"
    );
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let cases = [
        (vec![broker(1), broker(2)], "broker 2"),
        (
            vec![topic("a", id(1)), partition(id(1), 0, &[1, 2], 0)],
            "a-0",
        ),
        (
            vec![topic("a", id(1)), partition(id(1), 1, &[1], 0)],
            "no partition 0",
        ),
        (
            vec![
                topic("a", id(1)),
                config(2, "a", "remote.storage.enable", "true"),
            ],
            "remote storage",
        ),
        (vec![framed(18, 0, |_| {})], "access control lists"),
        (vec![framed(23, 0, |_| {})], "half done"),
        (
            vec![framed(12, 0, |out| {
                put_string(out, "metadata.version");
                out.extend_from_slice(&99i16.to_be_bytes());
            })],
            "metadata.version is 99",
        ),
    ];
    for (records, words) in cases {
        let disk = MemoryDisk::new();
        log(&disk, 0, &records);
        let refusals = adopted(&disk).refusals;
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(refusals[0].contains(words), "{refusals:?}");
    }
    let disk = MemoryDisk::new();
    log(&disk, 0, &[framed(77, 0, |_| {})]);
    let error = KafkaMetadata::read(&disk).unwrap_err();
    assert!(
        error.to_string().contains("record 77 is not known"),
        "{error}"
    );
    assert!(matches!(
        KafkaMetadata::read(&MemoryDisk::new()),
        Err(KafkaMetadataError::Missing)
    ));
}
