//! An open loop: batches leave by a fixed schedule, and an answer is late from the moment its batch
//! was due, not from when it could be sent. So a broker that stalls is charged for all that waited.

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::replay;

/// What is sent, to partition 0.
#[derive(Clone, Debug)]
pub struct Load {
    pub bootstrap: String,
    pub topic: String,
    pub record_bytes: usize,
    pub batch_bytes: usize,
    pub bytes_per_second: f64,
}

/// A producer that runs until it is told to end.
pub struct Paced {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Histogram<u64>>>,
}

impl Paced {
    pub fn start(load: &Load) -> Result<Paced> {
        let (batch, _) = replay::batch(load.batch_bytes, load.record_bytes)?;
        let interval = Duration::from_secs_f64(batch.len() as f64 / load.bytes_per_second);
        let frame = replay::frame(&load.topic, 0, 1, &batch)?;
        let mut stream = TcpStream::connect(&load.bootstrap)?;
        stream.set_nodelay(true)?;
        let mut answers = stream.try_clone()?;
        answers.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (due, sent) = mpsc::channel::<Instant>();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = std::thread::spawn(move || -> Result<()> {
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                stream.write_all(&frame)?;
                due.send(next)?;
                next += interval;
            }
            Ok(())
        });
        let topic = load.topic.clone();
        let receiver = std::thread::spawn(move || {
            let mut latency_us = replay::histogram()?;
            let mut answer = Vec::new();
            for due in sent {
                replay::receive(&mut answers, &topic, &mut answer)?;
                let _ = latency_us.record(due.elapsed().as_micros() as u64);
            }
            Ok(latency_us)
        });
        Ok(Paced {
            stop,
            sender,
            receiver,
        })
    }

    /// Microseconds from when each batch was due to its answer.
    pub fn finish(self) -> Result<Histogram<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("the paced producer panicked");
        self.sender.join().map_err(panicked)??;
        self.receiver.join().map_err(panicked)?
    }

    /// Runs for a while, or as long as `work` does.
    pub fn during<T>(load: &Load, work: impl FnOnce() -> Result<T>) -> Result<(T, Histogram<u64>)> {
        let paced = Paced::start(load)?;
        let result = work();
        let latency_us = paced.finish()?;
        Ok((result?, latency_us))
    }
}

/// A quantile in milliseconds.
pub fn quantile_ms(latency_us: &Histogram<u64>, quantile: f64) -> f64 {
    latency_us.value_at_quantile(quantile) as f64 / 1000.0
}
