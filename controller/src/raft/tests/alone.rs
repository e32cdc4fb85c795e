//! A cluster of one: leads at once, keeps what it acknowledged, refuses what is not its own.

use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::disk::{Disk, read_file};

use super::*;
use crate::reconstruct::diff;

#[test]
fn a_node_that_is_alone_leads_and_has_named_its_cluster_when_open_returns() {
    let disk = MemoryDisk::new();
    let controller = Controller::open(Arc::new(disk), options(1), base_time()).unwrap();
    assert!(controller.is_leader());
    let image = controller.image();
    assert_eq!(image.cluster_id.len(), 22);
    assert_eq!(image.features.level("metadata.version"), 30);
    let quorum = controller.quorum();
    assert_eq!(quorum.leader, Some(BrokerId(0)));
    assert_eq!(quorum.voters.len(), 1);
    assert_eq!(quorum.voters[0].log_end_offset, Some(quorum.high_watermark));
    assert_eq!(quorum.high_watermark, image.applied + 1);
}

#[test]
fn changes_are_told_before_the_replies_that_speak_of_them() {
    let disk = MemoryDisk::new();
    let mut alone = Alone::open(&disk, 1).unwrap();
    alone.events.clear();
    let tickets: Vec<u64> = [
        Command::RegisterBroker(registration(0, 1)),
        create("a"),
        create("b"),
        create("a"),
    ]
    .into_iter()
    .map(|command| alone.controller.submit(command, 5))
    .collect();
    let events = alone.controller.poll(base_time()).unwrap();
    let Event::Applied { image, delta } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!((image.topics.len(), delta.topics_created.len()), (2, 2));
    let replies: Vec<(u64, bool)> = events[1..]
        .iter()
        .map(|event| match event {
            Event::Reply {
                ticket,
                reply: CommandReply::TopicsCreated(results),
            } => (*ticket, results[0].1.is_ok()),
            Event::Reply {
                ticket,
                reply: CommandReply::BrokerRegistered(result),
            } => (*ticket, result.is_ok()),
            other => panic!("{other:?}"),
        })
        .collect();
    // The second `a` was refused because of the first one, which was not even written then.
    assert_eq!(
        replies,
        [
            (tickets[0], true),
            (tickets[1], true),
            (tickets[2], true),
            (tickets[3], false)
        ]
    );
}

#[test]
fn everything_is_there_again_after_a_restart_and_epochs_go_on() {
    let disk = MemoryDisk::new();
    let (cluster_id, before) = {
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        for i in 0..20 {
            alone.create(&format!("topic-{i}")).unwrap();
        }
        assert_eq!(alone.producer_ids().unwrap(), 0);
        (
            alone.controller.image().cluster_id.clone(),
            alone.controller.image(),
        )
    };
    disk.crash(ottla_storage::disk::memory::Crash::Process);
    // The same seed again must not make the same ids again.
    let mut alone = Alone::open(&disk, 1).unwrap();
    assert_eq!(diff(&before, &alone.controller.image()), []);
    assert_eq!(alone.controller.image().cluster_id, cluster_id);
    let epoch = alone.broker_epoch;
    alone.register(2).unwrap();
    assert!(alone.broker_epoch > epoch);
    let image = alone.controller.image();
    assert_eq!(leader_epoch(&image, "topic-0"), Some(LeaderEpoch(1)));
    assert_eq!(alone.producer_ids().unwrap(), 1000);
    alone.create("later").unwrap();
    let image = alone.controller.image();
    let later = image.topics.by_name("later").unwrap().id;
    assert!(before.topics.by_id(later).is_none());
    assert_eq!(image.topics.len(), 21);
}

#[test]
fn restarts_with_the_same_seed_do_not_draw_the_same_ids_again() {
    let disk = MemoryDisk::new();
    let mut drawn = std::collections::BTreeSet::new();
    for start in 0..4 {
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(start).unwrap();
        alone.create("again").unwrap();
        drawn.insert(alone.controller.image().topics.by_name("again").unwrap().id);
        let topics = vec![TopicRef::Name(Arc::from("again"))];
        alone.run(Command::DeleteTopics { topics }).unwrap();
    }
    assert_eq!(drawn.len(), 4);
}

