//! Names and small files, against what Kafka 4.3.0 wrote, and every reason to refuse a directory.

use std::io::IoSlice;

use ottla_protocol::types::BrokerId;
use proptest::prelude::*;

use super::*;
use crate::disk::memory::{Crash, InjectedError, Injection, MemoryDisk, Operation};
use crate::disk::{Budget, parent};

fn wanted(node_id: i32, cluster_id: Option<&str>) -> Wanted {
    Wanted {
        node_id: BrokerId(node_id),
        cluster_id: cluster_id.map(str::to_owned),
        may_be_new: true,
    }
}

fn new_ids() -> NewIds {
    let directory_id = DirectoryId::parse("yuxm3U_a6NW5Lbsj2OyHow").unwrap();
    NewIds {
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
        directory_id,
    }
}

fn disk_with(files: &[(&str, &str)]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    for (path, content) in files {
        disk.create_dir(parent(path)).unwrap();
        let file = disk.create(path).unwrap();
        file.write_at(0, &[IoSlice::new(content.as_bytes())])
            .unwrap();
    }
    disk
}

fn text(disk: &MemoryDisk, path: &str) -> String {
    String::from_utf8(read_file(disk, path, 10_000).unwrap()).unwrap()
}

/// Written by Kafka 4.3.0.
const KAFKAS_META: &str = "#\n#Tue Nov 24 03:03:55 UTC 2026\nnode.id=1\n\
    directory.id=yuxm3U_a6NW5Lbsj2OyHow\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAQ\n";

#[test]
fn names_are_kafkas() {
    let partition = TopicPartition::new("my.topic-x", 1);
    assert_eq!(partition_dir(&partition), "my.topic-x-1");
    let unique = Uuid::try_parse("1201e536ba0f4118aedaf82dd89ee4fb").unwrap();
    let gone = TopicPartition::new("gone", 0);
    assert_eq!(
        deleted_dir(&gone, unique),
        "gone-0.1201e536ba0f4118aedaf82dd89ee4fb-delete"
    );
    assert_eq!(
        SegmentFile::Log.name(Offset(2744)),
        "00000000000000002744.log"
    );
    let names = SegmentFile::ALL.map(|file| file.name(Offset(0)).split_off(20));
    assert_eq!(
        names,
        [".log", ".index", ".timeindex", ".txnindex", ".snapshot"]
    );
}

#[test]
fn the_longest_topic_can_be_deleted() {
    let topic = "a".repeat(249);
    for partition in [0, 11, i32::MAX] {
        let name = deleted_dir(&TopicPartition::new(&*topic, partition), Uuid::nil());
        assert_eq!(name.len(), 255, "as Kafka 4.3.0 does");
        assert!(name.ends_with(&format!("a-{partition}.{}-delete", Uuid::nil().simple())));
        assert_eq!(parse_dir(&name), DirName::Deleted);
    }
}

#[test]
fn directory_names_are_told_apart() {
    let partition =
        |topic: &str, partition| DirName::Partition(TopicPartition::new(topic, partition));
    let id = "1201e536ba0f4118aedaf82dd89ee4fb";
    for (name, expected) in [
        ("orders-0", partition("orders", 0)),
        ("my.topic-x-12", partition("my.topic-x", 12)),
        ("a-1-2", partition("a-1", 2)),
        ("__consumer_offsets-49", partition("__consumer_offsets", 49)),
        ("t-2147483647", partition("t", i32::MAX)),
        (&format!("gone-0.{id}-delete"), DirName::Deleted),
        (&format!("moving-3.{id}-future"), DirName::Future),
        (&format!("lost-3.{id}-stray"), DirName::Stray),
        (&format!("gone-0.{id}-deleted"), DirName::Other),
        (&format!("gone.{id}-delete"), DirName::Other),
        ("gone-0.x-delete", DirName::Other),
        ("ottla-metadata", DirName::Other),
        ("t-2147483648", DirName::Other),
        ("t-00", DirName::Other),
        ("t-+1", DirName::Other),
        ("t--1", partition("t-", 1)),
        ("t-", DirName::Other),
        ("-0", DirName::Other),
        ("lost+found", DirName::Other),
        ("a b-0", DirName::Other),
        ("", DirName::Other),
    ] {
        assert_eq!(parse_dir(name), expected, "{name}");
    }
}

