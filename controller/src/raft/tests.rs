//! The controller on the memory disk: alone, across crashes, in company.

mod alone;
mod cluster;
mod crash;
mod follower;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::types::{BrokerId, LeaderEpoch};
use ottla_storage::disk::MemoryDisk;
use uuid::Uuid;

use super::*;
use crate::command::*;
use crate::decide::supported_features;
use crate::record::BrokerEndpoint;

pub(super) fn options(seed: u64) -> ControllerOptions {
    ControllerOptions {
        snapshot_entries: 6,
        ..ControllerOptions::single(BrokerId(0), seed)
    }
}

/// Time of tests: an arbitrary base, moved by hand.
pub(super) fn base_time() -> Instant {
    static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BASE.get_or_init(|| {
        #[allow(clippy::disallowed_methods)]
        Instant::now()
    })
}

pub(super) fn at_ms(ms: u64) -> Instant {
    base_time() + Duration::from_millis(ms)
}

/// A cluster of one with its broker.
pub(super) struct Alone {
    pub(super) controller: Controller,
    pub(super) broker_epoch: crate::record::BrokerEpoch,
    pub(super) events: Vec<Event>,
}

impl Alone {
    pub(super) fn open(disk: &MemoryDisk, seed: u64) -> Result<Alone, ControllerError> {
        let controller = Controller::open(Arc::new(disk.clone()), options(seed), base_time())?;
        let broker_epoch = crate::record::BrokerEpoch(0);
        let mut alone = Alone {
            controller,
            broker_epoch,
            events: Vec::new(),
        };
        alone.poll()?;
        Ok(alone)
    }

    fn poll(&mut self) -> Result<(), ControllerError> {
        self.events.extend(self.controller.poll(base_time())?);
        Ok(())
    }

    pub(super) fn run(&mut self, command: Command) -> Result<CommandReply, ControllerError> {
        let ticket = self.controller.submit(command, 1_000);
        self.poll()?;
        let answer = |event: &Event| match event {
            Event::Reply { ticket: t, reply } if *t == ticket => Some(reply.clone()),
            _ => None,
        };
        Ok(self
            .events
            .iter()
            .find_map(answer)
            .expect("a cluster of one answers at once"))
    }

    pub(super) fn register(&mut self, incarnation: u128) -> Result<(), ControllerError> {
        match self.run(Command::RegisterBroker(registration(0, incarnation)))? {
            CommandReply::BrokerRegistered(Ok(epoch)) => self.broker_epoch = epoch,
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    pub(super) fn create(&mut self, name: &str) -> Result<CommandReply, ControllerError> {
        self.run(create(name))
    }

    pub(super) fn producer_ids(&mut self) -> Result<i64, ControllerError> {
        let (broker_id, broker_epoch) = (BrokerId(0), self.broker_epoch);
        match self.run(Command::AllocateProducerIds {
            broker_id,
            broker_epoch,
        })? {
            CommandReply::ProducerIdsAllocated(Ok(block)) => Ok(block.first.0),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn registration(id: i32, incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: None,
        incarnation_id: Uuid::from_u128(incarnation),
        endpoints: vec![BrokerEndpoint {
            listener: Arc::from("PLAINTEXT"),
            host: Arc::from("localhost"),
            port: 9092,
            security_protocol: 0,
        }],
        features: supported_features(),
        rack: None,
        log_dirs: Vec::new(),
    }
}

pub(super) fn create(name: &str) -> Command {
    Command::CreateTopics(CreateTopics {
        topics: vec![NewTopic {
            name: Arc::from(name),
            partitions: 2,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Default::default(),
        }],
        defaults: TopicDefaults {
            partitions: 1,
            replication_factor: 1,
        },
        validate_only: false,
    })
}

pub(super) fn leader_epoch(image: &MetadataImage, topic: &str) -> Option<LeaderEpoch> {
    Some(image.topics.by_name(topic)?.partitions[0].leader_epoch)
}
