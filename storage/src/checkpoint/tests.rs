//! Checkpoints against what Kafka 4.3.0 wrote, damaged ones, and round trips.

use std::io::IoSlice;

use proptest::prelude::*;

use super::*;
use crate::disk::memory::{Crash, MemoryDisk};

fn offsets(entries: &[(&str, i32, i64)]) -> PartitionOffsets {
    let entry = |&(topic, partition, offset): &(&str, i32, i64)| {
        (TopicPartition::new(topic, partition), Offset(offset))
    };
    entries.iter().map(entry).collect()
}

#[test]
fn files_of_kafka_are_read_and_written_byte_for_byte() {
    let text = "0\n2\nmy.topic-x 0 2256\nmy.topic-x 1 2744\n";
    let parsed = parse_offsets(text.as_bytes()).unwrap();
    assert_eq!(
        parsed,
        offsets(&[("my.topic-x", 0, 2256), ("my.topic-x", 1, 2744)])
    );
    assert_eq!(format_offsets(&parsed), text);
    assert_eq!(format_offsets(&PartitionOffsets::new()), "0\n0\n");

    let text = "0\n2\n0 0\n2 2744\n";
    let parsed = parse_leader_epochs(text.as_bytes()).unwrap();
    let entry = |epoch, start| EpochEntry {
        epoch: LeaderEpoch(epoch),
        start_offset: Offset(start),
    };
    assert_eq!(parsed, [entry(0, 0), entry(2, 2744)]);
    assert_eq!(format_leader_epochs(&parsed), text);
}

#[test]
fn damage_is_named_with_its_line() {
    for (text, expected) in [
        ("", (1, Problem::Version)),
        ("1\n0\n", (1, Problem::Version)),
        ("0\n", (2, Problem::Count)),
        ("0\n-1\n", (2, Problem::Count)),
        ("0\n4294967296\n", (2, Problem::Count)),
        ("0\n4294967295\na 0 1\n", (4, Problem::Missing)),
        ("0\n0\na 0 1\n", (3, Problem::Surplus)),
        ("0\n2\na 0 1\na 0 2\n", (4, Problem::Duplicate)),
        ("0\n1\na 0\n", (3, Problem::Entry)),
        ("0\n1\na 0 1 2\n", (3, Problem::Entry)),
        ("0\n1\na 0 1 2 3 4 5\n", (3, Problem::Entry)),
        ("0\n1\na -1 1\n", (3, Problem::Entry)),
        ("0\n1\na 2147483648 1\n", (3, Problem::Entry)),
        ("0\n1\na 0 -1\n", (3, Problem::Entry)),
        ("0\n1\na 0 9223372036854775808\n", (3, Problem::Entry)),
        ("0\n1\na/b 0 1\n", (3, Problem::Entry)),
        ("0\n1\n\n", (3, Problem::Entry)),
    ] {
        assert_eq!(parse_offsets(text.as_bytes()), Err(expected), "{text:?}");
    }
    assert_eq!(
        parse_offsets(b"0\n1\na\xff 0 1\n"),
        Err((1, Problem::NotText))
    );
    for text in ["0\n2\n1 0\n1 5\n", "0\n2\n2 0\n1 5\n", "0\n2\n1 5\n2 5\n"] {
        assert_eq!(
            parse_leader_epochs(text.as_bytes()),
            Err((4, Problem::Order)),
            "{text:?}"
        );
    }
}

#[test]
fn a_missing_or_empty_file_is_none_and_a_damaged_one_is_an_error() {
    let disk = MemoryDisk::new();
    assert!(read_offsets(&disk, RECOVERY_POINTS).unwrap().is_none());
    assert!(read_leader_epochs(&disk, LEADER_EPOCHS).unwrap().is_none());
    let file = disk.create(RECOVERY_POINTS).unwrap();
    assert!(read_offsets(&disk, RECOVERY_POINTS).unwrap().is_none());
    file.write_at(0, &[IoSlice::new(b"0\n1\n???\n")]).unwrap();
    let error = read_offsets(&disk, RECOVERY_POINTS).unwrap_err();
    let expected = "recovery-point-offset-checkpoint: line 3: not an entry";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_crash_leaves_the_old_or_the_new_checkpoint() {
    let (old, new) = (
        offsets(&[("a", 0, 1)]),
        offsets(&[("a", 0, 2), ("b", 0, 7)]),
    );
    for point in 0..8 {
        for seed in 0..40 {
            let disk = MemoryDisk::new();
            write_offsets(&disk, HIGH_WATERMARKS, &old).unwrap();
            disk.halt_after(point);
            let done = write_offsets(&disk, HIGH_WATERMARKS, &new).is_ok();
            disk.crash(Crash::PowerLoss { seed });
            let found = read_offsets(&disk, HIGH_WATERMARKS).unwrap().unwrap();
            assert!(found == new || (found == old && !done), "{found:?}");
        }
    }
}

proptest! {
    #[test]
    fn offsets_survive_write_and_read(
        entries in prop::collection::btree_map(
            ("[a-zA-Z0-9_-]{1,249}", 0..=i32::MAX), 0..=i64::MAX, 0..50),
    ) {
        let entry = |((topic, partition), offset): (&(String, i32), &i64)| {
            (TopicPartition::new(&**topic, *partition), Offset(*offset))
        };
        let offsets: PartitionOffsets = entries.iter().map(entry).collect();
        let disk = MemoryDisk::new();
        write_offsets(&disk, LOG_START_OFFSETS, &offsets).unwrap();
        prop_assert_eq!(read_offsets(&disk, LOG_START_OFFSETS).unwrap(), Some(offsets));
    }

    #[test]
    fn leader_epochs_survive_write_and_read(
        steps in prop::collection::vec((1..1000i32, 1..1_000_000_000i64), 0..100),
    ) {
        let (mut epoch, mut start) = (0, 0);
        let entries: Vec<_> = steps.iter().map(|(epochs, records)| {
            epoch += epochs;
            start += records;
            EpochEntry { epoch: LeaderEpoch(epoch), start_offset: Offset(start) }
        }).collect();
        let disk = MemoryDisk::new();
        write_leader_epochs(&disk, LEADER_EPOCHS, &entries).unwrap();
        prop_assert_eq!(read_leader_epochs(&disk, LEADER_EPOCHS).unwrap(), Some(entries));
    }

    #[test]
    fn any_bytes_are_parsed_without_panic(content: Vec<u8>, text in "0\n[0-9]{1,3}\n[a0-9 \n]*") {
        let _ = (parse_offsets(&content), parse_leader_epochs(&content));
        let _ = (parse_offsets(text.as_bytes()), parse_leader_epochs(text.as_bytes()));
    }
}
