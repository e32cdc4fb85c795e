//! What the memory disk loses, tears and refuses.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};

use super::*;
use crate::disk::{read_file, write_file_atomically};

fn put(disk: &MemoryDisk, path: &str, content: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(path).unwrap();
    file.write_at(0, &[IoSlice::new(content)]).unwrap();
    file
}

fn synced(disk: &MemoryDisk, path: &str, content: &[u8]) -> Arc<dyn DiskFile> {
    let file = put(disk, path, content);
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    file
}

fn content(disk: &MemoryDisk, path: &str) -> Vec<u8> {
    read_file(disk, path, 1 << 20).unwrap()
}

#[test]
fn a_killed_process_loses_nothing_it_wrote() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"unsynced");
    disk.crash(Crash::Process);
    assert_eq!(content(&disk, "a"), b"unsynced");
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert!(!disk.exists("a").unwrap(), "a process crash is not a sync");
}

#[test]
fn synced_data_under_a_synced_name_survives_every_power_loss() {
    for seed in 0..200 {
        let disk = MemoryDisk::new();
        let file = synced(&disk, "a", b"durable");
        file.write_at(7, &[IoSlice::new(b" not yet")]).unwrap();
        disk.crash(Crash::PowerLoss { seed });
        assert!(content(&disk, "a").starts_with(b"durable"), "seed {seed}");
    }
}

#[test]
fn a_synced_file_without_a_synced_name_may_vanish() {
    let disk = MemoryDisk::new();
    let file = put(&disk, "a", b"data");
    file.sync_data().unwrap();
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert!(!disk.exists("a").unwrap());
}

#[test]
fn a_name_without_synced_data_may_be_empty() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"data");
    disk.sync_dir("").unwrap();
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert_eq!(content(&disk, "a"), b"");
}

#[test]
fn power_losses_drop_tear_and_reorder_unsynced_writes() {
    let page = |byte| vec![byte; 4096];
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let disk = MemoryDisk::new();
        let file = synced(&disk, "a", b"");
        file.write_at(0, &[IoSlice::new(&page(1)), IoSlice::new(&page(2))])
            .unwrap();
        file.write_at(8192, &[IoSlice::new(&page(3))]).unwrap();
        disk.crash(Crash::PowerLoss { seed });
        outcomes.insert(content(&disk, "a"));
    }
    let all = [page(1), page(2), page(3)].concat();
    assert!(outcomes.contains(&all), "all kept");
    assert!(outcomes.contains(&vec![]), "all lost");
    assert!(outcomes.contains(&all[..8192]), "only the first write");
    assert!(
        outcomes.contains(&[page(0), page(0), page(3)].concat()),
        "only the second write"
    );
    assert!(outcomes.contains(&all[..4096]), "torn between two pages");
    assert!(
        outcomes.contains(&vec![0; 12288]),
        "the length without the data"
    );
    let fine = |o: &Vec<u8>| !o.len().is_multiple_of(512);
    assert!(outcomes.iter().any(fine), "torn inside a sector");
}

#[test]
fn renames_are_atomic_and_durable_only_after_a_directory_sync() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        synced(&disk, "a", b"old");
        let new = put(&disk, "a.tmp", b"new");
        new.sync_data().unwrap();
        disk.rename("a.tmp", "a").unwrap();
        disk.crash(Crash::PowerLoss { seed });
        seen.insert(content(&disk, "a"));
    }
    assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn an_atomic_write_leaves_the_old_or_the_new_content_at_every_crash_point() {
    let count = {
        let disk = MemoryDisk::new();
        write_file_atomically(&disk, "f", b"first").unwrap();
        let before = disk.operations();
        write_file_atomically(&disk, "f", b"second").unwrap();
        disk.operations() - before
    };
    assert!(
        count >= 5,
        "create, write, sync, rename, sync of the directory"
    );
    for point in 0..=count {
        for seed in 0..50 {
            let disk = MemoryDisk::new();
            write_file_atomically(&disk, "f", b"first").unwrap();
            disk.halt_after(point);
            let result = write_file_atomically(&disk, "f", b"second");
            assert_eq!(result.is_ok(), point == count);
            disk.crash(Crash::PowerLoss { seed });
            let after = content(&disk, "f");
            assert!(
                after == b"second" || (after == b"first" && point < count),
                "{after:?}"
            );
            write_file_atomically(&disk, "f", b"third").unwrap();
        }
    }
}

#[test]
fn removing_a_directory_can_stop_half_way() {
    let disk = MemoryDisk::new();
    disk.create_dir("d").unwrap();
    put(&disk, "d/1", b"x");
    put(&disk, "d/2", b"x");
    disk.halt_after(1);
    assert!(disk.remove_dir_all("d").is_err());
    disk.crash(Crash::Process);
    let names: Vec<_> = disk
        .list("d")
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["2"]);
}

