//! The rules of incremental fetch sessions, one by one.

use ottla_protocol::types::{BrokerId, TopicId};
use uuid::Uuid;

use super::*;

const NAMES: i16 = 12;
const IDS: i16 = 13;

fn topic(name: &str) -> TopicKey {
    TopicKey::Name(Arc::from(name))
}

fn target(name: &str, partition: i32) -> Target {
    Target::new(topic(name), partition, Offset::ZERO, 1000)
}

fn request(session_id: i32, session_epoch: i32) -> FetchRequest {
    let mut request = FetchRequest::default();
    (request.session_id, request.session_epoch) = (session_id, session_epoch);
    request
}

struct World {
    sessions: FetchSessions,
    now: Instant,
    next_id: i32,
}

impl World {
    fn new(slots: usize) -> World {
        World {
            sessions: FetchSessions::new(slots),
            now: Instant::now(),
            next_id: 100,
        }
    }

    fn plan(&mut self, request: &FetchRequest, asked: Vec<Target>) -> Result<Plan, ErrorCode> {
        self.plan_at(request, NAMES, asked, &[])
    }

    fn plan_at(
        &mut self,
        request: &FetchRequest,
        version: i16,
        asked: Vec<Target>,
        forgotten: &[(TopicKey, i32)],
    ) -> Result<Plan, ErrorCode> {
        let next_id = &mut self.next_id;
        let random = || {
            *next_id += 1;
            *next_id
        };
        self.sessions
            .plan(request, version, asked, forgotten, self.now, random)
    }

    fn create(&mut self, partitions: i32) -> i32 {
        let asked = (0..partitions).map(|p| target("t", p)).collect();
        self.plan(&request(0, 0), asked).unwrap().session_id
    }
}

fn said(has_records: bool, high_watermark: i64) -> Said {
    Said {
        has_records,
        must_be_told: false,
        high_watermark: Offset(high_watermark),
        log_start_offset: Offset::ZERO,
    }
}

fn order(plan: &Plan) -> Vec<i32> {
    plan.targets.iter().map(|target| target.partition).collect()
}

#[test]
fn epoch_minus_one_reads_everything_and_keeps_nothing() {
    let mut world = World::new(10);
    let plan = world.plan(&request(0, -1), vec![target("t", 0)]).unwrap();
    assert_eq!(
        (plan.session_id, plan.incremental, plan.targets.len()),
        (0, false, 1)
    );
    assert!(world.sessions.is_empty() && !plan.has_session());
}

#[test]
fn epoch_zero_makes_a_session_and_the_next_epochs_go_on_with_it() {
    let mut world = World::new(10);
    let id = world.create(2);
    assert_ne!(id, 0);
    let plan = world.plan(&request(id, 1), vec![]).unwrap();
    assert!(plan.incremental && plan.session_id == id);
    assert_eq!(order(&plan), [0, 1]);
    let plan = world.plan(&request(id, 2), vec![target("t", 7)]).unwrap();
    assert_eq!(order(&plan), [0, 1, 7]);
}

