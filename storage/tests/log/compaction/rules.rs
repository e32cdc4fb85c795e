//! The rules one by one: damage, tombstones, lags, stops.

use ottla_protocol::batch::{BatchBuilder, BatchHeader, Compression, RecordBatch, RecordBatchView};
use ottla_protocol::record::RecordLimits;
use ottla_protocol::types::Offset;
use ottla_storage::disk::Disk;
use ottla_storage::log::Origin;
use ottla_storage::log::compact::{CompactionError, CompactionPolicy, compact};

use super::crashes::prepared;
use super::world::{DELETE_RETENTION_MS, DIR, Entry, World};
use crate::world::read_all;

#[test]
fn a_batch_with_a_wrong_checksum_ends_rounds_for_good_and_costs_nothing() {
    let mut world = prepared(2);
    world
        .disk
        .corrupt("t-0/00000000000000000000.log", 40, &[0xff])
        .unwrap();
    let failed = world.compact().expect_err("the checksum is wrong");
    assert!(
        matches!(failed, CompactionError::Corrupt { .. }),
        "{failed}"
    );
    assert!(failed.is_lasting());
    assert!(world.with(|log| log.compacted_to()) == Offset(0));
    let names = world.disk.list(DIR).unwrap();
    assert!(!names.iter().any(|entry| entry.name.ends_with(".cleaned")));
}

