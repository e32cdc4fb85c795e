//! Decisions as stories (command in, records and reply out), and the laws that hold for any
//! sequence of commands.

pub(crate) mod laws;

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::*;
use crate::command::*;
use crate::delta::MetadataDelta;
use crate::record::{
    BrokerEndpoint, BrokerEpoch, ConfigResource, PartitionChangeRecord, PartitionEpoch,
};

/// A cluster in miniature: decides, applies at once, keeps every record.
pub(crate) struct Cluster {
    pub(crate) image: MetadataImage,
    pub(crate) limits: Limits,
    rng: StdRng,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let mut image = MetadataImage::empty();
        for record in bootstrap(&Arc::from("test-cluster")) {
            image.apply(&record);
        }
        image.applied = Offset(2);
        Cluster {
            image,
            limits: Limits::default(),
            rng: StdRng::seed_from_u64(7),
        }
    }

    pub(crate) fn with_brokers(brokers: i32) -> Cluster {
        let mut cluster = Cluster::new();
        for id in 1..=brokers {
            cluster.run(&Command::RegisterBroker(registration(id, 1)));
        }
        cluster
    }

    pub(crate) fn decide(&mut self, command: &Command) -> Decision {
        decide(&self.image, &self.limits, command, &mut self.rng)
    }

    pub(crate) fn run(&mut self, command: &Command) -> (Vec<MetadataRecord>, CommandReply) {
        let Decision { records, reply } = self.decide(command);
        let before = self.image.clone();
        let mut delta = MetadataDelta::default();
        for record in &records {
            delta.replay(&mut self.image, record);
        }
        if !records.is_empty() {
            self.image.applied = self.image.applied + 1;
        }
        self.image.check_invariants();
        let exact = MetadataDelta::between(&before, &self.image);
        assert!(
            delta.covers(&exact),
            "the delta misses a change: {delta:?} {exact:?}"
        );
        (records, reply)
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        match self.run(&create(vec![topic])).1 {
            CommandReply::TopicsCreated(mut results) => results.remove(0).1,
            other => panic!("{other:?}"),
        }
    }

    fn alter(
        &mut self,
        resource: ConfigResource,
        change: ConfigChange,
    ) -> (usize, Result<(), AlterConfigsError>) {
        let resources = vec![ConfigAlteration { resource, change }];
        let (records, reply) = self.run(&Command::AlterConfigs {
            resources,
            validate_only: false,
        });
        match reply {
            CommandReply::ConfigsAltered(mut results) => (records.len(), results.remove(0).1),
            other => panic!("{other:?}"),
        }
    }

    fn config(&self, topic: &str, key: &str) -> Option<&str> {
        let resource = ConfigResource::Topic(Arc::from(topic));
        self.image
            .configs
            .of(&resource)
            .get(key)
            .map(|value| &**value)
    }
}

pub(crate) fn registration(id: i32, incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: Some(Arc::from("test-cluster")),
        incarnation_id: Uuid::from_u128(incarnation),
        endpoints: vec![BrokerEndpoint {
            listener: Arc::from("PLAINTEXT"),
            host: Arc::from("localhost"),
            port: 9092,
            security_protocol: 0,
        }],
        features: supported_features(),
        rack: None,
        log_dirs: vec![Uuid::from_u128(id as u128)],
    }
}

pub(crate) fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: Arc::from(name),
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Default::default(),
    }
}

