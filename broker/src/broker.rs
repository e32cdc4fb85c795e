//! The broker's core: everything the handlers share, and the small bundles through which they see
//! it.
//!
//! It knows no tokio, no files and no clocks; whoever builds it hands in the seams. The tokio
//! glue (`start.rs`, `net/`) and the simulator build the same core.

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use ottla_controller::record::ConfigResource;
use ottla_controller::{Command, CommandReply, MetadataImage, QuorumState};
use ottla_protocol::types::BrokerId;
use ottla_storage::image::ImageHome;
use ottla_storage::log::{TailBudget, ZEROS_FROM_BYTES};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::cleaner::Cleaner;
use crate::clock::Clock;
use crate::cold_reads::ColdReads;
use crate::config::Config;
use crate::coordinators::Coordinators;
use crate::fetch_session::FetchSessions;
use crate::flusher::FlushQueue;
use crate::log_dirs::LogDirs;
use crate::log_starts::LogStarts;
use crate::metadata::MetadataCache;
use crate::metrics::Metrics;
use crate::mover::Mover;
use crate::openers::Openers;
use crate::partition::map::PartitionMap;
use crate::producer_ids::ProducerIds;
use crate::request_memory::RequestMemory;
use crate::retention::Retention;
use crate::scrubber::Scrubber;
use crate::strangers::Strangers;

/// Called once with the controller's answer, after the change is durable and visible in the
/// metadata cache.
pub type Done = Box<dyn FnOnce(CommandReply) + Send>;

/// Told why the broker cannot go on.
type OnEnd = Box<dyn Fn(&str) + Send + Sync>;

/// The way to the cluster's controller, wherever it runs.
pub trait ControllerHandle: Send + Sync {
    fn submit(&self, command: Command, done: Done);
    fn quorum(&self) -> QuorumState;
}

/// What one broker is made of.
pub struct Broker {
    pub node_id: BrokerId,
    /// As started; see [`Broker::live_config`].
    pub config: Arc<Config>,
    live: ArcSwap<Config>,
    pub clock: Arc<dyn Clock>,
    pub metadata: MetadataCache,
    pub partitions: PartitionMap,
    /// A start is under way: `partitions` does not have all of them yet.
    pub opening: AtomicBool,
    pub controller: Arc<dyn ControllerHandle>,
    pub sessions: FetchSessions,
    pub flush: FlushQueue,
    pub openers: Openers,
    pub cold_reads: ColdReads,
    pub metrics: Arc<Metrics>,
    pub log_dirs: LogDirs,
    pub log_starts: LogStarts,
    pub producer_ids: ProducerIds,
    pub coordinators: Coordinators,
    pub retention: Retention,
    pub cleaner: Cleaner,
    pub mover: Mover,
    pub scrubber: Scrubber,
    /// What the newest batches of all partitions may take in memory.
    pub tail_budget: Arc<TailBudget>,
    /// How large a segment is before zeros are written ahead of small syncs; smaller in the
    /// simulator.
    pub zeros_from_bytes: AtomicU32,
    /// What requests that are still arriving may take.
    pub request_memory: Arc<RequestMemory>,
    /// Clients that speak another protocol, so that the log can say so now and then.
    pub strangers: Strangers,
    ended: OnceLock<String>,
    on_end: OnceLock<OnEnd>,
    /// The only randomness of the core; seeded by whoever builds it.
    pub rng: Mutex<StdRng>,
}

/// Topics and their partitions in the metadata: Metadata, CreateTopics, DeleteTopics,
/// CreatePartitions, DescribeTopicPartitions.
#[derive(Clone, Copy)]
pub struct Topics<'a> {
    pub node_id: BrokerId,
    pub config: &'a Arc<Config>,
    pub metadata: &'a MetadataCache,
    pub controller: &'a dyn ControllerHandle,
    pub log_dirs: &'a LogDirs,
}

/// Configuration of topics and brokers: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
#[derive(Clone, Copy)]
pub struct Configs<'a> {
    pub node_id: BrokerId,
    pub config: &'a Arc<Config>,
    pub metadata: &'a MetadataCache,
    pub controller: &'a dyn ControllerHandle,
}

/// The cluster as a whole: ApiVersions, DescribeCluster, DescribeQuorum, FindCoordinator.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    pub node_id: BrokerId,
    pub config: &'a Arc<Config>,
    pub metadata: &'a MetadataCache,
    pub controller: &'a dyn ControllerHandle,
}

/// Records: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeLogDirs.
#[derive(Clone, Copy)]
pub struct Logs<'a> {
    pub node_id: BrokerId,
    pub config: &'a Arc<Config>,
    pub clock: &'a dyn Clock,
    pub metadata: &'a MetadataCache,
    pub partitions: &'a PartitionMap,
    pub sessions: &'a FetchSessions,
    pub flush: &'a FlushQueue,
    pub cold_reads: &'a ColdReads,
    pub metrics: &'a Arc<Metrics>,
    pub log_dirs: &'a LogDirs,
    pub log_starts: &'a LogStarts,
    pub mover: &'a Mover,
    pub rng: &'a Mutex<StdRng>,
}

/// Producer ids: InitProducerId.
#[derive(Clone, Copy)]
pub struct Producers<'a> {
    pub node_id: BrokerId,
    pub metadata: &'a MetadataCache,
    pub producer_ids: &'a ProducerIds,
}

/// Groups and their offsets: the APIs from OffsetCommit to ListGroups, DeleteGroups, OffsetDelete,
/// ConsumerGroupHeartbeat and ConsumerGroupDescribe.
#[derive(Clone, Copy)]
pub struct Groups<'a> {
    pub config: &'a Arc<Config>,
    pub coordinators: &'a Coordinators,
    pub metadata: &'a MetadataCache,
}

