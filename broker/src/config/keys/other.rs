//! Keys of metrics, telemetry, background work and plug-ins.

use super::why;
use crate::config::key::{Key, int, list, long, text};

pub(super) const KEYS: &[Key] = &[
    int("background.threads", "10", "Threads for background work.")
        .at_least(1)
        .cluster_wide()
        .without_effect(why::THREADS),
    list(
        "config.providers",
        "",
        "Names of plug-ins that fill in ${...} references in values.",
    )
    .cluster_wide()
    .without_effect(why::JAVA),
    int(
        "kafka.metrics.polling.interval.secs",
        "10",
        "Time between samples of the Java metrics reporters.",
    )
    .at_least(1)
    .without_effect(why::JAVA),
    list(
        "kafka.metrics.reporters",
        "",
        "Java classes that report broker metrics.",
    )
    .without_effect(why::JAVA),
    list(
        "metric.reporters",
        "org.apache.kafka.common.metrics.JmxReporter",
        "Java classes that report client-side metrics.",
    )
    .cluster_wide()
    .without_effect(why::JAVA),
    int(
        "metrics.num.samples",
        "2",
        "Windows over which a rate is computed.",
    )
    .at_least(1)
    .without_effect(why::METRICS),
    text(
        "metrics.recording.level",
        "INFO",
        "Detail of the recorded metrics.",
    )
    .one_of(&["INFO", "DEBUG", "TRACE"])
    .without_effect(why::METRICS),
    long(
        "metrics.sample.window.ms",
        "30000",
        "Length of a window over which a rate is computed.",
    )
    .at_least(1)
    .without_effect(why::METRICS),
    int(
        "telemetry.max.bytes",
        "1048576",
        "Largest push of client metrics.",
    )
    .at_least(1)
    .without_effect(why::TELEMETRY),
];
