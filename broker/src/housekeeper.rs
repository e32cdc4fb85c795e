//! What a broker does now and then without being asked: checkpoints of logs that have grown, the
//! checkpoint files of the log directories, memory of logs that nobody uses, retention.
//!
//! Pure but for the small files it writes: the glue has one for each log directory, so that a disk
//! that hangs holds nobody else's, and calls [`Housekeeper::run`] from a thread of its own; the
//! simulator has one for all of them and calls it when its time has come.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_controller::record::BrokerEpoch;
use ottla_protocol::types::{Offset, TopicPartition};
use ottla_storage::checkpoint::{self, CheckpointError, PartitionOffsets};
use ottla_storage::layout::{self, LayoutError};

use crate::broker::Broker;
use crate::flusher::Job;
use crate::log_dirs::{LogDir, Room};
use crate::log_starts;
use crate::partition::Partition;
use crate::retention::Keeper;

#[cfg(test)]
mod tests;

/// How often files that nobody uses are closed while very many are open.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// How often the room on the disks is looked at.
const SPACE_EVERY: Duration = Duration::from_secs(1);
/// When so much was appended since the last look, the next one comes soon.
const BUSY_BYTES: u64 = 6 << 20;
const BUSY_EVERY: Duration = Duration::from_millis(100);
/// A log that was not used between two looks gives its memory and descriptors back.
const IDLE_EVERY: Duration = Duration::from_secs(20);
/// So many idle logs at most write their indexes after one look, to be able to release them.
const IDLE_CHECKPOINTS_MAX: usize = 256;

/// What the controller calls a broker that never registered.
const NEVER_REGISTERED: BrokerEpoch = BrokerEpoch(-1);

/// Which log directories somebody looks after.
#[derive(Clone)]
pub enum Scope {
    All,
    One(Arc<LogDir>),
}

impl Scope {
    /// Those that work.
    pub fn online(&self, broker: &Broker) -> Vec<Arc<LogDir>> {
        match self {
            Scope::All => broker.log_dirs.online().cloned().collect(),
            Scope::One(dir) => [dir]
                .into_iter()
                .filter(|dir| dir.is_online())
                .cloned()
                .collect(),
        }
    }

    /// Of the one directory.
    pub fn path(&self) -> Option<Arc<str>> {
        match self {
            Scope::All => None,
            Scope::One(dir) => Some(Arc::clone(&dir.path)),
        }
    }

    /// Whether a partition is in one of them.
    pub fn includes(&self, partition: &Partition) -> bool {
        match self {
            Scope::All => true,
            Scope::One(dir) => partition.is_in(dir),
        }
    }

    /// What was appended in them since the start; never less than before.
    fn appended_bytes(&self, broker: &Broker) -> u64 {
        let of = |dir: &Arc<LogDir>| dir.dirty.appended_bytes();
        match self {
            Scope::All => broker.log_dirs.iter().map(of).sum(),
            Scope::One(dir) => of(dir),
        }
    }

    /// The partitions in them; those of other directories are not touched.
    pub fn partitions(&self, broker: &Broker) -> Vec<Arc<Partition>> {
        let mut partitions = broker.partitions.all();
        partitions.retain(|partition| self.includes(partition));
        partitions
    }
}

/// What a start after a crash may have to check, whatever the number of logs that are written to.
#[derive(Clone, Copy)]
struct Unchecked {
    max_bytes: u64,
    /// Less in one log is not worth a checkpoint's files.
    least_bytes: u64,
}

const UNCHECKED: Unchecked = Unchecked {
    max_bytes: 128 << 20,
    least_bytes: 4 << 20,
};

/// How much is appended, so that what no checkpoint covers stays bounded.
struct Growth {
    unchecked: Unchecked,
    next_look: Instant,
    /// What had been appended when it was looked at, and when logs were gone through.
    seen_bytes: u64,
    bounded_bytes: u64,
}

pub struct Housekeeper {
    scope: Scope,
    next_sweep: Instant,
    next_full_checkpoint: Instant,
    next_files: Instant,
    next_idle: Instant,
    next_space: Instant,
    growth: Growth,
    full_every: Duration,
    files_every: Duration,
    /// What the checkpoint files say; they are left alone while it is the same.
    files_written: Option<u64>,
    keeper: Keeper,
}

impl Housekeeper {
    /// One for all directories.
    pub fn new(broker: &Broker, now: Instant) -> Housekeeper {
        Housekeeper::of(broker, Scope::All, now)
    }

    pub fn of(broker: &Broker, scope: Scope, now: Instant) -> Housekeeper {
        let config = &broker.config;
        let full_every = Duration::from_millis(config.log_flush_offset_checkpoint_interval_ms);
        let files_every = Duration::from_millis(config.high_watermark_checkpoint_interval_ms);
        Housekeeper {
            next_sweep: now + SWEEP_EVERY,
            next_full_checkpoint: now + full_every,
            next_files: now + files_every,
            next_idle: now + IDLE_EVERY,
            next_space: now,
            growth: Growth {
                unchecked: UNCHECKED,
                next_look: now,
                seen_bytes: 0,
                bounded_bytes: 0,
            },
            full_every,
            files_every,
            files_written: None,
            keeper: Keeper::new(broker, scope.clone(), now),
            scope,
        }
    }

