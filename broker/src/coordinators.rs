//! Hosts the group coordinators: one machine per partition of `__consumer_offsets` that this
//! broker leads, with the partition's log as its journal.
//!
//! A command runs as a *turn*: under the shard's lock the machine decides, appends and applies.
//! Its answers leave when the high watermark has passed everything the shard had written by then,
//! so nobody is told what a crash could take back. Lock order: a shard, then its partition.
//!
//! Time is the wall clock as it stood when the broker was made plus what the monotonic clock has
//! counted since: sessions do not end because somebody set the clock.

mod events;
mod gather;
mod images;
mod journal;
mod load;
mod parked;
mod replay;
mod topics;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ottla_coordinator::command::{DescribedConsumerGroup, Refusal};
use ottla_coordinator::records::partition_of;
use ottla_coordinator::turn::GroupEvent;
use ottla_coordinator::{Answer, GroupCoordinator, Token, Turn};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;
use ottla_storage::image::ImageHome;
use parking_lot::RwLock;
use rand::Rng;
use uuid::Builder;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::flusher::Job;
use crate::log_dirs::LogDir;
use crate::partition::Partition;
use crate::partition::map::HostedTopic;
use crate::sync::Mutex;
pub use gather::Committed;
use gather::{Gathered, Written};
use images::Images;
use journal::LogJournal;
use load::Loaded;
pub use parked::{Ends, Slot, await_answer, when_committed};
use topics::ImageTopics;

/// Timers of a coordinator whose disk hangs are looked at again then.
const HUNG_AGAIN_MS: i64 = 1_000;

/// The topic whose partitions are the coordinators' logs.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// One coordinator and its partition.
pub struct Shard {
    partition: Arc<Partition>,
    inner: Mutex<Inner>,
    /// Its timers are in the hands of its directory's threads.
    ticking: AtomicBool,
}

struct Inner {
    machine: GroupCoordinator,
    waiting: BTreeMap<Token, Arc<Slot>>,
    /// Commits for when that is committed; see `gather.rs`.
    gathered: Option<Gathered>,
    /// The end of what the machine has written.
    end: Offset,
    /// False once the partition is gone.
    open: bool,
}

/// What a turn leaves to be done without the shard's lock.
#[derive(Default)]
struct After {
    answered: Vec<(Arc<Slot>, Answer, Offset)>,
    written: Option<Written>,
    events: Vec<GroupEvent>,
    deadline_ms: Option<i64>,
    wrote: bool,
}

/// What a turn gave back, and up to where its partition must be committed before it counts.
pub struct Turned<T> {
    pub result: T,
    pub end: Offset,
}

/// The coordinators of this broker.
pub struct Coordinators {
    shards: RwLock<BTreeMap<i32, Arc<Shard>>>,
    /// Partitions of the topic; 0 while it does not exist.
    partitions: AtomicI32,
    /// A start is under way: coordinators that are missing may be loaded yet.
    loading: AtomicBool,
    tokens: AtomicU64,
    /// The deadline somebody is waiting for, in milliseconds; `i64::MAX`: none.
    alarm_ms: Mutex<i64>,
    on_alarm: OnceLock<Box<dyn Fn() + Send + Sync>>,
    images: Images,
    anchor: (Instant, i64),
}

impl Coordinators {
    /// `images` is where images of the coordinators' logs are kept, if at all.
    pub fn new(clock: &dyn Clock, images: Option<Arc<dyn ImageHome>>) -> Coordinators {
        Coordinators {
            shards: RwLock::default(),
            partitions: AtomicI32::new(0),
            loading: AtomicBool::new(false),
            tokens: AtomicU64::new(0),
            alarm_ms: Mutex::new(i64::MAX),
            on_alarm: OnceLock::new(),
            images: Images::new(images),
            anchor: (clock.now(), clock.wall_ms()),
        }
    }

    /// `wake` is called when a deadline comes earlier than the one [`Coordinators::tick`] named.
    pub fn on_alarm(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_alarm.set(Box::new(wake));
    }

