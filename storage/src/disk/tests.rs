//! Conformance: what every disk must do, run against both implementations; and what only the real
//! one has: descriptors, maps, budgets.

use std::io::{ErrorKind, IoSlice};

use super::*;

mod real;

type Story = fn(&dyn Disk);

/// Every story, by name. A new one is a line here.
const STORIES: &[(&str, Story)] = &[
    (
        "files are created once and opened often",
        files_are_created_once_and_opened_often,
    ),
    (
        "writes land where they were told",
        writes_land_where_they_were_told,
    ),
    ("many parts are one write", many_parts_are_one_write),
    ("reads stop at the end", reads_stop_at_the_end),
    (
        "reads of what is in memory are right",
        reads_of_what_is_in_memory_are_right,
    ),
    (
        "preallocation leaves the length",
        preallocation_leaves_the_length,
    ),
    ("truncation cuts and extends", truncation_cuts_and_extends),
    ("views are the bytes, and only those", views_are_the_bytes),
    (
        "views outlive truncation and removal",
        views_outlive_truncation_and_removal,
    ),
    ("ranges outlive removal", ranges_outlive_removal),
    (
        "listings are sorted and complete",
        listings_are_sorted_and_complete,
    ),
    ("renames replace files", renames_replace_files),
    (
        "directories move with open files",
        directories_move_with_open_files,
    ),
    (
        "directories are removed whole",
        directories_are_removed_whole,
    ),
    ("missing things are not found", missing_things_are_not_found),
    ("paths cannot leave the root", paths_cannot_leave_the_root),
    (
        "small files are replaced atomically",
        small_files_are_replaced_atomically,
    ),
    (
        "syncing a removed file is no error",
        syncing_a_removed_file_is_no_error,
    ),
];

#[test]
fn both_disks_keep_the_contract() {
    for (name, story) in STORIES {
        println!("memory: {name}");
        story(&MemoryDisk::new());
        println!("volatile: {name}");
        story(&MemoryDisk::volatile());
        println!("real: {name}");
        let dir = tempfile::tempdir().unwrap();
        story(&RealDisk::open(dir.path(), &Budget::for_process()).unwrap());
        println!("real, with a budget of one descriptor and one map: {name}");
        let dir = tempfile::tempdir().unwrap();
        story(&RealDisk::open(dir.path(), &Budget::new(1, 1)).unwrap());
    }
}

fn put(disk: &dyn Disk, path: &str, content: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(path).unwrap();
    file.write_at(0, &[IoSlice::new(content)]).unwrap();
    file
}

fn content(disk: &dyn Disk, path: &str) -> Vec<u8> {
    read_file(disk, path, u64::MAX).unwrap()
}

fn names(disk: &dyn Disk, dir: &str) -> Vec<String> {
    disk.list(dir)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

/// Different at every position, so that a shifted read is seen.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 256 * 7) as u8).collect()
}

fn files_are_created_once_and_opened_often(disk: &dyn Disk) {
    let file = put(disk, "a", b"12");
    assert_eq!(kind(disk.create("a")), ErrorKind::AlreadyExists);
    let again = disk.open("a").unwrap();
    again.write_at(1, &[IoSlice::new(b"3")]).unwrap();
    assert_eq!(read_exact_at(&*file, 0..2).unwrap(), "13");
    assert!(disk.exists("a").unwrap() && !disk.exists("b").unwrap());
    drop((file, again));
    assert_eq!(content(disk, "a"), b"13");
}

fn writes_land_where_they_were_told(disk: &dyn Disk) {
    let file = put(disk, "a", b"0123456789");
    file.write_at(
        3,
        &[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"c")],
    )
    .unwrap();
    file.write_at(12, &[IoSlice::new(b"end")]).unwrap();
    file.write_at(4, &[]).unwrap();
    assert_eq!(content(disk, "a"), b"012abc6789\0\0end");
    assert_eq!(file.len_bytes().unwrap(), 15);
    file.sync_data().unwrap();
    file.start_write_back(0..15).unwrap();
    file.start_write_back(5..5).unwrap();
    file.finish_write_back(0..15).unwrap();
    file.finish_write_back(5..5).unwrap();
    file.forget_clean().unwrap();
}

fn many_parts_are_one_write(disk: &dyn Disk) {
    let all = pattern(2500 * 3);
    let parts: Vec<_> = all.chunks(3).map(IoSlice::new).collect();
    disk.create("a").unwrap().write_at(0, &parts).unwrap();
    assert_eq!(content(disk, "a"), all);
}