pub(crate) fn create(topics: Vec<NewTopic>) -> Command {
    let defaults = TopicDefaults {
        partitions: 2,
        replication_factor: 1,
    };
    Command::CreateTopics(CreateTopics {
        topics,
        defaults,
        validate_only: false,
    })
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

#[test]
fn a_created_topic_has_the_default_shape_a_leader_each_and_its_configuration() {
    let mut cluster = Cluster::with_brokers(1);
    let mut wanted = topic("orders");
    wanted
        .configs
        .insert(Arc::from("cleanup.policy"), Arc::from("compact"));
    let created = cluster.create(wanted).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    let image = cluster.image.topics.by_name("orders").unwrap();
    assert_eq!(image.id, created.topic_id);
    assert_eq!(image.id.0.get_version_num(), 4);
    for partition in &image.partitions {
        assert_eq!(
            (partition.leader, partition.leader_epoch),
            (BrokerId(1), LeaderEpoch(0))
        );
        assert_eq!(partition.isr, ids(&[1]));
    }
    assert_eq!(cluster.config("orders", "cleanup.policy"), Some("compact"));
}

#[test]
fn what_is_wrong_with_a_topic_is_said_topic_by_topic() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create(topic("a.b")).unwrap();
    let shaped = |name: &str, partitions, replication_factor| NewTopic {
        partitions,
        replication_factor,
        ..topic(name)
    };
    let topics = vec![
        topic("fine"),
        topic("not/fine"),
        topic("a.b"),
        topic("a_b"),
        topic("twice"),
        topic("x.y"),
        topic("x_y"),
        shaped("p0", 0, 1),
        shaped("p2", -2, 1),
        shaped("r0", 1, 0),
        shaped("r3", 1, 3),
        topic("twice"),
        shaped("huge", 10_001, 1),
        shaped("hugest", i32::MAX, 2),
    ];
    let (records, reply) = cluster.run(&create(topics));
    let CommandReply::TopicsCreated(results) = reply else {
        panic!()
    };
    let summary: Vec<String> = results
        .iter()
        .map(|(name, result)| match result {
            Ok(_) => format!("{name}: created"),
            Err(error) => format!(
                "{name}: {}",
                format!("{error:?}").split([' ', '(']).next().unwrap()
            ),
        })
        .collect();
    let expected = [
        "fine: created",
        "not/fine: InvalidName",
        "a.b: AlreadyExists",
        "a_b: NameCollision",
        "twice: DuplicateInRequest",
        "x.y: created",
        "x_y: NameCollision",
        "p0: InvalidPartitions",
        "p2: InvalidPartitions",
        "r0: InvalidReplicationFactor",
        "r3: NotEnoughBrokers",
        "huge: LimitExceeded",
        "hugest: LimitExceeded",
    ];
    assert_eq!(summary, expected);
    let created = records
        .iter()
        .filter(|r| matches!(r, MetadataRecord::Topic { .. }))
        .count();
    assert_eq!(created, 2);
}

#[test]
fn the_partition_limits_count_what_is_there_and_the_whole_request() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.limits.partitions_max = 10;
    cluster.limits.partitions_per_request_max = 6;
    let shaped = |name: &str, partitions| NewTopic {
        partitions,
        ..topic(name)
    };
    let (_, reply) = cluster.run(&create(vec![
        shaped("a", 4),
        shaped("b", 4),
        shaped("c", 2),
    ]));
    let CommandReply::TopicsCreated(results) = reply else {
        panic!()
    };
    assert!(results[0].1.is_ok() && results[2].1.is_ok());
    let per_request = LimitExceeded::PartitionsPerRequest { max: 6 };
    assert_eq!(results[1].1, Err(per_request.into()));
    let total = LimitExceeded::PartitionsTotal { max: 10 };
    assert_eq!(cluster.create(shaped("d", 5)), Err(total.into()));
    assert!(cluster.create(shaped("d", 4)).is_ok());
    let more = MorePartitions {
        name: Arc::from("d"),
        count: 5,
        assignments: None,
    };
    let (_, reply) = cluster.run(&Command::CreatePartitions {
        topics: vec![more],
        validate_only: false,
    });
    let expected = (
        Arc::from("d"),
        Err(CreatePartitionsError::LimitExceeded(total)),
    );
    assert_eq!(reply, CommandReply::PartitionsCreated(vec![expected]));
}

