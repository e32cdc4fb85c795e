//! One file under every order of what threads do to it, as far as shuttle gets: real files in a
//! directory, with locks and atomics whose turns are shuttle's (`sync/explored.rs`).
//!
//! Defects that were planted one at a time, and that these tests caught:
//! - a view handed out without a second look at the length of its file;
//! - a file cut in place under the map of somebody who holds it;
//! - a map made for a chunk that was forgotten meanwhile;
//! - a file opened again without the registry; one that was removed opened again by its name;
//! - the last handle of a file that takes a newer one out of the registry;
//! - a descriptor closed while it is used;
//! - a sync that does not wait for another one to say what it was told (as it was until this test);
//! - one flag for what is unsynced through either of two descriptors (as it was until this test).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed as Real};

use shuttle::thread;

use super::super::{Budget, RealDisk};
use super::*;
use crate::disk::Disk;
use crate::sync::explored::explore;

const PAGE: usize = 4096;
/// Enough to be mapped.
const PAGES: usize = 5;
const LEN: u64 = (PAGES * PAGE) as u64;

/// Runs `test` in an empty directory per schedule, with room for one descriptor and one map.
fn explore_files(test: impl Fn(Arc<RealDisk>) + Send + Sync + Clone + 'static) {
    let shm = PathBuf::from("/dev/shm");
    let root = match shm.is_dir() {
        true => tempfile::tempdir_in(shm).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let (path, runs) = (root.path().to_owned(), Arc::new(AtomicU64::new(0)));
    explore(move || {
        let path = path.join(runs.fetch_add(1, Real).to_string());
        let disk = Arc::new(RealDisk::open(&path, &Budget::new(1, 1)).unwrap());
        test(Arc::clone(&disk));
        drop(disk);
        std::fs::remove_dir_all(&path).unwrap();
    });
}

/// The file itself, which a disk only shows as a trait.
fn file_of(disk: &RealDisk, path: &str) -> Arc<RealFile> {
    let known = disk.shared.registry.lock().get(path).unwrap().upgrade();
    known.unwrap()
}

fn write(file: &dyn DiskFile, position: u64, byte: u8, len: u64) {
    let bytes = vec![byte; len as usize];
    file.write_at(position, &[IoSlice::new(&bytes)]).unwrap();
}

fn created(disk: &RealDisk, path: &str, byte: u8) -> Arc<dyn DiskFile> {
    let file = disk.create(path).unwrap();
    write(&*file, 0, byte, LEN);
    file
}

/// Takes the only descriptor and the only map.
fn use_another(disk: &RealDisk) {
    let other = disk.open("other").unwrap();
    assert_eq!(other.view(0..LEN).unwrap()[0], b'o');
    assert_eq!(other.read_at(0, &mut [0]).unwrap(), 1);
}

/// Holds what it gets for a while.
fn look(file: &dyn DiskFile) {
    for _ in 0..2 {
        // It may be cut: then there is nothing to see.
        let Ok(bytes) = file.view(0..LEN) else {
            continue;
        };
        let first = bytes.to_vec();
        assert!(first[..PAGE / 2].iter().all(|byte| *byte == b'1'));
        thread::yield_now();
        let _ = file.len_bytes();
        thread::yield_now();
        assert!(bytes == first, "bytes changed in the hands of their holder");
    }
}

#[test]
fn what_is_seen_of_a_file_stays_while_it_is_cut_grows_again_and_is_closed() {
    explore_files(|disk| {
        created(&disk, "other", b'o');
        let file = created(&disk, "f", b'1');
        let reader = Arc::clone(&file);
        let reader = thread::spawn(move || look(&*reader));
        let others = thread::spawn(move || use_another(&disk));
        // Within a page of the view, so that what is written next lies in that page, too.
        let half = (PAGE / 2) as u64;
        for (byte, cut) in [(b'2', LEN - half), (b'3', LEN - 3 * half)] {
            file.truncate(cut).unwrap();
            write(&*file, cut, byte, LEN - cut);
        }
        reader.join().unwrap();
        others.join().unwrap();
        let mut now = vec![0; LEN as usize];
        assert_eq!(file.read_at(0, &mut now).unwrap() as u64, LEN);
        let ones = now.iter().filter(|byte| **byte == b'1').count();
        assert_eq!(ones, (PAGES - 2) * PAGE + PAGE / 2);
    });
}

#[test]
fn a_file_that_is_opened_again_is_the_same_file_whatever_its_name_became() {
    explore_files(|disk| {
        created(&disk, "other", b'o');
        disk.create_dir("a").unwrap();
        let file = created(&disk, "a/f", b'1');
        let idle = file_of(&disk, "a/f");
        let reader = thread::spawn(move || {
            for _ in 0..3 {
                let mut byte = [0];
                assert_eq!(file.read_at(0, &mut byte).unwrap(), 1);
                assert_eq!(&byte, b"1");
            }
        });
        let names = Arc::clone(&disk);
        let names = thread::spawn(move || {
            names.rename("a", "b").unwrap();
            names.create_dir("a").unwrap();
            created(&names, "a/f", b'2');
        });
        use_another(&disk);
        idle.sync_data().unwrap();
        idle.close_if_idle(u64::MAX);
        reader.join().unwrap();
        names.join().unwrap();
    });
}

#[test]
fn a_file_that_is_removed_is_never_the_one_that_gets_its_name() {
    explore_files(|disk| {
        created(&disk, "other", b'o');
        let file = created(&disk, "f", b'1');
        let reader = thread::spawn(move || {
            for _ in 0..3 {
                let mut byte = [0];
                match file.read_at(0, &mut byte) {
                    Ok(_) => assert_eq!(&byte, b"1"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                }
            }
        });
        let names = Arc::clone(&disk);
        let names = thread::spawn(move || {
            names.remove("f").unwrap();
            let new = created(&names, "f", b'2');
            let mut byte = [0];
            assert_eq!(new.read_at(0, &mut byte).unwrap(), 1);
            assert_eq!(&byte, b"2");
        });
        use_another(&disk);
        reader.join().unwrap();
        names.join().unwrap();
    });
}

#[test]
fn a_path_is_one_file_however_its_handles_come_and_go() {
    explore_files(|disk| {
        drop(created(&disk, "f", b'1'));
        let open = |disk: &Arc<RealDisk>| {
            let disk = Arc::clone(disk);
            thread::spawn(move || {
                drop(disk.open("f").unwrap());
                disk.open("f").unwrap()
            })
        };
        let (a, b) = (open(&disk), open(&disk));
        let (a, b) = (a.join().unwrap(), b.join().unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert!(Arc::ptr_eq(&a, &disk.open("f").unwrap()));
    });
}

#[test]
fn a_descriptor_in_use_is_not_closed_so_what_is_written_through_it_is_not_forgotten() {
    explore_files(|disk| {
        created(&disk, "other", b'o');
        let _file = created(&disk, "f", b'1');
        let inner = file_of(&disk, "f");
        let other = thread::spawn(move || use_another(&disk));
        let open = inner.opened().unwrap();
        thread::yield_now();
        assert!(Arc::ptr_eq(&open, &inner.opened().unwrap()));
        other.join().unwrap();
    });
}

#[test]
fn what_is_written_to_the_file_after_a_cut_stays_unsynced_when_the_one_before_it_is_synced() {
    explore_files(|disk| {
        let file = created(&disk, "f", b'1');
        let inner = file_of(&disk, "f");
        let syncer = Arc::clone(&inner);
        let syncer = thread::spawn(move || {
            let open = syncer.opened().unwrap();
            syncer.sync(&open).unwrap();
            open
        });
        let held = file.view(0..LEN).unwrap();
        file.truncate(10).unwrap();
        write(&*file, 10, b'2', 10);
        let synced = syncer.join().unwrap();
        if !Arc::ptr_eq(&synced, &inner.opened().unwrap()) {
            assert!(inner.is_costly(), "it would be closed without a sync");
        }
        assert!(held.iter().all(|byte| *byte == b'1'));
    });
}

/// The kernel as far as it tells of lost writes: the first who asks is told, and nobody else.
#[test]
fn a_lost_write_is_told_to_all_who_ask_at_the_same_time() {
    explore_files(|disk| {
        let _file = created(&disk, "f", b'1');
        let inner = file_of(&disk, "f");
        let told = Arc::new(crate::sync::AtomicBool::new(false));
        let askers: Vec<_> = (0..3)
            .map(|_| {
                let (inner, told) = (Arc::clone(&inner), Arc::clone(&told));
                thread::spawn(move || {
                    inner.ask(|| match told.swap(true, Relaxed) {
                        false => Err(Errno::IO.into()),
                        true => Ok(()),
                    })
                })
            })
            .collect();
        for asker in askers {
            assert!(
                asker.join().unwrap().is_err(),
                "it took silence for success"
            );
        }
        assert!(inner.sync_data().is_err(), "nor is it forgotten");
    });
}
