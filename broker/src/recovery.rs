//! Opening the logs of a log directory at start: what the checkpoints say, every assigned partition
//! in any number of threads, and what lies around that belongs to nobody.
//!
//! One [`Recovery`] is made from the image that the registration left behind. Threads call
//! `open_next` until it says false; `finish` makes the result visible. After a clean shutdown that
//! reads next to nothing; after a crash each log checks what is above its recovery point.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_controller::image::TopicImage;
use ottla_protocol::types::{Offset, TopicId, TopicPartition};
use ottla_storage::checkpoint::{self, PartitionOffsets};
use ottla_storage::disk::Disk;
use ottla_storage::layout::{self, DirName, LayoutError};
use ottla_storage::log::{Log, LogError, OpenLog, RecoveryReport};
use parking_lot::Mutex;

use crate::assignments;
use crate::broker::Broker;
use crate::config::TopicConfig;
use crate::flusher::Job;
use crate::http::Readiness;
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
}

/// The opening of all logs.
pub struct Recovery {
    broker: Arc<Broker>,
    now_ms: i64,
    clean: bool,
    recovery_points: PartitionOffsets,
    log_starts: PartitionOffsets,
    compacted: PartitionOffsets,
    tasks: Mutex<VecDeque<Task>>,
    opened: Mutex<BTreeMap<(TopicId, i32), Arc<Partition>>>,
    topics: Vec<Arc<TopicImage>>,
    readiness: Arc<Readiness>,
}

impl Recovery {
    /// Reads the checkpoints and puts aside what belongs to no partition of this broker.
    pub fn begin(
        broker: &Arc<Broker>,
        image: &MetadataImage,
        readiness: Arc<Readiness>,
    ) -> Result<Recovery, RecoveryError> {
        let disk = &*broker.log_dirs.0[0].disk;
        let clean = layout::take_clean_shutdown(disk)?;
        let topics: Vec<Arc<TopicImage>> = image
            .topics
            .iter()
            .filter(|topic| {
                topic
                    .partitions
                    .iter()
                    .any(|p| p.replicas.contains(&broker.node_id))
            })
            .cloned()
            .collect();
        let mut tasks = VecDeque::new();
        for topic in &topics {
            let config = Arc::new(assignments::topic_config(broker, image, &topic.name));
            for (index, assigned) in (0i32..).zip(&topic.partitions) {
                if assigned.replicas.contains(&broker.node_id) {
                    let (topic, config) = (Arc::clone(topic), Arc::clone(&config));
                    tasks.push_back(Task {
                        topic,
                        config,
                        index,
                    });
                }
            }
        }
        readiness.logs_to_recover(tasks.len() as u64);
        sort_out(broker, image, disk)?;
        let log_starts = read(disk, checkpoint::LOG_START_OFFSETS);
        broker.log_starts.loaded(log_starts.clone());
        Ok(Recovery {
            broker: Arc::clone(broker),
            now_ms: broker.clock.wall_ms(),
            clean,
            recovery_points: read(disk, checkpoint::RECOVERY_POINTS),
            log_starts,
            compacted: read(disk, checkpoint::CLEANER_OFFSETS),
            tasks: Mutex::new(tasks),
            opened: Mutex::new(BTreeMap::new()),
            topics,
            readiness,
        })
    }

    /// How many partitions there are to open.
    pub fn partitions(&self) -> usize {
        self.tasks.lock().len()
    }

    /// Opens one partition; false when none is left.
    pub fn open_next(&self) -> bool {
        let Some(task) = self.tasks.lock().pop_front() else {
            return false;
        };
        let name = (Arc::clone(&task.topic.name), task.topic.id, task.index);
        let epoch = task.topic.partitions[task.index as usize].leader_epoch;
        let (log, scanned_bytes) = match self.open_log(&task) {
            Ok((log, scanned_bytes)) => (Ok(log), scanned_bytes),
            Err(error) => (Err(error), 0),
        };
        self.readiness.log_recovered(scanned_bytes);
        let partition = assignments::partition(&self.broker, name, log, epoch, &task.config);
        self.opened
            .lock()
            .insert((task.topic.id, task.index), partition);
        true
    }

    /// The log, and how many bytes of it had to be checked.
    fn open_log(&self, task: &Task) -> Result<(Log, u64), LogError> {
        let name = TopicPartition::new(Arc::clone(&task.topic.name), task.index);
        let dir = layout::partition_dir(&name);
        let disk = Arc::clone(&self.broker.log_dirs.0[0].disk);
        let config = assignments::log_config(&self.broker, &task.config);
        let recovery_point = self
            .recovery_points
            .get(&name)
            .copied()
            .unwrap_or(Offset::ZERO);
        let exists = disk.exists(&dir).map_err(|source| LogError::Io {
            path: dir.clone(),
            source,
        })?;
        if !exists {
            if recovery_point > Offset::ZERO {
                tracing::error!(%name, %recovery_point, "the log of this partition is gone");
            }
            let log = assignments::new_log(&self.broker, &name, task.topic.id, config)?;
            return Ok((log, 0));
        }
        let open = OpenLog {
            recovery_point,
            log_start_offset: self.log_starts.get(&name).copied().unwrap_or(Offset::ZERO),
            clean: self.clean,
        };
        let (mut log, report) = Log::open(disk, &dir, config, open, self.now_ms)?;
        if let Some(compacted_to) = self.compacted.get(&name) {
            log.set_compacted_to(*compacted_to);
        }
        note(&name, &report);
        Ok((log, report.checked_bytes))
    }

    /// Makes the opened partitions visible. Every task must be done.
    pub fn finish(self) {
        let mut opened = self.opened.into_inner();
        for topic in self.topics {
            let partitions = (0i32..)
                .zip(&topic.partitions)
                .map(|(index, _)| opened.remove(&(topic.id, index)))
                .collect();
            let (name, id) = (Arc::clone(&topic.name), topic.id);
            let hosted = Arc::new(HostedTopic {
                name,
                id,
                partitions,
            });
            self.broker.partitions.insert(Arc::clone(&hosted));
            self.broker.coordinators.host(&self.broker, &hosted);
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

/// Removes what a deletion left behind and puts aside logs of no topic, or of an earlier topic of
/// the same name.
fn sort_out(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    disk: &dyn Disk,
) -> Result<(), RecoveryError> {
    for entry in disk.list("").map_err(RecoveryError::List)? {
        if !entry.is_dir {
            continue;
        }
        match layout::parse_dir(&entry.name) {
            DirName::Deleted => {
                let disk = Arc::clone(&broker.log_dirs.0[0].disk);
                broker.flush.push(Job::RemoveDir {
                    disk,
                    path: entry.name,
                });
            }
            DirName::Partition(name) if !belongs(broker, image, disk, &name, &entry.name) => {
                assignments::set_aside(broker, &entry.name);
            }
            DirName::Partition(_) | DirName::Future | DirName::Stray | DirName::Other => {}
        }
    }
    Ok(())
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