#[test]
fn validate_only_checks_everything_and_changes_nothing() {
    let mut cluster = Cluster::with_brokers(1);
    let defaults = TopicDefaults {
        partitions: 3,
        replication_factor: 1,
    };
    let request = CreateTopics {
        topics: vec![topic("a"), topic("a b")],
        defaults,
        validate_only: true,
    };
    let (records, reply) = cluster.run(&Command::CreateTopics(request));
    assert_eq!(records, []);
    let CommandReply::TopicsCreated(results) = reply else {
        panic!()
    };
    let a = results[0].1.as_ref().unwrap();
    assert_eq!((a.topic_id, a.partitions), (TopicId::ZERO, 3));
    assert!(results[1].1.is_err());
}

#[test]
fn replicas_placed_by_hand_are_taken_as_they_are_or_refused() {
    let mut cluster = Cluster::with_brokers(3);
    let assigned = |name: &str, assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments
            .iter()
            .map(|(p, replicas)| (*p, ids(replicas)))
            .collect(),
        ..topic(name)
    };
    let fine = assigned("fine", &[(1, &[3, 1]), (0, &[2, 3])]);
    let created = cluster.create(fine.clone()).unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    let image = cluster.image.topics.by_name("fine").unwrap();
    assert_eq!(image.partitions[0].replicas, ids(&[2, 3]));
    assert_eq!(image.partitions[1].leader, BrokerId(3));

    let refused: [(&[(i32, &[i32])], AssignmentError); 6] = [
        (&[(0, &[1]), (2, &[1])], AssignmentError::NotConsecutive),
        (&[(0, &[1]), (0, &[2])], AssignmentError::NotConsecutive),
        (&[(0, &[])], AssignmentError::NoReplica { partition: 0 }),
        (
            &[(0, &[1, 1])],
            AssignmentError::DuplicateReplica {
                partition: 0,
                broker: BrokerId(1),
            },
        ),
        (
            &[(0, &[1, 9])],
            AssignmentError::UnknownBroker {
                partition: 0,
                broker: BrokerId(9),
            },
        ),
        (
            &[(0, &[1, 2]), (1, &[1])],
            AssignmentError::UnevenReplicas {
                partition: 1,
                replicas: 1,
                expected: 2,
            },
        ),
    ];
    for (assignments, error) in refused {
        assert_eq!(
            cluster.create(assigned("bad", assignments)),
            Err(error.into())
        );
    }
    let both = NewTopic {
        partitions: 2,
        name: Arc::from("both"),
        ..fine
    };
    assert_eq!(
        cluster.create(both),
        Err(CreateTopicError::CountsWithAssignment)
    );
}

#[test]
fn placement_spreads_leaders_and_replicas_and_uses_every_rack() {
    let mut cluster = Cluster::new();
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
        let rack = Some(Arc::from(rack));
        cluster.run(&Command::RegisterBroker(RegisterBroker {
            rack,
            ..registration(id, 1)
        }));
    }
    let wide = NewTopic {
        partitions: 60,
        replication_factor: 3,
        ..topic("wide")
    };
    cluster.create(wide).unwrap();
    let image = cluster.image.topics.by_name("wide").unwrap();
    let mut leaders = std::collections::BTreeMap::<BrokerId, usize>::new();
    let mut replicas = leaders.clone();
    for partition in &image.partitions {
        *leaders.entry(partition.leader).or_default() += 1;
        for replica in &partition.replicas {
            *replicas.entry(*replica).or_default() += 1;
        }
        let racks: BTreeSet<_> = partition
            .replicas
            .iter()
            .map(|id| cluster.image.brokers.get(*id).unwrap().rack.clone())
            .collect();
        assert_eq!(racks.len(), 3, "{partition:?}");
    }
    assert!(
        leaders.len() == 6 && leaders.values().all(|count| *count == 10),
        "{leaders:?}"
    );
    assert!(
        replicas.values().all(|count| (24..=36).contains(count)),
        "{replicas:?}"
    );
}