/// Whether something is in memory nobody can promise; what is read must be right.
fn reads_of_what_is_in_memory_are_right(disk: &dyn Disk) {
    let content = pattern(10_000);
    let file = put(disk, "a", &content);
    let pinned = Arc::clone(&file).pin().unwrap();
    for file in [&file, &pinned] {
        for position in [0, 1, 4_000, 9_999] {
            let mut into = [0; 5_000];
            let read = file
                .read_at_if_resident(position as u64, &mut into)
                .unwrap();
            let rest = &content[position..];
            if let Some(read) = read {
                assert!(read > 0 && read <= rest.len());
                assert_eq!(into[..read], rest[..read]);
            }
        }
        let end = file.read_at_if_resident(10_000, &mut [0; 10]).unwrap();
        assert!(end.is_none_or(|read| read == 0));
    }
}

fn reads_stop_at_the_end(disk: &dyn Disk) {
    let file = put(disk, "a", b"12345");
    let mut into = [9; 4];
    assert_eq!(file.read_at(3, &mut into).unwrap(), 2);
    assert_eq!(into, *b"45\x09\x09");
    assert_eq!(file.read_at(5, &mut into).unwrap(), 0);
    assert_eq!(file.read_at(1 << 40, &mut into).unwrap(), 0);
    assert_eq!(kind(read_exact_at(&*file, 3..6)), ErrorKind::UnexpectedEof);
    assert_eq!(
        kind(read_exact_at(&*file, 0..u64::MAX)),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(kind(read_file(disk, "a", 4)), ErrorKind::InvalidData);
}

fn preallocation_leaves_the_length(disk: &dyn Disk) {
    let file = put(disk, "a", b"123");
    file.preallocate(1 << 20).unwrap();
    assert_eq!(file.len_bytes().unwrap(), 3);
    assert_eq!(content(disk, "a"), b"123");
    assert_eq!(disk.list("").unwrap()[0].len_bytes, 3);
    assert!(disk.free_bytes().unwrap() > 1 << 20);
    assert!(disk.total_bytes().unwrap() >= disk.free_bytes().unwrap());
}

fn truncation_cuts_and_extends(disk: &dyn Disk) {
    let file = put(disk, "a", b"12345");
    file.truncate(2).unwrap();
    file.truncate(4).unwrap();
    assert_eq!(content(disk, "a"), b"12\0\0");
}

fn views_are_the_bytes(disk: &dyn Disk) {
    let all = pattern(100_000);
    let file = put(disk, "a", &all);
    for range in [0..100_000, 1..20_000, 70_001..70_002, 99_999..100_000, 5..5] {
        let view = file.view(range.start as u64..range.end as u64).unwrap();
        assert_eq!(view, all[range]);
    }
    assert_eq!(kind(file.view(90_000..100_001)), ErrorKind::UnexpectedEof);
    assert!(file.is_resident(0..100_000), "just written");
}

fn views_outlive_truncation_and_removal(disk: &dyn Disk) {
    let all = pattern(100_000);
    let file = put(disk, "a", &all);
    let view = file.view(0..100_000).unwrap();
    file.truncate(10).unwrap();
    file.write_at(10, &[IoSlice::new(&[0; 50_000])]).unwrap();
    assert_eq!(view, all);
    assert_eq!(file.view(0..20_000).unwrap()[..10], all[..10]);
    assert_eq!(content(disk, "a").len(), 50_010);
    disk.remove("a").unwrap();
    assert_eq!(view, all);
    assert_eq!(names(disk, ""), [""; 0]);
}

fn ranges_outlive_removal(disk: &dyn Disk) {
    let file = put(disk, "a", b"0123456789");
    let range = FileRange::new(&file, 2, 5).unwrap();
    assert!(range.is_resident());
    disk.remove("a").unwrap();
    let _others: Vec<_> = (0..10)
        .map(|i| put(disk, &format!("other{i}"), b"x"))
        .collect();
    drop(file);
    assert_eq!(range.read().unwrap(), "23456");
    assert_eq!(RecordData::File(range).len(), 5);
}

fn listings_are_sorted_and_complete(disk: &dyn Disk) {
    disk.create_dir("d").unwrap();
    disk.create_dir("d").unwrap();
    for name in ["d/c", "d/a", "d/b"] {
        put(disk, name, b"1234");
    }
    disk.create_dir("d/x").unwrap();
    let file = |name: &str| DirEntry {
        name: name.to_owned(),
        is_dir: false,
        len_bytes: 4,
    };
    let dir = DirEntry {
        name: "x".to_owned(),
        is_dir: true,
        len_bytes: 0,
    };
    assert_eq!(
        disk.list("d").unwrap(),
        [file("a"), file("b"), file("c"), dir]
    );
    assert_eq!(names(disk, ""), ["d"]);
    disk.sync_dir("d").unwrap();
    disk.sync_dir("").unwrap();
}

fn renames_replace_files(disk: &dyn Disk) {
    let old = put(disk, "a", b"old");
    let new = put(disk, "b", b"new");
    disk.rename("b", "a").unwrap();
    assert_eq!(names(disk, ""), ["a"]);
    assert_eq!(content(disk, "a"), b"new");
    new.write_at(3, &[IoSlice::new(b"er")]).unwrap();
    assert_eq!(content(disk, "a"), b"newer");
    drop(old);
    assert_eq!(content(disk, "a"), b"newer");
    disk.rename("a", "a").unwrap();
    assert_eq!(content(disk, "a"), b"newer");
}

fn directories_move_with_open_files(disk: &dyn Disk) {
    disk.create_dir("t-0").unwrap();
    disk.create_dir("t-00").unwrap();
    let file = put(disk, "t-0/log", b"1");
    let sibling = put(disk, "t-00/log", b"sibling");
    disk.rename("t-0", "t-0.x-delete").unwrap();
    let _others: Vec<_> = (0..5)
        .map(|i| put(disk, &format!("other{i}"), b"x"))
        .collect();
    file.write_at(1, &[IoSlice::new(b"2")]).unwrap();
    assert_eq!(content(disk, "t-0.x-delete/log"), b"12");
    assert_eq!(read_exact_at(&*sibling, 0..7).unwrap(), "sibling");
    assert_eq!(kind(disk.open("t-0/log")), ErrorKind::NotFound);
    disk.create_dir("full").unwrap();
    put(disk, "full/x", b"");
    assert_eq!(
        kind(disk.rename("t-00", "full")),
        ErrorKind::DirectoryNotEmpty
    );
}

fn directories_are_removed_whole(disk: &dyn Disk) {
    disk.create_dir("d").unwrap();
    disk.create_dir("d/e").unwrap();
    put(disk, "d/e/f", b"");
    let open = put(disk, "d/g", b"x");
    assert!(disk.remove("d").is_err(), "a directory is not a file");
    disk.remove_dir_all("d").unwrap();
    assert!(!disk.exists("d").unwrap());
    drop(open);
    disk.create_dir("d").unwrap();
    assert_eq!(names(disk, "d"), [""; 0]);
}

fn missing_things_are_not_found(disk: &dyn Disk) {
    assert_eq!(kind(disk.open("a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.create("no/a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.list("no")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("a", "b")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_dir_all("no")), ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_dir("no")), ErrorKind::NotFound);
    assert_eq!(kind(disk.create_dir("no/d")), ErrorKind::NotFound);
    put(disk, "file", b"");
    assert_eq!(kind(disk.create_dir("file")), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.list("file")), ErrorKind::NotADirectory);
}

