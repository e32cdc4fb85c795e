//! Fetches from the leaders of the chosen partitions, one request at a time, and follows leaders
//! that move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::messages as api;
use ottla_protocol::record::{RecordLimits, Records};

use super::Start;
use crate::client::{Cluster, topic_name};
use crate::commands::name_of;
use crate::commands::topic::offsets_of;
use crate::fault::{Exit, Fault, Outcome};
use crate::output::say;
use crate::record_format::Record;

/// Topic-name based versions only: this client does not track topic ids.
const FETCH_VERSION_MAX: i16 = 12;
const FETCH_SIZE_BYTES: i32 = 8 * 1024 * 1024;
const PARTITION_SIZE_BYTES: i32 = 1024 * 1024;
const WAIT_MS: i32 = 500;
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// One partition being read.
#[derive(Debug, Clone, Copy)]
struct Position {
    leader: i32,
    next_offset: i64,
    /// The end when reading began.
    end_offset: i64,
}

pub(super) struct Reader {
    cluster: Cluster,
    topics: Vec<String>,
    positions: BTreeMap<(String, i32), Position>,
    pub(super) read_committed: bool,
    trouble_since: Option<Instant>,
}

impl Reader {
    pub(super) fn start(
        mut cluster: Cluster,
        topics: &[String],
        partitions: &[i32],
        start: Start,
    ) -> Outcome<Self> {
        let mut positions = BTreeMap::new();
        for topic in cluster.existing_topics(topics)? {
            let name = name_of(&topic).to_owned();
            let known: BTreeSet<i32> = topic
                .partitions
                .iter()
                .map(|partition| partition.partition_index)
                .collect();
            if let Some(missing) = partitions.iter().find(|index| !known.contains(index)) {
                return Err(Fault::new(
                    "E1204",
                    Exit::NotFound,
                    format!("topic \"{name}\" has no partition {missing}"),
                )
                .why(format!("it has {}, numbered from 0", known.len())));
            }
            let (begin, end) = offsets_of(&mut cluster, &topic, start)?;
            for partition in &topic.partitions {
                let index = partition.partition_index;
                if !partitions.is_empty() && !partitions.contains(&index) {
                    continue;
                }
                let (Some(begin), Some(end)) = (begin.get(&index), end.get(&index)) else {
                    say(&format!(
                        "partition {index} of \"{name}\" has no leader; left out"
                    ));
                    continue;
                };
                let position = Position {
                    leader: partition.leader_id.0,
                    next_offset: *begin,
                    end_offset: *end,
                };
                positions.insert((name.clone(), index), position);
            }
        }
        Ok(Self {
            cluster,
            topics: topics.to_vec(),
            positions,
            read_committed: false,
            trouble_since: None,
        })
    }

    /// Whether every partition was read up to the end it had at the beginning.
    pub(super) fn reached_end(&self) -> bool {
        self.positions
            .values()
            .all(|position| position.next_offset >= position.end_offset)
    }

