//! Conformance: what every image store must do, run against each implementation.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

#[cfg(feature = "rocksdb")]
mod rocks;

type Story = fn(&dyn Fn() -> Box<dyn ImageStore>);

/// Every story, by name. Each gets a function that opens the same store again.
const STORIES: &[(&str, Story)] = &[
    ("a new image is empty", a_new_image_is_empty),
    ("changes apply in order", changes_apply_in_order),
    (
        "what was written is found again",
        what_was_written_is_found_again,
    ),
    (
        "scans visit one prefix in order",
        scans_visit_one_prefix_in_order,
    ),
    ("scans stop when told", scans_stop_when_told),
    ("images do not see each other", images_do_not_see_each_other),
    ("removed images start over", removed_images_start_over),
    ("an image has one holder", an_image_has_one_holder),
    ("an image never goes back", an_image_never_goes_back),
    ("values may be empty or large", values_may_be_empty_or_large),
];

fn run_all(open_new: impl Fn() -> Box<dyn Fn() -> Box<dyn ImageStore>>) {
    for (name, story) in STORIES {
        println!("{name}");
        story(&*open_new());
    }
}

#[test]
fn the_memory_store_keeps_the_contract() {
    run_all(|| {
        let store = MemoryStore::new();
        Box::new(move || Box::new(store.clone()))
    });
}

fn contents(image: &dyn Image, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    image.scan(prefix, &mut visit).unwrap();
    found
}

fn keys(image: &dyn Image, prefix: &[u8]) -> Vec<Vec<u8>> {
    contents(image, prefix)
        .into_iter()
        .map(|(key, _)| key)
        .collect()
}

fn panics(f: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
}

fn a_new_image_is_empty(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let image = open().image("a").unwrap();
    assert_eq!(image.applied_to(), None);
    assert_eq!(image.get(b"x").unwrap(), None);
    assert!(contents(&*image, b"").is_empty());
}

fn changes_apply_in_order(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let mut image = open().image("a").unwrap();
    let changes = [
        Change::put("x", "1"),
        Change::put("y", "1"),
        Change::put("x", "2"),
        Change::remove("y"),
        Change::remove("never there"),
    ];
    image.write(&changes, Offset(5)).unwrap();
    assert_eq!(contents(&*image, b""), [(b"x".to_vec(), b"2".to_vec())]);
    image.write(&[], Offset(5)).unwrap();
    image.write(&[], Offset(9)).unwrap();
    assert_eq!(image.applied_to(), Some(Offset(9)));
    assert_eq!(image.get(b"x").unwrap().unwrap(), "2");
}

fn what_was_written_is_found_again(open: &dyn Fn() -> Box<dyn ImageStore>) {
    {
        let store = open();
        store
            .image("a")
            .unwrap()
            .write(&[Change::put("x", "1")], Offset(1))
            .unwrap();
        store
            .image("b")
            .unwrap()
            .write(&[], Offset(i64::MAX))
            .unwrap();
        store.sync().unwrap();
    }
    let store = open();
    let image = store.image("a").unwrap();
    assert_eq!(image.applied_to(), Some(Offset(1)));
    assert_eq!(image.get(b"x").unwrap().unwrap(), "1");
    assert_eq!(
        store.image("b").unwrap().applied_to(),
        Some(Offset(i64::MAX))
    );
}

fn scans_visit_one_prefix_in_order(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let mut image = open().image("a").unwrap();
    let all: [&[u8]; 8] = [
        b"",
        b"a",
        b"a\0",
        b"a\xff",
        b"a\xff\xff",
        b"b",
        b"\xff",
        b"\xff\xff",
    ];
    let changes: Vec<_> = all.iter().rev().map(|key| Change::put(*key, "v")).collect();
    image.write(&changes, Offset(1)).unwrap();
    assert_eq!(keys(&*image, b""), all);
    assert_eq!(keys(&*image, b"a"), all[1..5]);
    assert_eq!(keys(&*image, b"a\xff"), all[3..5]);
    assert_eq!(keys(&*image, b"\xff"), all[6..]);
    assert!(keys(&*image, b"c").is_empty());
}

fn scans_stop_when_told(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let mut image = open().image("a").unwrap();
    let changes: Vec<_> = (0..10u8).map(|key| Change::put(vec![key], "v")).collect();
    image.write(&changes, Offset(1)).unwrap();
    let mut seen = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    image.scan(b"", &mut visit).unwrap();
    assert_eq!(seen, 3);
}