#[test]
fn deleting_a_topic_takes_its_partitions_and_configuration_along() {
    let mut cluster = Cluster::with_brokers(1);
    let mut wanted = topic("gone");
    wanted
        .configs
        .insert(Arc::from("retention.ms"), Arc::from("1"));
    let id = cluster.create(wanted).unwrap().topic_id;
    cluster.create(topic("other")).unwrap();
    let unknown = TopicId(Uuid::from_u128(5));
    let topics = vec![
        TopicRef::Id(id),
        TopicRef::Name(Arc::from("nothing")),
        TopicRef::Id(unknown),
        TopicRef::Name(Arc::from("other")),
        TopicRef::Name(Arc::from("other")),
    ];
    let (records, reply) = cluster.run(&Command::DeleteTopics { topics });
    assert_eq!(records, [MetadataRecord::RemoveTopic { topic_id: id }]);
    let CommandReply::TopicsDeleted(results) = reply else {
        panic!()
    };
    let results: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    let gone = DeletedTopic {
        topic_id: id,
        name: Arc::from("gone"),
    };
    let nothing = DeleteTopicError::UnknownName {
        name: Arc::from("nothing"),
    };
    assert_eq!(
        results,
        [
            Ok(gone),
            Err(nothing),
            Err(DeleteTopicError::UnknownId { id: unknown }),
            Err(DeleteTopicError::DuplicateInRequest),
            Err(DeleteTopicError::DuplicateInRequest),
        ]
    );
    assert_eq!(cluster.config("gone", "retention.ms"), None);
    assert_eq!(cluster.image.topics.partition_count(), 2);
    let again = cluster.create(topic("gone")).unwrap();
    assert_ne!(again.topic_id, id);
}

#[test]
fn partitions_are_added_up_to_the_total_that_was_asked() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create(topic("t")).unwrap();
    let more = |count, assignments: Option<&[&[i32]]>| Command::CreatePartitions {
        topics: vec![MorePartitions {
            name: Arc::from("t"),
            count,
            assignments: assignments.map(|all| all.iter().map(|one| ids(one)).collect()),
        }],
        validate_only: false,
    };
    let mut run = |command| match cluster.run(&command).1 {
        CommandReply::PartitionsCreated(mut results) => results.remove(0).1,
        other => panic!("{other:?}"),
    };
    let name: Arc<str> = Arc::from("t");
    for requested in [2, 1, 0, -5] {
        let name = name.clone();
        let error = CreatePartitionsError::NotAnIncrease {
            name,
            current: 2,
            requested,
        };
        assert_eq!(run(more(requested, None)), Err(error));
    }
    let wrong_count = AssignmentError::WrongCount {
        assigned: 1,
        added: 2,
    };
    assert_eq!(run(more(4, Some(&[&[1]]))), Err(wrong_count.into()));
    assert_eq!(run(more(4, Some(&[&[2], &[1]]))), Ok(()));
    assert_eq!(run(more(5, None)), Ok(()));
    let partitions = &cluster.image.topics.by_name("t").unwrap().partitions;
    assert_eq!(partitions.len(), 5);
    assert_eq!(
        (partitions[2].leader, partitions[3].leader),
        (BrokerId(2), BrokerId(1))
    );
}

#[test]
fn every_start_of_a_broker_raises_the_leader_epochs_of_what_it_leads() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create(topic("t")).unwrap();
    let epoch =
        |cluster: &Cluster| cluster.image.topics.by_name("t").unwrap().partitions[1].leader_epoch;
    let first = cluster.image.brokers.get(BrokerId(1)).unwrap().epoch;

    // The same process again: nothing new.
    let (_, reply) = cluster.run(&Command::RegisterBroker(registration(1, 1)));
    assert_eq!(reply, CommandReply::BrokerRegistered(Ok(first)));
    assert_eq!(epoch(&cluster), LeaderEpoch(0));

    for start in 2..5 {
        let (_, reply) = cluster.run(&Command::RegisterBroker(registration(1, start)));
        let CommandReply::BrokerRegistered(Ok(broker_epoch)) = reply else {
            panic!("{reply:?}")
        };
        assert!(broker_epoch > first);
        assert_eq!(epoch(&cluster), LeaderEpoch(start as i32 - 1));
    }
}