#[test]
fn a_controller_may_live_on_a_thread_of_its_own() {
    fn may_move<T: Send>() {}
    may_move::<Controller>();
}

#[test]
fn the_first_events_after_a_restart_tell_the_whole_image() {
    let disk = MemoryDisk::new();
    {
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        (0..20).for_each(|i| drop(alone.create(&format!("topic-{i}")).unwrap()));
    }
    let alone = Alone::open(&disk, 2).unwrap();
    let mut told = MetadataDelta::default();
    let mut last = None;
    for event in &alone.events {
        if let Event::Applied { image, delta } = event {
            told.merge((**delta).clone());
            last = Some(image.clone());
        }
    }
    let image = alone.controller.image();
    assert_eq!(last, Some(image.clone()));
    assert!(told.covers(&MetadataDelta::between(&MetadataImage::empty(), &image)));
    assert_eq!(told.topics_created.len(), 20);
}

#[test]
fn snapshots_bound_what_is_kept_and_the_past_within_can_be_had() {
    let disk = MemoryDisk::new();
    let mut alone = Alone::open(&disk, 1).unwrap();
    alone.register(1).unwrap();
    let mut images = vec![alone.controller.image()];
    for i in 0..60 {
        alone.create(&format!("topic-{i}")).unwrap();
        images.push(alone.controller.image());
    }
    let snapshots = state::list_snapshots(&disk).unwrap();
    assert_eq!(snapshots.len(), state::SNAPSHOTS_KEPT);
    assert!(
        alone.controller.node.store().first_index() > 40,
        "old entries are released"
    );

    let mut reachable = 0;
    for image in &images {
        match alone.controller.image_at(image.applied).unwrap() {
            Some(again) => {
                assert_eq!(again, **image);
                reachable += 1;
            }
            None => assert!(image.applied.0.unsigned_abs() < snapshots[0]),
        }
    }
    assert!(reachable > 6 * 3, "{reachable}");
    assert_eq!(
        alone.controller.image_at(images[60].applied + 1).unwrap(),
        None
    );

    drop(alone);
    let history = History::open(Arc::new(disk)).unwrap();
    let positions = history.positions();
    assert_eq!(positions.start().0.unsigned_abs(), snapshots[0]);
    assert_eq!(*positions.end(), images[60].applied);
    assert!(positions.contains(&history.committed()));
    for image in &images {
        let again = history.image_at(image.applied).unwrap();
        assert!(again.is_none_or(|again| again == **image));
    }
    let last = history
        .entries(*positions.end()..=*positions.end())
        .unwrap();
    assert_eq!((last.len(), last[0].proposed_at_ms), (1, Some(1_000)));
    assert_eq!(
        history.position_at(1_000).unwrap(),
        Some(images[60].applied)
    );
    assert_eq!(history.position_at(999).unwrap(), None);
}

#[test]
fn data_of_another_node_or_cluster_is_refused() {
    let disk = MemoryDisk::new();
    let open = |options| {
        let opened = Controller::open(Arc::new(disk.clone()), options, base_time());
        opened.map(|controller| controller.image().cluster_id.clone())
    };
    let named = |name: &str| ControllerOptions {
        cluster_id: Some(Arc::from(name)),
        ..options(1)
    };
    assert_eq!(&*open(named("mine")).unwrap(), "mine");
    assert_eq!(&*open(options(2)).unwrap(), "mine");
    let other = open(named("yours"));
    assert!(
        matches!(other, Err(ControllerError::ClusterIdMismatch { .. })),
        "{other:?}"
    );
    let other = open(ControllerOptions::single(BrokerId(7), 1));
    assert!(matches!(
        other,
        Err(ControllerError::NotAMember {
            node_id: BrokerId(7)
        })
    ));
    for voters in [vec![], vec![BrokerId(-1)], vec![BrokerId(0), BrokerId(0)]] {
        let other = open(ControllerOptions::new(BrokerId(0), voters, 1));
        assert!(matches!(other, Err(ControllerError::InvalidVoters)));
    }
}

