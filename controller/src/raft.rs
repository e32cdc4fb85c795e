//! The controller: raft decides which records are in the metadata log, this file moves them.
//!
//! Owns the order in which things happen to one entry: decided, written and synced, sent,
//! committed, applied, answered. Nothing is announced that is not on disk. With `raft/` it is the
//! only place that knows the consensus engine. One node is a quorum of one and takes the same path.
//!
//! Single-threaded and synchronous: commands, messages and time go in (`submit`, `step`, `tick`),
//! events come out of `poll`, which writes to the disk. A failure of the disk stops it for good. A
//! disk that only takes nothing for the moment (no room, no descriptor, read-only) does not: what
//! is to be written is kept and tried again, and everything else waits.
//!
//! Invariant: between two calls raft has nothing ready, so it may be called at any time; while
//! something waits for the disk it is not called.

mod election;
mod error;
mod examine;
mod history;
mod log;
mod logging;
mod proposals;
mod quorum;
mod state;
mod store;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::types::{BrokerId, Offset};
use ottla_storage::disk::Disk;
use prost::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType, Snapshot,
};
use raft::{ProgressState, RawNode, Ready, SnapshotStatus, StateRole};
use rand::Rng;

use crate::command::{Command, CommandReply, Refusal};
use crate::decide::{Decision, bootstrap};
use crate::delta::MetadataDelta;
use crate::image::MetadataImage;
use crate::record::{MetadataRecord, decode_batch, encode_batch};
use election::{Ticks, Timeouts};
use log::ENTRY_BYTES_MAX;
use proposals::{Proposals, Waiting};
use store::Store;
use wire::{broker_id, raft_id};

pub use error::{ControllerError, StepError};
pub use examine::{Examined, examine};
pub use history::History;
pub use quorum::{ControllerOptions, Event, QuorumState, ReplicaState};

/// Ticks, in election timeouts, after which a snapshot that was sent counts as lost.
const SNAPSHOT_PATIENCE: u32 = 10;
/// How often a disk that takes nothing is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// One node of the metadata quorum.
pub struct Controller {
    node: RawNode<Store>,
    options: ControllerOptions,
    ticks: Ticks,
    timeouts: Timeouts,
    /// The image of the last applied entry.
    image: Arc<MetadataImage>,
    /// What changed since the last `Applied` was told.
    delta: MetadataDelta,
    /// The image that was told last.
    told: Offset,
    proposals: Proposals,
    /// Peers that a snapshot was sent to, and for how many ticks it may take.
    snapshots_sent: BTreeMap<u64, u32>,
    replies: Vec<Event>,
    messages: Vec<Event>,
    next_ticket: u64,
    /// What the disk did not take, and why.
    stalled: Option<(Ready, ControllerError)>,
    /// When it is tried again, and a snapshot that could not be written.
    try_again_at: Instant,
    stopped: bool,
}

/// The files with which a node begins alone, with these records as the cluster's past: names in
/// its metadata directory, and contents. [`Controller::open`] goes on from them.
pub fn metadata_files(
    node: BrokerId,
    records: &[MetadataRecord],
) -> Result<Vec<(String, Vec<u8>)>, ControllerError> {
    let members = ConfState {
        voters: vec![raft_id(node)],
        ..ConfState::default()
    };
    store::files_of(&members, records)
}