fn images_do_not_see_each_other(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let store = open();
    // Names that are prefixes of each other, and keys that look like the rest of a name.
    let names = ["a", "a\u{1}", "aa", "b", &"x".repeat(255)];
    for (i, name) in (0..).zip(names) {
        let changes = [
            Change::put("a", name.to_owned()),
            Change::put("\u{1}", "1"),
            Change::put("", ""),
        ];
        store
            .image(name)
            .unwrap()
            .write(&changes, Offset(i))
            .unwrap();
    }
    for (i, name) in (0..).zip(names) {
        let image = store.image(name).unwrap();
        assert_eq!(image.applied_to(), Some(Offset(i)));
        assert_eq!(image.get(b"a").unwrap().unwrap(), name);
        assert_eq!(contents(&*image, b"").len(), 3);
    }
}

fn removed_images_start_over(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let store = open();
    for name in ["a", "aa"] {
        store
            .image(name)
            .unwrap()
            .write(&[Change::put("x", "1")], Offset(7))
            .unwrap();
    }
    store.remove("a").unwrap();
    store.remove("never there").unwrap();
    let mut image = store.image("a").unwrap();
    assert_eq!(image.applied_to(), None);
    assert!(contents(&*image, b"").is_empty());
    image.write(&[], Offset(0)).unwrap();
    assert_eq!(store.image("aa").unwrap().get(b"x").unwrap().unwrap(), "1");
}

fn an_image_has_one_holder(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let store = open();
    let image = store.image("a").unwrap();
    assert!(panics(|| drop(store.image("a"))));
    assert!(panics(|| drop(store.remove("a"))));
    drop(image);
    store.image("a").unwrap();
    assert!(panics(|| drop(store.image(""))));
    assert!(panics(|| drop(store.image(&"x".repeat(256)))));
}

fn an_image_never_goes_back(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let store = open();
    let mut image = store.image("a").unwrap();
    image.write(&[], Offset(5)).unwrap();
    assert!(panics(|| drop(
        image.write(&[Change::put("x", "1")], Offset(4))
    )));
    assert_eq!(image.get(b"x").unwrap(), None);
}

fn values_may_be_empty_or_large(open: &dyn Fn() -> Box<dyn ImageStore>) {
    let store = open();
    let mut image = store.image("a").unwrap();
    let large = vec![7; 3 << 20];
    let changes = [Change::put("", ""), Change::put("large", large.clone())];
    image.write(&changes, Offset(1)).unwrap();
    for i in 0..10 {
        image
            .write(&[Change::put(format!("{i}"), large.clone())], Offset(2 + i))
            .unwrap();
    }
    assert_eq!(image.get(b"").unwrap().unwrap(), "");
    assert_eq!(image.get(b"large").unwrap().unwrap(), large);
    assert_eq!(keys(&*image, b"").len(), 12);
}

#[test]
fn a_power_cut_goes_back_to_the_last_sync() {
    let store = MemoryStore::new();
    store
        .image("a")
        .unwrap()
        .write(&[Change::put("x", "1")], Offset(1))
        .unwrap();
    store.sync().unwrap();
    store
        .image("a")
        .unwrap()
        .write(&[Change::put("x", "2")], Offset(2))
        .unwrap();
    store.crash();
    let image = store.image("a").unwrap();
    assert_eq!(image.applied_to(), Some(Offset(1)));
    assert_eq!(image.get(b"x").unwrap().unwrap(), "1");
    drop(image);
    store.lose_everything();
    assert_eq!(store.image("a").unwrap().applied_to(), None);
}

/// Any history against a plain map; the same for both stores.
fn history_is_a_map(store: &dyn ImageStore, writes: &[Vec<(u8, Option<u8>)>]) {
    let mut model = std::collections::BTreeMap::new();
    let mut image = store.image("a").unwrap();
    for (offset, write) in (1..).zip(writes) {
        let mut changes = Vec::new();
        for (key, value) in write {
            let (key, value) = (vec![*key], value.map(|value| vec![value]));
            changes.push(match value.clone() {
                Some(value) => Change::put(key.clone(), value),
                None => Change::remove(key.clone()),
            });
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        image.write(&changes, Offset(offset)).unwrap();
        assert_eq!(image.applied_to(), Some(Offset(offset)));
    }
    assert_eq!(
        contents(&*image, b""),
        model.into_iter().collect::<Vec<_>>()
    );
}

fn histories() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
    prop::collection::vec(
        prop::collection::vec((0..20u8, any::<Option<u8>>()), 0..10),
        0..20,
    )
}

proptest! {
    #[test]
    fn the_memory_store_is_a_map(writes in histories()) {
        history_is_a_map(&MemoryStore::new(), &writes);
    }
}
