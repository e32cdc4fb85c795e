//! What a group is configured to do: values must lie between the bounds that the broker's own keys
//! set, and a session must outlast a heartbeat, for a group as for the defaults of all groups.
//!
//! The bounds were checked when a value was set; they may have become narrower since. A group then
//! lives with the nearest value that is allowed, as in Kafka.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use ottla_coordinator::GroupConfig;

use super::Config;
use super::key::{Key, Value};
use super::keys::{broker_key, group_key};
use super::source::{Layers, StaticValues};
use super::topic::broker_wide_value;

/// A group key and the broker keys that bound it.
struct Range {
    key: &'static str,
    /// The broker key that is the default of all groups.
    default: &'static str,
    min: Option<&'static str>,
    max: &'static str,
    /// The default of all groups is not held against the bounds when a group is configured.
    only_when_set: bool,
}

macro_rules! range {
    ($key:literal, $min:expr, $max:literal) => {
        range!($key, $min, $max, false)
    };
    ($key:literal, $min:expr, $max:literal, $only_when_set:literal) => {
        Range {
            key: $key,
            default: concat!("group.", $key),
            min: $min,
            max: $max,
            only_when_set: $only_when_set,
        }
    };
}

/// In the order in which Kafka looks at them.
const RANGES: &[Range] = &[
    range!(
        "consumer.heartbeat.interval.ms",
        Some("group.consumer.min.heartbeat.interval.ms"),
        "group.consumer.max.heartbeat.interval.ms"
    ),
    range!(
        "consumer.session.timeout.ms",
        Some("group.consumer.min.session.timeout.ms"),
        "group.consumer.max.session.timeout.ms"
    ),
    range!(
        "consumer.assignment.interval.ms",
        Some("group.consumer.min.assignment.interval.ms"),
        "group.consumer.max.assignment.interval.ms",
        true
    ),
    range!(
        "share.heartbeat.interval.ms",
        Some("group.share.min.heartbeat.interval.ms"),
        "group.share.max.heartbeat.interval.ms"
    ),
    range!(
        "share.session.timeout.ms",
        Some("group.share.min.session.timeout.ms"),
        "group.share.max.session.timeout.ms"
    ),
    range!(
        "share.record.lock.duration.ms",
        Some("group.share.min.record.lock.duration.ms"),
        "group.share.max.record.lock.duration.ms"
    ),
    range!(
        "share.delivery.count.limit",
        Some("group.share.min.delivery.count.limit"),
        "group.share.max.delivery.count.limit"
    ),
    range!(
        "share.partition.max.record.locks",
        Some("group.share.min.partition.max.record.locks"),
        "group.share.max.partition.max.record.locks"
    ),
    range!(
        "share.assignment.interval.ms",
        Some("group.share.min.assignment.interval.ms"),
        "group.share.max.assignment.interval.ms",
        true
    ),
    range!(
        "streams.heartbeat.interval.ms",
        Some("group.streams.min.heartbeat.interval.ms"),
        "group.streams.max.heartbeat.interval.ms"
    ),
    range!(
        "streams.session.timeout.ms",
        Some("group.streams.min.session.timeout.ms"),
        "group.streams.max.session.timeout.ms"
    ),
    range!(
        "streams.num.standby.replicas",
        None,
        "group.streams.max.standby.replicas"
    ),
    range!(
        "streams.assignment.interval.ms",
        Some("group.streams.min.assignment.interval.ms"),
        "group.streams.max.assignment.interval.ms",
        true
    ),
];

/// A session timeout and the heartbeat interval that it must outlast.
const SESSIONS: &[(&str, &str)] = &[
    (
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    ),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    (
        "streams.session.timeout.ms",
        "streams.heartbeat.interval.ms",
    ),
];

/// Why a group cannot be configured so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupConfigError {
    #[error("{key} must be greater than or equal to {bound}")]
    TooSmall {
        key: &'static str,
        bound: &'static str,
    },
    #[error("{key} must be less than or equal to {bound}")]
    TooLarge {
        key: &'static str,
        bound: &'static str,
    },
    #[error("{session} must be greater than {heartbeat}")]
    SessionTooShort {
        session: &'static str,
        heartbeat: &'static str,
    },
}

/// The values of one group, or of all of them.
struct Values<'a> {
    layers: Layers<'a>,
    set: BTreeMap<&'a str, &'a str>,
}

