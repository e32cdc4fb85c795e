//! What only the real disk has: descriptors that come and go, maps, reservations, full disks.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::disk::mmap::CHUNK_SIZE_BYTES;

fn disk(budget: &Arc<Budget>) -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path(), budget).unwrap();
    (dir, disk)
}

#[test]
fn a_missing_root_is_created_and_a_file_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    RealDisk::open(&dir.path().join("a/b"), &Budget::for_process()).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let result = RealDisk::open(&dir.path().join("file"), &Budget::for_process());
    assert_eq!(kind(result), ErrorKind::NotADirectory);
}

#[test]
fn thousands_of_files_share_a_few_descriptors() {
    let budget = Budget::new(16, 16);
    let (_dir, disk) = disk(&budget);
    let files: Vec<_> = (0..150)
        .map(|i| put(&disk, &format!("f{i}"), b"0"))
        .collect();
    assert!(budget.open_files() <= 16, "{} open", budget.open_files());
    for round in 1..4u8 {
        for file in &files {
            file.write_at(u64::from(round), &[IoSlice::new(&[b'0' + round])])
                .unwrap();
        }
    }
    assert!(budget.open_files() <= 16, "{} open", budget.open_files());
    for file in &files {
        assert_eq!(read_exact_at(&**file, 0..4).unwrap(), "0123");
    }
    drop(files);
    assert_eq!(budget.open_files(), 0);
}

#[test]
fn a_range_in_flight_keeps_its_descriptor_and_idle_files_give_theirs() {
    let budget = Budget::new(2, 2);
    let (_dir, disk) = disk(&budget);
    let file = put(&disk, "a", b"0123456789");
    let range = FileRange::new(&file, 0, 10).unwrap();
    let ranges: Vec<_> = (0..20)
        .map(|i| FileRange::new(&put(&disk, &format!("f{i}"), b"x"), 0, 1).unwrap())
        .collect();
    assert_eq!(budget.open_files(), 21, "all are in flight");
    assert!(range.fd().is_some());
    drop(ranges);
    for i in 0..20 {
        disk.open(&format!("f{i}")).unwrap();
    }
    assert!(range.fd().is_some());
    assert!(budget.open_files() <= 3);
}

#[test]
fn of_very_many_files_those_that_nobody_used_for_a_while_are_closed() {
    let budget = Budget::new(2_000, 16);
    let (_dir, disk) = disk(&budget);
    let files: Vec<_> = (0..700)
        .map(|i| put(&disk, &format!("f{i}"), b"0"))
        .collect();
    disk.close_idle();
    disk.close_idle();
    assert_eq!(budget.open_files(), 700, "what is not synced stays open");
    files.iter().for_each(|file| file.sync_data().unwrap());
    let in_flight = FileRange::new(&files[0], 0, 1).unwrap();
    disk.close_idle();
    assert_eq!(budget.open_files(), 700, "used since the last call");
    files[1].len_bytes().unwrap();
    disk.close_idle();
    assert_eq!(budget.open_files(), 512, "a few may stay");
    assert!(in_flight.fd().is_some());
    let resident = files[1].read_at_if_resident(0, &mut [0]).unwrap();
    assert_eq!(resident, Some(1), "in use: still open");
    for (i, file) in files.iter().enumerate() {
        file.write_at(1, &[IoSlice::new(b"1")]).unwrap();
        let name = format!("f{i}");
        assert_eq!(crate::disk::read_file(&disk, &name, 2).unwrap(), b"01");
    }
}

#[test]
fn nothing_of_what_is_forgotten_is_in_memory() {
    let (_dir, disk) = disk(&Budget::for_process());
    let file = put(&disk, "a", &pattern(1 << 20));
    file.sync_data().unwrap();
    let resident = |position| {
        let read = file.read_at_if_resident(position, &mut [0]).unwrap();
        read.is_some()
    };
    assert!(resident(500_001));
    file.forget_clean().unwrap();
    if resident(0) {
        eprintln!("NOT CHECKED: this file system keeps everything in memory");
        return;
    }
    for position in [1, 4_095, 4_097, 500_001, (1 << 20) - 1] {
        // To ask may have begun to read ahead: all of it is read, so that nothing is on its way.
        assert_eq!(content(&disk, "a"), pattern(1 << 20));
        file.forget_clean().unwrap();
        assert!(!resident(position), "{position}");
    }
}

