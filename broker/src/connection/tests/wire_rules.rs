//! Rules of the wire that single clients depend on; `docs/reference/client-rules.md` lists them
//! all with their tests.

use ottla_protocol::batch::Compression;

use super::*;

const TOPIC: i8 = 2;

/// A world whose topic has one key set.
fn wire_of_topic(key: &str, value: &str) -> Wire {
    let wire = wire("memory");
    wire.world.set_config(TOPIC, "t", key, value);
    wire
}

fn zstd() -> Bytes {
    records(&batch(&["a"]).compression(Compression::Zstd))
}

#[test]
fn a_client_without_a_name_is_served() {
    let mut wire = wire("memory");
    wire.send_bytes(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 5, 0xff, 0xff]);
    let response: ApiVersionsResponse = wire.answer(5, 0);
    assert_eq!(response.error_code, 0, "null");
    wire.send_bytes(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 6, 0, 0]);
    let response: ApiVersionsResponse = wire.answer(6, 0);
    assert_eq!(response.error_code, 0, "empty");
}

#[test]
fn bytes_after_a_request_are_ignored_and_the_connection_goes_on() {
    let mut wire = wire("memory");
    // Metadata 13 of librdkafka 2.16: null topics in an empty tagged header, three bytes too many.
    let mut frame = BytesMut::new();
    frame.put_slice(&[0, 0, 0, 18, 0, 3, 0, 13, 0, 0, 0, 9, 0xff, 0xff, 0]);
    frame.put_slice(&[0, 0, 0, 0, 1, 0, 0]);
    wire.send_bytes(&frame);
    let response: MetadataResponse = wire.answer(9, 13);
    assert_eq!(response.topics.len(), 1, "all topics");
    let response = wire.call(0, &ApiVersionsRequest::default());
    assert_eq!(response.error_code, 0);
}

#[test]
fn zstd_is_refused_from_and_for_clients_that_do_not_know_it() {
    let mut wire = wire("memory");
    let response = wire.call(6, &produce_bytes(-1, 0, Some(zstd())));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 76);
    let response = wire.call(7, &produce_bytes(-1, 0, Some(zstd())));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    let mut wire = wire_of_topic("compression.type", "zstd");
    assert_eq!(found(&wire.fetch(9, &fetch(vec![fetch_at(0, 0)])), 0).0, 76);
    assert_eq!(found(&wire.fetch(10, &fetch(vec![fetch_at(0, 0)])), 0).0, 0);
}

#[test]
fn a_batch_above_the_limit_of_its_topic_is_too_large() {
    let mut wire = wire_of_topic("max.message.bytes", "200");
    assert_eq!(wire.produce(0, &batch(&["x"; 1])), (0, 0));
    let large = "x".repeat(200);
    assert_eq!(wire.produce(0, &batch(&[&large])), (10, -1));
    assert_eq!(
        wire.produce(0, &batch(&["y"])),
        (0, 1),
        "nothing was written"
    );
}

#[test]
fn a_record_without_a_key_is_named_when_its_topic_is_compacted() {
    let mut wire = wire_of_topic("cleanup.policy", "compact");
    let mut mixed = BatchBuilder::new();
    mixed.append(1_000, Some(b"k"), Some(b"v"), &[]);
    mixed.append(1_001, None, Some(b"v"), &[]);
    let response = wire.call(8, &produce(-1, 0, &mixed));
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 87);
    let blamed: Vec<i32> = answer.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(blamed, [1]);
}

#[test]
fn an_answer_tells_the_append_time_only_where_the_broker_gives_it() {
    let mut wire = wire("memory");
    let response = wire.call(5, &produce(-1, 0, &batch(&["a"])));
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(
        (answer.log_append_time_ms, answer.log_start_offset),
        (-1, 0)
    );
    let mut wire = wire_of_topic("message.timestamp.type", "LogAppendTime");
    let response = wire.call(5, &produce(-1, 0, &batch(&["a"])));
    let answer = &response.responses[0].partition_responses[0];
    assert!(answer.log_append_time_ms > 1_001, "not the client's time");
}

#[test]
fn the_sequence_counts_only_with_a_producer_id() {
    let mut wire = wire("memory");
    for base_offset in [0, 1, 2] {
        let batch = batch(&["a"]).producer(ProducerId::NONE, -1, 0);
        assert_eq!(wire.produce(0, &batch), (0, base_offset));
    }
}

#[test]
fn a_fetch_inside_a_batch_gets_the_whole_batch() {
    let mut wire = wire("memory");
    wire.produce(0, &batch(&["a", "b", "c"]));
    let whole = records(&batch(&["a", "b", "c"])).len();
    let response = wire.fetch(11, &fetch(vec![fetch_at(0, 2)]));
    assert_eq!(found(&response, 0), (0, whole));
    let preferred = response.responses[0].partitions[0].preferred_read_replica;
    assert_eq!(i32::from(preferred), -1, "no other replica is better");
}
