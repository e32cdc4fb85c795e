//! Images against the logs they are made of: the same groups either way, whatever became of the
//! image.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicUsize;

use ottla_coordinator::records::GroupRecord;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::*;
use ottla_protocol::types::TopicId;
use ottla_storage::image::MemoryStore;
use uuid::Uuid;

use super::*;
use crate::broker::Broker;
use crate::coordinators::{OFFSETS_TOPIC, load};
use crate::handlers::testing::TestBroker;

const SETTINGS: &[(&str, &str)] = &[("offsets.topic.num.partitions", "2")];
const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn broker() -> TestBroker {
    let broker = TestBroker::with_config(SETTINGS);
    broker.create_topic("orders", 3);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("a")));
    broker
}

fn commit(broker: &TestBroker, group: &str, partition: i32, offset: i64) {
    let asked = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![asked]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = broker.call(8, request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

fn delete(broker: &TestBroker, group: &str) {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    assert_eq!(broker.call(2, request).results[0].error_code, 0);
}

fn commit_some(broker: &TestBroker, from: i64) {
    for (n, group) in (from..).zip(GROUPS) {
        for partition in 0..3 {
            commit(broker, group, partition, n * 10 + i64::from(partition));
        }
    }
}

/// Time passes until the images have done what they can.
fn settle(broker: &Broker) {
    let mut now = broker.clock.now();
    for _ in 0..100 {
        match broker.coordinators.apply_images(broker, now) {
            Some(next) => now = next,
            None => return,
        }
    }
    panic!("the images never have enough");
}

fn logs(broker: &Broker) -> Vec<Arc<Partition>> {
    broker.coordinators.logs()
}

/// What a coordinator knows that was loaded from images or, without them, from the log alone.
fn loaded(broker: &Broker, images: &Images) -> Vec<Vec<GroupRecord>> {
    let times = (broker.clock.now(), broker.clock.wall_ms());
    let load = |partition: &Arc<Partition>| {
        load::load(images, partition, times, &mut load::Loaded::default())
            .unwrap()
            .0
            .snapshot()
    };
    logs(broker).iter().map(load).collect()
}

/// The same broker begins anew with what `home` has; what its coordinators know then, which must be
/// what the logs say.
fn restarted(broker: &TestBroker, home: Arc<dyn ImageHome>) -> Images {
    // The old process has ended: nobody holds an image.
    broker.broker.coordinators.images.inner.lock().close();
    let images = Images::new(Some(home));
    let from_log = loaded(&broker.broker, &Images::new(None));
    assert_eq!(loaded(&broker.broker, &images), from_log);
    images
}

fn times(broker: &TestBroker) -> (Instant, i64) {
    (broker.broker.clock.now(), broker.broker.clock.wall_ms())
}

/// Where the image of each partition ends, as it lies in the store.
fn applied(store: &MemoryStore) -> Vec<Option<Offset>> {
    let names = [0, 1].map(|index| format!("{OFFSETS_TOPIC}-{index}"));
    names
        .iter()
        .map(|name| store.image(name).unwrap().applied_to())
        .collect()
}

fn ends(broker: &TestBroker) -> Vec<Option<Offset>> {
    let logs = logs(&broker.broker);
    logs.iter()
        .map(|log| Some(log.marks().unwrap().log_end_offset))
        .collect()
}

#[test]
fn an_image_and_the_tail_after_it_give_the_coordinator_of_the_whole_log() {
    let broker = broker();
    commit_some(&broker, 1);
    settle(&broker.broker);
    assert_eq!(broker.broker.coordinators.image_lag(), (0, 0));
    commit_some(&broker, 2);
    delete(&broker, "a");
    assert_eq!(broker.broker.coordinators.image_lag().0, 15);
    let images = restarted(&broker, Arc::new(broker.images.clone()));
    assert!(
        images
            .inner
            .lock()
            .held
            .values()
            .all(|held| held.image.applied_to().is_some())
    );
    images.finish(&logs(&broker.broker), times(&broker));
    assert_eq!(applied(&broker.images), ends(&broker));
    // A deletion is applied as one: nothing of the group is left in the image.
    restarted(&broker, Arc::new(broker.images.clone()));
}

#[test]
fn nothing_is_opened_before_a_group_has_written() {
    struct Never;
    impl ImageHome for Never {
        fn open(&self) -> Result<Arc<dyn ImageStore>, ImageError> {
            panic!("opened")
        }
        fn destroy(&self) -> Result<(), ImageError> {
            panic!("destroyed")
        }
    }
    let broker = broker();
    let images = restarted(&broker, Arc::new(Never));
    let (now, now_ms) = times(&broker);
    assert!(images.run(&logs(&broker.broker), (now, now_ms)).is_some());
    let later = now + APPLY_EVERY;
    assert_eq!(images.run(&logs(&broker.broker), (later, now_ms)), None);
}

#[test]
fn many_turns_share_one_write_and_only_the_last_value_is_written() {
    let broker = broker();
    for n in 0..50 {
        commit(&broker, "a", 0, n);
    }
    settle(&broker.broker);
    broker.broker.coordinators.images.inner.lock().close();
    let index = ottla_coordinator::records::partition_of("a", 2);
    let image = broker
        .images
        .image(&format!("{OFFSETS_TOPIC}-{index}"))
        .unwrap();
    let mut keys = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        keys += 1;
        std::ops::ControlFlow::Continue(())
    };
    image.scan(b"", &mut visit).unwrap();
    assert_eq!(
        (keys, image.applied_to()),
        (2, Some(Offset(50))),
        "a stamp and an offset"
    );
}

#[test]
fn what_is_not_committed_is_not_in_the_image() {
    let broker = broker();
    commit_some(&broker, 1);
    settle(&broker.broker);
    // The disk is slow: the machine has written and nobody has synced.
    let shard = broker.broker.coordinators.of("a").unwrap();
    let now = broker.broker.clock.now();
    let deletes = vec![("orders".to_owned(), 0)];
    broker
        .broker
        .coordinators
        .turn(&broker.broker, &shard, now, |machine, turn| {
            machine.delete_offsets(turn, "a", &deletes).unwrap();
        });
    let (now, now_ms) = times(&broker);
    let later = now + APPLY_EVERY;
    let images = &broker.broker.coordinators.images;
    assert!(images.run(&logs(&broker.broker), (now, now_ms)).is_some());
    let next = images.run(&logs(&broker.broker), (later, now_ms));
    assert_eq!(
        next,
        Some(later + APPLY_EVERY),
        "it comes again for the rest"
    );
    images.inner.lock().close();
    assert_ne!(applied(&broker.images), ends(&broker));
    while broker.broker.flush.run_one() {}
    settle(&broker.broker);
    images.inner.lock().close();
    assert_eq!(applied(&broker.images), ends(&broker));
}

/// An image with an offset that nobody committed, at `applied_to` and with that stamp.
fn forge(broker: &TestBroker, stamp: Option<Stamp>, moved: i64) {
    broker.broker.coordinators.images.inner.lock().close();
    for partition in logs(&broker.broker) {
        let end = partition.marks().unwrap().log_end_offset;
        let name = name(&partition);
        broker.images.remove(&name).unwrap();
        let mut image = broker.images.image(&name).unwrap();
        let record = GroupRecord::Group {
            group: "nobody".to_owned(),
            value: None,
        };
        let (key, _) = record.encode();
        let key = [&[RECORD], &key[..]].concat();
        let mut changes = vec![Change::put(key, "forged")];
        changes.extend(stamp.as_ref().map(Stamp::change));
        image.write(&changes, Offset(end.0 + moved)).unwrap();
    }
}

#[test]
fn an_image_that_does_not_fit_its_log_is_made_again() {
    let broker = broker();
    commit_some(&broker, 1);
    settle(&broker.broker);
    let log = Arc::clone(&logs(&broker.broker)[0]);
    let now_ms = broker.broker.clock.wall_ms();
    let good = Stamp::of(&log, Offset(1), now_ms).unwrap();
    let other_topic = good.of_topic(TopicId(Uuid::from_u128(9)));
    let cases = [
        ("no stamp", None, 0),
        ("another topic", Some(other_topic), 0),
        ("ahead of the log", Some(good), 5),
        ("another tail", Some(good.of_epoch(77)), 0),
        (
            "old, with a tail",
            Some(good.written_at(now_ms - 86_400_000)),
            -1,
        ),
        (
            "of the future, with a tail",
            Some(good.written_at(now_ms + 3_600_000)),
            -1,
        ),
    ];
    for (name, stamp, moved) in cases {
        forge(&broker, stamp, moved);
        let images = restarted(&broker, Arc::new(broker.images.clone()));
        let fresh = images
            .inner
            .lock()
            .held
            .values()
            .all(|h| h.image.applied_to().is_none());
        assert!(fresh, "{name}: it was trusted");
        images.finish(&logs(&broker.broker), times(&broker));
        assert_eq!(applied(&broker.images), ends(&broker), "{name}");
        restarted(&broker, Arc::new(broker.images.clone()))
            .inner
            .lock()
            .close();
    }
    // The test can tell: this one is believed.
    forge(&broker, Some(good), 0);
    broker.broker.coordinators.images.inner.lock().close();
    let images = Images::new(Some(Arc::new(broker.images.clone())));
    loaded(&broker.broker, &images);
    let trusted = images
        .inner
        .lock()
        .held
        .values()
        .all(|h| h.image.applied_to().is_some());
    assert!(trusted);
}

#[test]
fn a_lost_image_is_made_again() {
    let broker = broker();
    commit_some(&broker, 1);
    settle(&broker.broker);
    broker.broker.coordinators.images.inner.lock().close();
    broker.images.lose_everything();
    let images = restarted(&broker, Arc::new(broker.images.clone()));
    images.finish(&logs(&broker.broker), times(&broker));
    assert_eq!(applied(&broker.images), ends(&broker));
}

#[test]
fn the_images_of_a_deleted_topic_go() {
    let broker = broker();
    commit_some(&broker, 1);
    settle(&broker.broker);
    let gone = DeleteTopicsRequest::default()
        .with_topic_names(vec![TopicName(text(OFFSETS_TOPIC))])
        .with_timeout_ms(1_000);
    broker.call(5, gone);
    settle(&broker.broker);
    assert_eq!(applied(&broker.images), [None, None]);
}

/// A store whose next operations fail.
#[derive(Clone, Default)]
struct Failing {
    store: MemoryStore,
    failures: Arc<AtomicUsize>,
    damaged: bool,
    destroyed: Arc<AtomicUsize>,
}

impl Failing {
    fn fails(&self) -> Result<(), ImageError> {
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        match left {
            Err(_) => Ok(()),
            Ok(_) if self.damaged => Err(ImageError::Damaged("a test".into())),
            Ok(_) => Err(ImageError::Failed("a test".into())),
        }
    }
}

impl ImageHome for Failing {
    fn open(&self) -> Result<Arc<dyn ImageStore>, ImageError> {
        self.fails()?;
        Ok(Arc::new(self.clone()))
    }

    fn destroy(&self) -> Result<(), ImageError> {
        self.destroyed.fetch_add(1, Ordering::Relaxed);
        self.store.destroy()
    }
}

impl ImageStore for Failing {
    fn image(&self, name: &str) -> Result<Box<dyn Image>, ImageError> {
        self.fails()?;
        let image = self.store.image(name)?;
        let home = self.clone();
        Ok(Box::new(FailingImage { image, home }))
    }

    fn remove(&self, name: &str) -> Result<(), ImageError> {
        self.fails()?;
        self.store.remove(name)
    }

    fn sync(&self) -> Result<(), ImageError> {
        self.fails()
    }
}

struct FailingImage {
    image: Box<dyn Image>,
    home: Failing,
}

impl Image for FailingImage {
    fn applied_to(&self) -> Option<Offset> {
        self.image.applied_to()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError> {
        self.home.fails()?;
        self.image.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut ottla_storage::image::Visit<'_>,
    ) -> Result<(), ImageError> {
        self.image.scan(prefix, visit)?;
        self.home.fails()
    }

    fn write(&mut self, changes: &[Change], applied_to: Offset) -> Result<(), ImageError> {
        self.home.fails()?;
        self.image.write(changes, applied_to)
    }
}

#[test]
fn a_store_that_fails_is_tried_again_later_and_costs_no_commit() {
    for damaged in [false, true] {
        for failures in 1..12 {
            let broker = broker();
            commit_some(&broker, 1);
            let home = Failing {
                damaged,
                ..Failing::default()
            };
            let images = restarted(&broker, Arc::new(home.clone()));
            home.failures.store(failures, Ordering::Relaxed);
            let (mut now, now_ms) = times(&broker);
            let mut runs = 0;
            while let Some(next) = images.run(&logs(&broker.broker), (now, now_ms)) {
                // Groups go on as if nothing were.
                commit(&broker, "a", 0, runs);
                runs += 1;
                assert!(runs < 100, "it never recovers from {failures} failures");
                now = next;
            }
            // A damaged store that is found at the opening is replaced on the spot.
            assert!(images.failures() > 0 || damaged);
            assert_eq!(home.failures.load(Ordering::Relaxed), 0);
            assert_eq!(home.destroyed.load(Ordering::Relaxed) > 0, damaged);
            images.inner.lock().close();
            assert_eq!(
                applied(&home.store),
                ends(&broker),
                "after {failures} failures"
            );
            restarted(&broker, Arc::new(home.store.clone()));
        }
    }
}

#[test]
fn an_image_that_fails_while_it_is_read_is_not_used() {
    for damaged in [false, true] {
        for failures in 1..4 {
            let broker = broker();
            commit_some(&broker, 1);
            let home = Failing {
                damaged,
                ..Failing::default()
            };
            let images = restarted(&broker, Arc::new(home.clone()));
            images.finish(&logs(&broker.broker), times(&broker));
            home.failures.store(failures, Ordering::Relaxed);
            let images = restarted(&broker, Arc::new(home.clone()));
            home.failures.store(0, Ordering::Relaxed);
            assert!(images.failures() > 0 || damaged);
            images.finish(&logs(&broker.broker), times(&broker));
            assert_eq!(applied(&home.store), ends(&broker));
        }
    }
}