#[test]
fn a_failed_sync_stops_the_controller_and_nothing_of_it_is_announced() {
    let disk = MemoryDisk::new();
    let mut alone = Alone::open(&disk, 1).unwrap();
    alone.register(1).unwrap();
    let image = alone.controller.image();
    disk.inject(Injection::once(Operation::Sync, InjectedError::Io).on("log/"));
    let ticket = alone.controller.submit(create("lost"), 1);
    let failed = alone.controller.poll(base_time());
    assert!(
        matches!(failed, Err(ControllerError::Sync(_))),
        "{failed:?}"
    );
    assert_eq!(alone.controller.image(), image);
    assert!(matches!(
        alone.controller.poll(base_time()),
        Err(ControllerError::Stopped)
    ));
    let waiting = &alone.controller.replies;
    let lost = CommandReply::Refused(Refusal::LeadershipLost { leader: None });
    let answered = |event: &Event| match event {
        Event::Reply { ticket: t, reply } => *t == ticket && *reply == lost,
        _ => false,
    };
    assert!(waiting.iter().any(answered), "{waiting:?}");
}

/// How a disk begins to take nothing, and what ends it.
type Trouble = (fn(&MemoryDisk), fn(&MemoryDisk));

#[test]
fn changes_wait_for_a_disk_that_takes_nothing_and_are_carried_out_when_it_does() {
    let full: Trouble = (
        |disk| disk.set_capacity_bytes(Some(0)),
        |disk| disk.set_capacity_bytes(None),
    );
    let read_only: Trouble = (
        |disk| disk.set_read_only(true),
        |disk| disk.set_read_only(false),
    );
    let scarce: Trouble = (
        |disk| {
            let error = InjectedError::TooManyOpenFiles;
            disk.inject(Injection::once(Operation::Sync, error).on("log/"));
        },
        |_| {},
    );
    for (begin, end) in [full, read_only, scarce] {
        let disk = MemoryDisk::new();
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        alone.create("kept").unwrap();
        let image = alone.controller.image();
        begin(&disk);
        let first = alone.controller.submit(create("first"), 1);
        assert!(alone.controller.poll(base_time()).unwrap().is_empty());
        let second = alone.controller.submit(create("second"), 2);
        assert!(alone.controller.poll(at_ms(999)).unwrap().is_empty());
        assert_eq!(alone.controller.image(), image, "nothing is announced");
        assert!(alone.controller.is_leader());
        assert_eq!(alone.controller.next_tick(), at_ms(1_000));
        end(&disk);
        let events = alone.controller.poll(at_ms(1_000)).unwrap();
        let answered = events.iter().filter_map(|event| match event {
            Event::Reply {
                ticket,
                reply: CommandReply::TopicsCreated(created),
            } => created[0].1.is_ok().then_some(*ticket),
            _ => None,
        });
        assert_eq!(answered.collect::<Vec<_>>(), [first, second], "{events:?}");
        disk.crash(Crash::PowerLossOfAllUnsynced);
        let alone = Alone::open(&disk, 1).unwrap();
        let topics = &alone.controller.image().topics;
        for name in ["kept", "first", "second"] {
            assert!(topics.by_name(name).is_some(), "{name}");
        }
    }
}

#[test]
fn a_controller_does_not_start_on_a_disk_that_takes_nothing() {
    let disk = MemoryDisk::new();
    Alone::open(&disk, 1).unwrap().register(1).unwrap();
    disk.set_read_only(true);
    let error = Alone::open(&disk, 1).map(|_| ()).unwrap_err();
    assert!(error.is_of_a_read_only_disk(), "{error:?}");
    disk.set_read_only(false);
    disk.set_capacity_bytes(Some(0));
    assert!(Alone::open(&disk, 1).is_err());
}