    /// Does what is due; returns when it wants to be called again.
    pub fn run(&mut self, broker: &Arc<Broker>, now: Instant) -> Instant {
        if now >= self.next_full_checkpoint {
            self.next_full_checkpoint = now + self.full_every;
            checkpoint_logs(broker, &self.scope);
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            for dir in &self.scope.online(broker) {
                dir.disk.close_idle();
            }
        }
        if now >= self.growth.next_look {
            self.look_at_growth(broker, now);
        }
        if now >= self.next_files {
            self.next_files = now + self.files_every;
            self.write_changed_files(broker);
        }
        if now >= self.next_idle {
            self.next_idle = now + IDLE_EVERY;
            release_idle(broker, &self.scope);
        }
        if now >= self.next_space {
            self.next_space = now + SPACE_EVERY;
            if look_at_disks(broker, &self.scope) {
                self.keeper.hurry(now);
            }
        }
        let next_retention = self.keeper.run(broker, now);
        next_retention
            .min(self.next_full_checkpoint)
            .min(self.next_sweep)
            .min(self.growth.next_look)
            .min(self.next_files)
            .min(self.next_idle)
            .min(self.next_space)
    }

    fn look_at_growth(&mut self, broker: &Broker, now: Instant) {
        let appended = self.scope.appended_bytes(broker);
        let growth = &mut self.growth;
        let busy = appended.saturating_sub(growth.seen_bytes) >= BUSY_BYTES;
        growth.seen_bytes = appended;
        growth.next_look = now + if busy { BUSY_EVERY } else { SPACE_EVERY };
        if appended.saturating_sub(growth.bounded_bytes) >= growth.unchecked.max_bytes / 2 {
            growth.bounded_bytes = appended;
            bound_unchecked(broker, &self.scope, growth.unchecked);
            // A checkpoint counts once these name it; the next look brings those begun just now.
            self.write_changed_files(broker);
        }
    }

    fn write_changed_files(&mut self, broker: &Broker) {
        // Taken before the files are written: what changes meanwhile is seen the next time.
        let marks = Some(digest_of_marks(broker, &self.scope));
        if marks == self.files_written {
            return;
        }
        self.files_written = match write_files_in(broker, &self.scope) {
            Ok(()) => marks,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint files could not be written");
                None
            }
        };
    }
}

/// A first look at the disks, before anybody is served.
pub fn look_first(broker: &Broker) {
    look_at_disks(broker, &Scope::All);
}

/// Looks at the room of every directory and says what has changed; true when one is short of room
/// that was not.
fn look_at_disks(broker: &Broker, scope: &Scope) -> bool {
    let marks = broker.live_config().disk_marks;
    let mut hurry = false;
    for dir in &scope.online(broker) {
        match dir.space.look(&*dir.disk, &marks) {
            Ok((before, now)) if before != now => {
                say(dir, before, now);
                hurry |= matches!(now, Room::Low | Room::Full);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(log_dir = %dir.path, %error, "the disk cannot be looked at");
                dir.report("a look at the disk", &error);
            }
        }
    }
    hurry
}

fn say(dir: &LogDir, before: Room, now: Room) {
    let (log_dir, free_bytes) = (&*dir.path, dir.space.free_bytes());
    match now {
        Room::Ample | Room::Low if !before.takes_records() => {
            tracing::info!(log_dir, free_bytes, "records are taken again");
        }
        Room::Ample => tracing::info!(log_dir, free_bytes, "the disk has room again"),
        Room::Low => tracing::warn!(
            log_dir,
            free_bytes,
            "the disk is running full: free space, or keep less (retention.ms, retention.bytes)"
        ),
        Room::Full => tracing::error!(
            log_dir,
            free_bytes,
            "the disk is full: records and new topics are refused until there is room; reads, \
             deletions and offset commits go on"
        ),
        Room::ReadOnly => tracing::error!(log_dir, "the file system is read-only"),
    }
}

