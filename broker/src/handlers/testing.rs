//! A broker for handler tests: the real core and the real decider, without raft, sockets, threads
//! or files. Requests go through the real door, as encoded frames in every version, so each call
//! also proves that the request is decoded behind the guard and that the answer fits the version.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_controller::command::{CreateTopics, NewTopic, TopicDefaults};
use ottla_controller::decide::{bootstrap, supported_features};
use ottla_controller::raft::ReplicaState;
use ottla_controller::record::{
    BrokerEndpoint, BrokerEpoch, BrokerRegistrationRecord, MetadataRecord,
};
use ottla_controller::{
    Command, CommandReply, Limits, MetadataDelta, MetadataImage, QuorumState, decide,
};
use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::{
    IncrementalAlterConfigsRequest, Request, Response, StrBytes, decode_response, encode_request,
};
use ottla_protocol::types::{BrokerId, Offset};
use ottla_storage::disk::MemoryDisk;
use ottla_storage::image::MemoryStore;
use ottla_storage::layout::DirectoryId;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::api::{Caller, dispatch};
use crate::assignments;
use crate::broker::{Broker, ControllerHandle, Done, Seams};
use crate::clock::RealClock;
use crate::config::{Config, ListenerName};
use crate::failures;
use crate::flusher::Job;
use crate::log_dirs::{LogDir, LogDirs};
use crate::partition::PartitionError;
use crate::purgatory::ConnectionSignal;
use crate::recovery::Recovery;
use crate::reply::{Answer, Parked, Reply};

/// Decides and applies at once, in the caller's thread.
struct InlineController {
    broker: OnceLock<Weak<Broker>>,
    rng: Mutex<StdRng>,
    silent: AtomicBool,
}

impl ControllerHandle for InlineController {
    fn submit(&self, command: Command, done: Done) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let broker = self.broker.get().unwrap().upgrade().unwrap();
        let image = broker.metadata.image();
        let decision = decide(&image, &Limits::default(), &command, &mut *self.rng.lock());
        apply(&broker, &decision.records);
        done(decision.reply);
    }

    fn quorum(&self) -> QuorumState {
        let voter = |id, end: Option<i64>| ReplicaState {
            id: BrokerId(id),
            log_end_offset: end.map(Offset),
        };
        QuorumState {
            leader: Some(BrokerId(1)),
            leader_epoch: 3,
            high_watermark: Offset(42),
            voters: vec![voter(1, Some(42)), voter(2, None)],
            observers: Vec::new(),
        }
    }
}

fn apply(broker: &Arc<Broker>, records: &[MetadataRecord]) {
    let mut image = MetadataImage::clone(&broker.metadata.image());
    let mut delta = MetadataDelta::default();
    for record in records {
        delta.replay(&mut image, record);
    }
    assignments::apply(broker, &Arc::new(image), &delta, broker.clock.now());
}

fn core(
    config: Arc<Config>,
    controller: Arc<InlineController>,
    (disks, images): (&[Arc<MemoryDisk>], MemoryStore),
    image: Arc<MetadataImage>,
) -> Arc<Broker> {
    let dirs = disks.iter().zip(0u128..).map(|(disk, n)| {
        let path = match n {
            0 => Arc::from("/data"),
            n => Arc::from(format!("/data{n}")),
        };
        let id = DirectoryId(Uuid::from_u128(n + 2));
        Arc::new(LogDir::new(path, id, disk.clone()))
    });
    let dirs: Vec<_> = dirs.collect();
    dirs[0].set_has_metadata();
    let broker = Arc::new(Broker::new(Seams {
        config,
        clock: Arc::new(RealClock),
        metrics: Arc::default(),
        image,
        controller,
        log_dirs: LogDirs::new(dirs),
        images: Some(Arc::new(images)),
        seed: 7,
    }));
    failures::watch(&broker);
    broker
}

/// See the module documentation.
pub(crate) struct TestBroker {
    pub(crate) broker: Arc<Broker>,
    /// The first directory's.
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) disks: Vec<Arc<MemoryDisk>>,
    pub(crate) images: MemoryStore,
    controller: Arc<InlineController>,
    signal: Arc<ConnectionSignal>,
    now: Instant,
}

impl TestBroker {
    pub(crate) fn new() -> TestBroker {
        TestBroker::with_config(&[])
    }

    pub(crate) fn with_config(pairs: &[(&str, &str)]) -> TestBroker {
        TestBroker::with_disks(1, pairs)
    }