#[test]
fn a_snapshot_waits_for_room_and_holds_nothing_up() {
    let disk = MemoryDisk::new();
    let mut alone = Alone::open(&disk, 1).unwrap();
    alone.register(1).unwrap();
    let before = state::list_snapshots(&disk).unwrap();
    let full = Injection::always(Operation::Create, InjectedError::NoSpace);
    disk.inject(full.on("snapshot"));
    for n in 0..20 {
        alone.create(&format!("topic-{n}")).unwrap();
    }
    assert_eq!(state::list_snapshots(&disk).unwrap(), before);
    disk.clear_injections();
    alone.controller.poll(at_ms(2_000)).unwrap();
    let after = state::list_snapshots(&disk).unwrap();
    assert!(after.last() > before.last(), "{after:?}");
    let image = alone.controller.image();
    assert_eq!(image.topics.len(), 20);
    drop(alone);
    let alone = Alone::open(&disk, 1).unwrap();
    assert_eq!(diff(&image, &alone.controller.image()), []);
}

#[test]
fn too_many_and_too_large_commands_are_refused_and_later_ones_go_on() {
    let disk = MemoryDisk::new();
    let options = ControllerOptions {
        commands_max: 2,
        ..options(1)
    };
    let mut controller = Controller::open(Arc::new(disk), options, base_time()).unwrap();
    controller.submit(Command::RegisterBroker(registration(0, 1)), 1);
    controller.poll(base_time()).unwrap();
    let large = ConfigAlteration {
        resource: crate::record::ConfigResource::BrokerDefault,
        change: ConfigChange::Replace(
            (0..1000)
                .map(|i| (Arc::from(format!("k{i}")), Arc::from("x".repeat(32_000))))
                .collect(),
        ),
    };
    controller.submit(
        Command::AlterConfigs {
            resources: vec![large],
            validate_only: false,
        },
        1,
    );
    controller.submit(create("a"), 1);
    controller.submit(create("b"), 1);
    let events = controller.poll(base_time()).unwrap();
    let refusals: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Reply {
                reply: CommandReply::Refused(refusal),
                ..
            } => Some(refusal),
            _ => None,
        })
        .collect();
    assert!(
        matches!(
            refusals[..],
            [Refusal::Overloaded, Refusal::TooLarge { .. }]
        ),
        "{refusals:?}"
    );
    let topics = controller.image();
    assert!(topics.topics.by_name("a").is_some() && topics.topics.by_name("b").is_none());
    assert!(topics.configs.resources().next().is_none());
}

#[test]
fn a_damaged_snapshot_is_put_aside_and_the_one_before_is_used() {
    let disk = MemoryDisk::new();
    let image = {
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        (0..20).for_each(|i| drop(alone.create(&format!("topic-{i}")).unwrap()));
        alone.controller.image()
    };
    let newest = *state::list_snapshots(&disk).unwrap().last().unwrap();
    let path = format!("ottla-metadata/{newest:020}.snapshot");
    disk.corrupt(&path, 30, &[0xff, 0xff]).unwrap();
    let alone = Alone::open(&disk, 1).unwrap();
    assert_eq!(diff(&image, &alone.controller.image()), []);
    assert!(disk.exists(&format!("{path}.damaged")).unwrap());
}

#[test]
fn damage_that_would_lose_acknowledged_changes_is_an_error_not_a_start() {
    let story = || {
        let disk = MemoryDisk::new();
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        alone.create("a").unwrap();
        drop(alone);
        // The second start stores how far the first one had come.
        drop(Alone::open(&disk, 1).unwrap());
        disk
    };
    let refused = |disk: &MemoryDisk| match Alone::open(disk, 1) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    let disk = story();
    disk.corrupt("ottla-metadata/hard-state", 6, &[0xff])
        .unwrap();
    assert!(refused(&disk).contains("checksum"));

    let disk = story();
    disk.remove("ottla-metadata/hard-state").unwrap();
    assert!(refused(&disk).contains("no hard state"));

    let disk = story();
    disk.remove("ottla-metadata/00000000000000000001.snapshot")
        .unwrap();
    assert!(refused(&disk).contains("no snapshot"));

    let disk = story();
    let segment = "ottla-metadata/log/00000000000000000002.log";
    let bytes = read_file(&disk, segment, 1 << 20).unwrap();
    // Bit rot in the first entry, which was committed long before the last start.
    disk.corrupt(segment, 70, &[!bytes[70]]).unwrap();
    let refused = refused(&disk);
    assert!(refused.contains("committed are missing"), "{refused}");
}