#[test]
fn maps_stay_within_the_budget_and_views_outlive_their_eviction() {
    let budget = Budget::new(64, 4);
    let (_dir, disk) = disk(&budget);
    let all = pattern(64 << 10);
    let files: Vec<_> = (0..20)
        .map(|i| put(&disk, &format!("f{i}"), &all))
        .collect();
    let first = files[0].view(0..64 << 10).unwrap();
    for file in &files[1..] {
        assert_eq!(file.view(0..64 << 10).unwrap(), all);
    }
    assert!(budget.maps() <= 5, "{} maps", budget.maps());
    assert_eq!(first, all);
    let held: Vec<_> = files
        .iter()
        .map(|file| file.view(0..64 << 10).unwrap())
        .collect();
    assert_eq!(budget.maps(), 20, "all are in use");
    drop((held, first));
    drop(files);
    assert_eq!(budget.maps(), 0);
}

#[test]
fn views_across_the_border_of_two_maps_are_copies_of_the_right_bytes() {
    let (_dir, disk) = disk(&Budget::for_process());
    let file = disk.create("a").unwrap();
    let all = pattern(256 << 10);
    let start = CHUNK_SIZE_BYTES - (128 << 10);
    file.write_at(start, &[IoSlice::new(&all)]).unwrap();
    let end = start + all.len() as u64;
    assert_eq!(file.view(start..end).unwrap(), all);
    assert_eq!(file.view(CHUNK_SIZE_BYTES..end).unwrap(), all[128 << 10..]);
    assert_eq!(
        file.view(start..CHUNK_SIZE_BYTES).unwrap(),
        all[..128 << 10]
    );
}

#[test]
fn reservations_take_space_and_truncation_gives_it_back() {
    let (dir, disk) = disk(&Budget::for_process());
    let file = put(&disk, "a", b"x");
    let blocks = || std::fs::metadata(dir.path().join("a")).unwrap().blocks();
    file.preallocate(4 << 20).unwrap();
    assert!(blocks() * 512 >= 4 << 20, "{} blocks", blocks());
    file.truncate(1).unwrap();
    assert!(blocks() * 512 <= 64 << 10, "{} blocks", blocks());
}

#[test]
fn truncating_without_views_happens_in_place() {
    let (dir, disk) = disk(&Budget::for_process());
    let file = put(&disk, "a", &pattern(100_000));
    let inode = || std::fs::metadata(dir.path().join("a")).unwrap().ino();
    let before = inode();
    drop(file.view(0..100_000).unwrap());
    file.truncate(50_000).unwrap();
    assert_eq!(inode(), before);
    let view = file.view(0..50_000).unwrap();
    file.truncate(40_000).unwrap();
    assert_ne!(inode(), before, "somebody looks at the old one");
    assert_eq!(view, pattern(50_000));
    assert_eq!(content(&disk, "a"), pattern(40_000));
    assert_eq!(names(&disk, ""), ["a"]);
}

#[test]
fn handles_of_one_path_are_one_file() {
    let budget = Budget::for_process();
    let (_dir, disk) = disk(&budget);
    let file = put(&disk, "a", b"x");
    let again = disk.open("a").unwrap();
    assert!(Arc::ptr_eq(&file, &again));
    assert_eq!(budget.open_files(), 1);
    disk.remove("a").unwrap();
    let new = put(&disk, "a", b"new");
    assert_eq!(read_exact_at(&*file, 0..1).unwrap(), "x");
    assert_eq!(read_exact_at(&*new, 0..3).unwrap(), "new");
}

#[test]
fn many_threads_may_open_rename_and_evict_at_once() {
    let budget = Budget::new(4, 2);
    let (_dir, disk) = disk(&budget);
    let all = pattern(32 << 10);
    let files: Vec<_> = (0..16)
        .map(|i| {
            disk.create_dir(&format!("d{i}")).unwrap();
            put(&disk, &format!("d{i}/f"), &all)
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (disk, files, all) = (&disk, &files, &all);
            scope.spawn(move || {
                for round in 0..200 {
                    let i = (round * 7 + thread * 5) % 16;
                    assert_eq!(files[i].view(0..32 << 10).unwrap(), *all);
                    files[i].sync_data().unwrap();
                    if i % 4 == thread {
                        disk.rename(&format!("d{i}"), &format!("e{i}")).unwrap();
                        let path = format!("e{i}/f");
                        assert!(Arc::ptr_eq(&disk.open(&path).unwrap(), &files[i]));
                        disk.rename(&format!("e{i}"), &format!("d{i}")).unwrap();
                    }
                }
            });
        }
    });
    for file in &files {
        assert_eq!(read_exact_at(&**file, 0..32 << 10).unwrap(), all);
    }
}
