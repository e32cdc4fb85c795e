//! Moves between memory disks: while records come, and with a crash at every step.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsPartition;
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequest, DeleteTopicsRequest, DescribeLogDirsRequest, StrBytes, TopicName,
};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, MemoryDisk, Operation};
use ottla_storage::disk::{Disk, RecordData};

use super::*;
use crate::handlers::testing::TestBroker;

fn settle(test: &TestBroker) {
    while test.broker.flush.run_one() {}
}

fn run(test: &TestBroker) {
    test.broker.mover.run(&test.broker, &mut |_| true);
    settle(test);
}

fn partition(test: &TestBroker) -> Arc<Partition> {
    test.broker.partitions.get("t", 0).unwrap()
}

/// Asks for the move and answers the error code.
fn ask(test: &TestBroker, path: &str) -> i16 {
    let topic = AlterReplicaLogDirTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default()
        .with_path(StrBytes::from_string(path.to_owned()))
        .with_topics(vec![topic]);
    let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
    test.call(2, request).results[0].partitions[0].error_code
}

/// What each directory is told to have.
fn told(test: &TestBroker) -> Vec<Vec<DescribeLogDirsPartition>> {
    let response = test.call(4, DescribeLogDirsRequest::default().with_topics(None));
    let dirs = response.results.into_iter();
    dirs.map(|dir| dir.topics.into_iter().flat_map(|t| t.partitions).collect())
        .collect()
}

/// Every value of the log, committed or not.
fn values(test: &TestBroker) -> Vec<Vec<u8>> {
    let partition = partition(test);
    let (mut values, mut from) = (Vec::new(), None);
    loop {
        let batches = partition.batches(from, 1 << 20).unwrap();
        let bytes = bytes_of(&batches.data).unwrap();
        if bytes.is_empty() {
            return values;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let view = ottla_protocol::RecordBatchView::parse(rest).unwrap();
            rest = &rest[view.size_bytes()..];
            for record in Records::open(view, RecordLimits::default()).unwrap() {
                values.push(record.unwrap().value.unwrap().to_vec());
            }
        }
        from = Some(batches.next_offset);
    }
}

fn value(n: u32) -> Vec<u8> {
    let mut value = n.to_be_bytes().to_vec();
    value.resize(200, 7);
    value
}

/// A partition in the first of two directories, with so many records in small segments, and zeros
/// behind the last of them.
fn with_records(count: u32) -> TestBroker {
    let test = TestBroker::with_disks(2, &[("log.segment.bytes", "1048576")]);
    test.broker.zeros_from_bytes.store(1_000, Ordering::Relaxed);
    test.create_topic("t", 1);
    test.set_config(2, "t", "segment.bytes", "1048576");
    for n in 0..count {
        test.append("t", 0, &[&value(n)]);
        if n < 5 {
            test.sync("t", 0);
        }
    }
    test.sync("t", 0);
    test
}

/// How long the file of the log is in each directory.
fn file_lens(test: &TestBroker) -> Vec<Option<u64>> {
    let len = |disk: &Arc<MemoryDisk>| {
        let file = disk.open("t-0/00000000000000000000.log");
        file.ok().map(|file| file.len_bytes().unwrap())
    };
    test.disks.iter().map(len).collect()
}

#[test]
fn zeros_written_ahead_stay_behind_and_the_copy_gets_its_own() {
    let test = with_records(100);
    let size = u64::try_from(told(&test)[0][0].partition_size).unwrap();
    assert!(file_lens(&test)[0].unwrap() > size);
    assert_eq!(ask(&test, "/data1"), 0);
    test.broker.mover.run(&test.broker, &mut |_| true);
    let moved = &told(&test)[1][0];
    assert_eq!(
        (moved.is_future_key, moved.partition_size as u64),
        (false, size)
    );
    assert_eq!(file_lens(&test)[1], Some(size));
    settle(&test);
    for n in 100..110 {
        test.append("t", 0, &[&value(n)]);
        test.sync("t", 0);
    }
    let size = u64::try_from(told(&test)[1][0].partition_size).unwrap();
    let lens = file_lens(&test);
    assert!(lens[0].is_none() && lens[1].unwrap() > size, "{lens:?}");
    test.disks
        .iter()
        .for_each(|disk| disk.crash(Crash::Process));
    let again = TestBroker::recovered(&test.disks, test.image());
    assert_eq!(values(&again), (0..110).map(value).collect::<Vec<_>>());
    assert_eq!(file_lens(&again)[1], Some(size));
}

