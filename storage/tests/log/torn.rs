//! Damage to segment files: what is cut, what is kept, and what the report says about it.

use ottla_protocol::types::Offset;
use ottla_storage::disk::Disk;
use ottla_storage::disk::memory::Crash;
use ottla_storage::log::{DamageKind, Log, OpenLog};
use proptest::prelude::*;
use std::sync::Arc;

use super::world::{DIR, World, read_all};

/// A log of one segment with some batches; their positions in the file.
fn one_segment(seed: u64) -> (World, Vec<u64>) {
    let mut world = World::new(seed);
    world.config.segment_size_bytes = 1 << 20;
    world.config.segment_index_bytes = 1 << 20;
    world.config.segment_ms = i64::MAX;
    let config = world.config.clone();
    world.log().set_config(config);
    for _ in 0..25 {
        world.append().unwrap();
    }
    let positions = world.model.batches.iter().scan(0, |at, batch| {
        let start = *at;
        *at += batch.bytes.len() as u64;
        Some(start)
    });
    let positions = positions.collect();
    (world, positions)
}

fn segment() -> String {
    format!("{DIR}/{:020}.log", 0)
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Any bytes over any range above the recovery point: the log ends before the first batch
    /// that was touched, and batches behind it are reported, not dropped silently.
    #[test]
    fn damage_above_the_recovery_point_cuts_there_and_is_told_from_a_torn_tail(
        seed in 0..1_000u64,
        place in 0.0..1.0f64,
        garbage in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let (mut world, positions) = one_segment(seed);
        let size: u64 = world.model.batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let at = ((size as f64) * place) as u64;
        let file = world.disk.open(&segment()).unwrap();
        let mut before = vec![0; size as usize];
        file.read_at(0, &mut before).unwrap();
        let garbage = &garbage[..garbage.len().min((size - at) as usize)];
        world.disk.corrupt(&segment(), at, garbage).unwrap();
        let mut after = vec![0; size as usize];
        file.read_at(0, &mut after).unwrap();
        let changed = (0..size as usize).find(|&byte| before[byte] != after[byte]);
        world.crash(Crash::Process);
        let Some(changed) = changed else { return Ok(()) };
        let touched = positions.partition_point(|start| *start <= changed as u64) - 1;
        let last_changed = (0..size as usize).rfind(|&byte| before[byte] != after[byte]).unwrap();
        let after_damage =
            positions.iter().filter(|start| **start > last_changed as u64).count() as u64;
        let saved = world.saved;
        let (log, report) =
            Log::open(Arc::new(world.disk.clone()), DIR, world.config.clone(), saved, 0).unwrap();
        // The epoch lies outside the CRC: a change there alone makes a valid batch.
        let wanted = world.model.batches[touched].base;
        let end = log.log_end_offset().0;
        let in_unchecked = |byte: usize| {
            let start = positions[positions.partition_point(|s| *s <= byte as u64) - 1] as usize;
            (byte - start) < 17
        };
        let unchecked = (0..size as usize).filter(|&b| before[b] != after[b]).all(in_unchecked);
        if !unchecked {
            prop_assert!(end <= world.model.end());
        }
        if end == wanted {
            prop_assert_eq!(report.damage.len(), 1);
            let damage = &report.damage[0];
            prop_assert_eq!(damage.position, positions[touched]);
            match &damage.kind {
                DamageKind::TornTail => prop_assert_eq!(after_damage, 0),
                DamageKind::CutOff { valid_batches_after, salvaged } => {
                    prop_assert_eq!(*valid_batches_after, after_damage);
                    let kept = world.disk.open(&salvaged[0]).unwrap();
                    prop_assert_eq!(kept.len_bytes().unwrap(), size - positions[touched]);
                    prop_assert!(report.is_corrupt());
                }
                DamageKind::Kept { .. } => prop_assert!(false, "nothing here was trusted"),
            }
        } else {
            prop_assert!(unchecked, "ended at {end}, damage at {wanted}: {report:?}");
        }
        let good: Vec<u8> = world.model.batches[..touched.min(
            world.model.batches.partition_point(|batch| batch.last < end))]
            .iter().flat_map(|batch| batch.bytes.clone()).collect();
        prop_assert!(read_all(&log).starts_with(&good));
    }

    /// A file cut at any byte, with or without zeroes behind (a preallocated or grown tail).
    #[test]
    fn a_torn_tail_is_cut_to_the_last_whole_batch(
        seed in 0..1_000u64,
        place in 0.0..1.0f64,
        zeroes in 0..5_000u64,
    ) {
        let (mut world, positions) = one_segment(seed);
        let size: u64 = world.model.batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let cut = ((size as f64) * place) as u64;
        let file = world.disk.open(&segment()).unwrap();
        let mut before = vec![0; size as usize];
        file.read_at(0, &mut before).unwrap();
        file.truncate(cut).unwrap();
        file.truncate(cut + zeroes).unwrap();
        drop(file);
        // Zeroes may happen to be what was cut off.
        before.resize((cut + zeroes).max(size) as usize, 0);
        let good = (cut..cut + zeroes).find(|&at| before[at as usize] != 0).unwrap_or(cut + zeroes);
        let good = good.min(size);
        let ends = positions.iter().skip(1).copied().chain([size]);
        let kept = ends.filter(|end| *end <= good).count();
        let whole = positions.get(kept).copied().unwrap_or(size) == cut + zeroes;
        world.flushed = 0;
        world.crash(Crash::Process);
        let report = world.reopen("torn");
        prop_assert_eq!(world.model.batches.len(), kept);
        prop_assert!(!report.is_corrupt());
        let end = match kept {
            0 => 0,
            _ => positions.get(kept).copied().unwrap_or(size),
        };
        let rest = &before[end as usize..cut.max(end) as usize];
        let rest_is_zero = rest.iter().all(|&byte| byte == 0);
        prop_assert_eq!(report.damage.is_empty(), whole || rest_is_zero);
    }
}

