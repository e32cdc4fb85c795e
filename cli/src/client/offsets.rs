//! Offsets of many partitions at once: where they begin and end, what lies at a point in time, and
//! when the record at an offset was written. Partitions without a leader are left out.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::messages as api;
use ottla_protocol::record::{RecordLimits, Records};

use super::{Cluster, topic_name};
use crate::commands::name_of;
use crate::fault::Outcome;

pub(crate) const EARLIEST: i64 = -2;
pub(crate) const LATEST: i64 = -1;

/// ListOffsets answers one offset up to here, and Fetch names topics.
const LIST_OFFSETS_VERSION_MAX: i16 = 7;
const FETCH_VERSION_MAX: i16 = 12;
/// The first look at a batch reads this much of it; most batches fit.
const PEEK_BYTES: i32 = 16 * 1024;
const PEEK_PARTITIONS_MAX: usize = 500;
/// Batches without records (markers, or compacted away) that are passed over in search of one.
const EMPTY_BATCHES_MAX: usize = 16;

/// Topic and partition.
pub(crate) type At = (String, i32);

/// The leaders of partitions that exist and have one.
pub(crate) type Leaders = BTreeMap<At, i32>;

impl Cluster {
    /// Leaders of all partitions of these topics; topics that do not exist are left out.
    pub(crate) fn leaders(&mut self, topics: &BTreeSet<String>) -> Outcome<Leaders> {
        if topics.is_empty() {
            return Ok(Leaders::new());
        }
        let names: Vec<String> = topics.iter().cloned().collect();
        let response = self.metadata(Some(&names), false)?;
        let mut leaders = Leaders::new();
        for topic in response.topics.iter().filter(|topic| topic.error_code == 0) {
            for partition in &topic.partitions {
                if partition.leader_id.0 >= 0 {
                    let at = (name_of(topic).to_owned(), partition.partition_index);
                    leaders.insert(at, partition.leader_id.0);
                }
            }
        }
        Ok(leaders)
    }

    /// The offset of each partition at its timestamp (or -1 latest, -2 earliest); -1 where nothing
    /// is that late.
    pub(crate) fn list_offsets(
        &mut self,
        leaders: &Leaders,
        asked: &BTreeMap<At, i64>,
    ) -> Outcome<BTreeMap<At, i64>> {
        let mut found = BTreeMap::new();
        for (leader, asked) in by_leader(leaders, asked) {
            let response = self.on_broker(leader, LIST_OFFSETS_VERSION_MAX, |_version| {
                let topics = asked.iter().map(|(name, partitions)| {
                    let mut topic = api::list_offsets_request::ListOffsetsTopic::default();
                    topic.name = topic_name(name);
                    topic.partitions = partitions
                        .iter()
                        .map(|(index, timestamp)| {
                            let mut p = api::list_offsets_request::ListOffsetsPartition::default();
                            p.partition_index = *index;
                            p.timestamp = *timestamp;
                            p
                        })
                        .collect();
                    topic
                });
                let mut request = api::ListOffsetsRequest::default();
                request.replica_id = api::BrokerId(-1);
                request.topics = topics.collect();
                request
            })?;
            for topic in &response.topics {
                for partition in topic.partitions.iter().filter(|p| p.error_code == 0) {
                    let at = (topic.name.0.to_string(), partition.partition_index);
                    found.insert(at, partition.offset);
                }
            }
        }
        Ok(found)
    }

    /// The same timestamp for all of them.
    pub(crate) fn list_offsets_at(
        &mut self,
        leaders: &Leaders,
        partitions: &BTreeSet<At>,
        timestamp: i64,
    ) -> Outcome<BTreeMap<At, i64>> {
        let asked = partitions.iter().map(|at| (at.clone(), timestamp));
        self.list_offsets(leaders, &asked.collect())
    }

    /// The timestamp of the first record at or after each offset. Partitions where none is found,
    /// or whose records carry no time, are left out.
    pub(crate) fn record_times(
        &mut self,
        leaders: &Leaders,
        offsets: &BTreeMap<At, i64>,
    ) -> Outcome<BTreeMap<At, i64>> {
        let mut times = BTreeMap::new();
        let mut left = Vec::new();
        let all: Vec<(&At, &i64)> = offsets.iter().collect();
        for some in all.chunks(PEEK_PARTITIONS_MAX) {
            let some: BTreeMap<At, i64> = some.iter().map(|(at, o)| ((*at).clone(), **o)).collect();
            let peeked = self.fetch_once(leaders, &some, PEEK_BYTES)?;
            for (at, offset) in some {
                match peeked.get(&at).map(|data| first_record(data, offset)) {
                    Some(Found::At(time)) => drop(times.insert(at, time)),
                    _ => left.push((at, offset)),
                }
            }
        }
        for (at, offset) in left {
            if let Some(time) = self.record_time(leaders, &at, offset)? {
                times.insert(at, time);
            }
        }
        times.retain(|_, time| *time >= 0);
        Ok(times)
    }