/// What a broker cannot make itself.
pub struct Seams {
    pub config: Arc<Config>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// What is known of the cluster so far.
    pub image: Arc<MetadataImage>,
    pub controller: Arc<dyn ControllerHandle>,
    pub log_dirs: LogDirs,
    /// Where images of the coordinators' logs are kept; `None`: nowhere.
    pub images: Option<Arc<dyn ImageHome>>,
    /// All randomness of the core follows from it.
    pub seed: u64,
}

impl Broker {
    /// A broker without partitions: they come with recovery and with the metadata.
    pub fn new(seams: Seams) -> Broker {
        let config = seams.config;
        let tail_bytes = usize::try_from(config.tail_memory_bytes).unwrap_or(usize::MAX);
        let node_id = BrokerId(config.node_id);
        let live = live_config(&config, node_id, &seams.image);
        seams.log_dirs.limit_dirty(live.dirty_max_bytes);
        seams.log_dirs.cordon(&live.cordoned_log_dirs);
        let flush = FlushQueue::new(
            Arc::clone(&seams.clock),
            Arc::clone(&seams.metrics),
            &seams.log_dirs,
        );
        Broker {
            node_id,
            live: ArcSwap::from(live),
            metadata: MetadataCache::new(seams.image),
            partitions: PartitionMap::default(),
            opening: AtomicBool::new(false),
            controller: seams.controller,
            sessions: FetchSessions::new(config.fetch_session_cache_slots),
            cold_reads: ColdReads::new(flush.lines()),
            flush,
            openers: Openers::new(Arc::clone(&seams.clock), Arc::clone(&seams.metrics)),
            metrics: seams.metrics,
            log_dirs: seams.log_dirs,
            log_starts: LogStarts::default(),
            producer_ids: ProducerIds::default(),
            coordinators: Coordinators::new(&*seams.clock, seams.images),
            retention: Retention::default(),
            cleaner: Cleaner::default(),
            mover: Mover::default(),
            scrubber: Scrubber::default(),
            tail_budget: TailBudget::new(tail_bytes),
            zeros_from_bytes: AtomicU32::new(ZEROS_FROM_BYTES),
            strangers: Strangers::default(),
            request_memory: RequestMemory::new(config.queued_max_request_bytes),
            ended: OnceLock::new(),
            on_end: OnceLock::new(),
            rng: Mutex::new(StdRng::seed_from_u64(seams.seed)),
            clock: seams.clock,
            config,
        }
    }

    /// The broker cannot go on; whoever runs it is told once.
    pub fn end(&self, why: String) {
        if self.ended.set(why).is_ok()
            && let (Some(why), Some(on_end)) = (self.ended.get(), self.on_end.get())
        {
            on_end(why);
        }
    }

    /// Why the broker cannot go on.
    pub fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    /// `on_end` is called when the broker cannot go on. Only the first call counts.
    pub fn on_end(&self, on_end: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.on_end.set(Box::new(on_end));
    }

    /// The configuration in force: `config` with what was changed while the broker runs.
    pub fn live_config(&self) -> Arc<Config> {
        self.live.load_full()
    }

    /// Takes over what `image` sets for this broker or for all of them.
    pub(crate) fn configure(&self, image: &MetadataImage) {
        let live = live_config(&self.config, self.node_id, image);
        self.log_dirs.limit_dirty(live.dirty_max_bytes);
        self.log_dirs.cordon(&live.cordoned_log_dirs);
        self.live.store(live);
    }

    pub fn topics(&self) -> Topics<'_> {
        Topics {
            node_id: self.node_id,
            config: &self.config,
            metadata: &self.metadata,
            controller: &*self.controller,
            log_dirs: &self.log_dirs,
        }
    }

    pub fn configs(&self) -> Configs<'_> {
        Configs {
            node_id: self.node_id,
            config: &self.config,
            metadata: &self.metadata,
            controller: &*self.controller,
        }
    }

    pub fn cluster(&self) -> Cluster<'_> {
        Cluster {
            node_id: self.node_id,
            config: &self.config,
            metadata: &self.metadata,
            controller: &*self.controller,
        }
    }

    pub fn logs(&self) -> Logs<'_> {
        Logs {
            node_id: self.node_id,
            config: &self.config,
            clock: &*self.clock,
            metadata: &self.metadata,
            partitions: &self.partitions,
            sessions: &self.sessions,
            flush: &self.flush,
            cold_reads: &self.cold_reads,
            metrics: &self.metrics,
            log_dirs: &self.log_dirs,
            log_starts: &self.log_starts,
            mover: &self.mover,
            rng: &self.rng,
        }
    }

    pub fn groups(&self) -> Groups<'_> {
        Groups {
            config: &self.config,
            coordinators: &self.coordinators,
            metadata: &self.metadata,
        }
    }

    pub fn producers(&self) -> Producers<'_> {
        Producers {
            node_id: self.node_id,
            metadata: &self.metadata,
            producer_ids: &self.producer_ids,
        }
    }
}

fn live_config(config: &Arc<Config>, node_id: BrokerId, image: &MetadataImage) -> Arc<Config> {
    let broker = image.configs.of(&ConfigResource::Broker(node_id));
    let all_brokers = image.configs.of(&ConfigResource::BrokerDefault);
    if broker.is_empty() && all_brokers.is_empty() {
        return Arc::clone(config);
    }
    Arc::new(config.with_dynamic(broker, all_brokers))
}