#[test]
fn what_a_start_would_find_is_told_without_a_change() {
    assert!(examine(&MemoryDisk::new()).unwrap().is_none());
    let disk = MemoryDisk::new();
    let mut alone = Alone::open(&disk, 1).unwrap();
    alone.register(1).unwrap();
    (0..20).for_each(|i| drop(alone.create(&format!("topic-{i}")).unwrap()));
    drop(alone);
    let sound = examine(&disk).unwrap().unwrap();
    assert!(sound.snapshots > 1 && sound.entries > 3 && sound.bytes > 1_000);
    assert!(
        sound.damaged.is_empty() && sound.fatal.is_none(),
        "{sound:?}"
    );
    // An older snapshot does it, too.
    let newest = *state::list_snapshots(&disk).unwrap().last().unwrap();
    let path = format!("ottla-metadata/{newest:020}.snapshot");
    disk.corrupt(&path, 30, &[0xff, 0xff]).unwrap();
    let found = examine(&disk).unwrap().unwrap();
    assert!(found.fatal.is_none() && found.damaged.len() == 1);
    assert_eq!(found.damaged[0].0, path);
    assert!(disk.exists(&path).unwrap(), "nothing is put aside");
    disk.corrupt("ottla-metadata/hard-state", 6, &[0xff])
        .unwrap();
    let found = examine(&disk).unwrap().unwrap();
    let fatal = found.fatal.unwrap().to_string();
    assert!(fatal.contains("hard-state is damaged"), "{fatal}");
}

#[test]
fn files_of_a_later_release_are_refused() {
    let disk = MemoryDisk::new();
    drop(Alone::open(&disk, 1).unwrap());
    let path = "ottla-metadata/00000000000000000001.snapshot";
    let mut bytes = read_file(&disk, path, 1 << 20).unwrap();
    bytes[4] = 2;
    let sealed = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..sealed]);
    bytes[sealed..].copy_from_slice(&crc.to_be_bytes());
    ottla_storage::disk::write_file_atomically(&disk, path, &bytes).unwrap();
    let refused = Alone::open(&disk, 1).map(|_| ());
    assert!(matches!(
        refused,
        Err(ControllerError::UnknownFormat {
            found: 2,
            known: 1,
            ..
        })
    ));
}

#[test]
fn damaged_files_are_survived_or_refused_but_never_panic() {
    let story = || {
        let disk = MemoryDisk::new();
        let mut alone = Alone::open(&disk, 1).unwrap();
        alone.register(1).unwrap();
        (0..8).for_each(|i| drop(alone.create(&format!("topic-{i}")).unwrap()));
        drop(alone);
        disk
    };
    let files = |disk: &MemoryDisk| {
        let mut files = Vec::new();
        for directory in ["ottla-metadata", "ottla-metadata/log"] {
            for entry in disk
                .list(directory)
                .unwrap()
                .into_iter()
                .filter(|entry| !entry.is_dir)
            {
                files.push((format!("{directory}/{}", entry.name), entry.len_bytes));
            }
        }
        files
    };
    let (mut survived, mut refused) = (0, 0);
    for (path, len_bytes) in files(&story()) {
        for position in (0..len_bytes).step_by(11) {
            for cut in [false, true] {
                let disk = story();
                let byte = read_file(&disk, &path, 1 << 20).unwrap()[position as usize];
                match cut {
                    false => disk.corrupt(&path, position, &[!byte]).unwrap(),
                    true => disk.open(&path).unwrap().truncate(position).unwrap(),
                }
                match Alone::open(&disk, 1) {
                    Ok(alone) => {
                        alone.controller.image().check_invariants();
                        survived += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(survived > 50 && refused > 10, "{survived} {refused}");
}