#[test]
fn a_broker_of_another_cluster_or_an_older_release_is_refused() {
    let mut cluster = Cluster::new();
    let mut refused = |request: RegisterBroker| match cluster.run(&Command::RegisterBroker(request))
    {
        (records, CommandReply::BrokerRegistered(Err(error))) if records.is_empty() => error,
        other => panic!("{other:?}"),
    };
    let base = registration(1, 1);
    let other = RegisterBroker {
        cluster_id: Some(Arc::from("other")),
        ..base.clone()
    };
    let actual = Arc::from("test-cluster");
    assert_eq!(
        refused(other),
        RegisterBrokerError::InconsistentClusterId { actual }
    );
    let old = RegisterBroker {
        features: Vec::new(),
        ..base.clone()
    };
    let name = Arc::from("group.version");
    assert_eq!(
        refused(old),
        RegisterBrokerError::UnsupportedFeature { name, level: 1 }
    );
    let twice = RegisterBroker {
        endpoints: [base.endpoints.clone(), base.endpoints.clone()].concat(),
        ..base.clone()
    };
    assert_eq!(refused(twice), RegisterBrokerError::InvalidEndpoints);
    let negative = RegisterBroker {
        broker_id: BrokerId(-1),
        ..base.clone()
    };
    assert_eq!(refused(negative), RegisterBrokerError::InvalidBrokerId);
    let hoard = RegisterBroker {
        log_dirs: vec![Uuid::nil(); 257],
        ..base
    };
    assert_eq!(refused(hoard), RegisterBrokerError::TooLarge { max: 256 });
}

#[test]
fn an_unregistered_broker_leads_nothing_and_leaves_the_isr_unless_it_is_the_last_in_it() {
    let mut cluster = Cluster::with_brokers(2);
    let both = NewTopic {
        assignments: vec![(0, ids(&[1, 2]))],
        ..topic("both")
    };
    let only = NewTopic {
        assignments: vec![(0, ids(&[1]))],
        ..topic("only")
    };
    let both = cluster.create(both).unwrap().topic_id;
    let only = cluster.create(only).unwrap().topic_id;
    let gone = Command::UnregisterBroker {
        broker_id: BrokerId(1),
    };
    let (records, _) = cluster.run(&gone);
    let change = |topic_id, isr: &[i32], leader| {
        MetadataRecord::PartitionChange(PartitionChangeRecord {
            topic_id,
            partition: 0,
            isr: ids(isr),
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
        })
    };
    let unregistered = MetadataRecord::BrokerUnregistered {
        broker_id: BrokerId(1),
    };
    assert_eq!(
        records,
        [unregistered, change(both, &[2], 2), change(only, &[1], -1)]
    );

    let (records, reply) = cluster.run(&gone);
    assert_eq!(
        (records.len(), reply),
        (
            0,
            CommandReply::BrokerUnregistered(Err(BrokerNotRegistered(BrokerId(1))))
        )
    );

    // Back again, it leads what waited for it.
    cluster.run(&Command::RegisterBroker(registration(1, 9)));
    let only = &cluster.image.topics.by_name("only").unwrap().partitions[0];
    assert_eq!(
        (only.leader, only.leader_epoch),
        (BrokerId(1), LeaderEpoch(2))
    );
}

