//! How far a group is behind, partition by partition.
//!
//! Lag in records is what is between the committed offset and the end, as Kafka's tools count it.
//! Lag in seconds is the age of the oldest unread record: the time now minus the timestamp of the
//! first record at or after the committed offset, or after the log's start where the records in
//! between are gone; 0 when everything is read, unknown when nothing is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::view::{GroupView, committed};
use crate::client::Cluster;
use crate::client::offsets::{At, EARLIEST, LATEST};
use crate::fault::Outcome;
use crate::values::epoch_ms;

/// One partition that the group has committed an offset for, or that one of its members reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LagRow {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) committed: Option<i64>,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    pub(super) lag: Option<i64>,
    pub(super) lag_seconds: Option<f64>,
}

pub(super) fn rows(cluster: &mut Cluster, view: &GroupView) -> Outcome<Vec<LagRow>> {
    let committed = committed(cluster, &view.group)?;
    let mut partitions: BTreeSet<At> = committed.keys().cloned().collect();
    for assigned in view.members.iter().filter_map(|m| m.assigned.as_ref()) {
        for (topic, of_topic) in assigned {
            partitions.extend(of_topic.iter().map(|index| (topic.clone(), *index)));
        }
    }
    let topics = partitions.iter().map(|(topic, _)| topic.clone()).collect();
    let leaders = cluster.leaders(&topics)?;
    let starts = cluster.list_offsets_at(&leaders, &partitions, EARLIEST)?;
    let ends = cluster.list_offsets_at(&leaders, &partitions, LATEST)?;
    let unread = oldest_unread(&committed, &starts, &ends);
    let times = cluster.record_times(&leaders, &unread)?;
    let now_ms = epoch_ms(SystemTime::now());
    let rows = partitions.into_iter().map(|at| {
        let offset = committed.get(&at).copied();
        let end = ends.get(&at).copied();
        let lag = offset.zip(end).map(|(offset, end)| end - offset);
        let lag_seconds = match lag {
            Some(lag) if lag <= 0 => Some(0.0),
            _ => times
                .get(&at)
                .map(|written| seconds_since(*written, now_ms)),
        };
        LagRow {
            committed: offset,
            start: starts.get(&at).copied(),
            end,
            lag,
            lag_seconds,
            topic: at.0,
            partition: at.1,
        }
    });
    Ok(rows.collect())
}

/// The offset of the oldest record that is unread, where there is one.
fn oldest_unread(
    committed: &BTreeMap<At, i64>,
    starts: &BTreeMap<At, i64>,
    ends: &BTreeMap<At, i64>,
) -> BTreeMap<At, i64> {
    let behind = committed.iter().filter_map(|(at, offset)| {
        let first = starts.get(at).copied().unwrap_or(0).max(*offset);
        (first < *ends.get(at)?).then(|| (at.clone(), first))
    });
    behind.collect()
}

/// In milliseconds' precision; a record from the future is not behind.
fn seconds_since(written_ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(written_ms).max(0) as f64 / 1000.0
}

/// The sum over the partitions where it is known.
pub(super) fn total(rows: &[LagRow]) -> i64 {
    rows.iter().filter_map(|row| row.lag).sum()
}

/// How old the oldest unread record of all partitions is.
pub(super) fn max_seconds(rows: &[LagRow]) -> Option<f64> {
    rows.iter()
        .filter_map(|row| row.lag_seconds)
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unread_record_is_never_before_the_log_nor_past_its_end() {
        let at = |partition| ("t".to_owned(), partition);
        let map = |values: &[i64]| (0..).map(at).zip(values.iter().copied()).collect();
        let unread = oldest_unread(&map(&[5, 5, 10, 12]), &map(&[0, 7, 0, 0]), &map(&[10; 4]));
        assert_eq!(unread, BTreeMap::from([(at(0), 5), (at(1), 7)]));
        assert_eq!(seconds_since(1_000, 3_500), 2.5);
        assert_eq!(seconds_since(9_000, 3_500), 0.0);
    }
}
