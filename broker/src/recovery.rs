//! Opening the logs of all log directories at start: what the checkpoints say, every assigned
//! partition in any number of threads, and what lies around that belongs to nobody.
//!
//! One [`Recovery`] is made from the image that the registration left behind. Threads call
//! `open_next` until it says false; what is open is served from the next `publish` on, and the last
//! is `finish`. After a clean shutdown that reads next to nothing; after a crash each log checks
//! what is above its recovery point. The logs of groups come first, and their coordinators are
//! loaded by the thread that opened them.
//!
//! Until the end nothing in the metadata may change that concerns partitions: whoever drives the
//! controller holds that back (`Mailbox::hold`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_controller::MetadataImage;
use ottla_controller::image::TopicImage;
use ottla_protocol::types::{Offset, TopicId, TopicPartition};
use ottla_storage::checkpoint::{self, PartitionOffsets};
use ottla_storage::disk::Disk;
use ottla_storage::layout::{self, DirName, LayoutError};
use ottla_storage::log::{
    Log, LogError, OpenLog, RecoveryReport, is_complete_copy, remove_copy_marker,
};
use parking_lot::Mutex;

use crate::assignments;
use crate::broker::Broker;
use crate::config::TopicConfig;
use crate::coordinators::OFFSETS_TOPIC;
use crate::failures;
use crate::flusher::Job;
use crate::http::Readiness;
use crate::log_dirs::{LogDir, LogDirs, Seat, is_of_the_device};
use crate::partition::Partition;
use crate::partition::map::HostedTopic;

/// A log directory that cannot be read as a whole; single logs that cannot go offline instead.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("the log directory cannot be listed: {0}")]
    List(#[source] std::io::Error),
}

/// One partition to open.
struct Task {
    topic: Arc<TopicImage>,
    config: Arc<TopicConfig>,
    index: i32,
    place: Place,
    /// It found no descriptor beside others once.
    again: bool,
}

/// Where a partition is.
enum Place {
    /// In the directory of that number.
    In(usize, Seat),
    /// Nowhere: it has nothing yet.
    New(Seat),
    /// It cannot be served, and why.
    Nowhere(Seat, String),
}

impl Place {
    fn seat(&self) -> &Seat {
        match self {
            Place::In(_, seat) | Place::New(seat) | Place::Nowhere(seat, _) => seat,
        }
    }
}

/// What was found in one directory.
#[derive(Default)]
struct Look {
    files: Checkpoints,
    folders: Vec<TopicPartition>,
    /// Names of folders.
    futures: Vec<String>,
}

/// What the files of one directory say.
#[derive(Default)]
struct Checkpoints {
    clean: bool,
    /// Everything in it was synced at this start.
    synced: bool,
    recovery_points: PartitionOffsets,
    log_starts: PartitionOffsets,
    compacted: PartitionOffsets,
}

/// The opening of all logs.
pub struct Recovery {
    broker: Arc<Broker>,
    now_ms: i64,
    /// By the number of the directory, as what follows.
    checkpoints: Vec<Checkpoints>,
    /// One queue for each directory, so that all of them are busy.
    tasks: Mutex<Vec<VecDeque<Task>>>,
    next_queue: AtomicUsize,
    /// And not served yet.
    opened: Mutex<Vec<Arc<Partition>>>,
    /// Held while some of them begin to be served.
    publishing: Mutex<()>,
    /// Moves to begin anew, and where to.
    moves: Vec<(TopicPartition, usize)>,
    readiness: Arc<Readiness>,
}

/// Where the folders of partitions are: the number of the directory; more than one is an error.
type Found = BTreeMap<TopicPartition, Vec<usize>>;