#[test]
fn only_our_own_segment_names_are_parsed() {
    for name in [
        "0000000000000000000.log",
        "00000000000000000000.logx",
        "00000000000000000000.log.deleted",
        "+0000000000000000000.log",
        "99999999999999999999.log",
        "ö0000000000000000000.log",
        "leader-epoch-checkpoint",
        "",
    ] {
        assert_eq!(SegmentFile::parse(name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn names_survive_print_and_parse(
        topic in "[a-zA-Z0-9._-]{1,249}", partition in 0..=i32::MAX, offset in 0..=i64::MAX,
    ) {
        prop_assume!(topic_name::validate(&topic).is_ok());
        let partition = TopicPartition::new(&*topic, partition);
        let parsed = parse_dir(&partition_dir(&partition));
        prop_assert_eq!(parsed, DirName::Partition(partition.clone()));
        prop_assert_eq!(parse_dir(&deleted_dir(&partition, Uuid::nil())), DirName::Deleted);
        for file in SegmentFile::ALL {
            let offset = Offset(offset);
            prop_assert_eq!(SegmentFile::parse(&file.name(offset)), Some((offset, file)));
        }
    }

    #[test]
    fn any_name_and_any_small_file_is_parsed_without_panic(name in ".{0,60}", content: Vec<u8>) {
        parse_dir(&name);
        SegmentFile::parse(&name);
        let disk = MemoryDisk::new();
        disk.create_dir("d").unwrap();
        for path in [META_PROPERTIES, FORMAT_STAMP, "d/partition.metadata"] {
            let file = disk.create(path).unwrap();
            file.write_at(0, &[IoSlice::new(&content)]).unwrap();
        }
        let _ = prepare(&disk, &wanted(1, None), &new_ids());
        let _ = read_partition_metadata(&disk, "d");
    }
}

#[test]
fn a_fresh_directory_gets_an_identity_and_keeps_it() {
    let disk = MemoryDisk::new();
    let (identity, fresh) = prepare(&disk, &wanted(1, None), &new_ids()).unwrap();
    assert!(fresh);
    assert_eq!(identity.cluster_id, "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(
        text(&disk, META_PROPERTIES)
            .lines()
            .skip(1)
            .collect::<Vec<_>>(),
        [
            "version=1",
            "cluster.id=AAAAAAAAAAAAAAAAAAAAAQ",
            "node.id=1",
            "directory.id=yuxm3U_a6NW5Lbsj2OyHow"
        ]
    );
    let other = NewIds {
        cluster_id: "other".to_owned(),
        ..new_ids()
    };
    let again = prepare(&disk, &wanted(1, None), &other).unwrap();
    assert_eq!(again, (identity, false));
}

#[test]
fn a_wanted_cluster_id_wins_and_survives_any_character() {
    let disk = MemoryDisk::new();
    let name = "a=b: #!\\ ü";
    let (identity, _) = prepare(&disk, &wanted(1, Some(name)), &new_ids()).unwrap();
    assert_eq!(identity.cluster_id, name);
    assert_eq!(
        prepare(&disk, &wanted(1, Some(name)), &new_ids())
            .unwrap()
            .0,
        identity
    );
}

#[test]
fn a_crash_while_a_directory_is_made_leaves_one_that_can_be_made_again() {
    for point in 0..20 {
        for seed in 0..20 {
            let disk = MemoryDisk::new();
            disk.halt_after(point);
            let _ = prepare(&disk, &wanted(1, None), &new_ids());
            disk.crash(Crash::PowerLoss { seed });
            prepare(&disk, &wanted(1, None), &new_ids()).unwrap();
        }
    }
}

#[test]
fn a_directory_of_another_cluster_node_or_program_is_refused() {
    let ours = "version=1";
    let meta = |stamp: Option<&str>, meta: &str, wanted: Wanted| {
        let mut files = vec![(META_PROPERTIES, meta)];
        files.extend(stamp.map(|stamp| (FORMAT_STAMP, stamp)));
        prepare(&disk_with(&files), &wanted, &new_ids())
    };
    let cluster = Some("AAAAAAAAAAAAAAAAAAAAAQ");
    let (identity, fresh) = meta(Some(ours), KAFKAS_META, wanted(1, cluster)).unwrap();
    assert_eq!((identity.node_id, fresh), (BrokerId(1), false));
    let error = meta(Some(ours), KAFKAS_META, wanted(1, Some("mine"))).unwrap_err();
    assert!(matches!(&error, LayoutError::OtherCluster { found, wanted }
        if Some(&**found) == cluster && wanted == "mine"));
    let error = meta(Some(ours), KAFKAS_META, wanted(2, None)).unwrap_err();
    assert!(matches!(
        error,
        LayoutError::OtherNode {
            found: 1,
            wanted: 2
        }
    ));
    let error = meta(None, KAFKAS_META, wanted(1, None)).unwrap_err();
    assert!(matches!(error, LayoutError::KafkaDirectory));
    let error = meta(Some("version=2"), KAFKAS_META, wanted(1, None)).unwrap_err();
    assert!(matches!(error, LayoutError::NewerFormat { found: 2 }));
}

#[test]
fn a_damaged_file_is_named_with_its_line() {
    let good = KAFKAS_META;
    for (stamp, meta, expected) in [
        ("", good, "ottla.format: line 0: \"version\" is missing"),
        ("version=x", good, "ottla.format: line 1: not a version"),
        ("version=0", good, "ottla.format: line 1: not a version"),
        (
            "version=1\nversion=1",
            good,
            "ottla.format: line 2: this key appears twice",
        ),
        (
            "version=1",
            "#\nversion=0",
            "meta.properties: line 2: only version 1 is known",
        ),
        (
            "version=1",
            "version=1\nnonsense",
            "meta.properties: line 2: expected key=value",
        ),
        (
            "version=1",
            "version=1\na=\\x",
            "meta.properties: line 2: unknown escape",
        ),
        (
            "version=1",
            "version=1",
            "meta.properties: line 0: \"cluster.id\" is missing",
        ),
        (
            "version=1",
            &good.replace("=1\nd", "=-1\nd"),
            "meta.properties: line 3: not a node id",
        ),
        (
            "version=1",
            &good.replace("=yu", "="),
            "meta.properties: line 4: not a directory id",
        ),
    ] {
        let disk = disk_with(&[(FORMAT_STAMP, stamp), (META_PROPERTIES, meta)]);
        let error = prepare(&disk, &wanted(1, None), &new_ids()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let long = format!("#{}", "x".repeat(100_000));
    let error = prepare(
        &disk_with(&[(FORMAT_STAMP, &long)]),
        &wanted(1, None),
        &new_ids(),
    );
    assert!(matches!(error.unwrap_err(), LayoutError::Io { .. }));
}

#[test]
fn read_only_and_full_disks_are_told_apart() {
    let fails = |error| {
        let disk = MemoryDisk::new();
        disk.inject(Injection::once(Operation::Create, error));
        prepare(&disk, &wanted(1, None), &new_ids()).unwrap_err()
    };
    assert!(matches!(
        fails(InjectedError::ReadOnly),
        LayoutError::NotWritable(_)
    ));
    assert!(matches!(
        fails(InjectedError::PermissionDenied),
        LayoutError::NotWritable(_)
    ));
    assert!(matches!(
        fails(InjectedError::NoSpace),
        LayoutError::Full(_)
    ));
    assert!(matches!(fails(InjectedError::Io), LayoutError::Io { .. }));
}

#[test]
fn a_directory_in_use_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let open = || open(&path, &Budget::for_process(), &wanted(1, None), &new_ids());
    let first = open().unwrap();
    assert!(first.fresh);
    let message = open().err().unwrap().to_string();
    let expected = format!(
        "log directory {}: in use by process {}",
        path.display(),
        std::process::id()
    );
    assert_eq!(message, expected);
    let identity = first.identity.clone();
    drop(first);
    let again = open().unwrap();
    assert_eq!((again.identity, again.fresh), (identity, false));
}

#[test]
fn the_clean_shutdown_marker_is_kafkas_and_is_taken_once() {
    let disk = MemoryDisk::new();
    assert!(!take_clean_shutdown(&disk).unwrap());
    write_clean_shutdown(&disk, 12).unwrap();
    assert_eq!(
        text(&disk, CLEAN_SHUTDOWN),
        "{\"version\":0,\"brokerEpoch\":12}"
    );
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert!(take_clean_shutdown(&disk).unwrap());
    disk.crash(Crash::PowerLossOfAllUnsynced);
    assert!(
        !take_clean_shutdown(&disk).unwrap(),
        "its removal is durable"
    );
}

#[test]
fn partition_metadata_is_kafkas() {
    let disk = MemoryDisk::new();
    disk.create_dir("t-0").unwrap();
    assert_eq!(read_partition_metadata(&disk, "t-0").unwrap(), None);
    let id = TopicId::parse("XS7e8l-wRHmz5DUDjIr0yQ").unwrap();
    let written = format_partition_metadata(id);
    assert_eq!(written, "version: 0\ntopic_id: XS7e8l-wRHmz5DUDjIr0yQ");
    let disk = disk_with(&[("t-0/partition.metadata", &written)]);
    assert_eq!(read_partition_metadata(&disk, "t-0").unwrap(), Some(id));
    for (content, line) in [
        ("", 1),
        ("version: 1\ntopic_id: XS7e8l-wRHmz5DUDjIr0yQ", 1),
        ("version: 0\n", 2),
        ("version: 0\ntopic_id: short", 2),
        ("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", 2),
        ("version: 0\ntopic_id: XS7e8l-wRHmz5DUDjIr0yQ\nmore", 3),
    ] {
        let disk = disk_with(&[("t-0/partition.metadata", content)]);
        let error = read_partition_metadata(&disk, "t-0").unwrap_err();
        assert!(
            matches!(error, LayoutError::Malformed { line: l, .. } if l == line),
            "{content}"
        );
    }
}

fn kafkas() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let text = "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=AAAAAAAAQAAAAAAAAAAAAQ\n";
    write_file_atomically(&disk, META_PROPERTIES, text.as_bytes()).unwrap();
    disk.create_dir(KAFKA_METADATA_DIR).unwrap();
    disk.sync_dir("").unwrap();
    disk
}

#[test]
fn a_crash_leaves_kafkas_directory_or_ours_and_a_start_completes_it() {
    let files = vec![("hard-state".to_owned(), b"state".to_vec())];
    let whole = kafkas();
    let before = whole.operations();
    adopt(&whole, &files).unwrap();
    let (mut kafkas_left, mut ours) = (0, 0);
    let points = 0..=whole.operations() - before;
    let kinds = |seed| {
        [
            Crash::Process,
            Crash::PowerLossOfAllUnsynced,
            Crash::PowerLoss { seed },
        ]
    };
    for (halted, crash) in points.flat_map(|at| kinds(at).map(|crash| (at, crash))) {
        let disk = kafkas();
        disk.halt_after(halted);
        let _ = adopt(&disk, &files);
        disk.crash(crash);
        match owner(&disk).unwrap() {
            Owner::Kafka(_) => {
                kafkas_left += 1;
                let names: Vec<_> = disk.list("").unwrap();
                let folders: Vec<_> = names.iter().filter(|entry| entry.is_dir).collect();
                assert_eq!(folders.len(), 1, "{folders:?}");
                assert_eq!(folders[0].name, KAFKA_METADATA_DIR);
                adopt(&disk, &files).unwrap();
            }
            Owner::Ours(_) => ours += 1,
            Owner::Nobody => panic!("the identity is lost after {halted}"),
        }
        let (identity, fresh) = prepare(&disk, &wanted(1, None), &new_ids()).unwrap();
        assert_eq!((identity.cluster_id.as_str(), fresh), ("c", false));
        let state = format!("{CONTROLLER_DIR}/hard-state");
        assert_eq!(read_file(&disk, &state, 100).unwrap(), b"state");
        assert!(disk.exists(KAFKA_METADATA_KEPT).unwrap());
        assert!(!disk.exists(KAFKA_METADATA_DIR).unwrap());
    }
    assert!(kafkas_left > 3 && ours > 1, "{kafkas_left} {ours}");
}