#[test]
fn damage_below_the_recovery_point_is_kept_reported_and_only_its_range_is_unreadable() {
    let (mut world, positions) = one_segment(3);
    world.append_idempotent().unwrap();
    // The snapshot says that all is durable, but the index is not written: headers are walked.
    assert!(world.flush(true));
    for _ in 0..5 {
        world.append().unwrap();
    }
    world.crash(Crash::Process);
    world
        .disk
        .corrupt(&segment(), positions[10] + 16, &[9])
        .unwrap();
    let saved = OpenLog {
        clean: false,
        synced: false,
        ..world.saved
    };
    let (log, report) = Log::open(
        Arc::new(world.disk.clone()),
        DIR,
        world.config.clone(),
        saved,
        0,
    )
    .unwrap();
    assert_eq!(
        log.log_end_offset().0,
        world.model.end(),
        "nothing acknowledged was cut"
    );
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].position, positions[10]);
    assert_eq!(
        report.damage[0].kind,
        DamageKind::Kept {
            until_position: positions[11]
        }
    );
    assert!(report.is_corrupt());
    let end = log.log_end_offset();
    let bad = Offset(world.model.batches[10].base);
    assert!(log.read(bad, 1_000, end, true).is_err());
    let good = Offset(world.model.batches[20].base);
    assert!(log.read(good, 1_000, end, true).is_ok());
}

#[test]
fn a_lost_end_of_a_sealed_segment_ends_the_log_there() {
    let mut world = World::new(11);
    while world.log().segment_count() < 3 {
        world.append().unwrap();
    }
    let sealed = segment();
    let len = world.disk.open(&sealed).unwrap().len_bytes().unwrap();
    let count = world.model.batches.len();
    let mut lost = 0;
    let mut at = 0;
    for batch in &world.model.batches {
        at += batch.bytes.len() as u64;
        if at == len {
            lost = batch.bytes.len() as u64;
            break;
        }
    }
    // Cut exactly one batch off: no byte that is left is wrong.
    world
        .disk
        .open(&sealed)
        .unwrap()
        .truncate(len - lost)
        .unwrap();
    world.crash(Crash::Process);
    world.flushed = 0;
    let report = world.reopen("sealed segment cut");
    assert!(world.model.batches.len() < count);
    assert!(
        report.is_corrupt(),
        "batches follow in later segments: {report:?}"
    );
    assert!(report.dropped_segments >= 2);
}