#[test]
fn incremental_changes_are_made_over_what_is_set() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create(topic("t")).unwrap();
    let resource = || ConfigResource::Topic(Arc::from("t"));
    let s = |text: &str| -> Arc<str> { Arc::from(text) };
    let append = |element: &str| ConfigOp::Append {
        elements: vec![s(element)],
        default: s("delete"),
    };
    let subtract = |element: &str| ConfigOp::Subtract {
        elements: vec![s(element)],
        default: s("delete"),
    };
    let steps = [
        (append("compact"), Some("delete,compact"), 1),
        (append("compact"), Some("delete,compact"), 0),
        (subtract("delete"), Some("compact"), 1),
        (subtract("compact"), Some(""), 1),
        (ConfigOp::Set(s(" a , b ")), Some(" a , b "), 1),
        (append("c"), Some("a,b,c"), 1),
        (ConfigOp::Delete, None, 1),
        (ConfigOp::Delete, None, 0),
        (subtract("delete"), Some(""), 1),
    ];
    for (op, expected, records) in steps {
        let change = ConfigChange::Incremental(vec![(s("cleanup.policy"), op.clone())]);
        assert_eq!(
            cluster.alter(resource(), change),
            (records, Ok(())),
            "{op:?}"
        );
        assert_eq!(cluster.config("t", "cleanup.policy"), expected, "{op:?}");
    }
}

#[test]
fn replacing_a_configuration_removes_what_is_not_named() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create(topic("t")).unwrap();
    let resource = || ConfigResource::Topic(Arc::from("t"));
    let pairs = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (Arc::from(*name), Arc::from(*value)));
        ConfigChange::Replace(pairs.collect())
    };
    assert_eq!(
        cluster.alter(resource(), pairs(&[("a", "1"), ("b", "2")])),
        (2, Ok(()))
    );
    assert_eq!(
        cluster.alter(resource(), pairs(&[("b", "2"), ("c", "3")])),
        (2, Ok(()))
    );
    let keys: Vec<_> = cluster
        .image
        .configs
        .of(&resource())
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, [Arc::from("b"), Arc::from("c")]);
    let twice = pairs(&[("b", "1"), ("b", "2")]);
    let name = Arc::from("b");
    assert_eq!(
        cluster.alter(resource(), twice).1,
        Err(AlterConfigsError::DuplicateKey { name })
    );
    assert_eq!(cluster.alter(resource(), pairs(&[])), (2, Ok(())));
    assert_eq!(cluster.image.configs.resources().count(), 0);
}

