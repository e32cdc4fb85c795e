//! The Rust client (librdkafka), as far as the tests need it: admin calls, a producer that
//! remembers what was acknowledged, and a reader of one partition.

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An operation of a healthy broker takes a fraction of this, even on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A client configuration with `bootstrap` and further settings.
pub fn config(bootstrap: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// Waits for one of librdkafka's futures; its own thread does the work.
pub fn wait<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async { Ok(tokio::time::timeout(TIMEOUT, future).await?) })
}

pub fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(config(bootstrap, &[]).create()?)
}

pub fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT))
}

/// What librdkafka says about each thing that an admin call was about.
pub type AdminResults<T, N> =
    Result<Vec<std::result::Result<T, (N, RDKafkaErrorCode)>>, KafkaError>;

/// The one result of an admin call about one thing, with its Kafka error code.
pub fn only_result<T, N>(results: AdminResults<T, N>) -> std::result::Result<T, RDKafkaErrorCode> {
    match results.map(|mut results| results.pop()) {
        Ok(Some(Ok(value))) => Ok(value),
        Ok(Some(Err((_, code)))) => Err(code),
        Ok(None) => Err(RDKafkaErrorCode::Unknown),
        Err(error) => Err(error
            .rdkafka_error_code()
            .unwrap_or(RDKafkaErrorCode::Unknown)),
    }
}

/// A time for records that retention lets be: an hour ago, in whole seconds.
pub fn an_hour_ago_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    i64::try_from(seconds).unwrap_or_default() * 1000 - 3_600_000
}

pub fn create_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<()> {
    let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        wanted = wanted.set(key, value);
    }
    let results = wait(admin(bootstrap)?.create_topics([&wanted], &options()))?;
    only_result(results).map_err(|code| anyhow!("create {topic}: {code}"))?;
    Ok(())
}

/// Waits until the broker tells clients about a topic; Apache Kafka does so a moment after it has
/// said that the topic is created.
pub fn wait_for_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let consumer = consumer(bootstrap, &[])?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
        let found = metadata.topics().first();
        if found.is_some_and(|topic| topic.error().is_none() && !topic.partitions().is_empty()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{topic} is created, and nobody is told");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    let results = wait(admin(bootstrap)?.delete_topics(&[topic], &options()))?;
    only_result(results).map_err(|code| anyhow!("delete {topic}: {code}"))?;
    Ok(())
}

/// One record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp_ms: Option<i64>,
}

impl Record {
    fn from_message(message: &impl Message) -> Record {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Record {
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

/// A consumer that reads partitions it chooses and never talks about groups.
pub fn consumer(bootstrap: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer> {
    let mut config = config(
        bootstrap,
        &[("group.id", "none"), ("enable.auto.commit", "false")],
    );
    config
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create()?)
}

/// Reads exactly `count` records from `offset` on.
pub fn consume(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    count: usize,
) -> Result<Vec<Record>> {
    consume_with(bootstrap, topic, partition, offset, count, &[])
}

/// As [`consume`], with settings of the consumer.
pub fn consume_with(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    count: usize,
    settings: &[(&str, &str)],
) -> Result<Vec<Record>> {
    let consumer = consumer(bootstrap, settings)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    consumer.assign(&assignment)?;
    let mut records = Vec::with_capacity(count);
    let mut deadline = Instant::now() + TIMEOUT;
    while records.len() < count {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                records.push(Record::from_message(&message));
                deadline = Instant::now() + TIMEOUT;
            }
            // A connection that broke is made again by the client.
            Some(Err(error)) if is_transient(&error) => {}
            Some(Err(error)) => return Err(error).context(format!("{topic} from {offset}")),
            None => {}
        }
        if Instant::now() > deadline {
            bail!(
                "{topic}: only {} of {count} records from {offset} on",
                records.len()
            );
        }
    }
    Ok(records)
}

fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
        )
    )
}

/// Everything in a partition from its first offset to its end, whatever offsets are missing.
pub fn read_to_end(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    settings: &[(&str, &str)],
) -> Result<Vec<Record>> {
    let mut settings = settings.to_vec();
    settings.push(("enable.partition.eof", "true"));
    let consumer = consumer(bootstrap, &settings)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let (mut records, deadline) = (Vec::new(), Instant::now() + TIMEOUT);
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => records.push(Record::from_message(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) if is_transient(&error) => {}
            Some(Err(error)) => return Err(error).context(format!("{topic}-{partition}")),
            None => {}
        }
        if Instant::now() > deadline {
            bail!(
                "{topic}-{partition}: no end after {} records",
                records.len()
            );
        }
    }
}

/// The first offset and the end of a partition.
pub fn watermarks(bootstrap: &str, topic: &str, partition: i32) -> Result<(i64, i64)> {
    Ok(consumer(bootstrap, &[])?.fetch_watermarks(topic, partition, TIMEOUT)?)
}