impl Recovery {
    /// Reads the checkpoints and puts aside what belongs to no partition of this broker. A
    /// directory that cannot be read fails, unless it is the only one.
    pub fn begin(
        broker: &Arc<Broker>,
        image: &MetadataImage,
        readiness: Arc<Readiness>,
    ) -> Result<Recovery, RecoveryError> {
        let (mut checkpoints, mut found, mut futures) = (Vec::new(), Found::new(), Vec::new());
        for (number, dir) in broker.log_dirs.iter().enumerate() {
            let read = match dir.is_online() {
                true => look_at(broker, image, dir),
                false => Ok(Look::default()),
            };
            let look = match read {
                Ok(read) => read,
                Err(error) if broker.log_dirs.online().count() > 1 => {
                    dir.fail(error.to_string());
                    Look::default()
                }
                Err(error) => return Err(error),
            };
            checkpoints.push(look.files);
            for name in look.folders {
                found.entry(name).or_default().push(number);
            }
            futures.extend(look.futures.into_iter().map(|folder| (number, folder)));
        }
        let mut moves = Vec::new();
        for (number, folder) in futures {
            moves.extend(interrupted(broker, image, &mut found, (number, &folder)));
        }
        settle_twins(broker, &mut found);
        let topics = hosted_topics(broker, image);
        let tasks = tasks(broker, image, &topics, &found);
        broker.opening.store(true, Ordering::Release);
        broker.coordinators.set_loading(true);
        topics.iter().for_each(|topic| host_nothing(broker, topic));
        readiness.logs_to_recover(tasks.iter().map(VecDeque::len).sum::<usize>() as u64);
        Ok(Recovery {
            broker: Arc::clone(broker),
            now_ms: broker.clock.wall_ms(),
            checkpoints,
            tasks: Mutex::new(tasks),
            next_queue: AtomicUsize::new(0),
            opened: Mutex::default(),
            publishing: Mutex::default(),
            moves,
            readiness,
        })
    }

    /// How many partitions there are to open.
    pub fn partitions(&self) -> usize {
        self.tasks.lock().iter().map(VecDeque::len).sum()
    }

    /// Opens one partition; false when none is left.
    pub fn open_next(&self) -> bool {
        let Some(mut task) = self.next_task() else {
            return false;
        };
        let name = (Arc::clone(&task.topic.name), task.topic.id, task.index);
        let epoch = task.topic.partitions[task.index as usize].leader_epoch;
        let (log, scanned_bytes) = match self.open_log(&task) {
            Ok((log, scanned_bytes)) => (Ok(log), scanned_bytes),
            Err(error) if error.is_out_of_descriptors() && !task.again => {
                task.again = true;
                self.tasks.lock()[0].push_back(task);
                return true;
            }
            Err(error) => (Err(error), 0),
        };
        self.readiness.log_recovered(scanned_bytes);
        let seat = task.place.seat().dir().seat();
        if let Err(LogError::Io { source, .. }) = &log
            && is_of_the_device(source)
        {
            seat.examine();
        }
        let placed = (log, seat);
        let partition = assignments::partition(&self.broker, name, placed, epoch, &task.config);
        self.opened.lock().push(Arc::clone(&partition));
        if *partition.topic == *OFFSETS_TOPIC {
            self.load_groups(&task.topic, &partition);
        }
        true
    }

    /// The groups whose log this is.
    fn load_groups(&self, topic: &TopicImage, partition: &Arc<Partition>) {
        let alone = HostedTopic {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partitions: (0i32..)
                .zip(&topic.partitions)
                .map(|(index, _)| (index == partition.index).then(|| Arc::clone(partition)))
                .collect(),
        };
        self.broker.coordinators.host(&self.broker, &alone);
    }

    /// Serves what was opened since the last call; whether there was anything.
    pub fn publish(&self) -> bool {
        let _publishing = self.publishing.lock();
        let mut opened: BTreeMap<TopicId, Vec<Arc<Partition>>> = BTreeMap::new();
        for partition in std::mem::take(&mut *self.opened.lock()) {
            opened
                .entry(partition.topic_id)
                .or_default()
                .push(partition);
        }
        for (id, new) in &opened {
            let Some(hosted) = self.broker.partitions.topic_by_id(*id) else {
                continue;
            };
            let mut partitions = hosted.partitions.clone();
            for partition in new {
                let index = usize::try_from(partition.index).ok();
                if let Some(place) = index.and_then(|index| partitions.get_mut(index)) {
                    *place = Some(Arc::clone(partition));
                }
            }
            self.broker.partitions.insert(Arc::new(HostedTopic {
                name: Arc::clone(&hosted.name),
                id: *id,
                partitions,
            }));
        }
        !opened.is_empty()
    }

