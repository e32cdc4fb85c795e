//! Incremental fetch sessions (KIP-227): a consumer that polls many partitions names only what
//! changed, and is told only what changed.
//!
//! A session is an ordered list of partitions with what the client was told last; partitions that
//! returned records move to the end, so that a small response limit serves all of them in turn. The
//! cache is bounded; a session is evicted when it was idle for two minutes, or for a more valuable
//! one (a follower's, then a larger one). Pure: ids come from the caller's generator, time is an
//! argument. The global lock covers a lookup; a session's own lock covers its update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_protocol::error::ErrorCode;
use ottla_protocol::fetch_view::FetchRequest;
use ottla_protocol::types::{LeaderEpoch, Offset};
use parking_lot::Mutex;

use crate::metadata::TopicKey;
use crate::partition::Partition;

/// The first version in which topics are given by id.
const TOPIC_ID_FROM: i16 = 13;
/// The epoch of a request without a session, and of one that closes its session.
const FINAL_EPOCH: i32 = -1;
/// The epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// A session idle for this long may be evicted for any other.
const EVICTION_IDLE: Duration = Duration::from_secs(120);

/// One partition a client wants to read.
#[derive(Debug, Clone)]
pub struct Target {
    pub topic: TopicKey,
    pub partition: i32,
    pub offset: Offset,
    pub max_bytes: u32,
    pub current_leader_epoch: LeaderEpoch,
    pub last_fetched_epoch: LeaderEpoch,
    /// Found once and kept while the session lives; a closed one is looked up again.
    pub hosted: Option<Arc<Partition>>,
    /// The place in the session's order; unused without a session.
    place: u64,
    /// What the client was told last; `None` before the first answer.
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: Offset,
    log_start_offset: Offset,
    error: bool,
}

/// What an answer says about a partition, as far as sessions care.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    pub has_records: bool,
    /// An error, a diverging epoch or anything else that must be told however often it repeats.
    pub must_be_told: bool,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
}

impl Target {
    /// True when an incremental answer must contain this partition.
    pub fn is_news(&self, said: &Said) -> bool {
        let now = Told::from(said);
        said.has_records || said.must_be_told || self.told != Some(now)
    }
}

impl From<&Said> for Told {
    fn from(said: &Said) -> Told {
        Told {
            high_watermark: said.high_watermark,
            log_start_offset: said.log_start_offset,
            error: said.must_be_told,
        }
    }
}

/// A client's session.
#[derive(Debug)]
struct Session {
    /// The epoch the next request must carry.
    next_epoch: i32,
    uses_topic_ids: bool,
    /// By place: the order in which partitions are served.
    partitions: BTreeMap<u64, Target>,
    places: BTreeMap<(TopicKey, i32), u64>,
    places_made: u64,
}

/// How a request is to be answered.
#[derive(Debug, Default)]
pub struct Plan {
    pub targets: Vec<Target>,
    /// 0: no session.
    pub session_id: i32,
    /// Only news are told.
    pub incremental: bool,
    session: Option<SharedSession>,
}

type SharedSession = Arc<Mutex<Session>>;

struct Slot {
    session: SharedSession,
    created: Instant,
    last_used: Instant,
    /// A follower's session.
    privileged: bool,
    /// As of its last request.
    size: usize,
}

/// All sessions of this broker.
pub struct FetchSessions {
    slots: Mutex<BTreeMap<i32, Slot>>,
    slots_max: usize,
}

impl FetchSessions {
    pub fn new(slots_max: usize) -> FetchSessions {
        FetchSessions {
            slots: Mutex::new(BTreeMap::new()),
            slots_max,
        }
    }