impl Controller {
    /// Opens the node's metadata on `disk`, or begins a new quorum. A node that is alone leads
    /// when this returns, and its image is up to date; others hold an election first.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: ControllerOptions,
        now: Instant,
    ) -> Result<Controller, ControllerError> {
        check_voters(&options.voters)?;
        let me = raft_id(options.node_id);
        let voters = options.voters.iter().copied().map(raft_id).collect();
        let members = ConfState {
            voters,
            ..ConfState::default()
        };
        let (store, image) = Store::open(disk, &members)?;
        let members = store.members().clone();
        if !members.voters.contains(&me) && !members.learners.contains(&me) {
            return Err(ControllerError::NotAMember {
                node_id: options.node_id,
            });
        }
        let config = raft_config(me, &options, image.applied);
        let node =
            RawNode::new(&config, store, &logging::logger()).map_err(ControllerError::Consensus)?;
        let mut controller = Controller {
            node,
            ticks: Ticks::new(options.tick_interval, now),
            timeouts: Timeouts::new(options.seed, me),
            delta: MetadataDelta::between(&MetadataImage::empty(), &image),
            told: Offset(0),
            image: Arc::new(image),
            proposals: Proposals::new(options.seed, options.commands_max),
            snapshots_sent: BTreeMap::new(),
            replies: Vec::new(),
            messages: Vec::new(),
            next_ticket: 0,
            stalled: None,
            try_again_at: now,
            stopped: false,
            options,
        };
        controller.check_cluster_id()?;
        controller.after_raft();
        if members.voters == [me] {
            controller
                .node
                .campaign()
                .map_err(ControllerError::Consensus)?;
            controller.after_raft();
            controller.advance(now)?;
            controller.fail_if_stalled()?;
        }
        Ok(controller)
    }

    /// Lets time pass. Call it at `next_tick`, or more often.
    pub fn tick(&mut self, now: Instant) {
        for _ in 0..self.ticks.take(now) {
            // Others do not hear of a leader whose disk takes nothing, and elect another.
            if self.stopped || self.stalled.is_some() {
                return;
            }
            let elapsed = self.node.raft.election_elapsed;
            self.node.tick();
            // Without leadership the count goes back to zero only when it reached the timeout.
            let elected = elapsed > 0 && self.node.raft.election_elapsed == 0;
            if elected && self.node.raft.state != StateRole::Leader {
                self.timeouts.election_began();
            }
            self.after_raft();
            self.forget_lost_snapshots();
        }
    }

    /// When `poll` has something to do next.
    pub fn next_tick(&self) -> Instant {
        match self.stalled {
            Some(_) => self.try_again_at,
            None => self.ticks.next_at(),
        }
    }

    /// For who does not want to wait for a disk that takes nothing: it has failed.
    pub fn fail_if_stalled(&mut self) -> Result<(), ControllerError> {
        let Some((_, error)) = self.stalled.take() else {
            return Ok(());
        };
        self.stop();
        Err(error)
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.proposals.end(None, &mut self.replies);
    }

    /// Takes a command; its answer is an `Event::Reply` with this ticket. `now_ms` is the wall
    /// time that its entry in the metadata log will bear.
    pub fn submit(&mut self, command: Command, now_ms: i64) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let refusal = if self.node.raft.state != StateRole::Leader || self.stopped {
            Some(Refusal::NotLeader {
                leader: self.leader(),
            })
        } else if !self.proposals.push(Waiting {
            ticket,
            command,
            now_ms,
        }) {
            Some(Refusal::Overloaded)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.replies.push(Event::Reply {
                ticket,
                reply: CommandReply::Refused(refusal),
            });
        }
        ticket
    }

    /// Takes a message that the controller of `from` sent.
    pub fn step(&mut self, from: BrokerId, message: &[u8]) -> Result<(), StepError> {
        if self.stopped {
            return Err(StepError::Stopped);
        }
        if self.stalled.is_some() {
            return Err(StepError::Raft(raft::Error::ProposalDropped));
        }
        let message = wire::decode(from, self.options.node_id, message)?;
        self.check_against_log(&message)?;
        let result = self.node.step(message).map_err(StepError::Raft);
        self.after_raft();
        result
    }

    /// Does everything that is due: decides, writes, syncs, applies. After an error the controller
    /// has stopped and the process should too, unless it only serves readers from now on.
    pub fn poll(&mut self, now: Instant) -> Result<Vec<Event>, ControllerError> {
        self.tick(now);
        self.advance(now)?;
        let mut events = std::mem::take(&mut self.messages);
        if self.told != self.image.applied || !self.delta.is_empty() {
            self.told = self.image.applied;
            let delta = Arc::new(std::mem::take(&mut self.delta));
            events.push(Event::Applied {
                image: self.image.clone(),
                delta,
            });
        }
        events.append(&mut self.replies);
        Ok(events)
    }

    /// The image of the last applied entry.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.clone()
    }

    /// The image at an earlier position, made anew from a snapshot and the log; `None` if that
    /// position is not applied yet or no longer kept.
    pub fn image_at(&self, at: Offset) -> Result<Option<MetadataImage>, ControllerError> {
        match at.0 >= 0 && at <= self.image.applied {
            true => self.node.store().image_at(at.0.unsigned_abs()),
            false => Ok(None),
        }
    }

    pub fn node_id(&self) -> BrokerId {
        self.options.node_id
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<BrokerId> {
        broker_id(self.node.raft.leader_id)
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn quorum(&self) -> QuorumState {
        let raft = &self.node.raft;
        let replica = |id: &u64| {
            let last = match raft.prs().get(*id) {
                _ if *id == raft.id => Some(raft.raft_log.last_index()),
                Some(progress) if raft.state == StateRole::Leader => Some(progress.matched),
                _ => None,
            };
            let log_end_offset = last.map(|last| position(last + 1));
            broker_id(*id).map(|id| ReplicaState { id, log_end_offset })
        };
        let members = raft.store().members();
        QuorumState {
            leader: self.leader(),
            leader_epoch: raft.term,
            high_watermark: position(raft.raft_log.committed + 1),
            voters: members.voters.iter().filter_map(replica).collect(),
            observers: members.learners.iter().filter_map(replica).collect(),
        }
    }

    /// Every call into raft ends here: its use of chance is replaced, and lost leadership noticed.
    fn after_raft(&mut self) {
        let raft = &mut self.node.raft;
        let timeout = self
            .timeouts
            .timeout(raft.term, self.options.election_ticks);
        raft.set_randomized_election_timeout(timeout);
        let (term, leads) = (raft.term, raft.state == StateRole::Leader);
        if !leads || self.proposals.led_before(term) {
            let leader = self.leader();
            self.proposals.end(leader, &mut self.replies);
        }
    }

    fn advance(&mut self, now: Instant) -> Result<(), ControllerError> {
        if self.stopped {
            return Err(ControllerError::Stopped);
        }
        let result = self.advance_until_idle(now);
        if result.is_err() {
            self.stop();
        }
        result
    }

    fn advance_until_idle(&mut self, now: Instant) -> Result<(), ControllerError> {
        if self.stalled.is_some() && now < self.try_again_at {
            return Ok(());
        }
        if let Some((ready, error)) = self.stalled.take() {
            self.write_and_apply(ready, now)?;
            if self.stalled.is_some() {
                return Ok(());
            }
            let cause = error.io_cause();
            tracing::info!(cause, "the disk takes changes of the metadata again");
            self.after_raft();
        }
        loop {
            self.decide_waiting()?;
            if !self.node.has_ready() {
                break;
            }
            self.handle_ready(now)?;
            if let Some((_, error)) = &self.stalled {
                tracing::error!(
                    cause = error.io_cause(),
                    "the disk takes nothing for the metadata log: changes of the metadata wait"
                );
                return Ok(());
            }
            self.after_raft();
        }
        self.take_snapshot_if_due(now)
    }

    /// Raft's order: the snapshot, the hard state and the entries are on disk before anything that
    /// follows from them is said or done. See `store.rs` for the order among these three.
    fn handle_ready(&mut self, now: Instant) -> Result<(), ControllerError> {
        let mut ready = self.node.ready();
        self.send(ready.take_messages());
        self.write_and_apply(ready, now)
    }

    /// What the disk does not take for the moment is kept; all of it is written again then.
    fn write_and_apply(&mut self, mut ready: Ready, now: Instant) -> Result<(), ControllerError> {
        match self.write(&ready) {
            Err(error) if error.may_pass() => {
                self.stalled = Some((ready, error));
                self.try_again_at = now + TRY_AGAIN;
                return Ok(());
            }
            written => written?,
        }
        self.send(ready.take_persisted_messages());
        self.apply(ready.take_committed_entries())?;
        let mut light = self.node.advance(ready);
        self.send(light.take_messages());
        self.apply(light.take_committed_entries())?;
        self.node.advance_apply();
        Ok(())
    }

    fn write(&mut self, ready: &Ready) -> Result<(), ControllerError> {
        if let Some(hard_state) = ready.hs() {
            self.node.mut_store().save_hard_state(hard_state)?;
        }
        if !ready.snapshot().is_empty() {
            self.install_snapshot(ready.snapshot())?;
        }
        self.node.mut_store().append(ready.entries())
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let Some(to) = broker_id(message.to) else {
                continue;
            };
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let patience = SNAPSHOT_PATIENCE * self.options.election_ticks as u32;
                self.snapshots_sent.insert(message.to, patience);
            }
            self.messages.push(Event::Send {
                to,
                message: wire::encode(&message),
            });
        }
    }

    /// Raft sends a peer nothing more until it hears what became of a snapshot. A peer that has it
    /// says so itself; one that is silent for long is sent another.
    fn forget_lost_snapshots(&mut self) {
        let mut lost = Vec::new();
        self.snapshots_sent.retain(|peer, patience| {
            *patience = patience.saturating_sub(1);
            if *patience == 0 {
                lost.push(*peer);
            }
            *patience > 0
        });
        for peer in lost {
            let progress = self.node.raft.prs().get(peer);
            if progress.is_some_and(|progress| progress.state == ProgressState::Snapshot) {
                self.node.report_snapshot(peer, SnapshotStatus::Failure);
                self.after_raft();
            }
        }
    }

    fn install_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), ControllerError> {
        let image = self.node.mut_store().install(snapshot)?;
        self.delta
            .merge(MetadataDelta::between(&self.image, &image));
        self.image = Arc::new(image);
        self.check_cluster_id()
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), ControllerError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut image = (*self.image).clone();
        for entry in &entries {
            self.apply_entry(&mut image, entry)?;
            image.applied = position(entry.index);
            image.term = entry.term;
        }
        self.image = Arc::new(image);
        self.check_cluster_id()?;
        self.proposals.applied(&self.image, &mut self.replies);
        Ok(())
    }

    fn apply_entry(
        &mut self,
        image: &mut MetadataImage,
        entry: &Entry,
    ) -> Result<(), ControllerError> {
        let changed = match entry.get_entry_type() {
            EntryType::EntryNormal => {
                for record in decode_entry(entry)? {
                    self.delta.replay(image, &record);
                }
                return Ok(());
            }
            EntryType::EntryConfChange => ConfChange::decode(entry.data.as_slice())
                .map(|change| self.node.apply_conf_change(&change)),
            EntryType::EntryConfChangeV2 => ConfChangeV2::decode(entry.data.as_slice())
                .map(|change| self.node.apply_conf_change(&change)),
        };
        let index = entry.index;
        let unreadable = crate::record::RecordError::InvalidValue("change of members");
        let members = changed
            .map_err(|_| ControllerError::UnreadableEntry {
                index,
                source: unreadable,
            })?
            .map_err(ControllerError::Consensus)?;
        self.node.mut_store().set_members(members);
        Ok(())
    }

    fn check_cluster_id(&self) -> Result<(), ControllerError> {
        let actual = &self.image.cluster_id;
        match &self.options.cluster_id {
            Some(expected) if !actual.is_empty() && expected != actual => {
                let (expected, actual) = (expected.clone(), actual.clone());
                Err(ControllerError::ClusterIdMismatch { expected, actual })
            }
            _ => Ok(()),
        }
    }

    /// A leader decides only once its own first entry is applied: then it has seen everything that
    /// earlier leaders may have promised.
    fn decide_waiting(&mut self) -> Result<(), ControllerError> {
        let term = self.node.raft.term;
        if self.node.raft.state != StateRole::Leader || self.image.term != term {
            return Ok(());
        }
        if !self.proposals.leads(term) {
            let committed = self.node.raft.raft_log.committed;
            match self.node.mut_store().save_commit(committed) {
                // It is stored with the next snapshot.
                Err(error) if error.may_pass() => tracing::warn!(
                    cause = error.io_cause(),
                    "how far the metadata log is committed could not be stored"
                ),
                stored => stored?,
            }
            self.proposals.begin(term, &self.image);
            if self.image.cluster_id.is_empty() {
                self.found_cluster();
            }
        }
        while let Some(waiting) = self.proposals.pop() {
            let Some(decision) = self
                .proposals
                .decide(&self.options.limits, &waiting.command)
            else {
                break;
            };
            self.carry_out(waiting.ticket, waiting.now_ms, decision);
        }
        Ok(())
    }

    /// The first records of a new cluster. If they get lost with leadership, the next leader
    /// proposes its own.
    fn found_cluster(&mut self) {
        let drawn = self.proposals.rng().map(|rng| rng.random());
        let cluster_id = match &self.options.cluster_id {
            Some(cluster_id) => cluster_id.clone(),
            None => new_cluster_id(drawn.unwrap_or_default()),
        };
        // The wall time of the founding is not known here; it matters to nobody.
        if let Err(refusal) = self.propose(&bootstrap(&cluster_id), 0) {
            tracing::warn!(%refusal, "the new cluster could not be named yet");
        }
    }

    fn carry_out(&mut self, ticket: u64, now_ms: i64, decision: Decision) {
        let Decision { records, reply } = decision;
        let due = match records.is_empty() {
            true => Ok(self.proposals.last_in_flight()),
            false => self.propose(&records, now_ms).map(Some),
        };
        match due {
            Ok(Some(index)) => self.proposals.reply_at(index, ticket, reply),
            Ok(None) => self.replies.push(Event::Reply { ticket, reply }),
            Err(refusal) => {
                let reply = CommandReply::Refused(refusal);
                self.replies.push(Event::Reply { ticket, reply });
            }
        }
    }

    /// The index at which the records are proposed.
    fn propose(&mut self, records: &[MetadataRecord], now_ms: i64) -> Result<u64, Refusal> {
        let data = encode_batch(records);
        if data.len() > ENTRY_BYTES_MAX {
            let (size_bytes, size_bytes_max) = (data.len(), ENTRY_BYTES_MAX);
            return Err(Refusal::TooLarge {
                size_bytes,
                size_bytes_max,
            });
        }
        let proposed = self.node.propose(now_ms.to_be_bytes().to_vec(), data);
        // Raft drops what would make its uncommitted entries too large.
        proposed.map_err(|_| Refusal::Overloaded)?;
        let index = self.node.raft.raft_log.last_index();
        self.proposals.proposed(records, index);
        Ok(index)
    }

    /// Without one the log is longer: it can wait for room.
    fn take_snapshot_if_due(&mut self, now: Instant) -> Result<(), ControllerError> {
        let store = self.node.store();
        let entries = self
            .image
            .applied
            .0
            .unsigned_abs()
            .saturating_sub(store.snapshot_index());
        let due = entries >= self.options.snapshot_entries
            || store.bytes_since_snapshot() >= self.options.snapshot_bytes
            || store.snapshot_wanted();
        if !due || entries == 0 || now < self.try_again_at {
            return Ok(());
        }
        match self.node.mut_store().compact(&self.image) {
            Err(error) if error.may_pass() => {
                let cause = error.io_cause();
                tracing::warn!(cause, "a snapshot of the metadata could not be written yet");
                self.try_again_at = now + TRY_AGAIN;
                Ok(())
            }
            written => written,
        }
    }

    /// Raft panics when a peer knows of entries that this node has lost or never had, which a
    /// restored or replaced disk can bring about.
    fn check_against_log(&self, message: &Message) -> Result<(), StepError> {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.commit > last => Err(StepError::BeyondLog),
            MessageType::MsgAppendResponse if !message.reject && message.index > last => {
                Err(StepError::BeyondLog)
            }
            MessageType::MsgAppend => {
                let committed = raft.raft_log.committed;
                let contradicts = |entry: &Entry| {
                    let known = raft.store().entry(entry.index).map(|known| known.term);
                    entry.index <= committed && known.is_some_and(|known| known != entry.term)
                };
                match message.entries.iter().any(contradicts) {
                    true => Err(StepError::ContradictsCommitted),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn check_voters(voters: &[BrokerId]) -> Result<(), ControllerError> {
    let mut ids = voters.to_vec();
    ids.sort_unstable();
    ids.dedup();
    match ids.first() {
        Some(first) if first.0 >= 0 && ids.len() == voters.len() => Ok(()),
        _ => Err(ControllerError::InvalidVoters),
    }
}

fn raft_config(me: u64, options: &ControllerOptions, applied: Offset) -> raft::Config {
    raft::Config {
        id: me,
        election_tick: options.election_ticks,
        heartbeat_tick: 1,
        applied: applied.0.unsigned_abs(),
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        check_quorum: true,
        pre_vote: true,
        max_uncommitted_size: 64 << 20,
        max_committed_size_per_ready: 16 << 20,
        ..raft::Config::default()
    }
}

fn position(index: u64) -> Offset {
    Offset(i64::try_from(index).unwrap_or(i64::MAX))
}

/// The records of one entry; raft's own entries have none.
fn decode_entry(entry: &Entry) -> Result<Vec<MetadataRecord>, ControllerError> {
    if entry.data.is_empty() {
        return Ok(Vec::new());
    }
    let index = entry.index;
    decode_batch(&entry.data).map_err(|source| ControllerError::UnreadableEntry { index, source })
}

/// Drawn like Kafka's cluster ids: a random uuid in url-safe base64 of 22 characters.
fn new_cluster_id(random: [u8; 16]) -> Arc<str> {
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    let text = ottla_protocol::types::TopicId(uuid).to_string();
    // A leading '-' would look like an option on a command line.
    Arc::from(text.replacen('-', "_", usize::from(text.starts_with('-'))))
}
