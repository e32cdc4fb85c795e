//! A producer that goes on while a group changes, and knows what it has produced.

use crate::rust_client::{Producer, TIMEOUT};
use anyhow::{Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records go to all partitions in turn, in small rounds, until it is stopped.
pub struct Load {
    state: Arc<State>,
    producer: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    pause: AtomicBool,
    /// Rounds that are acknowledged.
    rounds: AtomicI64,
    /// It rests, and everything that was sent is acknowledged.
    resting: AtomicBool,
    partitions: i32,
}

/// Between two rounds of one record per partition.
const PAUSE: Duration = Duration::from_millis(40);

impl Load {
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Load {
        let state = Arc::new(State {
            partitions,
            ..State::default()
        });
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let shared = Arc::clone(&state);
        let producer = std::thread::spawn(move || produce(&bootstrap, &topic, &shared));
        Load {
            state,
            producer: Some(producer),
        }
    }

    /// The end of each partition: how many records were acknowledged.
    fn ends(&self) -> Vec<i64> {
        let rounds = self.state.rounds.load(Ordering::SeqCst);
        vec![rounds; self.state.partitions as usize]
    }

    /// Rests until it is told to go on; the ends.
    pub fn pause(&self) -> Result<Vec<i64>> {
        self.state.pause.store(true, Ordering::SeqCst);
        while !self.state.resting.load(Ordering::SeqCst) {
            let ended = self.producer.as_ref().is_none_or(JoinHandle::is_finished);
            ensure!(!ended, "the load has failed");
            std::thread::sleep(PAUSE);
        }
        Ok(self.ends())
    }

    pub fn go_on(&self) {
        self.state.pause.store(false, Ordering::SeqCst);
    }

    /// Ends it; the ends.
    pub fn stop(mut self) -> Result<Vec<i64>> {
        self.state.stop.store(true, Ordering::SeqCst);
        let producer = self.producer.take().expect("stopped once");
        producer.join().expect("the producer does not panic")?;
        Ok(self.ends())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }
}

fn produce(bootstrap: &str, topic: &str, state: &State) -> Result<()> {
    let producer = Producer::new(bootstrap, &[("linger.ms", "0")])?;
    let mut rounds = 0;
    let settle = |rounds| {
        producer.flush(TIMEOUT)?;
        if let Some(error) = producer.deliveries.first_error() {
            bail!("the load was not taken: {error}");
        }
        state.rounds.store(rounds, Ordering::SeqCst);
        Ok(())
    };
    while !state.stop.load(Ordering::SeqCst) {
        let pause = state.pause.load(Ordering::SeqCst);
        if pause && !state.resting.load(Ordering::SeqCst) {
            settle(rounds)?;
        }
        state.resting.store(pause, Ordering::SeqCst);
        if !pause {
            for partition in 0..state.partitions {
                producer.send_value(topic, partition, b"load")?;
            }
            rounds += 1;
        }
        std::thread::sleep(PAUSE);
    }
    settle(rounds)
}
