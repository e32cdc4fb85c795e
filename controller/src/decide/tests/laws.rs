//! Laws that hold for any sequence of commands: snapshots, deltas and determinism.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 6] = ["a", "b.c", "b_c", "d", "e.f.g", "bad name"];

pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    let name = || prop::sample::select(&NAMES[..]).prop_map(Arc::<str>::from);
    let key = || prop::sample::select(&["k1", "k2", "k3"][..]).prop_map(Arc::<str>::from);
    let value = || prop::sample::select(&["", "x", "x,y", "z"][..]).prop_map(Arc::<str>::from);
    let new_topic = (name(), -1i32..5, -1i16..4, vec((key(), value()), 0..3)).prop_map(
        |(name, partitions, replication_factor, configs)| NewTopic {
            name,
            partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: configs.into_iter().collect(),
        },
    );
    let resource = prop_oneof![
        name().prop_map(ConfigResource::Topic),
        (0i32..4).prop_map(|id| ConfigResource::Broker(BrokerId(id))),
        Just(ConfigResource::BrokerDefault),
        name().prop_map(ConfigResource::Group),
    ];
    let op = prop_oneof![
        value().prop_map(ConfigOp::Set),
        Just(ConfigOp::Delete),
        (value(), value()).prop_map(|(element, default)| ConfigOp::Append {
            elements: vec![element],
            default
        }),
        (value(), value()).prop_map(|(element, default)| ConfigOp::Subtract {
            elements: vec![element],
            default
        }),
    ];
    let change = prop_oneof![
        vec((key(), value()), 0..3).prop_map(ConfigChange::Replace),
        vec((key(), op), 0..3).prop_map(ConfigChange::Incremental),
    ];
    let alteration =
        (resource, change).prop_map(|(resource, change)| ConfigAlteration { resource, change });
    prop_oneof![
        3 => (0i32..4, 0u128..4).prop_map(|(id, incarnation)| {
            Command::RegisterBroker(registration(id, incarnation))
        }),
        1 => (0i32..4).prop_map(|id| Command::UnregisterBroker { broker_id: BrokerId(id) }),
        4 => vec(new_topic, 1..3).prop_map(create),
        2 => vec(name().prop_map(TopicRef::Name), 1..3)
            .prop_map(|topics| Command::DeleteTopics { topics }),
        2 => (name(), 0i32..8).prop_map(|(name, count)| Command::CreatePartitions {
            topics: vec![MorePartitions { name, count, assignments: None }],
            validate_only: false,
        }),
        3 => vec(alteration, 1..3).prop_map(|resources| Command::AlterConfigs {
            resources,
            validate_only: false,
        }),
        1 => (0i32..4, 0i64..20).prop_map(|(id, epoch)| Command::AllocateProducerIds {
            broker_id: BrokerId(id),
            broker_epoch: BrokerEpoch(epoch),
        }),
        1 => (7i16..31).prop_map(|level| Command::UpdateFeatures {
            updates: vec![FeatureUpdate {
                name: Arc::from("metadata.version"),
                level,
                mode: FeatureUpdateMode::UnsafeDowngrade,
            }],
            validate_only: false,
        }),
    ]
}

proptest! {
    /// The law of every machine: an image made of a snapshot and what follows equals the image made
    /// of everything. `Cluster::run` checks after every command that the delta names every
    /// difference and the image is sound.
    #[test]
    fn a_snapshot_and_the_records_after_it_make_the_same_image(
        commands in vec(any_command(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut cluster = Cluster::new();
        let cut = cut.index(commands.len());
        let mut restored = None;
        for (position, command) in commands.iter().enumerate() {
            if position == cut {
                let snapshot = crate::record::encode_batch(&cluster.image.snapshot());
                let records = crate::record::decode_batch(&snapshot).unwrap();
                let (applied, term) = (cluster.image.applied, cluster.image.term);
                restored = Some(MetadataImage::from_snapshot(&records, applied, term));
                prop_assert_eq!(restored.as_ref(), Some(&cluster.image));
            }
            let (records, _) = cluster.run(command);
            if let Some(restored) = &mut restored {
                records.iter().for_each(|record| restored.apply(record));
                restored.applied = cluster.image.applied;
            }
        }
        prop_assert_eq!(restored, Some(cluster.image));
    }

    /// One delta over many commands still names everything that differs at the end.
    #[test]
    fn a_delta_over_many_entries_names_every_difference(commands in vec(any_command(), 1..30)) {
        let mut cluster = Cluster::with_brokers(2);
        let before = cluster.image.clone();
        let mut delta = MetadataDelta::default();
        let mut image = before.clone();
        for command in &commands {
            for record in cluster.run(command).0 {
                delta.replay(&mut image, &record);
            }
        }
        let exact = MetadataDelta::between(&before, &image);
        prop_assert!(delta.covers(&exact), "{:?} misses some of {:?}", delta, exact);
        // Nothing is both there and not there.
        for id in delta.topics_deleted.keys() {
            prop_assert!(before.topics.by_id(*id).is_some() && image.topics.by_id(*id).is_none());
        }
        for id in &delta.topics_created {
            prop_assert!(before.topics.by_id(*id).is_none() && image.topics.by_id(*id).is_some());
        }
    }

    #[test]
    fn equal_seeds_decide_equally(commands in vec(any_command(), 1..20)) {
        let (mut one, mut two) = (Cluster::with_brokers(3), Cluster::with_brokers(3));
        for command in &commands {
            prop_assert_eq!(one.run(command), two.run(command));
        }
        prop_assert_eq!(one.image, two.image);
    }
}