/// A number that changes with anything the checkpoint files say.
fn digest_of_marks(broker: &Broker, scope: &Scope) -> u64 {
    let mut hasher = DefaultHasher::new();
    let partitions = scope.partitions(broker);
    for dir in &scope.online(broker) {
        dir.path.hash(&mut hasher);
        for partition in &partitions {
            (partition.topic_id.0, partition.index).hash(&mut hasher);
            partition.checkpoint_marks_in(dir).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn release_idle(broker: &Broker, scope: &Scope) {
    let now_ms = broker.clock.wall_ms();
    let mut checkpoints = 0;
    for partition in scope.partitions(broker) {
        if partition.release_if_idle(now_ms) && checkpoints < IDLE_CHECKPOINTS_MAX {
            checkpoints += 1;
            broker.flush.push(Job::IdleCheckpoint(partition));
        }
    }
}

/// Checkpoints the logs that grew most until the others hold half of what is allowed: the next
/// look comes when the other half was appended.
fn bound_unchecked(broker: &Broker, scope: &Scope, bounds: Unchecked) {
    let partitions = scope.partitions(broker).into_iter();
    let mut grown: Vec<_> = partitions
        .map(|partition| (partition.unchecked_bytes(), partition))
        .collect();
    let mut unchecked: u64 = grown.iter().map(|(bytes, _)| bytes).sum();
    grown.retain(|(bytes, _)| *bytes >= bounds.least_bytes);
    grown.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (bytes, partition) in grown {
        if unchecked <= bounds.max_bytes / 2 {
            break;
        }
        unchecked -= bytes;
        broker.flush.push(Job::Checkpoint(partition));
    }
}

/// All logs that were written to.
fn checkpoint_logs(broker: &Broker, scope: &Scope) {
    for partition in scope.partitions(broker) {
        if partition.unchecked_bytes() > 0 {
            broker.flush.push(Job::Checkpoint(partition));
        }
    }
}

/// Writes the checkpoint files of every directory that works; one thread at a time does. The first
/// error, after all of them were tried.
pub fn write_files(broker: &Broker) -> Result<(), CheckpointError> {
    write_files_in(broker, &Scope::All)
}

fn write_files_in(broker: &Broker, scope: &Scope) -> Result<(), CheckpointError> {
    let online = scope.online(broker);
    let written: Vec<_> = online
        .iter()
        .map(|dir| write_files_of(broker, dir))
        .collect();
    written.into_iter().collect()
}

fn write_files_of(broker: &Broker, dir: &Arc<LogDir>) -> Result<(), CheckpointError> {
    let written = write_marks_of(broker, dir);
    if let Err(CheckpointError::Io { file, source }) = &written {
        dir.report(file, source);
    }
    written
}

/// What an offline partition had in the files is lost, which costs a full check of its log and
/// nothing else.
fn write_marks_of(broker: &Broker, dir: &Arc<LogDir>) -> Result<(), CheckpointError> {
    let mut recovery_points = PartitionOffsets::new();
    let mut high_watermarks = PartitionOffsets::new();
    let mut compacted = PartitionOffsets::new();
    for partition in broker.partitions.all() {
        let Some(marks) = partition.checkpoint_marks_in(dir) else {
            continue;
        };
        if marks.high_watermark == Offset::ZERO {
            continue;
        }
        let name = TopicPartition::new(Arc::clone(&partition.topic), partition.index);
        if marks.compacted_to > Offset::ZERO {
            compacted.insert(name.clone(), marks.compacted_to);
        }
        recovery_points.insert(name.clone(), marks.recovery_point);
        high_watermarks.insert(name, marks.high_watermark);
    }
    let disk = &*dir.disk;
    checkpoint::write_offsets(disk, checkpoint::RECOVERY_POINTS, &recovery_points)?;
    log_starts::write(broker, dir)?;
    checkpoint::write_offsets(disk, checkpoint::CLEANER_OFFSETS, &compacted)?;
    checkpoint::write_offsets(disk, checkpoint::HIGH_WATERMARKS, &high_watermarks)
}

/// A clean shutdown did not succeed; the next start checks the logs as after a crash.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("{failed} logs could not be closed; the next start will check them")]
    Logs { failed: usize },
    #[error("the checkpoints could not be written: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("the marker of a clean shutdown could not be written: {0}")]
    Marker(#[from] LayoutError),
    #[error(
        "log directory {path} could not be closed: its disk hangs; the next start will check it"
    )]
    Hung { path: Arc<str> },
}

/// The end of a clean shutdown, after all logs were closed and so many of them `failed`: the
/// checkpoint files, and in each directory whose logs are all closed the marker that lets the next
/// start trust it.
pub fn finish(broker: &Broker, failed: usize) -> Result<(), StopError> {
    let online = broker.log_dirs.online();
    let finished: Vec<_> = online.map(|dir| finish_dir(broker, dir)).collect();
    finished.into_iter().collect::<Result<(), _>>()?;
    match failed {
        0 => Ok(()),
        failed => Err(StopError::Logs { failed }),
    }
}

/// The same for one directory.
pub fn finish_dir(broker: &Broker, dir: &Arc<LogDir>) -> Result<(), StopError> {
    let image = broker.metadata.image();
    let registered = image.brokers.get(broker.node_id);
    let epoch = registered.map_or(NEVER_REGISTERED, |registered| registered.epoch);
    write_files_of(broker, dir)?;
    if dir.is_clean() {
        layout::write_clean_shutdown(&*dir.disk, epoch.0)?;
    }
    Ok(())
}