    /// The next records, in offset order within each partition; none when nothing came within half
    /// a second.
    pub(super) fn poll(&mut self, only_to_end: bool) -> Outcome<Vec<Record>> {
        let mut records = Vec::new();
        let leaders: BTreeSet<i32> = self.positions.values().map(|p| p.leader).collect();
        for leader in leaders {
            match self.fetch(leader, only_to_end) {
                Ok(response) => {
                    let stale = self.take(&response, &mut records)?;
                    if stale {
                        self.find_leaders()?;
                    } else {
                        self.trouble_since = None;
                    }
                }
                Err(fault) if fault.exit == Exit::Unreachable => {
                    let since = *self.trouble_since.get_or_insert_with(Instant::now);
                    let patience_ms = u64::from(self.cluster.timeout_ms().unsigned_abs()) * 3;
                    if since.elapsed() > Duration::from_millis(patience_ms) {
                        return Err(fault);
                    }
                    std::thread::sleep(RETRY_BACKOFF);
                    let _tried_again_soon = self.find_leaders();
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(records)
    }

    fn fetch(&mut self, leader: i32, only_to_end: bool) -> Outcome<api::FetchResponse> {
        let mut topics: BTreeMap<&str, Vec<api::fetch_request::FetchPartition>> = BTreeMap::new();
        for ((name, index), position) in &self.positions {
            let done = only_to_end && position.next_offset >= position.end_offset;
            if position.leader == leader && !done {
                let mut partition = api::fetch_request::FetchPartition::default();
                partition.partition = *index;
                partition.fetch_offset = position.next_offset;
                partition.partition_max_bytes = PARTITION_SIZE_BYTES;
                topics.entry(name).or_default().push(partition);
            }
        }
        let mut request = api::FetchRequest::default();
        request.replica_id = api::BrokerId(-1);
        request.max_wait_ms = WAIT_MS;
        request.min_bytes = 1;
        request.max_bytes = FETCH_SIZE_BYTES;
        request.isolation_level = i8::from(self.read_committed);
        request.session_epoch = -1;
        request.topics = topics
            .into_iter()
            .map(|(name, partitions)| {
                let mut topic = api::fetch_request::FetchTopic::default();
                topic.topic = topic_name(name);
                topic.partitions = partitions;
                topic
            })
            .collect();
        self.cluster
            .on_broker(leader, FETCH_VERSION_MAX, |_version| request)
    }

    /// Moves records out of a reply; true when a leader has moved.
    fn take(&mut self, response: &api::FetchResponse, into: &mut Vec<Record>) -> Outcome<bool> {
        if response.error_code != 0 {
            return Err(Fault::broker("fetching", response.error_code, None));
        }
        let mut stale = false;
        for topic in &response.responses {
            let name = topic.topic.0.as_str();
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let Some(position) = self.positions.get_mut(&(name.to_owned(), index)) else {
                    continue;
                };
                match partition.error_code {
                    0 => {}
                    OFFSET_OUT_OF_RANGE => {
                        let (asked, start) = (position.next_offset, partition.log_start_offset);
                        if start <= asked {
                            return Err(out_of_range(name, index, asked));
                        }
                        say(&format!(
                            "records {asked} to {} of \"{name}\" partition {index} are gone \
                             (retention); going on at {start}",
                            start - 1
                        ));
                        position.next_offset = start;
                        continue;
                    }
                    code if ottla_protocol::error::ErrorCode(code).retriable() => {
                        stale = true;
                        continue;
                    }
                    code => {
                        let doing = format!("fetching \"{name}\" partition {index}");
                        return Err(Fault::broker(&doing, code, None));
                    }
                }
                let aborted = Aborted::of(partition, self.read_committed);
                if let Some(data) = &partition.records {
                    unpack(name, index, data, position, aborted, into)?;
                }
            }
        }
        Ok(stale)
    }

    fn find_leaders(&mut self) -> Outcome {
        let topics = self.cluster.existing_topics(&self.topics)?;
        for topic in &topics {
            for partition in &topic.partitions {
                let key = (name_of(topic).to_owned(), partition.partition_index);
                if let Some(position) = self.positions.get_mut(&key)
                    && partition.leader_id.0 >= 0
                {
                    position.leader = partition.leader_id.0;
                }
            }
        }
        Ok(())
    }
}

/// The aborted transactions of one reply: a producer's records are hidden from its first offset to
/// its marker.
struct Aborted(Vec<(i64, i64)>);

impl Aborted {
    fn of(partition: &api::fetch_response::PartitionData, read_committed: bool) -> Self {
        let listed = partition
            .aborted_transactions
            .as_deref()
            .unwrap_or_default();
        let mut ranges: Vec<(i64, i64)> = listed
            .iter()
            .map(|a| (a.producer_id.0, a.first_offset))
            .collect();
        ranges.sort_by_key(|(_, first_offset)| *first_offset);
        Self(if read_committed { ranges } else { Vec::new() })
    }

    fn hides(&self, producer_id: i64, offset: i64) -> bool {
        self.0
            .iter()
            .any(|(id, first)| *id == producer_id && offset >= *first)
    }

    /// A marker ends the oldest aborted transaction of its producer.
    fn marker(&mut self, producer_id: i64, offset: i64) {
        if let Some(at) = self
            .0
            .iter()
            .position(|(id, first)| *id == producer_id && *first <= offset)
        {
            self.0.remove(at);
        }
    }
}

fn unpack(
    topic: &str,
    partition: i32,
    mut data: &[u8],
    position: &mut Position,
    mut aborted: Aborted,
    into: &mut Vec<Record>,
) -> Outcome {
    while !data.is_empty() {
        // Kafka may cut the last batch short; it comes whole with the next fetch.
        let Ok(batch) = RecordBatchView::parse(data) else {
            break;
        };
        let corrupt = |why: String| {
            Fault::new(
                "E1305",
                Exit::Failed,
                format!("a batch of \"{topic}\" partition {partition} is unreadable"),
            )
            .why(why)
            .hint(format!(
                "go on behind it with --offset {}",
                batch.last_offset().0 + 1
            ))
        };
        if !batch.crc_is_valid() {
            return Err(corrupt("its checksum does not match its bytes".to_owned()));
        }
        let producer_id = batch.header().producer_id.0;
        let base_offset = batch.header().base_offset.0;
        if batch.is_control() {
            aborted.marker(producer_id, base_offset);
        } else if !(batch.is_transactional() && aborted.hides(producer_id, base_offset)) {
            let records = Records::open(batch, RecordLimits::default())
                .map_err(|error| corrupt(error.to_string()))?;
            for record in records {
                let record = record.map_err(|error| corrupt(error.to_string()))?;
                if record.offset.0 < position.next_offset {
                    continue;
                }
                into.push(Record {
                    topic: topic.to_owned(),
                    partition,
                    offset: record.offset.0,
                    timestamp_ms: record.timestamp,
                    key: record.key.map(|bytes| bytes.to_vec()),
                    value: record.value.map(|bytes| bytes.to_vec()),
                    headers: record
                        .headers
                        .into_iter()
                        .map(|(key, value)| (key.to_vec(), value.map(|bytes| bytes.to_vec())))
                        .collect(),
                });
            }
        }
        position.next_offset = position.next_offset.max(batch.last_offset().0 + 1);
        data = &data[batch.size_bytes()..];
    }
    Ok(())
}

fn out_of_range(topic: &str, partition: i32, offset: i64) -> Fault {
    Fault::broker(
        &format!("reading \"{topic}\" partition {partition} at offset {offset}"),
        OFFSET_OUT_OF_RANGE,
        Some("the partition ends before that offset"),
    )
    .hint(format!(
        "`ottla topic describe {topic}` shows the first and last offsets"
    ))
}