#[test]
fn after_the_halt_nothing_works_until_the_crash_and_old_handles_never_again() {
    let disk = MemoryDisk::new();
    let file = synced(&disk, "a", b"data");
    disk.halt_after(1);
    file.write_at(0, &[IoSlice::new(b"D")]).unwrap();
    assert!(file.write_at(0, &[IoSlice::new(b"X")]).is_err());
    assert!(disk.halted());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(disk.list("").is_err());
    disk.crash(Crash::Process);
    assert!(file.read_at(0, &mut [0]).is_err(), "that process is dead");
    assert_eq!(content(&disk, "a"), b"Data");
}

#[test]
fn a_failed_sync_calls_lost_data_clean() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = MemoryDisk::with_seed(seed);
        let file = synced(&disk, "a", b"----");
        file.write_at(0, &[IoSlice::new(b"data")]).unwrap();
        disk.inject(Injection::once(Operation::Sync, InjectedError::Io).on("a"));
        assert!(file.sync_data().is_err());
        file.sync_data()
            .expect("the second sync finds nothing to do");
        assert_eq!(
            content(&disk, "a"),
            b"data",
            "the page cache still shows it"
        );
        disk.crash(Crash::PowerLoss { seed });
        lost += u32::from(content(&disk, "a") != b"data");
    }
    assert!(lost > 10, "lost {lost} of 50");
}

#[test]
fn what_a_failed_sync_lost_is_not_seen_once_clean_data_is_forgotten() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = MemoryDisk::with_seed(seed);
        let file = synced(&disk, "a", b"----");
        file.write_at(0, &[IoSlice::new(b"data")]).unwrap();
        disk.inject(Injection::once(Operation::Sync, InjectedError::Io).on("a"));
        assert!(file.sync_data().is_err());
        file.write_at(4, &[IoSlice::new(b"more")]).unwrap();
        file.forget_clean().unwrap();
        let seen = content(&disk, "a");
        assert_eq!(&seen[4..], b"more", "what is still to be written stays");
        file.sync_data().unwrap();
        disk.crash(Crash::PowerLoss { seed });
        assert_eq!(content(&disk, "a"), seen, "what was seen then is there");
        lost += u32::from(!seen.starts_with(b"data"));
    }
    assert!(lost > 10, "lost {lost} of 50");
}

#[test]
fn injected_errors_match_operation_path_and_position() {
    let disk = MemoryDisk::new();
    let file = put(&disk, "a.log", b"");
    let write = |file: &Arc<dyn DiskFile>| file.write_at(0, &[IoSlice::new(b"1234")]);
    disk.inject(
        Injection::once(Operation::Write, InjectedError::NoSpace)
            .on(".log")
            .skip(1),
    );
    write(&file).unwrap();
    write(&put(&disk, "b.index", b"")).unwrap();
    assert_eq!(write(&file).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&file).unwrap();
    disk.inject(Injection::always(Operation::Read, InjectedError::Io));
    assert!(file.read_at(0, &mut [0]).is_err());
    disk.clear_injections();
    disk.set_read_only(true);
    assert_eq!(
        write(&file).unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(
        disk.remove("a.log").unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(content(&disk, "a.log"), b"1234");
}

#[test]
fn a_full_disk_refuses_growth_but_not_reserved_space() {
    let disk = MemoryDisk::new();
    disk.set_capacity_bytes(Some(100));
    let file = disk.create("a").unwrap();
    file.preallocate(60).unwrap();
    assert_eq!(file.len_bytes().unwrap(), 0);
    assert_eq!(disk.free_bytes().unwrap(), 40);
    let other = disk.create("b").unwrap();
    other.write_at(0, &[IoSlice::new(&[1; 40])]).unwrap();
    let error = other.write_at(40, &[IoSlice::new(&[2; 10])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.write_at(0, &[IoSlice::new(&[3; 60])]).unwrap();
    assert_eq!(
        file.preallocate(61).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.remove("b").unwrap();
    file.preallocate(100).unwrap();
}

#[test]
fn corruption_is_silent_and_survives_crashes() {
    let disk = MemoryDisk::new();
    synced(&disk, "a", b"clean");
    disk.corrupt("a", 1, b"L").unwrap();
    assert_eq!(content(&disk, "a"), b"cLean");
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert_eq!(content(&disk, "a"), b"cLean");
}

#[test]
fn equal_histories_have_equal_hashes_and_outcomes() {
    let story = |seed, extra: bool| {
        let disk = MemoryDisk::with_seed(seed);
        let file = synced(&disk, "a", b"1");
        file.write_at(1, &[IoSlice::new(&[7; 9000])]).unwrap();
        if extra {
            disk.list("").unwrap();
        }
        disk.crash(Crash::PowerLoss { seed });
        (disk.trace_hash(), content(&disk, "a"))
    };
    for seed in 0..20 {
        assert_eq!(story(seed, false), story(seed, false));
        assert_ne!(story(seed, false).0, story(seed, true).0);
    }
}

#[test]
fn a_volatile_disk_keeps_no_second_copy() {
    let disk = MemoryDisk::volatile();
    let file = put(&disk, "a", b"data");
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(content(&disk, "a"), b"data");
    assert_eq!(disk.operations(), 0);
}