fn paths_cannot_leave_the_root(disk: &dyn Disk) {
    for path in [
        "../a",
        "/a",
        "a/",
        "a//b",
        "a/../../b",
        ".",
        "a/./b",
        "a\0b",
    ] {
        assert_eq!(kind(disk.create(path)), ErrorKind::InvalidInput, "{path:?}");
        assert_eq!(
            kind(disk.rename("a", path)),
            ErrorKind::InvalidInput,
            "{path:?}"
        );
        assert_eq!(
            kind(disk.remove_dir_all(path)),
            ErrorKind::InvalidInput,
            "{path:?}"
        );
    }
    assert_eq!(kind(disk.remove_dir_all("")), ErrorKind::InvalidInput);
}

fn small_files_are_replaced_atomically(disk: &dyn Disk) {
    disk.create_dir("d").unwrap();
    put(disk, "d/f.tmp", b"left by a crash");
    write_file_atomically(disk, "d/f", b"1").unwrap();
    write_file_atomically(disk, "d/f", b"22").unwrap();
    assert_eq!(content(disk, "d/f"), b"22");
    assert_eq!(names(disk, "d"), ["f"]);
}

fn syncing_a_removed_file_is_no_error(disk: &dyn Disk) {
    let file = put(disk, "a", b"x");
    let _others: Vec<_> = (0..5)
        .map(|i| put(disk, &format!("other{i}"), b"x"))
        .collect();
    disk.remove("a").unwrap();
    file.sync_data().unwrap();
}
