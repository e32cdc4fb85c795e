//! Batches whose topics want their records opened: what is stored, who is told what, and that the
//! order of a connection's batches holds while others work on them.

use ottla_protocol::batch::{Compression, RecordBatchView};

use super::*;

const TOPIC: i8 = 2;

fn wire_of_topic(keys: &[(&str, &str)]) -> Wire {
    let wire = wire("memory");
    for (key, value) in keys {
        wire.world.set_config(TOPIC, "t", key, value);
    }
    wire
}

/// From now on the work on records waits until the test does it.
fn by_hand(wire: &Wire) {
    wire.world.broker.openers.on_push(|| ());
}

fn open(wire: &mut Wire) {
    assert!(wire.world.broker.openers.run_one(), "work was queued");
    wire.work();
}

fn stored(wire: &mut Wire, partition: i32) -> Vec<u8> {
    let response = wire.fetch(11, &fetch(vec![fetch_at(partition, 0)]));
    let records = response.responses[0].partitions[0].records.clone();
    records.unwrap().to_vec()
}

fn result(wire: &mut Wire, id: i32) -> (i16, i64) {
    let response: ProduceResponse = wire.answer(id, 9);
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

#[test]
fn a_topic_stores_batches_in_its_codec_whatever_they_came_in() {
    for (name, codec) in [
        ("uncompressed", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        let mut wire = wire_of_topic(&[("compression.type", name)]);
        for (n, from) in (0..).zip(Compression::ALL) {
            let sent = batch(&["a", "b"]).compression(from);
            assert_eq!(wire.produce(0, &sent), (0, 2 * n), "{name} {from:?}");
        }
        let bytes = stored(&mut wire, 0);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let view = RecordBatchView::parse(rest).unwrap();
            assert!(view.crc_is_valid());
            assert_eq!(view.compression(), Ok(codec), "{name}");
            rest = &rest[view.size_bytes()..];
        }
    }
}

#[test]
fn the_key_takes_effect_for_the_next_batch_and_goes_again() {
    let mut wire = wire_of_topic(&[]);
    let sent = batch(&["a"]).compression(Compression::Gzip);
    let codec = |wire: &mut Wire, skip: usize| {
        let bytes = stored(wire, 0);
        let mut rest = &bytes[..];
        for _ in 0..skip {
            rest = &rest[RecordBatchView::parse(rest).unwrap().size_bytes()..];
        }
        RecordBatchView::parse(rest).unwrap().compression().unwrap()
    };
    wire.produce(0, &sent);
    assert_eq!(codec(&mut wire, 0), Compression::Gzip);
    wire.world
        .set_config(TOPIC, "t", "compression.type", "snappy");
    wire.produce(0, &sent);
    assert_eq!(codec(&mut wire, 1), Compression::Snappy);
    wire.world
        .set_config(TOPIC, "t", "compression.type", "producer");
    wire.produce(0, &sent);
    assert_eq!(codec(&mut wire, 2), Compression::Gzip);
}

#[test]
fn a_later_batch_of_the_connection_waits_for_the_one_that_is_opened() {
    let mut wire = wire_of_topic(&[("compression.type", "lz4")]);
    by_hand(&wire);
    let long = batch(&["first"]).compression(Compression::Gzip);
    let first = wire.send(9, &produce(-1, 0, &long));
    // It would be appended at once, by itself.
    let second = wire.send(9, &produce(-1, 0, &batch(&["second"])));
    let third = wire.send(9, &produce(-1, 1, &batch(&["third"])));
    wire.flush();
    assert!(wire.frame().is_none(), "nothing is answered");
    assert!(!wire.connection.wants_read());
    open(&mut wire);
    assert_eq!(result(&mut wire, first), (0, 0));
    assert_eq!(result(&mut wire, second), (0, 1));
    assert_eq!(result(&mut wire, third), (0, 0));
    assert!(wire.connection.wants_read());
}

#[test]
fn other_connections_go_on_while_a_batch_is_opened() {
    let mut wire = wire_of_topic(&[("compression.type", "lz4")]);
    by_hand(&wire);
    let long = batch(&["first"]).compression(Compression::Gzip);
    let first = wire.send(9, &produce(-1, 0, &long));
    let mut other = Wire {
        connection: connect(&wire.world),
        now: wire.now,
        next_id: 0,
        received: Vec::new(),
        world: wire.world,
    };
    assert_eq!(other.produce(0, &batch(&["second"])), (0, 0));
    wire.world = other.world;
    open(&mut wire);
    assert_eq!(result(&mut wire, first), (0, 1));
}

#[test]
fn a_commit_that_waits_for_the_disk_is_told_after_the_opening() {
    let mut wire = wire("commit");
    wire.world
        .set_config(TOPIC, "t", "compression.type", "zstd");
    by_hand(&wire);
    let long = batch(&["first"]).compression(Compression::Gzip);
    let first = wire.send(9, &produce(-1, 0, &long));
    open(&mut wire);
    assert!(wire.frame().is_none(), "the disk has not confirmed it");
    wire.flush();
    assert_eq!(result(&mut wire, first), (0, 0));
}

#[test]
fn a_request_over_several_partitions_is_answered_when_all_are_done() {
    let mut wire = wire("commit");
    wire.world
        .set_config(TOPIC, "t", "compression.type", "zstd");
    by_hand(&wire);
    let long = records(&batch(&["long"]).compression(Compression::Gzip));
    let partitions = [(0, long), (1, records(&batch(&["short"])))];
    let partitions = partitions.map(|(index, records)| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records))
    });
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(partitions.to_vec());
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(TIMEOUT_MS)
        .with_topic_data(vec![topic]);
    let id = wire.send(9, &request);
    wire.flush();
    assert!(wire.frame().is_none());
    open(&mut wire);
    assert!(wire.frame().is_none());
    wire.flush();
    let response: ProduceResponse = wire.answer(id, 9);
    for answer in &response.responses[0].partition_responses {
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    }
}

