//! Connections that wait while other threads produce, flush and read from the disk, under many
//! schedules: whoever waits is woken, and answered with what it asked for. Time stands still, so a
//! lost wake-up is a deadlock, which shuttle reports.
//!
//! The whole core runs: connections, handlers, purgatory, partitions with their locks, the flush
//! queue, the queue of cold reads. Only the threads around it and their bells are the tests'.
//!
//! Defects that were planted one at a time, and that these tests caught:
//! - a waiter that is rearmed after its condition was looked at, or that is marked after its
//!   connection was told; a signal that is marked after its owner was woken;
//! - a fetch that is registered, or that expects more, without a second look at what changed;
//! - a change that is counted after those who wait for it were looked for;
//! - a request's produce that fires before its last partition was added;
//! - work that is queued after the bell was rung, a cold read that tells before it has a result;
//! - what a cold read found taken for all there is by now (as it was until these tests).

use std::sync::atomic::Ordering::SeqCst;

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::*;
use crate::sync::AtomicBool;
use crate::sync::explored::explore_some;

/// A broker is made for each.
const SCHEDULES: usize = 150;

/// A thread's doorbell.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A broker's thread: works whenever it is rung, until it is told to stop.
struct Worker {
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Worker {
    fn start(work: impl Fn() + Send + 'static) -> Worker {
        let (bell, stop) = (Arc::new(Bell::default()), Arc::new(AtomicBool::new(false)));
        let (rung, ended) = (Arc::clone(&bell), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !ended.load(SeqCst) {
                work();
                rung.wait();
            }
        });
        Worker { bell, stop, thread }
    }

    fn flusher(world: &Arc<TestBroker>) -> Worker {
        let of_worker = Arc::clone(world);
        let worker = Worker::start(move || while of_worker.broker.flush.run_one() {});
        let bell = Arc::clone(&worker.bell);
        world.broker.flush.on_push(0, move || bell.ring());
        worker
    }

    fn reader(world: &Arc<TestBroker>) -> Worker {
        let of_worker = Arc::clone(world);
        let worker = Worker::start(move || while of_worker.broker.cold_reads.run_one() {});
        let bell = Arc::clone(&worker.bell);
        world.broker.cold_reads.on_push(move || bell.ring());
        worker
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        self.bell.ring();
        self.thread.join().unwrap();
    }
}

/// A client of its own thread.
struct Client {
    wire: Wire,
    bell: Arc<Bell>,
}

impl Client {
    fn new(world: &Arc<TestBroker>) -> Client {
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let signal = ConnectionSignal::new(move || rung.ring());
        let wire = wire_to(world, signal);
        Client { wire, bell }
    }

    /// As a session does: works, and waits to be woken.
    fn answer<R: Response>(&mut self, id: i32, version: i16) -> R {
        while self.wire.received.is_empty() {
            self.bell.wait();
            self.wire.work();
        }
        self.wire.answer(id, version)
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Response,
    {
        let id = self.wire.send(version, request);
        self.answer(id, version)
    }
}

fn world(durability: &str) -> Arc<TestBroker> {
    let world = TestBroker::with_config(&[("ottla.durability", durability)]);
    world.create_topic("t", 2);
    Arc::new(world)
}

/// One request with a batch for each of both partitions.
fn produce_to_both(batch: &BatchBuilder) -> ProduceRequest {
    let mut request = produce(-1, 0, batch);
    let other = produce(-1, 1, batch);
    request.topic_data[0]
        .partition_data
        .extend(other.topic_data[0].partition_data.iter().cloned());
    request
}

fn produce_twice(world: &Arc<TestBroker>) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || {
        let mut client = Client::new(&world);
        for _ in 0..2 {
            let response = client.call(9, &produce_to_both(&batch(&["a"])));
            for answer in &response.responses[0].partition_responses {
                assert_eq!(answer.error_code, 0);
            }
        }
    })
}

/// Reads both partitions until the end of what is produced to them, and waits for all of it.
fn consume_all(world: &Arc<TestBroker>) {
    let len = records(&batch(&["a"])).len();
    let mut client = Client::new(world);
    let both = vec![fetch_at(0, 0), fetch_at(1, 0)];
    let all = i32::try_from(4 * len).unwrap();
    let request = fetch(both).with_min_bytes(all).with_max_wait_ms(500);
    let response = client.call(11, &request);
    assert_eq!(
        [found(&response, 0), found(&response, 1)],
        [(0, 2 * len); 2]
    );
}

#[test]
fn a_fetch_gets_all_that_it_waits_for_and_every_produce_its_answer() {
    explore_some(SCHEDULES, || {
        let world = world("commit");
        let flusher = Worker::flusher(&world);
        let producer = produce_twice(&world);
        consume_all(&world);
        producer.join().unwrap();
        flusher.end();
    });
}

#[test]
fn a_fetch_whose_records_are_on_the_disk_only_is_woken_by_whoever_reads_them() {
    explore_some(SCHEDULES, || {
        let world = world("memory");
        world.disk.set_resident(false);
        let reader = Worker::reader(&world);
        let producer = produce_twice(&world);
        consume_all(&world);
        producer.join().unwrap();
        reader.end();
    });
}