#[test]
fn a_batch_whose_records_cannot_be_read_is_copied_and_supersedes_nothing() {
    let mut world = World::new(3);
    let mut builder = BatchBuilder::new();
    builder.append(1, Some(b"a"), Some(b"first"), &[]);
    world.push(builder.build().unwrap(), Origin::Coordinator);
    // Two records are announced where there is one.
    let mut bytes = builder.build().unwrap().bytes().to_vec();
    bytes[57..61].copy_from_slice(&2i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let lie = RecordBatch::from_bytes(bytes[..].into()).unwrap();
    world.push(lie, Origin::Coordinator);
    let mut filler = BatchBuilder::new();
    filler.append(1, Some(b"b"), Some(&[0; 2_600][..500]), &[]);
    for _ in 0..10 {
        world.push(filler.build().unwrap(), Origin::Coordinator);
    }
    assert!(world.checkpoint());
    let stats = world.compact().unwrap();
    assert_eq!(stats.unreadable, 1);
    let bytes = world.with(|log| read_all(log));
    let first = RecordBatchView::parse(&bytes).unwrap();
    assert_eq!(first.header().record_count, 1);
    let second = RecordBatchView::parse(&bytes[first.size_bytes()..]).unwrap();
    assert_eq!(
        (second.base_offset().0, second.header().record_count),
        (1, 2)
    );
}

/// Four records in one batch, compressed as no other encoder would: a copy can be told from a
/// batch that was written anew.
fn peculiar(keys: [&[u8]; 4]) -> RecordBatch {
    let mut builder = BatchBuilder::new().compression(Compression::Gzip);
    for key in keys {
        builder.append(1, Some(key), Some(&[7; 200]), &[]);
    }
    let mut bytes = builder.build().unwrap().bytes().to_vec();
    // A time in gzip's header, which nobody reads.
    bytes[61 + 4..61 + 8].copy_from_slice(&[1, 2, 3, 4]);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::from_bytes(bytes[..].into()).unwrap()
}

/// As it lies in the file.
fn bytes_of_first_batch(world: &World) -> Vec<u8> {
    let bytes = world.with(|log| read_all(log));
    let first = RecordBatchView::parse(&bytes).unwrap();
    bytes[..first.size_bytes()].to_vec()
}

#[test]
fn a_batch_whose_records_all_survive_is_copied_byte_for_byte() {
    let mut world = World::new(3);
    let seal = |world: &mut World| {
        let now_ms = world.now_ms;
        world.with(|log| log.seal_active_segment(now_ms)).unwrap();
        assert!(world.checkpoint());
    };
    world.push(peculiar([b"a", b"b", b"c", b"d"]), Origin::Coordinator);
    seal(&mut world);
    let before = bytes_of_first_batch(&world);
    // Something else in the log is superseded, so that its segment is written anew.
    let mut others = BatchBuilder::new();
    others.append(1, Some(b"x"), Some(b"old"), &[]);
    world.push(others.build().unwrap(), Origin::Coordinator);
    world.push(others.build().unwrap(), Origin::Coordinator);
    seal(&mut world);
    let stats = world.compact().unwrap();
    assert_eq!((stats.records_read, stats.records_kept), (6, 5));
    assert_eq!(bytes_of_first_batch(&world), before, "not encoded again");
    // One of its records is superseded: now it is written anew, in its codec.
    let mut newer = BatchBuilder::new();
    newer.append(1, Some(b"b"), Some(b"new"), &[]);
    world.push(newer.build().unwrap(), Origin::Coordinator);
    seal(&mut world);
    world.compact().unwrap();
    let after = bytes_of_first_batch(&world);
    assert_ne!(after, before);
    let view = RecordBatchView::parse(&after).unwrap();
    let header = view.header();
    assert_eq!((header.record_count, header.last_offset_delta), (3, 3));
    assert_eq!(header.compression().unwrap(), Compression::Gzip);
}

#[test]
fn a_batch_may_expand_as_far_as_the_log_accepts_it() {
    let limits = |plain_bytes| RecordLimits {
        plain_bytes,
        ratio: 1,
    };
    let round = |accepted: RecordLimits| {
        let mut world = World::new(3);
        world.config.segment_size_bytes = 1 << 20;
        world.config.record_limits = accepted;
        let config = world.config.clone();
        world.with(|log| log.set_config(config.clone()));
        for _ in 0..2 {
            let mut builder = BatchBuilder::new().compression(Compression::Gzip);
            builder.append(1, Some(b"a"), Some(&vec![7; 200_000]), &[]);
            world.push(builder.build().unwrap(), Origin::Coordinator);
        }
        let now_ms = world.now_ms;
        world.with(|log| log.seal_active_segment(now_ms)).unwrap();
        assert!(world.checkpoint());
        let stats = world.compact().unwrap();
        (stats.unreadable, stats.records_kept)
    };
    assert_eq!(round(limits(1_000_000)), (0, 1));
    assert_eq!(round(limits(100_000)).0, 2);
}

#[test]
fn tombstones_need_two_rounds_and_the_time_between() {
    let mut world = World::new(4);
    let put = |world: &mut World, value: Option<&[u8]>| {
        let mut builder = BatchBuilder::new();
        builder.append(world.now_ms, Some(b"a"), value, &[]);
        world.push(builder.build().unwrap(), Origin::Coordinator);
    };
    put(&mut world, Some(b"value"));
    put(&mut world, None);
    let fill = |world: &mut World| {
        for n in 0..12u8 {
            let mut builder = BatchBuilder::new();
            builder.append(world.now_ms, Some(&[n]), Some(&[0; 400]), &[]);
            world.push(builder.build().unwrap(), Origin::Coordinator);
        }
        assert!(world.checkpoint());
        world.compact().unwrap();
    };
    let tombstones = |world: &World| {
        let batches = world.batches();
        let of = |(header, entries): &(BatchHeader, Vec<(i64, Entry)>)| {
            let of_key = |one: &&(i64, Entry)| one.1.key.as_deref() == Some(b"a");
            let one = entries.iter().find(of_key)?;
            let horizon = header.has_delete_horizon().then_some(header.base_timestamp);
            Some((one.0, one.1.clone(), horizon))
        };
        batches.iter().filter_map(of).collect::<Vec<_>>()
    };
    let written_ms = world.now_ms;
    fill(&mut world);
    let horizon = world.now_ms + DELETE_RETENTION_MS;
    let tombstone = Entry {
        key: Some(b"a".to_vec()),
        value: None,
        timestamp: written_ms,
    };
    assert_eq!(tombstones(&world), [(1, tombstone.clone(), Some(horizon))]);
    world.now_ms = horizon - 1;
    fill(&mut world);
    assert_eq!(
        tombstones(&world),
        [(1, tombstone, Some(horizon))],
        "not moved on"
    );
    world.now_ms = horizon;
    fill(&mut world);
    assert_eq!(tombstones(&world), []);
}

/// The table is full between the two tombstones of a batch. The second one's older value is still
/// there, so the time for which readers must see the tombstone has not begun.
#[test]
fn a_tombstone_past_a_full_table_outlives_its_older_value() {
    let mut world = World::new(4);
    let put = |world: &mut World, records: &[(&[u8], Option<&[u8]>)]| {
        let mut builder = BatchBuilder::new();
        for (key, value) in records {
            builder.append(world.now_ms, Some(key), *value, &[]);
        }
        world.push(builder.build().unwrap(), Origin::Coordinator);
    };
    let seal = |world: &mut World| {
        let now_ms = world.now_ms;
        world.with(|log| log.seal_active_segment(now_ms)).unwrap();
        assert!(world.checkpoint());
    };
    let with_key_a = |world: &World| -> Vec<i64> {
        let entries = world.batches().into_iter().flat_map(|(_, entries)| entries);
        let of_key = entries.filter(|(_, entry)| entry.key.as_deref() == Some(b"a"));
        of_key.map(|(offset, _)| offset).collect()
    };
    put(&mut world, &[(b"a", Some(b"value"))]);
    put(&mut world, &[(b"b", Some(b"value"))]);
    seal(&mut world);
    world.compact().unwrap();
    put(&mut world, &[(b"b", None), (b"a", None)]);
    put(&mut world, &[(b"c", Some(b"value"))]);
    seal(&mut world);
    let (cleanable, mut limits) = (world.cleanable(), world.limits());
    limits.map_memory_bytes = 0;
    let stats = compact(&world.log, &cleanable, limits, &mut |_| true, &mut |old| {
        old.remove().unwrap();
    });
    assert!(stats.unwrap().map_full);
    assert_eq!(with_key_a(&world), [0, 3]);
    world.now_ms += 10 * DELETE_RETENTION_MS;
    world.compact().unwrap();
    assert_eq!(with_key_a(&world), [3], "its older value is gone just now");
    world.now_ms += DELETE_RETENTION_MS;
    world.compact().unwrap();
    assert_eq!(with_key_a(&world), [0; 0]);
}

#[test]
fn a_round_can_be_stopped_between_any_two_reads() {
    let mut world = prepared(5);
    let mut reads = 0;
    loop {
        let (cleanable, limits) = (world.cleanable(), world.limits());
        let mut left = reads;
        let mut pace = |_| {
            left -= 1;
            left >= 0
        };
        let result = compact(&world.log, &cleanable, limits, &mut pace, &mut |_| {});
        world.verify(&format!("stopped after {reads}"));
        match result {
            Ok(_) => break,
            Err(CompactionError::Stopped) => reads += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(reads > 3, "{reads}");
}

#[test]
fn young_records_wait_and_old_ones_do_not_wait_for_ever() {
    let mut world = prepared(6);
    let (flushed, now_ms) = (Offset(world.flushed), world.now_ms);
    let look = |world: &World, min_lag_ms, max_lag_ms, now_ms| {
        let policy = CompactionPolicy {
            min_lag_ms,
            max_lag_ms,
        };
        world
            .with(|log| log.cleanable(&policy, flushed, now_ms))
            .unwrap()
    };
    let all = look(&world, 0, i64::MAX, now_ms);
    assert!(all.dirty_bytes > 0 && !all.overdue && all.dirty_ratio() == 1.0);
    let none = look(&world, 1_000_000_000, i64::MAX, now_ms);
    assert_eq!((none.first_uncleanable, none.dirty_bytes), (Offset(0), 0));
    let some = look(&world, 150, i64::MAX, now_ms);
    assert!(some.dirty_bytes < all.dirty_bytes);
    assert!(look(&world, 0, 100, now_ms + 1_000).overdue);
    assert!(!look(&world, 0, 1_000_000, now_ms).overdue);
    world.compact_and_check("then");
    let clean = look(&world, 0, 100, now_ms + 1_000);
    assert!(clean.dirty_bytes == 0 && !clean.is_due(0.0), "{clean:?}");
}
