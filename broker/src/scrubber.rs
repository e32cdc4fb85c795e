//! Reads all sealed data again, slowly, so that a disk that forgets is noticed before somebody
//! needs what it forgot.
//!
//! One thread of low priority for each log directory runs [`Scrubber::run`], so that a disk that
//! hangs holds nobody else. A pass goes through every sealed segment of every log there and is
//! spread over most of `ottla.scrub.interval.ms`, within `ottla.scrub.max.bytes.per.second`, of
//! which each thread has an equal share. It begins at a log that chance picks, so that a broker
//! that is often restarted gets around, too. What is damaged is told once, with file and position,
//! counted, and shown by `/health`; readers are served around it (`ottla_storage::log`). A log in
//! which a client's read met damage is looked at without waiting for its turn.
//! Deliberately absent: how a segment is read, repair, threads and sleep (the caller's).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ottla_protocol::types::{Offset, TopicId};
use ottla_storage::log::compact::LogAccess;
use ottla_storage::log::{DamagedPlace, ScrubWork, Scrubbed};
use parking_lot::Mutex;
use rand::Rng;

use crate::broker::Broker;
use crate::cleaner::{Pause, Throttle};
use crate::housekeeper::Scope;
use crate::partition::Partition;

/// A pass takes so much of its interval; the rest is for what is written meanwhile.
const PASS_SHARE: f64 = 0.8;
/// However little there is to read, it is read no slower than this.
const SLOWEST_BYTES_PER_SECOND: f64 = 64.0 * 1024.0;
/// A broker that has just started has other things to do.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(60);
/// How often it looks for logs in which a client met damage, and whether it is switched on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What the scrub has done so far, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubSample {
    pub passes: u64,
    pub bytes: u64,
    /// Damaged places, and segments that could not be read at all.
    pub errors: u64,
    /// Places that are known to be damaged now.
    pub damaged: u64,
}

/// The state of the scrub in one broker.
#[derive(Default)]
pub struct Scrubber {
    counters: Mutex<ScrubSample>,
    /// By log directory, or for all of them.
    next_pass: Mutex<BTreeMap<Option<Arc<str>>, Instant>>,
    /// What was found, by log: told by `/health` until the log's files are replaced.
    damaged: Mutex<BTreeMap<(TopicId, i32), Vec<DamagedPlace>>>,
    stopping: AtomicBool,
}

impl Scrubber {
    /// Ends a pass under way at its next step.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// A pass if one is due; returns when to look again.
    pub fn run(
        &self,
        broker: &Arc<Broker>,
        scope: &Scope,
        now: Instant,
        pause: Pause<'_>,
    ) -> Instant {
        self.look_at_suspects(broker, scope, pause);
        let config = broker.live_config();
        let Some(interval) = config.scrub_interval else {
            return now + LOOK_AGAIN;
        };
        let due = *self
            .next_pass
            .lock()
            .entry(scope.path())
            .or_insert_with(|| now + FIRST_PASS_AFTER.min(interval));
        if due > now {
            return due.min(now + LOOK_AGAIN);
        }
        if self.pass(broker, scope, interval, pause) {
            self.counters.lock().passes += 1;
            self.next_pass.lock().insert(scope.path(), now + interval);
        }
        now + Duration::from_secs(1)
    }

    /// Logs in which a client met damage: readers are served around it once its end is known.
    fn look_at_suspects(&self, broker: &Arc<Broker>, scope: &Scope, pause: Pause<'_>) {
        let mut throttle = Throttle::new(rate_max(broker), broker.clock.now());
        for partition in scope.partitions(broker) {
            if partition.take_suspicion() {
                let mut pace = |bytes| {
                    let wait = throttle.passed(bytes, broker.clock.now());
                    (wait.is_zero() || pause(wait)) && !self.is_stopping()
                };
                self.scrub(&partition, &mut pace);
            }
        }
    }