#[test]
fn without_acks_a_bad_batch_ends_the_connection_after_it_was_opened() {
    let mut wire = wire_of_topic(&[("cleanup.policy", "compact")]);
    by_hand(&wire);
    let keyless = batch(&["x"]).compression(Compression::Gzip);
    wire.send(9, &produce(0, 0, &keyless));
    assert_eq!(wire.closed(), None);
    open(&mut wire);
    assert_eq!(wire.closed(), Some(CloseReason::ProduceFailedWithoutAcks));
    let mut wire = wire_of_topic(&[("compression.type", "gzip")]);
    by_hand(&wire);
    wire.send(
        9,
        &produce(0, 0, &batch(&["x"]).compression(Compression::Lz4)),
    );
    open(&mut wire);
    assert_eq!(wire.closed(), None);
    assert!(wire.frame().is_none(), "no answer is expected");
    assert_eq!(wire.produce(0, &batch(&["y"])), (0, 1));
}

#[test]
fn an_opened_batch_of_a_client_that_has_gone_is_forgotten() {
    let mut wire = wire_of_topic(&[("compression.type", "gzip")]);
    by_hand(&wire);
    let long = batch(&["gone"]).compression(Compression::Lz4);
    wire.send(9, &produce(-1, 0, &long));
    wire.connection = connect(&wire.world);
    assert!(wire.world.broker.openers.run_one());
    assert_eq!(wire.produce(0, &batch(&["y"])), (0, 0));
}

#[test]
fn every_bad_record_is_named_with_its_reason() {
    let mut wire = wire_of_topic(&[("cleanup.policy", "compact")]);
    let mut mixed = BatchBuilder::new().compression(Compression::Zstd);
    for key in [Some(&b"k"[..]), None, Some(b"k"), None] {
        mixed.append(1_000, key, Some(b"v"), &[]);
    }
    let id = wire.send(9, &produce(-1, 0, &mixed));
    wire.flush();
    let response: ProduceResponse = wire.answer(id, 9);
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!((answer.error_code, answer.base_offset), (87, -1));
    let errors = answer.record_errors.iter();
    let errors: Vec<(i32, &str)> = errors
        .map(|e| {
            (
                e.batch_index,
                e.batch_index_error_message.as_deref().unwrap(),
            )
        })
        .collect();
    let why = "a compacted topic cannot accept a record without a key";
    assert_eq!(errors, [(1, why), (3, why)]);
    assert!(answer.error_message.as_ref().unwrap().contains("2 records"));
}

#[test]
fn strict_validation_refuses_a_record_from_the_future_by_its_index() {
    let mut wire = wire_of_topic(&[("ottla.validation", "strict")]);
    let mut sent = BatchBuilder::new().compression(Compression::Snappy);
    sent.append(1_000, None, Some(b"v"), &[]);
    sent.append(i64::MAX / 2, None, Some(b"v"), &[]);
    let sent = sent.max_timestamp(1_000);
    let id = wire.send(9, &produce(-1, 0, &sent));
    wire.flush();
    let response: ProduceResponse = wire.answer(id, 9);
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 32);
    assert_eq!(answer.record_errors.len(), 1);
    assert_eq!(answer.record_errors[0].batch_index, 1);
    wire.world
        .set_config(TOPIC, "t", "ottla.validation", "header");
    assert_eq!(wire.produce(0, &sent).0, 0, "the header says nothing of it");
}

#[test]
fn a_batch_that_expands_too_far_is_an_invalid_record() {
    let world = &[
        ("ottla.decompression.max.bytes", "1000"),
        ("ottla.decompression.max.ratio", "2"),
        ("ottla.durability", "memory"),
    ];
    let mut wire = wire_with(world);
    wire.world
        .set_config(TOPIC, "t", "compression.type", "uncompressed");
    let bomb = batch(&[&"x".repeat(5_000)]);
    for codec in &Compression::ALL[1..] {
        let sent = bomb.clone().compression(*codec);
        assert_eq!(wire.produce(0, &sent), (87, -1), "{codec:?}");
    }
    assert_eq!(wire.produce(0, &bomb), (0, 0), "as it is, it is no bomb");
}