    /// Log directories `/data`, `/data1`, ...; the first has the metadata log.
    pub(crate) fn with_disks(count: usize, pairs: &[(&str, &str)]) -> TestBroker {
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([("node.id", "1")]);
        all.extend(pairs.iter().copied());
        let config = Arc::new(Config::from_pairs(all).unwrap());
        let controller = Arc::new(InlineController {
            broker: OnceLock::new(),
            rng: Mutex::new(StdRng::seed_from_u64(7)),
            silent: AtomicBool::new(false),
        });
        let disks: Vec<_> = (0..count).map(|_| Arc::new(MemoryDisk::new())).collect();
        let images = MemoryStore::new();
        let nothing = Arc::new(MetadataImage::empty());
        let broker = core(
            config,
            controller.clone(),
            (&disks, images.clone()),
            nothing,
        );
        controller.broker.set(Arc::downgrade(&broker)).unwrap();
        let cluster_id = Arc::from("dGVzdC1jbHVzdGVyLWlkMQ");
        let mut records = bootstrap(&cluster_id);
        records.push(registration(false));
        apply(&broker, &records);
        let signal = ConnectionSignal::new(|| {});
        let now = broker.clock.now();
        TestBroker {
            broker,
            disk: disks[0].clone(),
            disks,
            images,
            controller,
            signal,
            now,
        }
    }

    /// A broker that starts on what is on these disks.
    pub(crate) fn recovered(disks: &[Arc<MemoryDisk>], image: Arc<MetadataImage>) -> TestBroker {
        let (test, recovery) = TestBroker::starting(disks, image);
        while recovery.open_next() {}
        recovery.finish();
        test
    }

