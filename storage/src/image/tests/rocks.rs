//! What only RocksDB can do wrong: damage on disk, two openers, memory.

use std::path::Path;

use super::*;

#[test]
fn the_rocksdb_store_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    run_all(|| {
        next.set(next.get() + 1);
        let path = dir.path().join(next.get().to_string());
        Box::new(move || Box::new(RocksStore::open(&path).unwrap()))
    });
}

fn filled(path: &Path) {
    let store = RocksStore::open(path).unwrap();
    let mut image = store.image("a").unwrap();
    for i in 0..200i64 {
        let value = vec![i as u8; 100_000];
        image
            .write(
                &[Change::put(i.to_be_bytes().to_vec(), value)],
                Offset(i + 1),
            )
            .unwrap();
    }
}

/// Files of the database whose names end so.
fn files(path: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect()
}

#[test]
fn damage_is_told_apart_and_answered_by_a_new_store() {
    type Damage = fn(&Path);
    let damages: &[(&str, Damage)] = &[
        ("no CURRENT", |path| {
            std::fs::remove_file(path.join("CURRENT")).unwrap()
        }),
        ("garbage in CURRENT", |path| {
            std::fs::write(path.join("CURRENT"), "garbage").unwrap()
        }),
        ("no manifest", |path| {
            let manifest = std::fs::read_to_string(path.join("CURRENT")).unwrap();
            std::fs::remove_file(path.join(manifest.trim())).unwrap();
        }),
        ("a zeroed manifest", |path| {
            let manifest = std::fs::read_to_string(path.join("CURRENT")).unwrap();
            std::fs::write(path.join(manifest.trim()), [0; 500]).unwrap();
        }),
        ("a table is missing", |path| {
            std::fs::remove_file(&files(path, ".sst")[0]).unwrap();
        }),
        ("a table is cut", |path| {
            let table = files(path, ".sst").remove(0);
            let content = std::fs::read(&table).unwrap();
            std::fs::write(&table, &content[..content.len() / 2]).unwrap();
        }),
        ("another format", |path| {
            drop(rocksdb::DB::open_default(path).unwrap().put([0], "999"));
        }),
        ("another program's database", |path| {
            RocksStore::destroy(path).unwrap();
            drop(rocksdb::DB::open_default(path).unwrap().put("key", "value"));
        }),
    ];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        filled(&path);
        damage(&path);
        let error = RocksStore::open(&path)
            .err()
            .unwrap_or_else(|| panic!("{name}: opened"));
        assert!(matches!(error, ImageError::Damaged(_)), "{name}: {error:?}");
        let (store, why) = RocksHome::new(path.clone()).open_or_replace().unwrap();
        assert!(why.is_some(), "{name}");
        assert_eq!(store.image("a").unwrap().applied_to(), None, "{name}");
    }
}

#[test]
fn a_write_ahead_log_is_good_up_to_its_first_damage() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cut: Damage = |content| content[..content.len() - 30].to_vec();
    let hole: Damage = |mut content| {
        let middle = content.len() / 2;
        content[middle..middle + 10].fill(0);
        content
    };
    for damage in [cut, hole] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        {
            let store = RocksStore::open(&path).unwrap();
            let mut image = store.image("a").unwrap();
            for i in 0..100i64 {
                let change = Change::put("last", i.to_be_bytes().to_vec());
                image.write(&[change], Offset(i + 1)).unwrap();
            }
        }
        let log = files(&path, ".log").pop().unwrap();
        std::fs::write(&log, damage(std::fs::read(&log).unwrap())).unwrap();
        let (store, why) = RocksHome::new(path.clone()).open_or_replace().unwrap();
        assert!(why.is_none(), "{why:?}");
        let image = store.image("a").unwrap();
        let applied = image.applied_to().unwrap();
        assert!((20..100).contains(&applied.0), "{applied:?}");
        let last = image.get(b"last").unwrap().unwrap();
        assert_eq!(
            &*last,
            (applied.0 - 1).to_be_bytes(),
            "data and offset are one write"
        );
    }
}

#[test]
fn a_damaged_block_is_an_error_of_the_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    filled(&path);
    for table in files(&path, ".sst") {
        let mut content = std::fs::read(&table).unwrap();
        for at in (0..content.len() - 5_000).step_by(1_000) {
            content[at] ^= 1;
        }
        std::fs::write(&table, content).unwrap();
    }
    let result = RocksStore::open(&path).and_then(|store| {
        let image = store.image("a")?;
        image.scan(b"", &mut |_, _| ControlFlow::Continue(()))
    });
    assert!(matches!(result, Err(ImageError::Damaged(_))), "{result:?}");
}

#[test]
fn a_store_has_one_opener() {
    let dir = tempfile::tempdir().unwrap();
    let _store = RocksStore::open(dir.path()).unwrap();
    let error = RocksStore::open(dir.path()).err().unwrap();
    assert!(matches!(error, ImageError::InUse(_)), "{error:?}");
}

#[test]
fn a_path_that_is_no_directory_is_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let error = RocksHome::new(path.clone())
        .open_or_replace()
        .err()
        .unwrap();
    assert!(matches!(error, ImageError::Failed(_)), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn the_rocksdb_store_is_a_map(writes in histories()) {
        let dir = tempfile::tempdir().unwrap();
        history_is_a_map(&RocksStore::open(dir.path()).unwrap(), &writes);
    }
}