    /// The directories take turns.
    fn next_task(&self) -> Option<Task> {
        let mut queues = self.tasks.lock();
        let turn = self.next_queue.fetch_add(1, Ordering::Relaxed);
        let count = queues.len();
        (0..count).find_map(|n| queues[(turn + n) % count].pop_front())
    }

    /// The log, and how many bytes of it had to be checked.
    fn open_log(&self, task: &Task) -> Result<(Log, u64), LogError> {
        let name = TopicPartition::new(Arc::clone(&task.topic.name), task.index);
        let dir = layout::partition_dir(&name);
        let config = assignments::log_config(&self.broker, &task.config);
        let (number, place) = match &task.place {
            Place::In(number, seat) => (*number, seat),
            Place::New(seat) => {
                let promised = self.recovery_point(&name);
                if promised > Offset::ZERO {
                    tracing::error!(
                        %name, recovery_point = %promised,
                        "the log of this partition is gone"
                    );
                }
                let log = assignments::new_log(&self.broker, seat, &name, task.topic.id, config)?;
                return Ok((log, 0));
            }
            Place::Nowhere(_, why) => {
                let source = std::io::Error::other(why.clone());
                return Err(LogError::Io { path: dir, source });
            }
        };
        let files = &self.checkpoints[number];
        let of = |offsets: &PartitionOffsets| offsets.get(&name).copied();
        let open = OpenLog {
            recovery_point: of(&files.recovery_points).unwrap_or(Offset::ZERO),
            log_start_offset: of(&files.log_starts).unwrap_or(Offset::ZERO),
            clean: files.clean,
            synced: files.synced,
        };
        let disk = Arc::clone(&place.disk);
        let (mut log, report) = Log::open(disk, &dir, config, open, self.now_ms)?;
        if let Some(compacted_to) = of(&files.compacted) {
            log.set_compacted_to(compacted_to);
        }
        note(&name, &report);
        Ok((log, report.checked_bytes))
    }

    /// The highest that any directory promises.
    fn recovery_point(&self, name: &TopicPartition) -> Offset {
        let points = self.checkpoints.iter();
        let points = points.filter_map(|files| files.recovery_points.get(name).copied());
        points.max().unwrap_or(Offset::ZERO)
    }

    /// Every directory was closed in order: nothing has to be checked.
    pub fn is_clean(&self) -> bool {
        self.checkpoints.iter().all(|files| files.clean)
    }

    /// Serves the last of them. Every task must be done.
    pub fn finish(self) {
        self.publish();
        self.broker.coordinators.set_loading(false);
        self.broker.opening.store(false, Ordering::Release);
        for (name, number) in self.moves {
            let partition = self.broker.partitions.get(&name.topic, name.partition);
            let to = self.broker.log_dirs.iter().nth(number);
            if let (Some(partition), Some(to)) = (partition, to)
                && let Err(error) = self.broker.mover.ask(&partition, to)
            {
                tracing::warn!(%name, %error, "a move is not begun again");
            }
        }
        // What failed meanwhile had no partitions to take offline yet.
        for dir in self.broker.log_dirs.iter().filter(|dir| !dir.is_online()) {
            failures::went_offline(&self.broker, dir);
        }
    }
}

/// After a crash: one sync of everything, where each log would need several of its own.
fn sync_once(disk: &dyn Disk) -> bool {
    match disk.sync_all() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "a log directory could not be synced: each log will be");
            false
        }
    }
}

/// What recovery found, in one line; nothing after a clean shutdown.
fn note(name: &TopicPartition, report: &RecoveryReport) {
    if report.is_corrupt() {
        tracing::error!(%name, ?report, "a log was damaged");
    } else if report.truncated_bytes > 0 {
        tracing::warn!(
            %name,
            truncated_bytes = report.truncated_bytes,
            log_end_offset = %report.log_end_offset,
            "cut off an unfinished write"
        );
    } else if report.checked_bytes > 0 {
        tracing::debug!(%name, checked_bytes = report.checked_bytes, "recovered a log");
    }
}

/// A damaged or missing checkpoint costs time, not data: everything is checked then.
fn read(disk: &dyn Disk, path: &str) -> PartitionOffsets {
    match checkpoint::read_offsets(disk, path) {
        Ok(offsets) => offsets.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "a checkpoint is unusable: every log is checked from its start");
            PartitionOffsets::new()
        }
    }
}

