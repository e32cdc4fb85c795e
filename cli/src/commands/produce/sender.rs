//! Batches records per partition and sends them, one request at a time, with retries.
//!
//! Retries resend the same batch with the same sequence number, so an idempotent producer never
//! writes twice. Records with a key go where Kafka's Java client would send them (murmur2), so both
//! may write the same topic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ottla_protocol::batch::{BatchBuilder, Compression};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages as api;
use ottla_protocol::types::ProducerId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Acks, Codec};
use crate::client::{Cluster, topic_name};
use crate::commands::{name_of, said};
use crate::fault::{Exit, Fault, Outcome};
use crate::record_format::Record;

/// A batch is sent when it holds this much.
const BATCH_SIZE_BYTES: usize = 512 * 1024;
/// Topic-name based versions only: this client does not track topic ids.
const PRODUCE_VERSION_MAX: i16 = 11;
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
const INIT_PRODUCER_ID: i16 = 22;

pub(super) struct SenderOptions {
    pub(super) topic: String,
    pub(super) codec: Codec,
    pub(super) acks: Acks,
    pub(super) create_missing: bool,
}

/// What went to one partition.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Written {
    pub(super) records: u64,
    /// `None` with acks=0, where no answer comes.
    pub(super) last_offset: Option<i64>,
}

#[derive(Default)]
struct Pending {
    records: Vec<Record>,
    size_bytes: usize,
}

pub(super) struct Sender {
    cluster: Cluster,
    options: SenderOptions,
    leaders: BTreeMap<i32, i32>,
    partition_count: i32,
    producer: Option<(ProducerId, i16)>,
    next_sequence: BTreeMap<i32, i32>,
    pending: BTreeMap<i32, Pending>,
    /// Where records without a key go until their batch is sent.
    sticky_partition: i32,
    written: BTreeMap<i32, Written>,
}

impl Sender {
    pub(super) fn start(cluster: Cluster, options: SenderOptions) -> Outcome<Self> {
        let mut sender = Self {
            cluster,
            options,
            leaders: BTreeMap::new(),
            partition_count: 0,
            producer: None,
            next_sequence: BTreeMap::new(),
            pending: BTreeMap::new(),
            sticky_partition: 0,
            written: BTreeMap::new(),
        };
        sender.find_leaders()?;
        sender.sticky_partition = StdRng::from_os_rng().random_range(0..sender.partition_count);
        if sender.options.acks == Acks::All && sender.cluster.serves(INIT_PRODUCER_ID) {
            sender.producer = Some(sender.new_producer_id()?);
        }
        Ok(sender)
    }

    pub(super) fn topic(&self) -> &str {
        &self.options.topic
    }