    /// The same, before any log is open.
    pub(crate) fn starting(
        disks: &[Arc<MemoryDisk>],
        image: Arc<MetadataImage>,
    ) -> (TestBroker, Recovery) {
        let config = Arc::new(Config::from_pairs([("node.id", "1")]).unwrap());
        let controller = Arc::new(InlineController {
            broker: OnceLock::new(),
            rng: Mutex::new(StdRng::seed_from_u64(8)),
            silent: AtomicBool::new(false),
        });
        let images = MemoryStore::new();
        let seams = (disks, images.clone());
        let broker = core(config, controller.clone(), seams, Arc::clone(&image));
        controller.broker.set(Arc::downgrade(&broker)).unwrap();
        let recovery = Recovery::begin(&broker, &image, Arc::default()).unwrap();
        let now = broker.clock.now();
        let test = TestBroker {
            broker,
            disk: disks[0].clone(),
            disks: disks.to_vec(),
            images,
            controller,
            signal: ConnectionSignal::new(|| {}),
            now,
        };
        (test, recovery)
    }

    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.broker.metadata.image()
    }

    pub(crate) fn topic_id(&self, name: &str) -> Uuid {
        self.image().topics.by_name(name).unwrap().id.0
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, 1);
    }

    pub(crate) fn create_topic_with(&self, name: &str, partitions: i32, replication_factor: i16) {
        let topic = NewTopic {
            name: Arc::from(name),
            partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
        };
        let command = Command::CreateTopics(CreateTopics {
            topics: vec![topic],
            defaults: TopicDefaults {
                partitions: 1,
                replication_factor: 1,
            },
            validate_only: false,
        });
        self.controller.submit(
            command,
            Box::new(|reply| {
                let CommandReply::TopicsCreated(results) = reply else {
                    panic!("{reply:?}")
                };
                results[0].1.as_ref().unwrap();
            }),
        );
    }

    /// Appends one batch of these values to a partition and returns its size in bytes.
    pub(crate) fn append(&self, topic: &str, partition: i32, values: &[&[u8]]) -> i64 {
        self.try_append(topic, partition, values).unwrap()
    }

    pub(crate) fn try_append(
        &self,
        topic: &str,
        partition: i32,
        values: &[&[u8]],
    ) -> Result<i64, PartitionError> {
        let partition = self.broker.partitions.get(topic, partition).unwrap();
        let mut batch = BatchBuilder::new();
        for value in values {
            batch.append(1, None, Some(value), &[]);
        }
        let batch = batch.build().unwrap();
        let size_bytes = batch.bytes().len();
        partition.append(batch, 9, (self.now, 1), None)?;
        Ok(i64::try_from(size_bytes).unwrap())
    }

    /// Syncs what was appended, so that it is committed.
    pub(crate) fn sync(&self, topic: &str, partition: i32) {
        let partition = self.broker.partitions.get(topic, partition).unwrap();
        self.broker.flush.push(Job::Flush(partition));
        while self.broker.flush.run_one() {}
    }

    /// The broker registered anew, as at a restart: its partitions get the next leader epoch.
    pub(crate) fn bump_leader_epochs(&self) {
        let broker_id = BrokerId(1);
        apply(
            &self.broker,
            &[MetadataRecord::LeaderEpochsBumped { broker_id }],
        );
    }

    /// From now on the controller takes commands and never answers.
    pub(crate) fn silence_controller(&self) {
        self.controller.silent.store(true, Ordering::Relaxed);
    }

    /// The only broker is no longer there, as far as the metadata knows; its partitions lose their
    /// leader.
    pub(crate) fn fence(&self) {
        apply(&self.broker, &[registration(true)]);
    }

    /// Sets a key through IncrementalAlterConfigs.
    pub(crate) fn set_config(&self, kind: i8, name: &str, key: &str, value: &str) {
        let config = AlterableConfig::default()
            .with_name(StrBytes::from_string(key.to_owned()))
            .with_value(Some(StrBytes::from_string(value.to_owned())));
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = self.call(1, request);
        assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    }

    /// The answer to a request that came in on the client listener.
    pub(crate) fn call<R: Request>(&self, version: i16, request: R) -> R::Response
    where
        R::Response: Response,
    {
        self.call_on("PLAINTEXT", version, request)
    }

    pub(crate) fn call_on<R: Request>(
        &self,
        listener: &str,
        version: i16,
        request: R,
    ) -> R::Response
    where
        R::Response: Response,
    {
        let answer = match self.dispatch(listener, version, &request) {
            Reply::Now(answer) => answer,
            Reply::Parked(mut parked) => {
                // The disk works meanwhile.
                while self.broker.flush.run_one() {}
                assert!(parked.waiter().fired(), "the request waits for something");
                parked.resume(self.now).unwrap()
            }
            Reply::NoReply => panic!("no reply"),
            Reply::Close(reason) => panic!("closed: {reason}"),
        };
        decode::<R>(version, answer)
    }

    /// The answer to a request that nothing happens for until its time is up.
    pub(crate) fn call_until_timeout<R: Request>(&self, version: i16, request: R) -> R::Response
    where
        R::Response: Response,
    {
        let Reply::Parked(mut parked) = self.dispatch("PLAINTEXT", version, &request) else {
            panic!("the request was answered at once");
        };
        let deadline = parked.deadline().unwrap();
        assert!(deadline > self.now && !parked.waiter().fired());
        assert!(parked.resume(deadline - Duration::from_millis(1)).is_none());
        decode::<R>(version, parked.resume(deadline).unwrap())
    }

    /// What the broker does with a request before the disk has done anything.
    pub(crate) fn begin<R: Request>(&self, version: i16, request: &R) -> Reply<Answer> {
        self.dispatch("PLAINTEXT", version, request)
    }

    /// The answer to a request that was begun and parked; `None`: not yet.
    pub(crate) fn resume<R: Request>(
        &self,
        version: i16,
        parked: &mut dyn Parked<Answer>,
    ) -> Option<R::Response>
    where
        R::Response: Response,
    {
        let fired = parked.waiter().fired();
        let answer = parked.resume(self.now)?;
        assert!(fired, "nobody would have looked at it");
        Some(decode::<R>(version, answer))
    }

    fn dispatch<R: Request>(&self, listener: &str, version: i16, request: &R) -> Reply<Answer> {
        let frame = encode_request(CORRELATION_ID, "test", version, request).unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let listener = ListenerName(Arc::from(listener));
        let caller = Caller {
            broker: &self.broker,
            peer,
            listener: &listener,
            signal: &self.signal,
            now: self.now,
        };
        let (api, reply) = dispatch(&caller, BytesMut::from(&frame[4..]), None);
        assert_eq!(api.map(|api| api.key), Some(R::KEY));
        reply.expect("nothing is gathered")
    }
}

const CORRELATION_ID: i32 = 77;

fn decode<R: Request>(version: i16, answer: Answer) -> R::Response
where
    R::Response: Response,
{
    let Answer::Bytes(bytes) = answer else {
        panic!("{answer:?}")
    };
    let length = i32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), bytes.len() - 4);
    let (correlation_id, response) = decode_response(bytes.slice(4..), version).unwrap();
    assert_eq!(correlation_id, CORRELATION_ID);
    response
}

fn registration(fenced: bool) -> MetadataRecord {
    MetadataRecord::BrokerRegistration(BrokerRegistrationRecord {
        broker_id: BrokerId(1),
        broker_epoch: BrokerEpoch(1),
        incarnation_id: Uuid::from_u128(1),
        endpoints: vec![BrokerEndpoint {
            listener: Arc::from("PLAINTEXT"),
            host: Arc::from("127.0.0.1"),
            port: 9092,
            security_protocol: 0,
        }],
        features: supported_features(),
        rack: None,
        log_dirs: vec![Uuid::from_u128(2)],
        fenced,
    })
}