/// What a directory has: its files, and the folders of partitions of this broker.
fn look_at(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    dir: &Arc<LogDir>,
) -> Result<Look, RecoveryError> {
    let disk = &*dir.disk;
    let clean = layout::take_clean_shutdown(disk)?;
    let synced = !clean && sync_once(disk);
    let (folders, futures) = sort_out(broker, image, dir)?;
    let log_starts = read(disk, checkpoint::LOG_START_OFFSETS);
    *dir.log_starts.lock() = log_starts.clone();
    let files = Checkpoints {
        clean,
        synced,
        recovery_points: read(disk, checkpoint::RECOVERY_POINTS),
        log_starts,
        compacted: read(disk, checkpoint::CLEANER_OFFSETS),
    };
    Ok(Look {
        files,
        folders,
        futures,
    })
}

/// The topic is known to be here, its partitions are not served yet.
fn host_nothing(broker: &Broker, topic: &TopicImage) {
    let hosted = Arc::new(HostedTopic {
        name: Arc::clone(&topic.name),
        id: topic.id,
        partitions: vec![None; topic.partitions.len()],
    });
    broker.partitions.insert(Arc::clone(&hosted));
    broker.coordinators.host(broker, &hosted);
}

fn hosted_topics(broker: &Broker, image: &MetadataImage) -> Vec<Arc<TopicImage>> {
    let here = |topic: &&Arc<TopicImage>| {
        let mut partitions = topic.partitions.iter();
        partitions.any(|p| p.replicas.contains(&broker.node_id))
    };
    image.topics.iter().filter(here).cloned().collect()
}

/// What is to be opened, by directory. Those that have a place take it before the new ones look
/// for one.
fn tasks(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    topics: &[Arc<TopicImage>],
    found: &Found,
) -> Vec<VecDeque<Task>> {
    let dirs: Vec<_> = broker.log_dirs.iter().collect();
    let mut queues: Vec<VecDeque<Task>> = dirs.iter().map(|_| VecDeque::new()).collect();
    let mut new = Vec::new();
    for topic in topics {
        let config = Arc::new(assignments::topic_config(broker, image, &topic.name));
        for (index, assigned) in (0i32..).zip(&topic.partitions) {
            if !assigned.replicas.contains(&broker.node_id) {
                continue;
            }
            let name = TopicPartition::new(Arc::clone(&topic.name), index);
            let (topic, config) = (Arc::clone(topic), Arc::clone(&config));
            let Some(numbers) = found.get(&name) else {
                new.push((topic, config, index));
                continue;
            };
            let first = numbers[0];
            let place = match numbers.len() {
                1 => Place::In(first, dirs[first].seat()),
                _ => Place::Nowhere(dirs[first].seat(), twice(&dirs, numbers)),
            };
            queues[first].push_back(Task {
                topic,
                config,
                index,
                place,
                again: false,
            });
        }
    }
    for (topic, config, index) in new {
        queues[0].push_back(Task {
            topic,
            config,
            index,
            place: new_place(&broker.log_dirs),
            again: false,
        });
    }
    // Clients find their partitions and places with them.
    for queue in &mut queues {
        let tasks = queue.make_contiguous();
        tasks.sort_by_key(|task| *task.topic.name != *OFFSETS_TOPIC);
    }
    queues
}

fn twice(dirs: &[&Arc<LogDir>], numbers: &[usize]) -> String {
    let paths: Vec<_> = numbers.iter().map(|number| &*dirs[*number].path).collect();
    let paths = paths.join(" and in ");
    format!("its folder is in {paths}: move all but the right one away and start again")
}

/// The place of a partition that has no folder. While a directory is missing it may be there.
fn new_place(log_dirs: &LogDirs) -> Place {
    if let Some(offline) = log_dirs.first_offline() {
        let why = format!(
            "it is in no directory that works; it may be in {}, which is offline",
            offline.path
        );
        return Place::Nowhere(offline.seat(), why);
    }
    match log_dirs.place() {
        Some(seat) => Place::New(seat),
        None => Place::Nowhere(log_dirs.nowhere(), "no log directory works".to_owned()),
    }
}

