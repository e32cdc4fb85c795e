//! The reference page of the metrics, generated from `METRICS`: `docs/reference/metrics.md`. A test
//! keeps page and table equal.

use std::fmt::Write as _;

use super::table::METRICS;

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` on an address of `ottla.http.listeners` answers in the text format of Prometheus
(OpenMetrics). Names that begin with `commitlog_` are this product's promise; `kafka_` names are
those of kafka_exporter and of the usual JMX exporter configuration, so that existing dashboards and
alerts work unchanged; `ottla_` names are our own. The same number under several names is always
equal.

With more partitions than `ottla.metrics.partition.limit`, series with a `partition` label are left
out, and where the table says so summed per topic; the same holds for the offsets of groups, which
are counted for themselves. With more groups than `ottla.metrics.group.limit`, those without members
are left out first. `GET /metrics?detail=partition` answers with all, and `ottla_metrics_left_out`
says what an answer leaves out.

This page is generated from the table in `broker/src/metrics/table.rs`.

| name | type | unit | labels | meaning |
|---|---|---|---|---|
";

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for metric in METRICS {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind, unit, help) = (metric.name, metric.kind.name(), metric.unit, metric.help);
        let labels = labels.join(", ");
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    page
}