    /// Reads everything that is sealed; false when it was ended before.
    fn pass(
        &self,
        broker: &Arc<Broker>,
        scope: &Scope,
        interval: Duration,
        pause: Pause<'_>,
    ) -> bool {
        self.forget_gone(&broker.partitions.all());
        let mut partitions = scope.partitions(broker);
        if partitions.is_empty() {
            return true;
        }
        let first = broker.rng.lock().random_range(0..partitions.len());
        partitions.rotate_left(first);
        let bytes: u64 = partitions
            .iter()
            .map(|partition| partition.size_bytes())
            .sum();
        let spread = bytes as f64 / (interval.as_secs_f64() * PASS_SHARE).max(1.0);
        let rate = spread.max(SLOWEST_BYTES_PER_SECOND).min(rate_max(broker));
        let mut throttle = Throttle::new(rate, broker.clock.now());
        let mut pace = |bytes| {
            let wait = throttle.passed(bytes, broker.clock.now());
            (wait.is_zero() || pause(wait))
                && !self.is_stopping()
                && broker.live_config().scrub_interval.is_some()
        };
        partitions
            .iter()
            .all(|partition| self.scrub(partition, &mut pace))
    }

    /// Every sealed segment of one log; false when `pace` ended it.
    fn scrub(&self, partition: &Arc<Partition>, pace: &mut dyn FnMut(u64) -> bool) -> bool {
        let mut from = Offset::ZERO;
        loop {
            let work = match partition.with_log(|log| log.scrub_work(from)) {
                Some(Ok(Some(work))) => work,
                Some(Ok(None)) | None => return true,
                Some(Err(error)) => {
                    self.counters.lock().errors += 1;
                    tracing::error!(?partition, %error, "a segment to scrub is not there");
                    return true;
                }
            };
            match work.run(pace) {
                Ok(found) if !found.finished => return false,
                Ok(found) => self.note(partition, &work, &found),
                Err(error) => {
                    self.counters.lock().errors += 1;
                    tracing::error!(?partition, %error, "a segment could not be scrubbed");
                }
            }
            from = work.end();
        }
    }

    fn note(&self, partition: &Arc<Partition>, work: &ScrubWork, found: &Scrubbed) {
        let noted =
            partition.with_log(|log| (log.note_scrubbed(work, found), log.damaged().to_vec()));
        let (new, all) = noted.unwrap_or_default();
        for place in &new {
            tracing::error!(
                ?partition,
                path = place.path,
                position = place.bytes.0,
                until = place.bytes.1,
                first_offset = %place.offsets.0,
                until_offset = %place.offsets.1,
                fault = %place.fault,
                "scrub: these bytes are damaged; `ottla storage repair` takes them out"
            );
        }
        let mut damaged = self.damaged.lock();
        let id = (partition.topic_id, partition.index);
        match all.is_empty() {
            true => damaged.remove(&id),
            false => damaged.insert(id, all),
        };
        let mut counters = self.counters.lock();
        counters.bytes += found.bytes;
        counters.errors += new.len() as u64;
        counters.damaged = damaged.values().map(|places| places.len() as u64).sum();
    }

    fn forget_gone(&self, partitions: &[Arc<Partition>]) {
        let there = |id: &(TopicId, i32)| {
            partitions
                .iter()
                .any(|one| (one.topic_id, one.index) == *id)
        };
        let mut damaged = self.damaged.lock();
        damaged.retain(|id, _| there(id));
        self.counters.lock().damaged = damaged.values().map(|places| places.len() as u64).sum();
    }

    /// Each damaged place in a few words.
    pub fn worries(&self) -> Vec<String> {
        let damaged = self.damaged.lock();
        let places = damaged.values().flatten();
        places
            .map(|place| {
                let (from, until) = place.offsets;
                format!(
                    "{} is damaged at {}, offsets {from} to {until}",
                    place.path, place.bytes.0
                )
            })
            .collect()
    }

    pub fn sample(&self) -> ScrubSample {
        *self.counters.lock()
    }
}

/// A directory's share.
fn rate_max(broker: &Broker) -> f64 {
    let dirs = broker.log_dirs.iter().len().max(1);
    broker.live_config().scrub_max_bytes_per_second / dirs as f64
}

#[cfg(test)]
mod tests;