    /// One partition alone gets its first batch whole, however large it is.
    fn record_time(&mut self, leaders: &Leaders, at: &At, offset: i64) -> Outcome<Option<i64>> {
        let mut next = offset;
        for _ in 0..EMPTY_BATCHES_MAX {
            let asked = BTreeMap::from([(at.clone(), next)]);
            let fetched = self.fetch_once(leaders, &asked, 1)?;
            match fetched.get(at).map(|data| first_record(data, next)) {
                Some(Found::At(time)) => return Ok(Some(time)),
                Some(Found::NoneBefore(further)) if further > next => next = further,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn fetch_once(
        &mut self,
        leaders: &Leaders,
        offsets: &BTreeMap<At, i64>,
        partition_max_bytes: i32,
    ) -> Outcome<BTreeMap<At, bytes::Bytes>> {
        let mut fetched = BTreeMap::new();
        for (leader, asked) in by_leader(leaders, offsets) {
            let response = self.on_broker(leader, FETCH_VERSION_MAX, |_version| {
                let topics = asked.iter().map(|(name, partitions)| {
                    let mut topic = api::fetch_request::FetchTopic::default();
                    topic.topic = topic_name(name);
                    topic.partitions = partitions
                        .iter()
                        .map(|(index, offset)| {
                            let mut p = api::fetch_request::FetchPartition::default();
                            p.partition = *index;
                            p.fetch_offset = *offset;
                            p.partition_max_bytes = partition_max_bytes;
                            p
                        })
                        .collect();
                    topic
                });
                let mut request = api::FetchRequest::default();
                request.replica_id = api::BrokerId(-1);
                request.max_bytes = i32::MAX;
                request.session_epoch = -1;
                request.topics = topics.collect();
                request
            })?;
            for topic in response.responses {
                for partition in topic.partitions {
                    if let (0, Some(data)) = (partition.error_code, partition.records) {
                        let at = (topic.topic.0.to_string(), partition.partition_index);
                        fetched.insert(at, data);
                    }
                }
            }
        }
        Ok(fetched)
    }
}

/// What each leader is asked, by topic.
fn by_leader(
    leaders: &Leaders,
    asked: &BTreeMap<At, i64>,
) -> BTreeMap<i32, BTreeMap<String, Vec<(i32, i64)>>> {
    let mut split: BTreeMap<i32, BTreeMap<String, Vec<(i32, i64)>>> = BTreeMap::new();
    for (at, value) in asked {
        if let Some(leader) = leaders.get(at) {
            let topics = split.entry(*leader).or_default();
            let partitions = topics.entry(at.0.clone()).or_default();
            partitions.push((at.1, *value));
        }
    }
    split
}

enum Found {
    /// Its timestamp.
    At(i64),
    /// No record; whole batches were read up to here.
    NoneBefore(i64),
}

/// The first record at or after `offset` in these batches; the last one may be cut short.
fn first_record(mut data: &[u8], offset: i64) -> Found {
    let mut next = offset;
    while let Ok(batch) = RecordBatchView::parse(data) {
        let size_bytes = batch.size_bytes();
        let last = batch.last_offset().0;
        if !batch.is_control()
            && last >= offset
            && let Ok(records) = Records::open(batch, RecordLimits::default())
        {
            let unread = records.flatten().find(|record| record.offset.0 >= offset);
            if let Some(record) = unread {
                return Found::At(record.timestamp);
            }
        }
        next = next.max(last.saturating_add(1));
        data = data.get(size_bytes..).unwrap_or_default();
    }
    Found::NoneBefore(next)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::batch::BatchBuilder;

    use super::*;

    fn batch(base_offset: i64, timestamps: &[i64]) -> Vec<u8> {
        let mut batch = BatchBuilder::new();
        for timestamp in timestamps {
            batch.append(*timestamp, None, Some(b"v"), &[]);
        }
        let mut bytes = batch.build().unwrap().bytes().to_vec();
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes
    }

    #[test]
    fn the_record_at_an_offset_is_found_inside_its_batch() {
        let mut data = batch(10, &[100, 200, 300]);
        data.extend(batch(20, &[400]));
        let time = |offset| match first_record(&data, offset) {
            Found::At(time) => time,
            Found::NoneBefore(next) => -next,
        };
        assert_eq!((time(10), time(11), time(12)), (100, 200, 300));
        assert_eq!(time(13), 400, "13 to 19 were compacted away");
        assert_eq!(time(21), -21);
        assert!(matches!(
            first_record(&data[..30], 10),
            Found::NoneBefore(10)
        ));
    }
}
