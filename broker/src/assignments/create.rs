//! The logs of a new topic: where each goes, and its first steps on the disk.
//!
//! A directory makes all of its logs of a topic in one errand. One that hangs makes none: its
//! share goes elsewhere. An errand that was begun and comes back too late takes back what it made.
//! Whatever touches the logs of a directory is an errand of it, so that this cannot meet logs that
//! were made there meanwhile.

use std::sync::Arc;

use ottla_controller::image::TopicImage;
use ottla_protocol::types::TopicPartition;
use ottla_storage::layout;
use ottla_storage::log::{Log, LogError};

use super::{log_config, new_log, set_aside};
use crate::broker::Broker;
use crate::config::TopicConfig;
use crate::log_dirs::{LogDir, Seat};

/// A log, or why there is none, and its place.
type Placed = (Result<Log, LogError>, Seat);

/// The names of a topic's logs that one directory looks at, and those of them that it makes.
struct Share {
    topic: Told,
    all: Vec<TopicPartition>,
    here: Vec<TopicPartition>,
}

/// What a log is told of its topic.
#[derive(Clone)]
struct Told {
    id: ottla_protocol::types::TopicId,
    config: ottla_storage::log::LogConfig,
}

/// Logs for partitions that have none, each where the fewest are. A directory in the way of one
/// belongs to nobody: it is moved.
pub(super) fn logs(
    broker: &Arc<Broker>,
    topic: &TopicImage,
    mut left: Vec<i32>,
    config: &TopicConfig,
) -> Vec<(i32, Placed)> {
    let name = |index: &i32| TopicPartition::new(Arc::clone(&topic.name), *index);
    let parts = Told {
        id: topic.id,
        config: log_config(broker, config),
    };
    let mut made = Vec::new();
    // Whatever is left after a round was for a directory that is known to hang since.
    for _ in 0..broker.log_dirs.iter().len() {
        let all: Vec<_> = left.iter().map(name).collect();
        let mut placed = place(broker, std::mem::take(&mut left), &mut made);
        for dir in broker.log_dirs.online() {
            let (mine, others): (Vec<_>, Vec<_>) = placed
                .into_iter()
                .partition(|(_, seat)| Arc::ptr_eq(seat.dir(), dir));
            placed = others;
            let share = Share {
                topic: parts.clone(),
                all: all.clone(),
                here: mine.iter().map(|(index, _)| name(index)).collect(),
            };
            match share.make(broker, dir) {
                Some(logs) => {
                    let mine = mine.into_iter().zip(logs);
                    made.extend(mine.map(|((index, seat), log)| (index, (log, seat))));
                }
                None => left.extend(mine.into_iter().map(|(index, _)| index)),
            }
        }
        left.extend(placed.into_iter().map(|(index, _)| index));
        if left.is_empty() {
            return made;
        }
    }
    // Every directory hangs: there is nothing else to do than to wait.
    for (index, seat) in place(broker, left, &mut made) {
        let share = Share {
            topic: parts.clone(),
            all: vec![name(&index)],
            here: vec![name(&index)],
        };
        let (broker, place) = (Arc::clone(broker), Arc::clone(seat.dir()));
        let logs = move || share.carry_out(&broker, &place);
        let logs = seat.errands.send_and_wait(logs).into_iter().zip([seat]);
        made.extend(logs.map(|placed| (index, placed)));
    }
    made
}

fn place(broker: &Broker, indexes: Vec<i32>, made: &mut Vec<(i32, Placed)>) -> Vec<(i32, Seat)> {
    let mut placed = Vec::with_capacity(indexes.len());
    for index in indexes {
        match broker.log_dirs.place() {
            Some(seat) => placed.push((index, seat)),
            None => {
                let source = std::io::Error::other("no log directory is usable");
                let path = index.to_string();
                let failed = Err(LogError::Io { path, source });
                made.push((index, (failed, broker.log_dirs.nowhere())));
            }
        }
    }
    placed
}

impl Share {
    /// `None`: the directory hangs.
    fn make(self, broker: &Arc<Broker>, dir: &Arc<LogDir>) -> Option<Vec<Result<Log, LogError>>> {
        if dir.hang.hangs() {
            return None;
        }
        let (broker, place) = (Arc::clone(broker), Arc::clone(dir));
        let late = Arc::clone(dir);
        dir.attempt(
            move || self.carry_out(&broker, &place),
            move |logs| take_back(&late, logs),
        )
    }

    fn carry_out(self, broker: &Broker, place: &LogDir) -> Vec<Result<Log, LogError>> {
        for name in &self.all {
            let dir = layout::partition_dir(name);
            if place.disk.exists(&dir).unwrap_or(false) {
                set_aside(broker, place, &dir);
            }
            place.errands.step();
        }
        let Told { id, config } = self.topic;
        let log = |name| {
            let log = new_log(broker, place, name, id, config.clone());
            place.errands.step();
            log
        };
        self.here.iter().map(log).collect()
    }
}

/// Nobody waits for these any more: they were made elsewhere.
fn take_back(place: &LogDir, logs: Vec<Result<Log, LogError>>) {
    for log in logs.into_iter().flatten() {
        let dir = log.dir().to_owned();
        drop(log);
        if let Err(error) = place.disk.remove_dir_all(&dir) {
            tracing::warn!(log_dir = %place.path, dir, %error, "a log that came too late stays");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use ottla_storage::disk::Disk as _;

    use crate::handlers::testing::TestBroker;

    /// Both disks take nothing until everybody has given up, and then all at once.
    #[test]
    #[allow(clippy::disallowed_methods)] // disks that are slow
    fn logs_that_were_made_at_last_are_not_taken_for_some_that_came_too_late() {
        let test = TestBroker::with_disks(2, &[]);
        let dirs: Vec<_> = test.broker.log_dirs.iter().cloned().collect();
        dirs.iter().for_each(|dir| dir.errands.on_push(|| {}));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !dirs.iter().all(|dir| dir.hang.hangs()) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                // Time for whoever would make logs without an errand.
                std::thread::sleep(Duration::from_millis(300));
                while !over.load(Ordering::SeqCst) {
                    dirs.iter().for_each(|dir| while dir.errands.run_one() {});
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            test.create_topic("t", 2);
            over.store(true, Ordering::SeqCst);
        });
        dirs.iter().for_each(|dir| while dir.errands.run_one() {});
        for index in 0..2 {
            test.append("t", index, &[b"value"]);
            test.sync("t", index);
        }
        let names = test.disks.iter().flat_map(|disk| disk.list("").unwrap());
        let mut logs: Vec<_> = names.map(|entry| entry.name).collect();
        logs.retain(|name| name.starts_with("t-"));
        logs.sort();
        assert_eq!(logs, ["t-0", "t-1"]);
    }
}
