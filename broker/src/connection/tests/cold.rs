//! Fetches of what is only on the disk: the connection does not wait for it, its requests do.

use ottla_storage::disk::memory::Crash;

use super::*;

/// Two partitions with records, of which nothing is in memory; whoever reads them does it by hand.
fn cold_wire() -> (Wire, usize) {
    let mut wire = wire("memory");
    let sent = batch(&["a", "b"]);
    for partition in [0, 1] {
        assert_eq!(wire.produce(partition, &sent), (0, 0));
    }
    wire.world.broker.cold_reads.on_push(|| ());
    wire.world.disk.set_resident(false);
    (wire, records(&sent).len())
}

fn read_one(wire: &mut Wire) {
    assert!(
        wire.world.broker.cold_reads.run_one(),
        "a read was waiting for the disk"
    );
    wire.work();
}

#[test]
fn the_thread_of_the_connection_does_not_read_from_the_disk() {
    let (mut wire, len) = cold_wire();
    let waited = wire.world.disk.waiting_reads();
    let id = wire.send(11, &fetch(vec![fetch_at(0, 0), fetch_at(1, 0)]));
    let waited_now = wire.world.disk.waiting_reads();
    assert_eq!(waited_now, waited, "it waited for the disk itself");
    assert!(wire.frame().is_none());
    read_one(&mut wire);
    assert!(wire.frame().is_none(), "the other partition is cold, too");
    read_one(&mut wire);
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!([found(&response, 0), found(&response, 1)], [(0, len); 2]);
}

#[test]
fn an_answer_knows_what_was_appended_while_another_partition_was_read() {
    let (mut wire, _) = cold_wire();
    let id = wire.send(11, &fetch(vec![fetch_at(0, 0), fetch_at(1, 0)]));
    read_one(&mut wire);
    let second = wire.send(9, &produce(-1, 0, &batch(&["c"])));
    wire.flush();
    read_one(&mut wire);
    let response: FetchResponse = wire.answer(id, 11);
    let high_watermark = response.responses[0].partitions[0].high_watermark;
    assert_eq!(high_watermark, 3);
    wire.answer::<ProduceResponse>(second, 9);
}

#[test]
fn a_fetch_that_waits_for_more_bytes_gets_what_was_appended_while_the_disk_was_read() {
    let (mut wire, len) = cold_wire();
    let more = i32::try_from(2 * len).unwrap();
    let request = fetch(vec![fetch_at(0, 0)])
        .with_min_bytes(more)
        .with_max_wait_ms(500);
    let id = wire.send(11, &request);
    let second = wire.send(9, &produce(-1, 0, &batch(&["a", "b"])));
    while wire.world.broker.cold_reads.run_one() {
        wire.work();
    }
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(found(&response, 0), (0, 2 * len));
    wire.answer::<ProduceResponse>(second, 9);
}

#[test]
fn a_cold_fetch_is_answered_in_its_turn_and_not_before_it_was_read() {
    for max_wait_ms in [0, 500] {
        let (mut wire, len) = cold_wire();
        let request = fetch(vec![fetch_at(0, 0)]).with_max_wait_ms(max_wait_ms);
        let fetched = wire.send(11, &request);
        let listed = wire.send(0, &ApiVersionsRequest::default());
        wire.sleep(10_000);
        assert!(wire.frame().is_none(), "an empty answer would be a lie");
        read_one(&mut wire);
        let response: FetchResponse = wire.answer(fetched, 11);
        assert_eq!(found(&response, 0), (0, len));
        wire.answer::<ApiVersionsResponse>(listed, 0);
    }
}

#[test]
fn a_cold_fetch_that_wants_more_waits_for_appends_afterwards() {
    let (mut wire, len) = cold_wire();
    let min_bytes = len as i32 + 1;
    let request = fetch(vec![fetch_at(0, 0)]).with_min_bytes(min_bytes);
    let id = wire.send(11, &request.clone().with_max_wait_ms(500));
    read_one(&mut wire);
    assert!(wire.frame().is_none(), "one byte is missing");
    let second = wire.send(9, &produce(-1, 0, &batch(&["a", "b"])));
    wire.flush();
    wire.work();
    read_one(&mut wire);
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(found(&response, 0), (0, 2 * len));
    wire.answer::<ProduceResponse>(second, 9);
    let id = wire.send(11, &request.with_min_bytes(1 << 20).with_max_wait_ms(500));
    read_one(&mut wire);
    wire.sleep(499);
    assert!(wire.frame().is_none());
    wire.sleep(1);
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(found(&response, 0), (0, 2 * len));
}

#[test]
fn nobody_reads_for_a_connection_that_went_away() {
    let (mut wire, _) = cold_wire();
    wire.send(11, &fetch(vec![fetch_at(0, 0)]));
    let waited = wire.world.disk.waiting_reads();
    wire.connection = connect(&wire.world);
    assert!(wire.world.broker.cold_reads.run_one());
    assert_eq!(wire.world.disk.waiting_reads(), waited);
}

#[test]
fn errors_of_the_disk_reach_the_client() {
    let (mut wire, _) = cold_wire();
    let id = wire.send(11, &fetch(vec![fetch_at(0, 0)]));
    wire.world.disk.crash(Crash::Process); // from now on every open handle fails
    read_one(&mut wire);
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(found(&response, 0).0, 56, "KAFKA_STORAGE_ERROR");
}

#[test]
fn records_that_were_deleted_meanwhile_are_out_of_range() {
    let (mut wire, _) = cold_wire();
    let id = wire.send(11, &fetch(vec![fetch_at(0, 0)]));
    let hosted = wire.world.broker.partitions.topic("t").unwrap();
    let partition = hosted.partition(0).unwrap();
    partition.delete_records(Some(Offset(2))).unwrap();
    read_one(&mut wire);
    let response: FetchResponse = wire.answer(id, 11);
    assert_eq!(found(&response, 0).0, 1, "OFFSET_OUT_OF_RANGE");
}