    pub(super) fn written(&self) -> impl Iterator<Item = (i32, Written)> + '_ {
        self.written
            .iter()
            .map(|(partition, written)| (*partition, *written))
    }

    pub(super) fn add(&mut self, record: Record) -> Outcome {
        let partition = match (record.partition, &record.key) {
            (partition, _) if partition >= 0 => partition,
            (_, Some(key)) => partition_of_key(key, self.partition_count),
            (_, None) => self.sticky_partition,
        };
        if partition >= self.partition_count {
            return Err(Fault::usage(format!(
                "topic \"{}\" has no partition {partition}",
                self.options.topic
            ))
            .why(format!("it has {}, numbered from 0", self.partition_count)));
        }
        let pending = self.pending.entry(partition).or_default();
        pending.size_bytes += record_size_bytes(&record);
        pending.records.push(record);
        if pending.size_bytes >= BATCH_SIZE_BYTES {
            self.send(partition)?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Outcome {
        let partitions: Vec<i32> = self.pending.keys().copied().collect();
        partitions
            .into_iter()
            .try_for_each(|partition| self.send(partition))
    }

    fn send(&mut self, partition: i32) -> Outcome {
        let Some(pending) = self.pending.remove(&partition) else {
            return Ok(());
        };
        let count = i32::try_from(pending.records.len()).unwrap_or(i32::MAX);
        let batch = self.build(partition, &pending.records)?;
        let base_offset = self.deliver(partition, &batch)?;
        let written = self.written.entry(partition).or_default();
        written.records += u64::from(count.unsigned_abs());
        written.last_offset = base_offset.map(|base| base + i64::from(count) - 1);
        let sequence = self.next_sequence.entry(partition).or_default();
        // After i32::MAX comes 0.
        *sequence = ((i64::from(*sequence) + i64::from(count)) % (1 << 31)) as i32;
        if partition == self.sticky_partition {
            self.sticky_partition = (partition + 1) % self.partition_count;
        }
        Ok(())
    }

    fn build(&self, partition: i32, records: &[Record]) -> Outcome<Bytes> {
        let mut builder = BatchBuilder::new().compression(match self.options.codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        });
        if let Some((producer_id, epoch)) = self.producer {
            let sequence = self.next_sequence.get(&partition).copied().unwrap_or(0);
            builder = builder.producer(producer_id, epoch, sequence);
        }
        let now_ms = now_ms();
        for record in records {
            let timestamp = if record.timestamp_ms >= 0 {
                record.timestamp_ms
            } else {
                now_ms
            };
            let headers: Vec<(&[u8], Option<&[u8]>)> = record
                .headers
                .iter()
                .map(|(key, value)| (&key[..], value.as_deref()))
                .collect();
            builder.append(
                timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            );
        }
        let batch = builder.build().map_err(|error| {
            Fault::new("E1306", Exit::Failed, "a batch cannot be built").why(error.to_string())
        })?;
        Ok(batch.freeze())
    }

    /// Sends one batch until it is confirmed or hopeless; the base offset, or `None` with acks=0.
    fn deliver(&mut self, partition: i32, batch: &Bytes) -> Outcome<Option<i64>> {
        let patience = Duration::from_millis(self.cluster.timeout_ms().unsigned_abs().into()) * 3;
        let give_up_at = Instant::now() + patience;
        loop {
            let failed = match self.attempt(partition, batch) {
                Ok(offset) => return Ok(offset),
                Err(failed) => failed,
            };
            if !failed.retriable || Instant::now() >= give_up_at {
                return Err(failed.fault);
            }
            std::thread::sleep(RETRY_BACKOFF);
            // A broker that restarts is unreachable for a moment: keep the old leaders then.
            let _tried_again_soon = self.find_leaders();
        }
    }

    fn attempt(&mut self, partition: i32, batch: &Bytes) -> Result<Option<i64>, Attempt> {
        let leader = *self.leaders.get(&partition).ok_or_else(|| Attempt {
            retriable: true,
            fault: Fault::new(
                "E1301",
                Exit::Unreachable,
                format!(
                    "partition {partition} of \"{}\" has no leader",
                    self.options.topic
                ),
            ),
        })?;
        let request = self.request(partition, batch);
        if self.options.acks == Acks::None {
            let connection = self.cluster.connection(leader).map_err(Attempt::lost)?;
            let sent = connection
                .version_of::<api::ProduceRequest>(PRODUCE_VERSION_MAX)
                .and_then(|version| connection.send(version, &request));
            return sent.map(|_correlation_id| None).map_err(Attempt::lost);
        }
        let response = self
            .cluster
            .on_broker(leader, PRODUCE_VERSION_MAX, |_version| request)
            .map_err(Attempt::lost)?;
        let answered = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .next();
        let Some(answered) = answered else {
            return Err(Attempt::lost(Fault::broker(
                "producing",
                -1,
                Some("empty reply"),
            )));
        };
        if answered.error_code == 0 {
            return Ok(Some(answered.base_offset));
        }
        let doing = format!(
            "producing to \"{}\" partition {partition}",
            self.options.topic
        );
        Err(Attempt {
            retriable: ErrorCode(answered.error_code).retriable(),
            fault: Fault::broker(
                &doing,
                answered.error_code,
                said(answered.error_message.as_ref()),
            ),
        })
    }

    fn request(&self, partition: i32, batch: &Bytes) -> api::ProduceRequest {
        let mut data = api::produce_request::PartitionProduceData::default();
        data.index = partition;
        data.records = Some(batch.clone());
        let mut topic = api::produce_request::TopicProduceData::default();
        topic.name = topic_name(&self.options.topic);
        topic.partition_data = vec![data];
        let mut request = api::ProduceRequest::default();
        request.acks = match self.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        request.timeout_ms = self.cluster.timeout_ms();
        request.topic_data = vec![topic];
        request
    }

    /// Waits until the topic exists (it may be created by asking) and every partition has a leader.
    fn find_leaders(&mut self) -> Outcome {
        let names = [self.options.topic.clone()];
        let patience = Duration::from_millis(self.cluster.timeout_ms().unsigned_abs().into());
        let give_up_at = Instant::now() + patience;
        loop {
            let response = self
                .cluster
                .metadata(Some(&names), self.options.create_missing)?;
            let Some(topic) = response.topics.iter().find(|t| name_of(t) == names[0]) else {
                return Err(self.cluster.unknown_topic(&names[0]));
            };
            let led = topic
                .partitions
                .iter()
                .all(|partition| partition.leader_id.0 >= 0);
            if topic.error_code == 0 && led && !topic.partitions.is_empty() {
                self.leaders = topic
                    .partitions
                    .iter()
                    .map(|partition| (partition.partition_index, partition.leader_id.0))
                    .collect();
                self.partition_count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                return Ok(());
            }
            let code = topic.error_code;
            let waiting = matches!(code, 0 | 5) || (code == 3 && self.options.create_missing);
            if !waiting || Instant::now() >= give_up_at {
                return Err(match code {
                    3 => self.cluster.unknown_topic(&names[0]),
                    0 => Fault::broker(&format!("topic \"{}\"", names[0]), 5, None),
                    code => Fault::broker(&format!("topic \"{}\"", names[0]), code, None),
                });
            }
            std::thread::sleep(RETRY_BACKOFF);
        }
    }

    /// A broker that has just started may have none to give yet.
    fn new_producer_id(&mut self) -> Outcome<(ProducerId, i16)> {
        let patience = Duration::from_millis(self.cluster.timeout_ms().unsigned_abs().into());
        let give_up_at = Instant::now() + patience;
        loop {
            let response = self.cluster.any(|_version| {
                let mut request = api::InitProducerIdRequest::default();
                request.transactional_id = None;
                request.transaction_timeout_ms = 60_000;
                request
            })?;
            match response.error_code {
                0 => return Ok((ProducerId(response.producer_id.0), response.producer_epoch)),
                code if ErrorCode(code).retriable() && Instant::now() < give_up_at => {
                    std::thread::sleep(RETRY_BACKOFF);
                }
                code => return Err(Fault::broker("asking for a producer id", code, None)),
            }
        }
    }
}

struct Attempt {
    retriable: bool,
    fault: Fault,
}

impl Attempt {
    /// The connection broke: whether the batch was written is unknown, so it is sent again.
    fn lost(fault: Fault) -> Self {
        Self {
            retriable: fault.exit == Exit::Unreachable,
            fault,
        }
    }
}

fn record_size_bytes(record: &Record) -> usize {
    let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = record
        .headers
        .iter()
        .map(|(key, value)| key.len() + size(value) + 10)
        .sum();
    size(&record.key) + size(&record.value) + headers + 20
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The partition Kafka's Java client chooses: positive murmur2 modulo the number of partitions.
fn partition_of_key(key: &[u8], partition_count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partition_count
}

/// MurmurHash2, 32 bits, with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_the_java_client_sends_them() {
        // Reference values of Kafka's own murmur2 (signed there).
        assert_eq!(murmur2(b"21") as i32, -973_932_308);
        assert_eq!(murmur2(b"foobar") as i32, -790_332_482);
        assert_eq!(murmur2(b"a-little-bit-long-string") as i32, -985_981_536);
        assert_eq!(murmur2(b"abc") as i32, 479_470_107);
        assert!((0..7).contains(&partition_of_key(b"21", 7)));
    }
}
