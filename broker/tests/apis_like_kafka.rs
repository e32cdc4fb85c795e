//! What we tell clients in ApiVersions against what Apache Kafka 4.3.0 itself tells them. The facts
//! in `broker/tests/data/kafka_4_3_api_versions.tsv` were measured on the client listener of a
//! freshly formatted single node; every difference is named below with its reason.

use std::collections::{BTreeMap, BTreeSet};

use ottla_broker::api::APIS;

const FACTS: &str = include_str!("data/kafka_4_3_api_versions.tsv");

/// Lower highest versions than Kafka's: (key, ours, why).
const LOWER: &[(i16, i16, &str)] = &[];

/// What Kafka serves and this broker does not yet.
const ABSENT: &[(&[i16], &str)] = &[
    (&[17, 36], "SASL listeners"),
    (&[24, 25, 26, 27, 28, 61], "transactions"),
    (
        &[76, 77, 78, 79, 83, 84, 85, 86, 87, 90, 91, 92],
        "share groups",
    ),
    (&[88, 89], "streams groups"),
];

/// Key, name, lowest and highest version.
fn facts() -> BTreeMap<i16, (String, i16, i16)> {
    let rows = FACTS.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let number = |index: usize| columns[index].parse::<i16>().expect("a number");
        (number(0), (columns[1].to_owned(), number(2), number(3)))
    });
    rows.collect()
}

#[test]
fn every_api_is_told_with_kafkas_name_and_versions() {
    let facts = facts();
    let lower: BTreeMap<i16, i16> = LOWER.iter().map(|(key, max, _)| (*key, *max)).collect();
    for api in APIS {
        let (name, min, max) = facts.get(&api.key).expect("Kafka serves it too");
        let max = lower.get(&api.key).unwrap_or(max);
        let told = (api.name, api.advertise.min, api.advertise.max);
        assert_eq!(told, (name.as_str(), *min, *max));
    }
}

#[test]
fn every_difference_is_named_and_every_named_one_is_there() {
    let facts = facts();
    let served: BTreeSet<i16> = APIS.iter().map(|api| api.key).collect();
    let absent: BTreeSet<i16> = ABSENT
        .iter()
        .flat_map(|(keys, _)| keys.iter().copied())
        .collect();
    let missing: BTreeSet<i16> = facts
        .keys()
        .copied()
        .filter(|key| !served.contains(key))
        .collect();
    assert_eq!(missing, absent);
    for (key, max, why) in LOWER {
        assert!(facts[key].2 > *max, "{why}: no longer a difference");
    }
}
