//! Produce requests that come together: one write for those of one partition, and answers that
//! differ in nothing from those of requests that come one by one.

use super::*;

impl Wire {
    /// All requests are there before the first is looked at; answers their correlation ids.
    fn send_together(&mut self, requests: &[ProduceRequest]) -> Vec<i32> {
        let mut all = Vec::new();
        let mut ids = Vec::new();
        for request in requests {
            self.next_id += 1;
            ids.push(self.next_id);
            all.extend_from_slice(&encode_request(self.next_id, "test", 9, request).unwrap());
        }
        let mut rest = &all[..];
        while !rest.is_empty() {
            let buffer = self.connection.read_buffer();
            buffer.reserve(rest.len());
            let room = (buffer.capacity() - buffer.len()).min(rest.len());
            buffer.put_slice(&rest[..room]);
            rest = &rest[room..];
            self.connection.note_received(self.now);
        }
        self.work();
        ids
    }

    /// Error code and base offset of each answer, in the order of the requests.
    fn outcomes(&mut self, ids: &[i32]) -> Vec<(i16, i64)> {
        ids.iter()
            .map(|id| {
                let response: ProduceResponse = self.answer(*id, 9);
                let answer = &response.responses[0].partition_responses[0];
                (answer.error_code, answer.base_offset)
            })
            .collect()
    }

    fn together(&mut self, requests: &[ProduceRequest]) -> Vec<(i16, i64)> {
        let ids = self.send_together(requests);
        self.outcomes(&ids)
    }
}

/// A wire whose log has a segment, which is made with the first batch.
fn begun(durability: &str) -> Wire {
    let mut wire = wire(durability);
    let ids = wire.send_together(&[produce(-1, 0, &batch(&["first"]))]);
    wire.flush();
    assert_eq!(wire.outcomes(&ids), [(0, 0)]);
    wire
}

fn sequenced(value: &str, sequence: i32) -> ProduceRequest {
    produce(-1, 0, &batch(&[value]).producer(ProducerId(7), 0, sequence))
}

fn values(wire: &mut Wire, partition: i32, count: usize) {
    let response = wire.fetch(11, &fetch(vec![fetch_at(partition, 0)]));
    let one = records(&batch(&["a"])).len();
    let (code, bytes) = found(&response, 0);
    assert_eq!(code, 0);
    // The first record of `begun` has four letters more.
    assert_eq!(bytes, count * one + 4);
}

#[test]
fn requests_of_one_partition_are_one_write() {
    let mut wire = begun("memory");
    let before = wire.world.disk.operations();
    let requests: Vec<_> = (0..5).map(|_| produce(-1, 0, &batch(&["a"]))).collect();
    let answers = wire.together(&requests);
    assert_eq!(answers, (1..6).map(|at| (0, at)).collect::<Vec<_>>());
    assert_eq!(wire.world.disk.operations() - before, 1);
    values(&mut wire, 0, 6);
}

#[test]
fn answers_keep_their_order_whatever_comes_between() {
    let mut wire = begun("memory");
    let broken = {
        let mut bytes = records(&batch(&["a"])).to_vec();
        bytes[63] ^= 1;
        produce_bytes(-1, 0, Some(Bytes::from(bytes)))
    };
    let good = |partition| produce(-1, partition, &batch(&["a"]));
    let answers = wire.together(&[
        good(0),
        good(0),
        broken.clone(),
        good(0),
        good(1),
        good(0),
        produce(-1, 2, &batch(&["a"])),
        produce_bytes(-1, 0, None),
        good(0),
        broken,
        good(1),
    ]);
    let expected = [
        (0, 1),
        (0, 2),
        (2, -1),
        (0, 3),
        (0, 0),
        (0, 4),
        (3, -1),
        (87, -1),
        (0, 5),
        (2, -1),
        (0, 1),
    ];
    assert_eq!(answers, expected);
    values(&mut wire, 0, 6);
}

#[test]
fn other_requests_see_what_was_produced_before_them() {
    let mut wire = begun("memory");
    let produced = produce(-1, 0, &batch(&["a"]));
    let list = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)]),
        ]);
    let mut all = Vec::new();
    for id in 1..=2 {
        all.extend_from_slice(&encode_request(100 + id, "test", 9, &produced).unwrap());
    }
    all.extend_from_slice(&encode_request(103, "test", 5, &list).unwrap());
    all.extend_from_slice(&encode_request(104, "test", 9, &produced).unwrap());
    let buffer = wire.connection.read_buffer();
    buffer.reserve(all.len());
    buffer.put_slice(&all);
    wire.connection.note_received(wire.now);
    wire.work();
    assert_eq!(wire.outcomes(&[101, 102]), [(0, 1), (0, 2)]);
    let listed: ListOffsetsResponse = wire.answer(103, 5);
    assert_eq!(listed.topics[0].partitions[0].offset, 3);
    assert_eq!(wire.outcomes(&[104]), [(0, 3)]);
}

#[test]
fn a_producer_that_repeats_or_leaves_a_gap_is_answered_as_ever() {
    let mut wire = begun("memory");
    let answers = wire.together(&[
        sequenced("a", 0),
        sequenced("a", 1),
        sequenced("a", 0),
        sequenced("a", 2),
        sequenced("a", 9),
        sequenced("a", 3),
    ]);
    let expected = [(0, 1), (0, 2), (0, 1), (0, 3), (45, -1), (0, 4)];
    assert_eq!(answers, expected);
    values(&mut wire, 0, 5);
}

/// So many writes fail: the one for all, and then some of the single ones.
#[test]
fn after_a_failed_write_no_later_batch_takes_its_place() {
    for failing in 1..=4 {
        let mut wire = begun("memory");
        let mut injection = Injection::once(Operation::Write, InjectedError::NoSpace);
        injection.count = failing;
        wire.world.disk.inject(injection);
        let requests: Vec<_> = (0..4).map(|n| sequenced("a", n)).collect();
        let answers = wire.together(&requests);
        let refused = answers.iter().filter(|(code, _)| *code != 0).count();
        let stored = 4 - refused;
        match failing {
            1 => assert_eq!(answers, [(0, 1), (0, 2), (0, 3), (0, 4)]),
            _ => assert_eq!(stored, 0, "{failing}: {answers:?}"),
        }
        wire.world.disk.clear_injections();
        values(&mut wire, 0, 1 + stored);
        // The client sends them all again, and every one is there once.
        assert_eq!(wire.together(&requests), [(0, 1), (0, 2), (0, 3), (0, 4)]);
        values(&mut wire, 0, 5);
    }
}

#[test]
fn with_a_sync_before_the_answer_one_flush_answers_all() {
    let mut wire = begun("commit");
    let requests: Vec<_> = (0..3).map(|n| sequenced("a", n)).collect();
    let ids = wire.send_together(&requests);
    assert!(wire.frame().is_none(), "nothing is synced");
    wire.flush();
    assert_eq!(wire.outcomes(&ids), [(0, 1), (0, 2), (0, 3)]);
}