/// Everything in a partition now.
pub fn read_all(bootstrap: &str, topic: &str, partition: i32) -> Result<Vec<Record>> {
    let (start, end) = watermarks(bootstrap, topic, partition)?;
    consume(
        bootstrap,
        topic,
        partition,
        start,
        usize::try_from(end - start)?,
    )
}

/// What became of one message.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub partition: i32,
    /// The offset the broker gave, or why it was not delivered.
    pub offset: std::result::Result<i64, RDKafkaErrorCode>,
    pub value: Vec<u8>,
}

/// Remembers every delivery report in the order of arrival.
#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<Vec<Delivery>>>);

impl Deliveries {
    pub fn all(&self) -> Vec<Delivery> {
        self.0
            .lock()
            .expect("no test panics while it holds this")
            .clone()
    }

    pub fn len(&self) -> usize {
        self.0
            .lock()
            .expect("no test panics while it holds this")
            .len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first failure, if there was one.
    pub fn first_error(&self) -> Option<RDKafkaErrorCode> {
        self.all().iter().find_map(|delivery| delivery.offset.err())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let (message, offset) = match result {
            Ok(message) => (message, Ok(message.offset())),
            Err((error, message)) => (
                message,
                Err(error
                    .rdkafka_error_code()
                    .unwrap_or(RDKafkaErrorCode::Unknown)),
            ),
        };
        let value = message.payload().unwrap_or_default().to_vec();
        let delivery = Delivery {
            partition: message.partition(),
            offset,
            value,
        };
        self.0
            .lock()
            .expect("no test panics while it holds this")
            .push(delivery);
    }
}

/// A producer that remembers its deliveries.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    pub deliveries: Deliveries,
}

impl Producer {
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Producer> {
        let deliveries = Deliveries::default();
        let inner = config(bootstrap, settings).create_with_context(deliveries.clone())?;
        Ok(Producer { inner, deliveries })
    }

    /// An idempotent one with acks=all that waits for a broker that comes and goes.
    pub fn patient(bootstrap: &str) -> Result<Producer> {
        let settings = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "1"),
            ("message.timeout.ms", "300000"),
            ("reconnect.backoff.max.ms", "100"),
            ("retry.backoff.max.ms", "100"),
        ];
        Producer::new(bootstrap, &settings)
    }

    /// Queues a message; waits while the client's queue is full.
    pub fn send(&self, topic: &str, partition: i32, record: &Record) -> Result<()> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_deref(),
            });
        }
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.timestamp = record.timestamp_ms;
        message.headers = (!record.headers.is_empty()).then_some(headers);
        loop {
            match self.inner.send(message) {
                Ok(()) => return Ok(()),
                Err((error, back))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                {
                    message = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Queues a message that is only a value.
    pub fn send_value(&self, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
        self.send(topic, partition, &value_record(value))
    }

    /// Waits until everything was delivered or failed.
    pub fn flush(&self, limit: Duration) -> Result<()> {
        Ok(self.inner.flush(limit)?)
    }
}

/// A record that is only a value.
pub fn value_record(value: &[u8]) -> Record {
    Record {
        offset: -1,
        key: None,
        value: Some(value.to_vec()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

/// Produces `records` to one partition and fails with the first error.
pub fn produce(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    records: &[Record],
    settings: &[(&str, &str)],
) -> Result<Vec<Delivery>> {
    let producer = Producer::new(bootstrap, settings)?;
    for record in records {
        producer.send(topic, partition, record)?;
    }
    producer.flush(TIMEOUT)?;
    match producer.deliveries.first_error() {
        Some(code) => Err(KafkaError::MessageProduction(code).into()),
        None => Ok(producer.deliveries.all()),
    }
}

/// What a group has committed for a topic, with metadata; the group is not joined.
pub fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<i32, (i64, String)>> {
    let consumer = consumer(bootstrap, &[("group.id", group)])?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        asked.add_partition(topic, partition.id());
    }
    let found = consumer.committed_offsets(asked, TIMEOUT)?;
    let there = found.elements().into_iter().filter_map(|element| {
        let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
        Some((element.partition(), (offset, element.metadata().to_owned())))
    });
    Ok(there.collect())
}

/// Deletes a group; Kafka's error code.
pub fn delete_group(bootstrap: &str, group: &str) -> Result<i32> {
    let results = wait(admin(bootstrap)?.delete_groups(&[group], &options()))?;
    Ok(match only_result(results) {
        Ok(_) => 0,
        Err(code) => code as i32,
    })
}

/// Sets keys of a topic one by one; the others stay.
pub fn alter_topic(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
    let settings = settings
        .iter()
        .flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
    let output = std::process::Command::new(crate::broker::ottla_binary()?)
        .args(["topic", "config", topic, "-b", bootstrap])
        .args(settings)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cannot alter {topic}: {text}");
    Ok(())
}