    fn now_ms(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.anchor.0);
        let since_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        self.anchor.1.saturating_add(since_ms)
    }

    fn instant(&self, at_ms: i64) -> Instant {
        let since_ms = u64::try_from(at_ms.saturating_sub(self.anchor.1)).unwrap_or(0);
        self.anchor.0 + Duration::from_millis(since_ms)
    }

    /// Loads the coordinators of partitions that are new here, from images and logs.
    pub fn host(&self, broker: &Broker, topic: &HostedTopic) {
        if &*topic.name != OFFSETS_TOPIC {
            return;
        }
        let now = broker.clock.now();
        let mut loaded = Loaded::default();
        for partition in topic.partitions.iter().flatten() {
            let known = self.shards.read().get(&partition.index).cloned();
            if known.is_some_and(|shard| Arc::ptr_eq(&shard.partition, partition)) {
                continue;
            }
            let began = broker.clock.now();
            let times = (now, broker.clock.wall_ms());
            let Some((mut machine, end)) = load::load(&self.images, partition, times, &mut loaded)
            else {
                continue;
            };
            let took = broker.clock.now().saturating_duration_since(began);
            broker.metrics.groups.loaded(took);
            machine.finish_loading(self.now_ms(now));
            let deadline = machine.next_deadline_ms();
            let shard = Shard {
                partition: Arc::clone(partition),
                inner: Mutex::new(Inner {
                    machine,
                    waiting: BTreeMap::new(),
                    gathered: None,
                    end,
                    open: true,
                }),
                ticking: AtomicBool::new(false),
            };
            self.shards.write().insert(partition.index, Arc::new(shard));
            self.expect(deadline);
        }
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        self.partitions.store(partitions, Ordering::Release);
        loaded.tell(broker.clock.now().saturating_duration_since(now));
    }

    /// The topic is deleted: its coordinators end, who waits is told to look elsewhere.
    pub fn unhost(&self, topic: &str) {
        if topic != OFFSETS_TOPIC {
            return;
        }
        self.partitions.store(0, Ordering::Release);
        let shards = std::mem::take(&mut *self.shards.write());
        for shard in shards.into_values() {
            let mut inner = shard.inner.lock();
            inner.open = false;
            let waiting = std::mem::take(&mut inner.waiting);
            let gathered = inner.gathered.take();
            drop(inner);
            if let Some(gathered) = gathered {
                gathered.fire();
            }
            for slot in waiting.into_values() {
                slot.waiter().fire();
            }
        }
        self.images.changed();
    }

    /// The topic exists, so every group has a coordinator.
    pub fn exist(&self) -> bool {
        self.partitions.load(Ordering::Acquire) > 0
    }

    /// A start begins to load coordinators, or has loaded all of them.
    pub fn set_loading(&self, loading: bool) {
        self.loading.store(loading, Ordering::Release);
    }

    /// Some coordinators may still be missing.
    pub fn are_loading(&self) -> bool {
        self.loading.load(Ordering::Acquire)
    }

    /// The coordinator of a group; NOT_COORDINATOR when it is not here.
    pub fn of(&self, group: &str) -> Result<Arc<Shard>, ErrorCode> {
        let partitions = self.partitions.load(Ordering::Acquire);
        if partitions == 0 {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        let index = partition_of(group, partitions);
        // Asked before the look: what was loaded since is found.
        let missing = match self.are_loading() {
            true => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            false => ErrorCode::NOT_COORDINATOR,
        };
        let shard = self.shards.read().get(&index).cloned();
        let shard = shard.ok_or(missing)?;
        match shard.answers() {
            true => Ok(shard),
            false => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    pub fn all(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }

    /// Runs one command on a shard's machine; see the module's documentation.
    pub fn turn<T>(
        &self,
        broker: &Broker,
        shard: &Shard,
        now: Instant,
        command: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> T,
    ) -> Turned<T> {
        self.turn_waiting(broker, shard, now, None, command)
    }

    /// The same for a command whose answer may come later, to `slot`.
    pub fn turn_for<T>(
        &self,
        broker: &Broker,
        shard: &Shard,
        now: Instant,
        slot: &Arc<Slot>,
        command: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>, Token) -> T,
    ) -> Turned<T> {
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        let waits = Some((token, Arc::clone(slot)));
        self.turn_waiting(broker, shard, now, waits, |machine, turn| {
            command(machine, turn, token)
        })
    }

    fn turn_waiting<T>(
        &self,
        broker: &Broker,
        shard: &Shard,
        now: Instant,
        waits: Option<(Token, Arc<Slot>)>,
        command: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> T,
    ) -> Turned<T> {
        let (mut inner, mut after) = (shard.inner.lock(), After::default());
        self.settle(broker, shard, &mut inner, now, &mut after);
        inner.waiting.extend(waits);
        let result = self.in_turn(broker, shard, &mut inner, now, &mut after, command);
        let end = inner.end;
        drop(inner);
        self.carry_out(broker, shard, after);
        Turned { result, end }
    }

    fn in_turn<T>(
        &self,
        broker: &Broker,
        shard: &Shard,
        inner: &mut Inner,
        now: Instant,
        after: &mut After,
        command: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> T,
    ) -> T {
        let config = broker.live_config();
        let version = broker.metadata.topics_version();
        let image = broker.metadata.image();
        let cluster = ImageTopics {
            image: &image,
            version,
        };
        let configs = |group: &str| topics::group_config(&image, &config, group);
        let mut new_id = || Builder::from_random_bytes(broker.rng.lock().random()).into_uuid();
        let mut journal = LogJournal::new(broker, &shard.partition, now);
        let limits = &config.group_limits;
        let now_ms = self.now_ms(now);
        let mut turn = Turn::new(now_ms, limits, &mut journal, &mut new_id)
            .with_topics(&cluster)
            .with_configs(&configs);
        let result = command(&mut inner.machine, &mut turn);
        let (answers, events) = (turn.answers, turn.events);
        let wrote = journal.end();
        inner.end = wrote.unwrap_or(inner.end);
        let end = inner.end;
        let answered = take_slots(inner, answers).into_iter();
        after
            .answered
            .extend(answered.map(|(slot, answer)| (slot, answer, end)));
        after.events.extend(events);
        after.deadline_ms = inner.machine.next_deadline_ms();
        after.wrote |= wrote.is_some();
        result
    }

    fn carry_out(&self, broker: &Broker, shard: &Shard, after: After) {
        for (slot, answer, end) in after.answered {
            slot.fill(answer, end, &shard.partition);
        }
        if let Some(written) = after.written {
            written.watch(&shard.partition);
        }
        if after.wrote {
            self.images.changed();
        }
        self.expect(after.deadline_ms);
        for event in &after.events {
            events::tell(broker, event);
        }
    }

    /// Reads a shard's machine: what is read counts once the shard is committed up to `end`.
    pub fn read<T>(&self, shard: &Shard, look: impl FnOnce(&GroupCoordinator) -> T) -> Turned<T> {
        let mut inner = shard.inner.lock();
        let told = self.settle_for_reader(shard, &mut inner);
        let (result, end) = (look(&inner.machine), inner.end);
        drop(inner);
        if let Some((broker, after)) = told {
            self.carry_out(&broker, shard, after);
        }
        Turned { result, end }
    }

    /// A consumer group as people see it, with the topics' names of now.
    pub fn describe_consumer(
        &self,
        broker: &Broker,
        shard: &Shard,
        group: &str,
    ) -> Turned<Result<DescribedConsumerGroup, Refusal>> {
        let version = broker.metadata.topics_version();
        let image = &*broker.metadata.image();
        let topics = ImageTopics { image, version };
        let limits = &broker.live_config().group_limits;
        self.read(shard, |machine| {
            machine.describe_consumer(&topics, limits, group)
        })
    }

    fn expect(&self, deadline_ms: Option<i64>) {
        let Some(deadline_ms) = deadline_ms else {
            return;
        };
        let mut alarm_ms = self.alarm_ms.lock();
        if deadline_ms >= *alarm_ms {
            return;
        }
        *alarm_ms = deadline_ms;
        drop(alarm_ms);
        if let Some(wake) = self.on_alarm.get() {
            wake();
        }
    }

    /// Carries out what is due; returns when the next thing is. Call it again then, and when the
    /// alarm rings.
    pub fn tick(&self, broker: &Arc<Broker>, now: Instant) -> Option<Instant> {
        let now_ms = self.now_ms(now);
        if *self.alarm_ms.lock() > now_ms {
            return self.next_tick();
        }
        *self.alarm_ms.lock() = i64::MAX;
        for shard in self.all() {
            if !shard.answers() {
                self.expect(Some(now_ms + HUNG_AGAIN_MS));
                continue;
            }
            let due = self.read(&shard, GroupCoordinator::next_deadline_ms).result;
            if due.is_some_and(|due_ms| due_ms <= now_ms) {
                self.tick_shard(broker, shard, now);
            } else {
                self.expect(due);
            }
        }
        self.next_tick()
    }

    /// With several directories what a shard writes is left to the threads of its disk: one that
    /// hangs must not hold the timers of the others.
    fn tick_shard(&self, broker: &Arc<Broker>, shard: Arc<Shard>, now: Instant) {
        if !broker.log_dirs.are_several() {
            self.turn(broker, &shard, now, |machine, turn| machine.tick(turn));
            return;
        }
        // Otherwise the turn that is on its way names the next deadline.
        if shard.ticking.swap(true, Ordering::AcqRel) {
            return;
        }
        let place = Some(shard.partition.log_dir());
        let weak = Arc::downgrade(broker);
        let work = Box::new(move || {
            shard.ticking.store(false, Ordering::Release);
            if let Some(broker) = weak.upgrade() {
                let now = now.max(broker.clock.now());
                let tick = |machine: &mut GroupCoordinator, turn: &mut Turn<'_>| machine.tick(turn);
                broker.coordinators.turn(&broker, &shard, now, tick);
            }
        });
        broker.flush.push(Job::Call { place, work });
    }

    /// When [`Coordinators::tick`] wants to be called.
    pub fn next_tick(&self) -> Option<Instant> {
        let alarm_ms = *self.alarm_ms.lock();
        (alarm_ms < i64::MAX).then(|| self.instant(alarm_ms))
    }

    /// `wake` is called when the images have something to do after they had nothing.
    pub fn on_image_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.images.on_change(wake);
    }

    /// Brings the images of the logs up to date when it is time to; returns when it wants to be
    /// called again, if nothing changes before. Blocks as long as their store does: for a thread
    /// that nobody waits for.
    pub fn apply_images(&self, broker: &Broker, now: Instant) -> Option<Instant> {
        let times = (now, broker.clock.wall_ms());
        self.images.run(&self.logs(), times)
    }

    /// Before the logs are closed for good: the images get everything that is committed.
    pub fn finish_images(&self, broker: &Broker) {
        let times = (broker.clock.now(), broker.clock.wall_ms());
        self.images.finish(&self.logs(), times);
    }

    /// Committed records that are not in the images yet, and how often their store failed.
    pub fn image_lag(&self) -> (u64, u64) {
        (
            self.images.lag_records(&self.logs()),
            self.images.failures(),
        )
    }

    /// The partitions whose coordinators are not what their whole logs say, images aside. For the
    /// simulator: there must be none.
    pub fn unlike_their_logs(&self, broker: &Broker) -> Vec<i32> {
        let (nothing, times) = (Images::new(None), (broker.clock.now(), 0));
        let unlike = self.all().into_iter().filter(|shard| {
            let loaded = load::load(&nothing, &shard.partition, times, &mut Loaded::default());
            let known = shard.inner.lock().machine.snapshot();
            loaded.is_none_or(|(machine, _)| machine.snapshot() != known)
        });
        unlike.map(|shard| shard.partition.index).collect()
    }

    fn logs(&self) -> Vec<Arc<Partition>> {
        let shards = self.shards.read();
        shards
            .values()
            .map(|shard| Arc::clone(&shard.partition))
            .collect()
    }

    /// Offsets of deleted topics are dropped by the coordinators whose logs are in `place`, so that
    /// a new topic of the name starts anew.
    pub fn topics_deleted(
        &self,
        broker: &Broker,
        place: &Arc<LogDir>,
        topics: &[String],
        now: Instant,
    ) {
        let here = |shard: &Arc<Shard>| shard.partition.is_in(place);
        for shard in self.all().into_iter().filter(here) {
            self.turn(broker, &shard, now, |machine, turn| {
                machine.topics_deleted(turn, topics);
            });
        }
    }
}

impl Shard {
    /// Whether its partition is still here, as far as anybody can say now.
    fn is_open(&self) -> bool {
        let inner = self
            .partition
            .log_dir()
            .lock(&self.inner)
            .map(|inner| inner.open);
        inner.unwrap_or(true)
    }

    /// False while it waits for a disk that hangs: then nobody else is to wait for it.
    pub fn answers(&self) -> bool {
        let dir = self.partition.log_dir();
        !dir.hang.is_bounded() || (!dir.hang.hangs() && dir.lock(&self.inner).is_some())
    }
}

#[cfg(test)]
mod tests;

fn take_slots(inner: &mut Inner, answers: Vec<(Token, Answer)>) -> Vec<(Arc<Slot>, Answer)> {
    let slots = answers.into_iter().filter_map(|(token, answer)| {
        let slot = inner.waiting.remove(&token);
        debug_assert!(slot.is_some(), "an answer to nobody: {answer:?}");
        Some((slot?, answer))
    });
    slots.collect()
}
