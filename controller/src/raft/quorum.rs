//! What goes in and out of a controller besides commands: options, events, and the state of the
//! quorum as operators see it.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::types::{BrokerId, Offset};

use crate::command::CommandReply;
use crate::decide::Limits;
use crate::delta::MetadataDelta;
use crate::image::MetadataImage;

#[derive(Clone, Debug)]
pub struct ControllerOptions {
    pub node_id: BrokerId,
    /// The first members of a new quorum; what is on disk already knows its own.
    pub voters: Vec<BrokerId>,
    /// The name of the cluster if it must have a certain one; `None` takes what is there, and
    /// draws one for a new cluster.
    pub cluster_id: Option<Arc<str>>,
    /// Election timeouts, topic ids and placement follow from it. Must not be predictable in
    /// production, and is the whole of chance in simulation.
    pub seed: u64,
    pub limits: Limits,
    pub tick_interval: Duration,
    /// Silence of the leader, in ticks, after which a follower stands for election; up to twice
    /// as long.
    pub election_ticks: usize,
    /// A snapshot is taken after this many entries or bytes.
    pub snapshot_entries: u64,
    pub snapshot_bytes: usize,
    /// Commands that wait or are under way; more are refused.
    pub commands_max: usize,
}

impl ControllerOptions {
    /// A quorum of `voters` with the usual timing.
    pub fn new(node_id: BrokerId, voters: Vec<BrokerId>, seed: u64) -> ControllerOptions {
        ControllerOptions {
            node_id,
            voters,
            cluster_id: None,
            seed,
            limits: Limits::default(),
            tick_interval: Duration::from_millis(100),
            election_ticks: 10,
            snapshot_entries: 4_096,
            snapshot_bytes: 16 << 20,
            commands_max: 4_096,
        }
    }

    /// A cluster of one.
    pub fn single(node_id: BrokerId, seed: u64) -> ControllerOptions {
        ControllerOptions::new(node_id, vec![node_id], seed)
    }
}

/// What a controller has to tell. Everything told is on disk.
#[derive(Clone, Debug)]
pub enum Event {
    /// The answer to a command submitted here.
    Reply { ticket: u64, reply: CommandReply },
    /// The cluster's metadata changed; comes before the replies to the commands that changed it.
    Applied {
        image: Arc<MetadataImage>,
        delta: Arc<MetadataDelta>,
    },
    /// For another controller; may be lost, duplicated or late.
    Send { to: BrokerId, message: Vec<u8> },
}

/// The metadata quorum as this node sees it. Positions are those of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumState {
    pub leader: Option<BrokerId>,
    /// Raft's term.
    pub leader_epoch: u64,
    /// Position after the last committed entry.
    pub high_watermark: Offset,
    pub voters: Vec<ReplicaState>,
    pub observers: Vec<ReplicaState>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaState {
    pub id: BrokerId,
    /// Position after the last entry of that replica; `None` where this node cannot know it: only
    /// the leader knows others.
    pub log_end_offset: Option<Offset>,
}