#[test]
fn configuration_belongs_to_things_that_exist_and_stays_within_limits() {
    let mut cluster = Cluster::with_brokers(1);
    let set = |value: String| {
        ConfigChange::Incremental(vec![(Arc::from("k"), ConfigOp::Set(Arc::from(value)))])
    };
    let mut alter = |resource, value: &str| cluster.alter(resource, set(value.to_owned())).1;
    let name: Arc<str> = Arc::from("t");
    let unknown = AlterConfigsError::UnknownTopic { name: name.clone() };
    assert_eq!(alter(ConfigResource::Topic(name), "1"), Err(unknown));
    let unknown = BrokerNotRegistered(BrokerId(2)).into();
    assert_eq!(
        alter(ConfigResource::Broker(BrokerId(2)), "1"),
        Err(unknown)
    );
    let nameless = ConfigResource::Group(Arc::from(""));
    assert_eq!(alter(nameless, "1"), Err(AlterConfigsError::EmptyGroupName));
    assert_eq!(alter(ConfigResource::Broker(BrokerId(1)), "1"), Ok(()));
    assert_eq!(alter(ConfigResource::BrokerDefault, "1"), Ok(()));
    assert_eq!(alter(ConfigResource::Group(Arc::from("g")), "1"), Ok(()));
    let long = "x".repeat(32_768);
    let too_long = LimitExceeded::ConfigValueSize { max: 32_767 };
    assert_eq!(
        alter(ConfigResource::BrokerDefault, &long),
        Err(too_long.into())
    );

    let twice = ConfigAlteration {
        resource: ConfigResource::BrokerDefault,
        change: set("2".into()),
    };
    let resources = vec![twice.clone(), twice];
    let (records, reply) = cluster.run(&Command::AlterConfigs {
        resources,
        validate_only: false,
    });
    let duplicate = (
        ConfigResource::BrokerDefault,
        Err(AlterConfigsError::DuplicateResource),
    );
    assert_eq!(
        (records.len(), reply),
        (0, CommandReply::ConfigsAltered(vec![duplicate]))
    );
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap_and_only_to_the_current_process() {
    let mut cluster = Cluster::with_brokers(1);
    let broker_epoch = cluster.image.brokers.get(BrokerId(1)).unwrap().epoch;
    let mut allocate = |id, broker_epoch| {
        let command = Command::AllocateProducerIds {
            broker_id: BrokerId(id),
            broker_epoch,
        };
        match cluster.run(&command).1 {
            CommandReply::ProducerIdsAllocated(result) => result.map(|block| block.first.0),
            other => panic!("{other:?}"),
        }
    };
    let firsts: Vec<i64> = (0..3).map(|_| allocate(1, broker_epoch).unwrap()).collect();
    assert_eq!(firsts, [0, 1000, 2000]);
    let stale = BrokerEpoch(broker_epoch.0 - 1);
    assert_eq!(
        allocate(1, stale),
        Err(AllocateProducerIdsError::StaleBrokerEpoch)
    );
    assert_eq!(
        allocate(2, broker_epoch),
        Err(BrokerNotRegistered(BrokerId(2)).into())
    );
    let next_producer_id = ProducerId(i64::MAX - 5);
    cluster
        .image
        .apply(&MetadataRecord::ProducerIds { next_producer_id });
    let command = Command::AllocateProducerIds {
        broker_id: BrokerId(1),
        broker_epoch,
    };
    let exhausted = CommandReply::ProducerIdsAllocated(Err(AllocateProducerIdsError::Exhausted));
    assert_eq!(cluster.run(&command), (Vec::new(), exhausted));
}

#[test]
fn features_move_within_their_range_and_their_epoch_only_grows() {
    let mut cluster = Cluster::with_brokers(1);
    let mut update = |name: &str, level, mode| {
        let updates = vec![FeatureUpdate {
            name: Arc::from(name),
            level,
            mode,
        }];
        match cluster
            .run(&Command::UpdateFeatures {
                updates,
                validate_only: false,
            })
            .1
        {
            CommandReply::FeaturesUpdated(result) => {
                let features = &cluster.image.features;
                result.map(|()| (features.level("metadata.version"), features.epoch()))
            }
            other => panic!("{other:?}"),
        }
    };
    use FeatureUpdateMode::{SafeDowngrade, Upgrade};
    let version = "metadata.version";
    let name: Arc<str> = Arc::from(version);
    assert_eq!(update(version, 30, Upgrade), Ok((30, 1)));
    let refused = UpdateFeaturesError::DowngradeNotAllowed {
        name: name.clone(),
        current: 30,
    };
    assert_eq!(update(version, 29, Upgrade), Err(refused));
    assert_eq!(update(version, 29, SafeDowngrade), Ok((29, 2)));
    let refused = UpdateFeaturesError::NotADowngrade {
        name: name.clone(),
        current: 29,
        requested: 30,
    };
    assert_eq!(update(version, 30, SafeDowngrade), Err(refused));
    assert_eq!(update(version, 30, Upgrade), Ok((30, 3)));
    assert_eq!(update("group.version", 0, SafeDowngrade), Ok((30, 4)));
    assert_eq!(update("group.version", 1, Upgrade), Ok((30, 5)));
    for level in [0, 6, 31, -1] {
        let name = name.clone();
        let refused = UpdateFeaturesError::UnsupportedLevel {
            name,
            level,
            min: 7,
            max: 30,
        };
        assert_eq!(update(version, level, SafeDowngrade), Err(refused));
    }
    let unknown = UpdateFeaturesError::UnknownFeature {
        name: Arc::from("magic"),
    };
    assert_eq!(update("magic", 1, Upgrade), Err(unknown));
}