/// What becomes of the copy that a move left behind. Beside its original it is removed, and the
/// move begins anew. Without one it takes its place if it is complete.
fn interrupted(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    found: &mut Found,
    (number, folder): (usize, &str),
) -> Option<(TopicPartition, usize)> {
    let dir = broker.log_dirs.iter().nth(number)?;
    // The name may be cut; the id in it is not.
    let id = layout::read_partition_metadata(&*dir.disk, folder);
    let topic = id.ok().flatten().and_then(|id| image.topics.by_id(id));
    let name = topic.zip(layout::future_index(folder));
    let name = name.map(|(topic, index)| TopicPartition::new(Arc::clone(&topic.name), index));
    let has_original = name.as_ref().is_some_and(|name| found.contains_key(name));
    if has_original || name.is_none() {
        let (disk, path) = (Arc::clone(&dir.disk), folder.to_owned());
        broker.flush.push(Job::RemoveDir { disk, path });
        return name.map(|name| (name, number));
    }
    let name = name?;
    match take_over(&*dir.disk, folder, &layout::partition_dir(&name)) {
        Ok(true) => {
            tracing::info!(%name, log_dir = %dir.path, "finished the move of a partition");
            found.insert(name, vec![number]);
        }
        Ok(false) => assignments::set_aside(broker, dir, folder),
        Err(error) => {
            tracing::error!(%name, log_dir = %dir.path, %error, "a move could not be finished");
        }
    }
    None
}

/// A move whose last rename failed leaves the log and, on the disk that failed, a copy with its
/// name. The copy still has its marker: it goes.
fn settle_twins(broker: &Arc<Broker>, found: &mut Found) {
    let dirs: Vec<_> = broker.log_dirs.iter().collect();
    for (name, numbers) in found.iter_mut().filter(|(_, numbers)| numbers.len() > 1) {
        let folder = layout::partition_dir(name);
        let is_copy = |number: &usize| {
            let disk = &*dirs[*number].disk;
            is_complete_copy(disk, &folder).unwrap_or(false)
        };
        let (copies, logs): (Vec<_>, Vec<_>) = numbers.iter().copied().partition(is_copy);
        if logs.len() == 1 {
            for copy in copies {
                tracing::warn!(%name, log_dir = %dirs[copy].path, "removed the copy of a log");
                assignments::remove_log(broker, dirs[copy], name);
            }
            *numbers = logs;
        }
    }
}

/// False: the copy is not complete.
fn take_over(disk: &dyn Disk, folder: &str, dir: &str) -> std::io::Result<bool> {
    if !is_complete_copy(disk, folder)? {
        return Ok(false);
    }
    disk.rename(folder, dir)?;
    disk.sync_dir("")?;
    remove_copy_marker(disk, dir)?;
    Ok(true)
}

/// Removes what a deletion left behind and puts aside logs of no topic, or of an earlier topic of
/// the same name; answers what is left: partitions, and copies of some on their way here.
fn sort_out(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    dir: &Arc<LogDir>,
) -> Result<(Vec<TopicPartition>, Vec<String>), RecoveryError> {
    let disk = &dir.disk;
    let (mut folders, mut futures) = (Vec::new(), Vec::new());
    for entry in disk.list("").map_err(RecoveryError::List)? {
        if !entry.is_dir {
            continue;
        }
        match layout::parse_dir(&entry.name) {
            DirName::Deleted => broker.flush.push(Job::RemoveDir {
                disk: Arc::clone(disk),
                path: entry.name,
            }),
            DirName::Partition(name) if !belongs(broker, image, &**disk, &name, &entry.name) => {
                assignments::set_aside(broker, dir, &entry.name);
            }
            DirName::Partition(name) => folders.push(name),
            DirName::Future => futures.push(entry.name),
            DirName::Stray | DirName::Other => {}
        }
    }
    Ok((folders, futures))
}

fn belongs(
    broker: &Broker,
    image: &MetadataImage,
    disk: &dyn Disk,
    name: &TopicPartition,
    dir: &str,
) -> bool {
    let Some(topic) = image.topics.by_name(&name.topic) else {
        return false;
    };
    let assigned = topic.partition(name.partition);
    if !assigned.is_some_and(|assigned| assigned.replicas.contains(&broker.node_id)) {
        return false;
    }
    // Without a readable id the name decides.
    match layout::read_partition_metadata(disk, dir) {
        Ok(Some(id)) => id == topic.id,
        Ok(None) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
