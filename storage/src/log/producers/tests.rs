//! The rules of idempotent producers one by one, and the snapshot file.

#![allow(clippy::unwrap_used)]

use ottla_protocol::types::LeaderEpoch;
use proptest::prelude::*;

use super::*;

const MANY: usize = 1 << 20;

fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32, offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(offset),
        batch_length: 49,
        leader_epoch: LeaderEpoch(0),
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: offset,
        max_timestamp: offset,
        producer_id: ProducerId(producer_id),
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: count,
    }
}

fn transactional(mut header: BatchHeader) -> BatchHeader {
    header.attributes |= 1 << 4;
    header
}

fn marker(producer_id: i64, epoch: i16, offset: i64) -> BatchHeader {
    let mut header = header(producer_id, epoch, -1, 1, offset);
    header.attributes = (1 << 4) | (1 << 5);
    header
}

fn end(committed: bool, coordinator_epoch: i32) -> EndTransaction {
    EndTransaction {
        committed,
        coordinator_epoch,
    }
}

fn append(producers: &mut Producers, header: &BatchHeader) -> Result<Sequence, ProducerError> {
    let found = producers.check(header, true)?;
    if found == Sequence::InOrder {
        producers.replay(header, None, MANY);
    }
    producers.check_invariants();
    Ok(found)
}

#[test]
fn an_unknown_producer_may_start_at_any_sequence_and_goes_on_in_order() {
    let mut producers = Producers::default();
    assert_eq!(
        append(&mut producers, &header(1, 0, 77, 3, 0)),
        Ok(Sequence::InOrder)
    );
    assert_eq!(
        append(&mut producers, &header(1, 0, 80, 1, 3)),
        Ok(Sequence::InOrder)
    );
    let gap = append(&mut producers, &header(1, 0, 82, 1, 4));
    assert_eq!(
        gap,
        Err(ProducerError::OutOfOrderSequence { got: 82, last: 80 })
    );
}

#[test]
fn the_last_five_batches_are_recognised_with_their_offsets_and_older_ones_are_not() {
    let mut producers = Producers::default();
    for batch in 0..7 {
        append(
            &mut producers,
            &header(1, 0, batch * 2, 2, i64::from(batch) * 2),
        )
        .unwrap();
    }
    for batch in 2..7 {
        let found = append(&mut producers, &header(1, 0, batch * 2, 2, 99));
        let Ok(Sequence::Duplicate(of)) = found else {
            panic!("batch {batch}: {found:?}")
        };
        assert_eq!(of.first_offset(), Offset(i64::from(batch) * 2));
    }
    let old = append(&mut producers, &header(1, 0, 2, 2, 99));
    assert_eq!(
        old,
        Err(ProducerError::OutOfOrderSequence { got: 2, last: 13 })
    );
    let other_length = append(&mut producers, &header(1, 0, 12, 1, 99));
    assert!(
        other_length.is_err(),
        "same first sequence, but not the same batch"
    );
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    let mut producers = Producers::default();
    append(&mut producers, &header(1, 0, i32::MAX - 1, 4, 0)).unwrap();
    let batch = producers.get(ProducerId(1)).unwrap().batches()[0];
    assert_eq!(
        (batch.first_sequence(), batch.last_sequence),
        (i32::MAX - 1, 1)
    );
    let again = append(&mut producers, &header(1, 0, i32::MAX - 1, 4, 9));
    assert!(matches!(again, Ok(Sequence::Duplicate(_))));
    append(&mut producers, &header(1, 0, 2, 1, 4)).unwrap();

    append(&mut producers, &header(2, 0, i32::MAX, 1, 5)).unwrap();
    assert_eq!(
        append(&mut producers, &header(2, 0, 0, 1, 6)),
        Ok(Sequence::InOrder)
    );
}