impl<'a> Values<'a> {
    fn new(set: BTreeMap<&'a str, &'a str>, values: &'a StaticValues) -> Values<'a> {
        let layers = Layers::static_only(values);
        Values { layers, set }
    }

    fn broker(&self, name: &str) -> i64 {
        let key = broker_key(name).expect("bounds are broker keys");
        integer(self.layers.typed(key), key)
    }

    fn own(&self, name: &str) -> Option<i64> {
        let key = group_key(name).expect("ranges are of group keys");
        let value = key.parse(self.set.get(name)?).ok()?;
        Some(value.integer())
    }

    fn in_force(&self, name: &str) -> i64 {
        let key = group_key(name).expect("ranges are of group keys");
        let inherited = || integer(broker_wide_value(key, &self.layers), key);
        self.own(name).unwrap_or_else(inherited)
    }
}

fn integer(value: Option<Value>, key: &Key) -> i64 {
    value.unwrap_or_else(|| key.default_value()).integer()
}

fn check_range(
    range: &Range,
    key: &'static str,
    value: i64,
    values: &Values<'_>,
) -> Result<(), GroupConfigError> {
    if let Some(bound) = range.min.filter(|min| value < values.broker(min)) {
        return Err(GroupConfigError::TooSmall { key, bound });
    }
    let bound = range.max;
    if value > values.broker(bound) {
        return Err(GroupConfigError::TooLarge { key, bound });
    }
    Ok(())
}

/// Whether a group may have these keys set.
pub(super) fn check(set: BTreeMap<&str, &str>, config: &Config) -> Result<(), GroupConfigError> {
    let values = Values::new(set, &config.static_values);
    for range in RANGES {
        if !range.only_when_set || values.own(range.key).is_some() {
            check_range(range, range.key, values.in_force(range.key), &values)?;
        }
    }
    for (session, heartbeat) in SESSIONS {
        if values.in_force(session) <= values.in_force(heartbeat) {
            return Err(GroupConfigError::SessionTooShort { session, heartbeat });
        }
    }
    Ok(())
}

/// What is wrong with the defaults of all groups, by broker key.
pub(super) fn check_defaults(
    static_values: &StaticValues,
) -> Vec<(&'static str, GroupConfigError)> {
    let values = Values::new(BTreeMap::new(), static_values);
    let mut wrong = Vec::new();
    for range in RANGES {
        let value = values.broker(range.default);
        if let Err(error) = check_range(range, range.default, value, &values) {
            wrong.push((range.default, error));
        }
    }
    let of = |key: &str| {
        let range = RANGES.iter().find(|range| range.key == key);
        range.expect("sessions are of ranges").default
    };
    for (session, heartbeat) in SESSIONS {
        let (session, heartbeat) = (of(session), of(heartbeat));
        if values.broker(session) <= values.broker(heartbeat) {
            let error = GroupConfigError::SessionTooShort { session, heartbeat };
            wrong.push((session, error));
        }
    }
    wrong
}

/// What the coordinator does otherwise for a group on which `set` is set.
pub fn effective<K, V>(set: &BTreeMap<K, V>, config: &Config) -> GroupConfig
where
    K: Borrow<str> + Ord,
    V: AsRef<str>,
{
    if set.is_empty() {
        return GroupConfig::default();
    }
    let set = set
        .iter()
        .map(|(key, value)| (key.borrow(), value.as_ref()));
    let values = Values::new(set.collect(), &config.static_values);
    let bounded = |name: &str| {
        let range = RANGES.iter().find(|range| range.key == name)?;
        let min = range.min.map_or(i64::MIN, |min| values.broker(min));
        let value = values.own(name)?.max(min).min(values.broker(range.max));
        i32::try_from(value).ok()
    };
    GroupConfig {
        session_timeout_ms: bounded("consumer.session.timeout.ms"),
        heartbeat_interval_ms: bounded("consumer.heartbeat.interval.ms"),
        assignment_interval_ms: bounded("consumer.assignment.interval.ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (key, value) in pairs {
            config.static_values.set(*key, *value, Origin::Override);
        }
        config
    }

    fn refused(set: &[(&'static str, &'static str)]) -> Option<String> {
        let set = set.iter().copied().collect();
        check(set, &Config::default())
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn values_lie_between_the_bounds_of_the_broker() {
        for (key, value, words) in [
            (
                "consumer.session.timeout.ms",
                "44999",
                "greater than or equal to group.consumer.min",
            ),
            (
                "consumer.session.timeout.ms",
                "60001",
                "less than or equal to group.consumer.max",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "4999",
                "greater than or equal to group.consumer",
            ),
            (
                "consumer.assignment.interval.ms",
                "15001",
                "less than or equal to group.consumer",
            ),
            (
                "share.delivery.count.limit",
                "11",
                "less than or equal to group.share.max",
            ),
            (
                "streams.num.standby.replicas",
                "3",
                "less than or equal to group.streams.max",
            ),
        ] {
            let told = refused(&[(key, value)]).expect(key);
            assert!(
                told.starts_with(&format!("{key} must be {words}")),
                "{told}"
            );
        }
        assert_eq!(refused(&[("consumer.session.timeout.ms", "45000")]), None);
        assert_eq!(
            refused(&[("consumer.heartbeat.interval.ms", "15000")]),
            None
        );
        assert_eq!(refused(&[("streams.num.standby.replicas", "2")]), None);
    }

    #[test]
    fn a_session_outlasts_a_heartbeat_in_groups_and_in_their_defaults() {
        let narrow = config(&[
            ("group.consumer.min.session.timeout.ms", "1"),
            ("group.consumer.max.heartbeat.interval.ms", "50000"),
        ]);
        let set = BTreeMap::from([("consumer.session.timeout.ms", "5000")]);
        let error = check(set, &narrow).unwrap_err();
        let expected =
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
        assert_eq!(error.to_string(), expected);
        assert_eq!(check_defaults(&narrow.static_values), vec![]);
        let broken = config(&[
            ("group.consumer.max.heartbeat.interval.ms", "50000"),
            ("group.consumer.heartbeat.interval.ms", "50000"),
        ]);
        let wrong = check_defaults(&broken.static_values);
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].0, "group.consumer.session.timeout.ms");
    }

    #[test]
    fn what_bounds_no_longer_allow_is_the_nearest_allowed_value() {
        let narrow = config(&[("group.consumer.max.session.timeout.ms", "50000")]);
        let set = BTreeMap::from([
            ("consumer.session.timeout.ms", "55000"),
            ("consumer.heartbeat.interval.ms", "6000"),
            ("unknown", "1"),
        ]);
        let group = effective(&set, &narrow);
        assert_eq!(group.session_timeout_ms, Some(50_000));
        assert_eq!(group.heartbeat_interval_ms, Some(6_000));
        assert_eq!(group.assignment_interval_ms, None);
    }
}