#[test]
fn unknown_ids_and_wrong_epochs_are_errors_of_the_whole_request() {
    let mut world = World::new(10);
    let id = world.create(1);
    let unknown = world.plan(&request(id + 1, 1), vec![]).unwrap_err();
    assert_eq!(unknown, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    let wrong = world.plan(&request(id, 2), vec![]).unwrap_err();
    assert_eq!(wrong, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert!(
        world.plan(&request(id, 1), vec![]).is_ok(),
        "an error does not spoil the session"
    );
    let again = world.plan(&request(id, 1), vec![]).unwrap_err();
    assert_eq!(again, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

#[test]
fn names_and_ids_do_not_mix_in_one_session() {
    let mut world = World::new(10);
    let id = world.create(1);
    let mixed = world
        .plan_at(&request(id, 1), IDS, vec![], &[])
        .unwrap_err();
    assert_eq!(mixed, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    let key = TopicKey::Id(TopicId(Uuid::from_u128(5)));
    let asked = vec![Target::new(key, 0, Offset::ZERO, 1)];
    let by_id = world
        .plan_at(&request(0, 0), IDS, asked, &[])
        .unwrap()
        .session_id;
    assert!(world.plan_at(&request(by_id, 1), IDS, vec![], &[]).is_ok());
}

#[test]
fn epochs_wrap_from_the_largest_to_one() {
    let mut world = World::new(10);
    let id = world.create(1);
    {
        let slots = world.sessions.slots.lock();
        slots[&id].session.lock().next_epoch = i32::MAX;
    }
    assert!(world.plan(&request(id, i32::MAX), vec![]).is_ok());
    assert!(world.plan(&request(id, 1), vec![]).is_ok());
}

#[test]
fn a_session_that_forgot_everything_ends() {
    let mut world = World::new(10);
    let id = world.create(1);
    let plan = world
        .plan_at(&request(id, 1), NAMES, vec![], &[(topic("t"), 0)])
        .unwrap();
    assert!(plan.targets.is_empty() && plan.session_id == 0);
    assert!(world.sessions.is_empty());
}

#[test]
fn a_full_fetch_closes_the_session_it_names() {
    let mut world = World::new(10);
    let id = world.create(1);
    world.plan(&request(id, -1), vec![target("t", 0)]).unwrap();
    assert!(world.sessions.is_empty());
    let id = world.create(1);
    let next = world
        .plan(&request(id, 0), vec![target("t", 0)])
        .unwrap()
        .session_id;
    assert!(next != id && world.sessions.len() == 1);
}

#[test]
fn only_news_are_told_and_partitions_with_records_move_to_the_end() {
    let mut world = World::new(10);
    let id = world.create(3);
    let plan = world.plan(&request(id, 1), vec![]).unwrap();
    assert!(
        plan.targets
            .iter()
            .all(|target| target.is_news(&said(false, 0))),
        "told nothing yet"
    );
    plan.told(0, &said(true, 5));
    plan.told(1, &said(false, 0));
    plan.told(2, &said(false, 0));
    let plan = world.plan(&request(id, 2), vec![]).unwrap();
    assert_eq!(order(&plan), [1, 2, 0]);
    assert!(!plan.targets[0].is_news(&said(false, 0)));
    assert!(
        plan.targets[0].is_news(&said(false, 1)),
        "the high watermark moved"
    );
    assert!(plan.targets[0].is_news(&said(true, 0)));
    let started = Said {
        log_start_offset: Offset(2),
        ..said(false, 0)
    };
    assert!(plan.targets[0].is_news(&started));
    let error = Said {
        must_be_told: true,
        ..said(false, 0)
    };
    assert!(plan.targets[0].is_news(&error));
    plan.told(0, &error);
    let plan = world.plan(&request(id, 3), vec![]).unwrap();
    assert!(
        plan.targets[0].is_news(&said(false, 0)),
        "that the error is over is news"
    );
}

#[test]
fn a_request_changes_what_is_asked_of_a_partition_and_not_its_place() {
    let mut world = World::new(10);
    let id = world.create(2);
    let mut changed = target("t", 0);
    changed.offset = Offset(42);
    let plan = world.plan(&request(id, 1), vec![changed]).unwrap();
    assert_eq!(order(&plan), [0, 1]);
    assert_eq!(plan.targets[0].offset, Offset(42));
}

#[test]
fn a_full_cache_answers_without_a_session() {
    let mut world = World::new(1);
    world.create(5);
    let plan = world.plan(&request(0, 0), vec![target("t", 0)]).unwrap();
    assert_eq!((plan.session_id, plan.targets.len()), (0, 1));
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn idle_sessions_make_room_and_larger_ones_replace_older_smaller_ones() {
    let mut world = World::new(2);
    let small = world.create(1);
    let large = world.create(9);
    world.now += Duration::from_secs(90);
    world.plan(&request(small, 1), vec![]).unwrap();
    world.now += Duration::from_secs(40);
    // `large` was idle for 130 s, `small` for 40 s.
    let third = world.create(3);
    assert_ne!(third, 0);
    let slots: Vec<i32> = world.sessions.slots.lock().keys().copied().collect();
    assert!(!slots.contains(&large) && slots.contains(&small));
    // Nobody is idle; `small` is older than two minutes and smaller than what comes.
    let fourth = world.create(4);
    assert_ne!(fourth, 0);
    assert!(!world.sessions.slots.lock().contains_key(&small));
    // Both are young now.
    assert_eq!(world.create(50), 0);
}

#[test]
fn a_follower_takes_the_place_of_a_consumer() {
    let mut world = World::new(1);
    let consumer = world.create(9);
    let mut follower = request(0, 0);
    follower.replica_id = BrokerId(2);
    let plan = world.plan(&follower, vec![target("t", 0)]).unwrap();
    assert_ne!(plan.session_id, 0);
    assert!(!world.sessions.slots.lock().contains_key(&consumer));
    assert_eq!(
        world.create(99),
        0,
        "and a consumer does not take a follower's"
    );
}
