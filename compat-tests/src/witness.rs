//! Who notices when a broker is attacked: a well-behaved neighbour on a connection of its own, and
//! a newcomer afterwards.

use crate::broker::Broker;
use crate::rust_client as client;
use crate::wire::{self, Raw};
use anyhow::{Context as _, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the neighbour's answers took while the attack went on.
#[derive(Debug)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// Of a hundred answers, so many came within the time that is returned.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        let at = last.min(self.sorted.len() * percent / 100);
        self.sorted.get(at).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, p99, max] = [50, 99, 100].map(|percent| self.percentile(percent));
        let count = self.sorted.len();
        write!(
            f,
            "{count} answers, median {median:?}, p99 {p99:?}, max {max:?}"
        )
    }
}

/// The broker serves a newcomer: metadata, one record in, the same record out.
pub fn assert_serves(bootstrap: &str, topic: &str) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    let body = raw.call(&wire::metadata_request(4711))?;
    ensure!(body[..4] == 4711i32.to_be_bytes(), "another correlation id");
    let batch = wire::record_batch(&[b"alive"]);
    let (code, offset) =
        wire::produce_result(&raw.call(&wire::produce_request(topic, 0, &batch))?, topic)?;
    ensure!(code == 0, "produce: error {code}");
    let found = client::consume(bootstrap, topic, 0, offset, 1)?;
    ensure!(
        found[0].value.as_deref() == Some(b"alive"),
        "found {found:?}"
    );
    Ok(())
}

/// After a crowd has left there is room for newcomers again, soon.
pub fn assert_serves_again(broker: &mut Broker, topic: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = assert_serves(broker.bootstrap(), topic) {
        ensure!(
            Instant::now() < deadline,
            "no recovery after the crowd left: {error:#}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    broker.assert_alive()
}

/// A well-behaved connection that goes on all the time; counts its answers and their time.
fn neighbour(bootstrap: &str, stop: &AtomicBool, answers: &AtomicU64) -> Result<Latencies> {
    let mut raw = Raw::connect(bootstrap)?;
    let mut took = Vec::new();
    for correlation_id in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let body = raw.call(&wire::metadata_request(correlation_id))?;
        took.push(began.elapsed());
        ensure!(
            body[..4] == correlation_id.to_be_bytes(),
            "another correlation id"
        );
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
    took.sort();
    Ok(Latencies { sorted: took })
}

/// Runs `attack` beside a neighbour, who must not notice, and checks the broker afterwards.
pub fn unharmed(broker: &mut Broker, attack: impl FnOnce(&str) -> Result<()>) -> Result<Latencies> {
    let bootstrap = broker.bootstrap().to_owned();
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let latencies = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| neighbour(&bootstrap, &stop, &answers));
        // It was there first: wait for its first answer.
        while answers.load(Ordering::Relaxed) == 0 && !neighbour.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let attacked = attack(&bootstrap);
        stop.store(true, Ordering::Relaxed);
        let latencies = neighbour
            .join()
            .expect("the neighbour does not panic")
            .context("the neighbour");
        attacked.and(latencies)
    })?;
    broker.assert_alive()?;
    ensure!(
        answers.load(Ordering::Relaxed) > 0,
        "the neighbour got no answer at all"
    );
    Ok(latencies)
}
