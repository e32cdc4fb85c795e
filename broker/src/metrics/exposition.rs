//! From rows and numbers to the text that Prometheus reads (OpenMetrics, by `prometheus-client`).
//!
//! Partition series are bounded: with more partitions than the limit, families that would have one
//! series per partition leave them out (or sum them per topic), unless they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::HistogramSnapshot;
use super::observation::{Observation, PartitionSample, ProcessSample};
use super::table::{METRICS, Metric, MetricKind, sum_by_topic};
use super::{MetricsSnapshot, PartitionCounts};

/// What the answer says it is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How much to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Partition series as long as there are at most this many partitions.
    UpTo(usize),
    /// Partition series always.
    Partition,
}

/// Everything gathered for one answer; rows read from it.
pub(super) struct Gathered<'a> {
    pub(super) counters: &'a MetricsSnapshot,
    pub(super) observation: &'a Observation,
    pub(super) process: Option<&'a ProcessSample>,
    by_topic: BTreeMap<Arc<str>, PartitionCounts>,
    in_detail: bool,
}

impl Gathered<'_> {
    /// The partitions to show one by one: all of them, or none.
    pub(super) fn partitions_in_detail(&self) -> &[PartitionSample] {
        if self.in_detail {
            &self.observation.partitions
        } else {
            &[]
        }
    }

    pub(super) fn partitions_left_out(&self) -> usize {
        match self.in_detail {
            true => 0,
            false => self.observation.partitions.len(),
        }
    }

    pub(super) fn counts_by_topic(&self) -> impl Iterator<Item = (&str, &PartitionCounts)> {
        self.by_topic
            .iter()
            .map(|(topic, counts)| (&**topic, counts))
    }

    pub(super) fn topics_without_detail(&self) -> impl Iterator<Item = (&str, &PartitionCounts)> {
        self.counts_by_topic().filter(|_| !self.in_detail)
    }

    pub(super) fn sizes_without_detail(&self) -> impl Iterator<Item = (&str, u64)> {
        let size = |one: &PartitionSample| one.log.as_ref().map_or(0, |log| log.size_bytes);
        self.partitions_by_topic()
            .filter(|_| !self.in_detail)
            .map(move |(topic, partitions)| (topic, partitions.iter().map(size).sum()))
    }

    /// Relies on the partitions being sorted by topic.
    pub(super) fn partitions_by_topic(&self) -> impl Iterator<Item = (&str, &[PartitionSample])> {
        let same_topic = |one: &PartitionSample, next: &PartitionSample| one.topic == next.topic;
        let groups = self.observation.partitions.chunk_by(same_topic);
        groups.filter_map(|group| Some((&*group.first()?.topic, group)))
    }
}

/// The samples of one family.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(Vec<String>, Sample)>);

#[derive(Debug)]
enum Sample {
    Count(u64),
    Number(f64),
    Histogram(HistogramSnapshot),
}

impl Samples {
    fn push(&mut self, labels: &[&str], sample: Sample) {
        self.0.push((
            labels.iter().map(|label| (*label).to_owned()).collect(),
            sample,
        ));
    }

    pub(super) fn add(&mut self, labels: &[&str], value: f64) {
        self.push(labels, Sample::Number(value));
    }

    /// A counter; exact beyond what a float holds.
    pub(super) fn add_count(&mut self, labels: &[&str], value: u64) {
        self.push(labels, Sample::Count(value));
    }

    pub(super) fn add_histogram(&mut self, labels: &[&str], value: &HistogramSnapshot) {
        self.push(labels, Sample::Histogram(value.clone()));
    }

    pub(super) fn add_of<T>(&mut self, source: Option<&T>, value: impl Fn(&T) -> f64) {
        if let Some(source) = source {
            self.add(&[], value(source));
        }
    }
}

/// The whole answer to `/metrics`.
pub fn render(
    counters: &MetricsSnapshot,
    observation: &Observation,
    process: Option<&ProcessSample>,
    detail: Detail,
) -> String {
    let in_detail = match detail {
        Detail::Partition => true,
        Detail::UpTo(limit) => observation.partitions.len() <= limit,
    };
    let by_topic = sum_by_topic(&observation.partitions);
    let gathered = Gathered {
        counters,
        observation,
        process,
        by_topic,
        in_detail,
    };
    let families = METRICS
        .iter()
        .map(|metric| {
            let mut samples = Samples::default();
            (metric.read)(&gathered, &mut samples);
            Family { metric, samples }
        })
        .collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("writing to a string cannot fail");
    text
}

struct Family {
    metric: &'static Metric,
    samples: Samples,
}

struct Families(Vec<Family>);

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Families({})", self.0.len())
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { metric, samples } in &self.0 {
            let kind = match metric.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            // The encoder writes `_total` behind a counter's name by itself.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (values, sample) in &samples.0 {
                debug_assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
                if values.is_empty() {
                    encode_sample(metric.kind, sample, &mut family)?;
                    continue;
                }
                let labels: Vec<(&str, &str)> = metric
                    .labels
                    .iter()
                    .copied()
                    .zip(values.iter().map(String::as_str))
                    .collect();
                let mut one = family.encode_family(&labels)?;
                encode_sample(metric.kind, sample, &mut one)?;
            }
        }
        Ok(())
    }
}

fn encode_sample(
    kind: MetricKind,
    sample: &Sample,
    encoder: &mut MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    match (kind, sample) {
        (MetricKind::Counter, Sample::Count(value)) => {
            encoder.encode_counter::<NoLabelSet, u64, f64>(value, None)
        }
        (MetricKind::Counter, Sample::Number(value)) => {
            encoder.encode_counter::<NoLabelSet, f64, f64>(value, None)
        }
        (_, Sample::Number(value)) => encoder.encode_gauge(value),
        (_, Sample::Count(value)) => encoder.encode_gauge(&(*value as f64)),
        (_, Sample::Histogram(histogram)) => {
            let (sum, count) = (histogram.sum_seconds(), histogram.count());
            encoder.encode_histogram::<NoLabelSet>(sum, count, &histogram.buckets(), None)
        }
    }
}

pub(super) fn api_name(key: i16) -> &'static str {
    ottla_protocol::api::facts(key).map_or("Unknown", |facts| facts.name)
}

pub(super) fn error_name(code: i16) -> &'static str {
    ottla_protocol::error::ErrorCode(code).name()
}