#[test]
fn a_moved_partition_has_everything_and_its_old_folder_is_gone() {
    let test = with_records(300);
    let epochs_before = partition(&test).marks().unwrap();
    assert_eq!(ask(&test, "/data1"), 0);
    let before = told(&test);
    assert_eq!((before[0].len(), before[1].len()), (1, 1));
    assert!(!before[0][0].is_future_key && before[1][0].is_future_key);
    assert_eq!(before[1][0].offset_lag, 300);
    run(&test);
    let after = told(&test);
    assert!(after[0].is_empty() && !after[1][0].is_future_key);
    assert_eq!(after[1][0].partition_size, before[0][0].partition_size);
    assert_eq!(after[1][0].offset_lag, 0);
    assert_eq!(partition(&test).marks().unwrap(), epochs_before);
    let expected: Vec<_> = (0..300).map(value).collect();
    assert_eq!(values(&test), expected);
    assert!(!test.disks[0].exists("t-0").unwrap());
    let left = test.disks[0].list("").unwrap();
    assert!(
        left.iter().all(|entry| !entry.name.starts_with("t-0")),
        "{left:?}"
    );
    // It goes on there, and back.
    test.append("t", 0, &[&value(300)]);
    test.sync("t", 0);
    assert_eq!(ask(&test, "/data"), 0);
    run(&test);
    assert_eq!(values(&test).len(), 301);
    assert!(test.disks[0].exists("t-0").unwrap() && !test.disks[1].exists("t-0").unwrap());
}

#[test]
fn a_move_that_finds_no_descriptor_is_tried_again() {
    for operation in [Operation::Create, Operation::Sync] {
        for skip in 0..4 {
            let test = with_records(50);
            assert_eq!(ask(&test, "/data1"), 0);
            let scarce = Injection::once(operation, InjectedError::TooManyOpenFiles);
            test.disks[1].inject(scarce.on("future").skip(skip));
            run(&test);
            run(&test);
            assert!(!partition(&test).is_moving(), "{operation:?} {skip}");
            assert!(test.disks[1].exists("t-0").unwrap(), "{operation:?} {skip}");
            assert_eq!(values(&test), (0..50).map(value).collect::<Vec<_>>());
            let left = test.disks[1].list("").unwrap();
            assert!(left.iter().all(|entry| !entry.name.contains("future")));
        }
    }
}

#[test]
fn who_asks_for_a_directory_gets_kafkas_answer() {
    let test = with_records(10);
    assert_eq!(ask(&test, "/none"), 57);
    assert_eq!(ask(&test, "/data"), 0, "it is there");
    assert!(!partition(&test).is_moving());
    assert_eq!(ask(&test, "/data1"), 0);
    assert_eq!(ask(&test, "/data1"), 0, "it is on its way");
    assert_eq!(ask(&test, "/data"), 0, "and stays after all");
    run(&test);
    assert!(test.disks[0].exists("t-0").unwrap() && !partition(&test).is_moving());
    let dir = test.broker.log_dirs.by_path("/data1").unwrap();
    dir.fail("it burnt".to_owned());
    assert_eq!(ask(&test, "/data1"), 56);
}

#[test]
fn records_that_come_meanwhile_move_along_and_a_held_log_refuses_with_a_retry() {
    let test = with_records(100);
    assert_eq!(ask(&test, "/data1"), 0);
    // A flush that runs makes the mover wait, and it lets records in while it waits.
    test.append("t", 0, &[&value(100)]);
    let partition = partition(&test);
    let flush = partition.begin_flush();
    let mut flush = Some(flush.unwrap());
    let mut refused = 0;
    let mut pause = |_| {
        if test.try_append("t", 0, &[&value(999)]).is_err() {
            refused += 1;
        }
        if let Some(flush) = flush.take() {
            let result = flush.run();
            partition.finish_flush(flush, result, test.broker.clock.now());
        }
        true
    };
    test.broker.mover.run(&test.broker, &mut pause);
    settle(&test);
    assert_eq!(refused, 1, "while it was held");
    let expected: Vec<_> = (0..101).map(value).collect();
    assert_eq!(values(&test), expected);
    assert!(test.disks[1].exists("t-0").unwrap());
    let marks = partition.marks().unwrap();
    assert_eq!(marks.high_watermark, marks.log_end_offset);
    test.append("t", 0, &[&value(101)]);
    test.sync("t", 0);
    assert_eq!(partition.marks().unwrap().high_watermark.0, 102);
}

#[test]
fn a_move_keeps_to_the_rate_that_is_set() {
    let test = with_records(300);
    test.set_config(
        4,
        "1",
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "1000",
    );
    assert_eq!(ask(&test, "/data1"), 0);
    let mut waited = Duration::ZERO;
    let mut pause = |wait| {
        waited += wait;
        true
    };
    test.broker.mover.run(&test.broker, &mut pause);
    assert!(test.disks[1].exists("t-0").unwrap());
    let copied = partition(&test).size_bytes();
    assert!(
        waited > Duration::from_millis(copied / 2),
        "{waited:?} for {copied}"
    );
}

