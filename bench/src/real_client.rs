//! The load of a real client: librdkafka through its Rust crate.

use anyhow::Result;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Default)]
struct Counts {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Counts {}

impl ProducerContext for Counts {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let counter = if result.is_ok() {
            &self.delivered
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Produces `messages` of `bytes` each to partition 0 and returns how long that took.
pub fn produce(bootstrap: &str, topic: &str, messages: u64, bytes: usize) -> Result<Duration> {
    let counts = Counts::default();
    let producer: ThreadedProducer<Counts> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "1")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "500000")
        .create_with_context(counts.clone())?;
    let value = vec![b'x'; bytes];
    let started = Instant::now();
    for _ in 0..messages {
        let mut record: BaseRecord<'_, (), [u8]> =
            BaseRecord::to(topic).partition(0).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let elapsed = started.elapsed();
    let delivered = counts.delivered.load(Ordering::Relaxed);
    anyhow::ensure!(
        delivered == messages,
        "{delivered} of {messages} were delivered"
    );
    Ok(elapsed)
}