#[test]
fn a_new_epoch_starts_at_zero_and_the_old_one_is_fenced() {
    let mut producers = Producers::default();
    append(&mut producers, &header(1, 3, 0, 5, 0)).unwrap();
    let wrong = append(&mut producers, &header(1, 4, 5, 1, 5));
    assert_eq!(
        wrong,
        Err(ProducerError::OutOfOrderSequence { got: 5, last: -1 })
    );
    append(&mut producers, &header(1, 4, 0, 1, 5)).unwrap();
    let old = append(&mut producers, &header(1, 3, 5, 1, 6));
    assert_eq!(old, Err(ProducerError::InvalidEpoch { got: 3, current: 4 }));
    let old_duplicate = append(&mut producers, &header(1, 3, 0, 5, 6));
    assert!(
        old_duplicate.is_err(),
        "batches of an older epoch are not duplicates"
    );
}

#[test]
fn a_producer_of_whom_only_a_marker_is_known_starts_at_zero() {
    let mut producers = Producers::default();
    producers.replay(&marker(1, 0, 0), Some(&end(true, 1)), MANY);
    let wrong = append(&mut producers, &header(1, 0, 3, 1, 1));
    assert_eq!(
        wrong,
        Err(ProducerError::OutOfOrderSequence { got: 3, last: -1 })
    );
    append(&mut producers, &header(1, 0, 0, 1, 1)).unwrap();
}

#[test]
fn transactional_and_plain_batches_do_not_mix() {
    let mut producers = Producers::default();
    let without_transaction = append(&mut producers, &transactional(header(1, 0, 0, 1, 0)));
    assert_eq!(
        without_transaction,
        Err(ProducerError::InvalidTransactionState)
    );
    producers.replay(&transactional(header(1, 0, 0, 1, 0)), None, MANY);
    assert!(append(&mut producers, &transactional(header(1, 0, 1, 1, 1))).is_ok());
    let plain = append(&mut producers, &header(1, 0, 2, 1, 2));
    assert_eq!(plain, Err(ProducerError::InvalidTransactionState));
}

#[test]
fn the_first_unstable_offset_waits_for_open_and_unreplicated_transactions() {
    let mut producers = Producers::default();
    producers.replay(&transactional(header(1, 0, 0, 2, 10)), None, MANY);
    producers.replay(&transactional(header(2, 0, 0, 2, 12)), None, MANY);
    assert_eq!(producers.first_unstable(Offset(14)), Some(Offset(10)));
    let aborted = producers
        .replay(&marker(1, 0, 14), Some(&end(false, 1)), MANY)
        .unwrap();
    assert_eq!(
        (aborted.first_offset, aborted.last_offset),
        (Offset(10), Offset(14))
    );
    assert_eq!(
        aborted.last_stable_offset,
        Offset(12),
        "producer 2 is still open"
    );
    assert_eq!(producers.first_unstable(Offset(14)), Some(Offset(10)));
    assert_eq!(producers.first_unstable(Offset(15)), Some(Offset(12)));
    assert_eq!(
        producers.replay(&marker(2, 0, 15), Some(&end(true, 1)), MANY),
        None
    );
    assert_eq!(producers.first_unstable(Offset(16)), None);
    producers.forget_replicated(Offset(16));
    assert!(producers.unreplicated.is_empty());
    producers.check_invariants();
}

#[test]
fn markers_of_older_epochs_and_coordinators_are_fenced() {
    let mut producers = Producers::default();
    producers.replay(&marker(1, 5, 0), Some(&end(true, 7)), MANY);
    let old = producers.check_marker(&marker(1, 4, 1), &end(true, 8));
    assert_eq!(old, Err(ProducerError::InvalidEpoch { got: 4, current: 5 }));
    let fenced = producers.check_marker(&marker(1, 5, 1), &end(true, 6));
    assert_eq!(
        fenced,
        Err(ProducerError::CoordinatorFenced { got: 6, current: 7 })
    );
    assert_eq!(
        producers.check_marker(&marker(1, 6, 1), &end(true, 7)),
        Ok(())
    );
}