#[test]
fn a_deleted_topic_is_not_moved_and_leaves_nothing() {
    let test = with_records(50);
    assert_eq!(ask(&test, "/data1"), 0);
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(StrBytes::from_static_str("t"))]);
    assert_eq!(test.call(5, request).responses[0].error_code, 0);
    run(&test);
    for disk in &test.disks {
        let left = disk.list("").unwrap();
        assert!(
            left.iter().all(|entry| !entry.name.starts_with("t-")),
            "{left:?}"
        );
    }
}

#[test]
fn a_directory_that_does_not_take_the_copy_leaves_the_partition_where_it_is() {
    for (operation, error) in [
        (Operation::Write, InjectedError::NoSpace),
        (Operation::Create, InjectedError::NoSpace),
        (Operation::Sync, InjectedError::Io),
        (Operation::Rename, InjectedError::Io),
        (Operation::SyncDir, InjectedError::Io),
    ] {
        let test = with_records(50);
        assert_eq!(ask(&test, "/data1"), 0);
        test.disks[1].inject(Injection::always(operation, error));
        run(&test);
        test.disks[1].clear_injections();
        assert!(!partition(&test).is_moving(), "{operation:?}");
        let expected: Vec<_> = (0..50).map(value).collect();
        assert_eq!(values(&test), expected, "{operation:?}");
        test.append("t", 0, &[&value(50)]);
        test.sync("t", 0);
        assert!(test.disks[0].exists("t-0").unwrap(), "{operation:?}");
    }
}

/// Runs a move whose disks stop after `counts` operations, crashes, starts again, and looks.
fn crash_after(which: usize, count: u64, crash: Crash) -> bool {
    let test = with_records(40);
    assert_eq!(ask(&test, "/data1"), 0);
    test.disks[which].halt_after(count);
    run(&test);
    let halted = test.disks[which].halted();
    let (disks, image): (Vec<Arc<MemoryDisk>>, _) = (test.disks.clone(), test.image());
    drop(test);
    for disk in &disks {
        disk.crash(crash);
    }
    let test = TestBroker::recovered(&disks, image);
    settle(&test);
    let context = format!("disk {which}, {count} operations, {crash:?}");
    let expected: Vec<_> = (0..40).map(value).collect();
    let left: Vec<_> = disks.iter().map(|disk| disk.list("").unwrap()).collect();
    assert!(!partition(&test).is_offline(), "{context}: {left:?}");
    assert!(values(&test) == expected, "{context}");
    // What is left of the move goes on, to its end.
    run(&test);
    assert!(!partition(&test).is_offline(), "{context}, later");
    assert!(values(&test) == expected, "{context}, later");
    let folders = disks.iter().map(|disk| disk.exists("t-0").unwrap());
    assert_eq!(folders.filter(|there| *there).count(), 1, "{context}");
    let left: Vec<_> = disks
        .iter()
        .flat_map(|disk| disk.list("").unwrap())
        .collect();
    let leftovers = left.iter().filter(|entry| entry.name.contains("-future"));
    assert_eq!(leftovers.count(), 0, "{context}: {left:?}");
    test.append("t", 0, &[&value(40)]);
    test.sync("t", 0);
    halted
}

#[test]
fn a_crash_at_any_step_of_a_move_loses_nothing() {
    for crash in [Crash::Process, Crash::PowerLossOfAllUnsynced] {
        for which in [0, 1] {
            let mut count = 0;
            while crash_after(which, count, crash) {
                count += 1;
                assert!(count < 10_000);
            }
            assert!(count > 1, "disk {which} was part of it");
        }
    }
}

#[test]
fn a_copy_without_its_original_is_no_log_unless_it_is_complete() {
    let test = with_records(20);
    let image = test.image();
    let disks = test.disks.clone();
    assert_eq!(ask(&test, "/data1"), 0);
    // Stops in the middle, with the folder of the copy left as it is.
    test.disks[1].halt_after(6);
    run(&test);
    drop(test);
    disks.iter().for_each(|disk| disk.crash(Crash::Process));
    disks[0].remove_dir_all("t-0").unwrap();
    let test = TestBroker::recovered(&disks, image);
    assert!(values(&test).is_empty());
    let left = disks[1].list("").unwrap();
    let kept = left.iter().any(|entry| entry.name.ends_with("-stray"));
    assert!(kept, "somebody may want it: {left:?}");
}

#[test]
fn parts_of_a_read_become_one() {
    let parts = [
        RecordData::Bytes("ab".into()),
        RecordData::Bytes("c".into()),
    ];
    assert_eq!(bytes_of(&parts).unwrap(), b"abc");
}