    pub fn len(&self) -> usize {
        self.slots.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decides what a request reads. `asked` are the partitions it names, `forgotten` those that
    /// leave its session; `random` makes ids. An error is the answer to the whole request.
    pub fn plan(
        &self,
        request: &FetchRequest,
        version: i16,
        asked: Vec<Target>,
        forgotten: &[(TopicKey, i32)],
        now: Instant,
        random: impl FnMut() -> i32,
    ) -> Result<Plan, ErrorCode> {
        match request.session_epoch {
            INITIAL_EPOCH | FINAL_EPOCH => {
                if request.session_id != 0 {
                    self.slots.lock().remove(&request.session_id);
                }
                if request.session_epoch == FINAL_EPOCH || asked.is_empty() {
                    return Ok(Plan {
                        targets: asked,
                        ..Plan::default()
                    });
                }
                let privileged = request.replica_id.0 >= 0;
                Ok(self.create(asked, version >= TOPIC_ID_FROM, privileged, now, random))
            }
            epoch => {
                let id = request.session_id;
                self.continue_session(id, epoch, version, asked, forgotten, now)
            }
        }
    }

    fn create(
        &self,
        targets: Vec<Target>,
        uses_topic_ids: bool,
        privileged: bool,
        now: Instant,
        mut random: impl FnMut() -> i32,
    ) -> Plan {
        let mut slots = self.slots.lock();
        if slots.len() >= self.slots_max && !evict(&mut slots, privileged, targets.len(), now) {
            return Plan {
                targets,
                ..Plan::default()
            };
        }
        let mut session = Session::new(uses_topic_ids);
        for target in targets {
            session.put(target);
        }
        let id = std::iter::repeat_with(|| random().unsigned_abs() as i32 & i32::MAX)
            .find(|id| *id != 0 && !slots.contains_key(id))
            .unwrap_or(0);
        let targets = session.targets();
        let size = targets.len();
        let session = Arc::new(Mutex::new(session));
        let shared = Arc::clone(&session);
        slots.insert(
            id,
            Slot {
                session,
                created: now,
                last_used: now,
                privileged,
                size,
            },
        );
        Plan {
            targets,
            session_id: id,
            incremental: false,
            session: Some(shared),
        }
    }

    fn continue_session(
        &self,
        id: i32,
        epoch: i32,
        version: i16,
        asked: Vec<Target>,
        forgotten: &[(TopicKey, i32)],
        now: Instant,
    ) -> Result<Plan, ErrorCode> {
        let shared = {
            let mut slots = self.slots.lock();
            let slot = slots
                .get_mut(&id)
                .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
            slot.last_used = now;
            Arc::clone(&slot.session)
        };
        let mut session = shared.lock();
        if session.uses_topic_ids != (version >= TOPIC_ID_FROM) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if epoch != session.next_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        for target in asked {
            session.put(target);
        }
        for key in forgotten {
            session.forget(key);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        let targets = session.targets();
        drop(session);
        let mut slots = self.slots.lock();
        if targets.is_empty() {
            slots.remove(&id);
            return Ok(Plan::default());
        }
        if let Some(slot) = slots.get_mut(&id) {
            slot.size = targets.len();
        }
        Ok(Plan {
            targets,
            session_id: id,
            incremental: true,
            session: Some(shared),
        })
    }
}

impl Plan {
    /// Remembers what the client is told about the `index`-th target and moves it to the end of the
    /// order when it got records.
    pub fn told(&self, index: usize, said: &Said) {
        let (Some(session), Some(target)) = (&self.session, self.targets.get(index)) else {
            return;
        };
        session.lock().told(target, said);
    }

    /// Whether anything is remembered between requests.
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }
}

impl Session {
    fn new(uses_topic_ids: bool) -> Session {
        Session {
            next_epoch: 1,
            uses_topic_ids,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            places_made: 0,
        }
    }

    /// Adds a partition at the end, or changes what is asked of a known one.
    fn put(&mut self, target: Target) {
        let key = (target.topic.clone(), target.partition);
        if let Some(known) = self
            .places
            .get(&key)
            .and_then(|place| self.partitions.get_mut(place))
        {
            let Target {
                offset,
                max_bytes,
                current_leader_epoch,
                last_fetched_epoch,
                ..
            } = target;
            known.offset = offset;
            known.max_bytes = max_bytes;
            known.current_leader_epoch = current_leader_epoch;
            known.last_fetched_epoch = last_fetched_epoch;
            known.hosted = target.hosted.or_else(|| known.hosted.take());
            return;
        }
        let place = self.next_place();
        self.places.insert(key, place);
        self.partitions.insert(place, Target { place, ..target });
    }

    fn next_place(&mut self) -> u64 {
        self.places_made += 1;
        self.places_made
    }

    fn forget(&mut self, key: &(TopicKey, i32)) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn targets(&self) -> Vec<Target> {
        self.partitions.values().cloned().collect()
    }

    fn told(&mut self, target: &Target, said: &Said) {
        let key = (target.topic.clone(), target.partition);
        let Some(&place) = self.places.get(&key) else {
            return;
        };
        let Some(mut known) = self.partitions.remove(&place) else {
            return;
        };
        known.told = Some(Told::from(said));
        known.hosted = target.hosted.clone();
        if said.has_records {
            known.place = self.next_place();
            self.places.insert(key, known.place);
        }
        self.partitions.insert(known.place, known);
    }
}

impl Target {
    pub fn new(topic: TopicKey, partition: i32, offset: Offset, max_bytes: u32) -> Target {
        Target {
            topic,
            partition,
            offset,
            max_bytes,
            current_leader_epoch: LeaderEpoch::NONE,
            last_fetched_epoch: LeaderEpoch::NONE,
            hosted: None,
            place: 0,
            told: None,
        }
    }
}

/// Makes room for a session of that kind and size; false when every present one is worth more.
fn evict(slots: &mut BTreeMap<i32, Slot>, privileged: bool, size: usize, now: Instant) -> bool {
    let idle = |slot: &Slot| now.saturating_duration_since(slot.last_used) > EVICTION_IDLE;
    let old = |slot: &Slot| now.saturating_duration_since(slot.created) > EVICTION_IDLE;
    let stale = slots
        .iter()
        .filter(|(_, slot)| idle(slot))
        .min_by_key(|(_, slot)| slot.last_used);
    let victim = stale.map(|(id, _)| *id).or_else(|| {
        let least = slots
            .iter()
            .filter(|(_, slot)| old(slot) || (privileged && !slot.privileged))
            .min_by_key(|(id, slot)| (slot.privileged, slot.size, **id));
        let (id, slot) = least?;
        ((slot.privileged, slot.size) <= (privileged, size)).then_some(*id)
    });
    victim.is_some_and(|id| slots.remove(&id).is_some())
}

#[cfg(test)]
mod tests;