#[test]
fn the_number_of_producers_is_bounded_and_open_transactions_stay() {
    let mut producers = Producers::default();
    producers.replay(&transactional(header(0, 0, 0, 1, 0)), None, 32);
    for id in 1..1_000 {
        producers.replay(&header(id, 0, 0, 1, id), None, 32);
        assert!(producers.len() <= 32);
    }
    assert!(
        producers.get(ProducerId(0)).is_some(),
        "its transaction is open"
    );
    assert!(producers.get(ProducerId(999)).is_some());
    assert!(producers.get(ProducerId(1)).is_none());
    producers.check_invariants();
}

#[test]
fn producers_expire_unless_their_transaction_is_open() {
    let mut producers = Producers::default();
    producers.replay(&header(1, 0, 0, 1, 100), None, MANY);
    producers.replay(&transactional(header(2, 0, 0, 1, 101)), None, MANY);
    producers.replay(&header(3, 0, 0, 1, 500), None, MANY);
    assert_eq!(producers.expire(600, 500), 1);
    assert!(producers.get(ProducerId(1)).is_none());
    assert!(producers.get(ProducerId(2)).is_some());
}

#[test]
fn a_snapshot_of_kafka_without_rings_is_read() {
    // Written by hand after Kafka's ProducerSnapshot schema.
    let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    bytes.extend_from_slice(&42i64.to_be_bytes());
    bytes.extend_from_slice(&3i16.to_be_bytes());
    bytes.extend_from_slice(&9i32.to_be_bytes());
    bytes.extend_from_slice(&19i64.to_be_bytes());
    bytes.extend_from_slice(&4i32.to_be_bytes());
    bytes.extend_from_slice(&1_234i64.to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.extend_from_slice(&(-1i64).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[6..]);
    bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    let producers = snapshot::decode(&bytes, Offset(20)).unwrap();
    let entry = producers.get(ProducerId(42)).unwrap();
    assert_eq!((entry.epoch, entry.last_sequence()), (3, 9));
    assert_eq!(entry.batches()[0].first_offset(), Offset(15));
    assert!(
        snapshot::decode(&bytes, Offset(19)).is_none(),
        "it speaks of a later offset"
    );
}

proptest! {
    #[test]
    fn snapshots_survive_the_file(
        steps in prop::collection::vec((0..6i64, 0..3i16, 1..4i32, any::<bool>(), 0..9u8), 0..60)
    ) {
        let mut producers = Producers::default();
        let mut offset = 0;
        for (id, epoch, count, in_transaction, kind) in steps {
            let epoch = epoch.max(producers.get(ProducerId(id)).map_or(0, |entry| entry.epoch));
            if kind == 0 {
                let ended = end(in_transaction, i32::from(epoch));
                producers.replay(&marker(id, epoch, offset), Some(&ended), MANY);
                offset += 1;
            } else {
                let mut batch = header(id, epoch, offset as i32, count, offset);
                if in_transaction {
                    batch = transactional(batch);
                }
                producers.replay(&batch, None, MANY);
                offset += i64::from(count);
            }
        }
        producers.forget_replicated(Offset(offset));
        producers.check_invariants();
        let bytes = snapshot::encode(&producers);
        let read = snapshot::decode(&bytes, Offset(offset)).unwrap();
        read.check_invariants();
        prop_assert_eq!(&read, &producers);
    }

    #[test]
    fn damaged_snapshots_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = snapshot::decode(&bytes, Offset(1_000));
        // The same with a right checksum, so that the parts behind it are reached.
        if bytes.len() > 14 {
            bytes[..2].copy_from_slice(&[0, 1]);
            bytes[6..9].fill(0);
            bytes[9] %= 8;
            let crc = crc32c::crc32c(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
            if let Some(producers) = snapshot::decode(&bytes, Offset(1_000)) {
                producers.check_invariants();
            }
        }
    }
}
