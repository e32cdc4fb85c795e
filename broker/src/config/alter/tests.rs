//! Which changes are allowed, and what they store.
#![allow(clippy::unwrap_used)]

use super::*;

type Stored = BTreeMap<String, String>;

fn stored(pairs: &[(&str, &str)]) -> Stored {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn change<'a>(key: &'a str, operation: Operation, value: Option<&'a str>) -> Change<'a> {
    Change {
        key,
        operation,
        value,
    }
}

fn set<'a>(key: &'a str, value: &'a str) -> Change<'a> {
    change(key, Operation::Set, Some(value))
}

fn one(target: Target, current: &Stored, change: Change<'_>) -> Result<Changes, AlterError> {
    apply(target, current, &[change], &Config::default())
}

fn value_of(changes: &Changes, key: &str) -> Option<String> {
    changes.get(key).unwrap().clone()
}

#[test]
fn setting_and_deleting_change_exactly_the_named_keys() {
    let current = stored(&[("retention.ms", "1"), ("segment.bytes", "2097152")]);
    let changes = [
        set("retention.ms", " 5 "),
        change("segment.bytes", Operation::Delete, None),
    ];
    let result = apply(Target::Topic, &current, &changes, &Config::default()).unwrap();
    let expected = [("retention.ms", Some("5")), ("segment.bytes", None)];
    let expected: Changes = expected
        .map(|(k, v)| (k.to_owned(), v.map(str::to_owned)))
        .into_iter()
        .collect();
    assert_eq!(result, expected);
}

#[test]
fn appending_starts_from_what_is_set_or_else_from_the_default() {
    let append = |value| change("cleanup.policy", Operation::Append, Some(value));
    let unset = one(Target::Topic, &stored(&[]), append("compact")).unwrap();
    assert_eq!(
        value_of(&unset, "cleanup.policy").as_deref(),
        Some("delete,compact")
    );
    let compacted = stored(&[("cleanup.policy", "compact")]);
    let again = one(Target::Topic, &compacted, append("compact")).unwrap();
    assert_eq!(
        value_of(&again, "cleanup.policy").as_deref(),
        Some("compact")
    );
}

#[test]
fn subtracting_removes_items_and_may_leave_an_empty_list() {
    let subtract = change("cleanup.policy", Operation::Subtract, Some("delete"));
    let result = one(Target::Topic, &stored(&[]), subtract).unwrap();
    assert_eq!(value_of(&result, "cleanup.policy").as_deref(), Some(""));
}

#[test]
fn the_older_form_removes_what_it_does_not_name() {
    let current = stored(&[("retention.ms", "1"), ("segment.bytes", "2097152")]);
    let wanted = [("retention.ms", Some("9"))];
    let result = replace(Target::Topic, &current, &wanted, &Config::default()).unwrap();
    assert_eq!(value_of(&result, "retention.ms").as_deref(), Some("9"));
    assert_eq!(value_of(&result, "segment.bytes"), None);
}

#[test]
fn what_may_not_be_changed_says_why() {
    let none = stored(&[]);
    let message = |target, change| one(target, &none, change).unwrap_err().to_string();
    assert_eq!(
        message(Target::Topic, set("retention.mss", "1")),
        "unknown key retention.mss; did you mean retention.ms?"
    );
    assert_eq!(
        message(Target::Topic, set("log.retention.hours", "1")),
        "unknown key log.retention.hours; did you mean retention.ms?"
    );
    assert_eq!(
        message(Target::Topic, set("segment.bytes", "1")),
        "invalid value for segment.bytes: 1 is below the minimum 1048576"
    );
    assert!(message(Target::Broker, set("num.partitions", "3")).contains("is read-only"));
    assert!(message(Target::BrokerDefault, set("listeners", "X://:1")).contains("one broker only"));
    let append = change("retention.ms", Operation::Append, Some("1"));
    assert!(message(Target::Topic, append).contains("is not a list"));
    let null = change("retention.ms", Operation::Set, None);
    assert!(message(Target::Topic, null).contains("needs a value"));
    assert!(
        message(Target::Group, set("consumer.sesion.timeout.ms", "1")).contains("did you mean")
    );
    assert!(message(Target::ClientMetrics, set("interval", "1")).contains("unknown key"));
}

#[test]
fn the_same_key_twice_is_refused_in_both_forms() {
    let none = stored(&[]);
    let twice = [set("retention.ms", "1"), set("retention.ms", "2")];
    let config = Config::default();
    let duplicate = AlterError::DuplicateKey {
        key: "retention.ms".into(),
    };
    assert_eq!(
        apply(Target::Topic, &none, &twice, &config),
        Err(duplicate.clone())
    );
    let twice = [("retention.ms", Some("1")), ("retention.ms", Some("2"))];
    assert_eq!(
        replace(Target::Topic, &none, &twice, &config),
        Err(duplicate)
    );
}

#[test]
fn keys_are_also_checked_against_each_other() {
    let current = stored(&[("max.compaction.lag.ms", "10")]);
    let error = one(Target::Topic, &current, set("min.compaction.lag.ms", "11")).unwrap_err();
    assert_eq!(
        error,
        AlterError::CompactionLag {
            min_ms: 11,
            max_ms: 10
        }
    );
    one(Target::Topic, &current, set("min.compaction.lag.ms", "10")).unwrap();
}

#[test]
fn dropped_topic_keys_are_forgotten_unless_strictness_is_asked_for() {
    let configs = [
        ("message.format.version", Some("2.8")),
        ("retention.ms", Some("1")),
    ];
    let lenient = check_new_topic(configs, &Config::default()).unwrap();
    assert_eq!(lenient, stored(&[("retention.ms", "1")]));
    let strict = Config::from_pairs([("ottla.strict.topic.keys", "true")]).unwrap();
    assert!(matches!(
        check_new_topic(configs, &strict),
        Err(AlterError::RemovedKey { .. })
    ));
}

#[test]
fn per_broker_keys_include_those_of_single_listeners() {
    let none = stored(&[]);
    let key = "listener.name.internal.ssl.keystore.location";
    one(Target::Broker, &none, set(key, "/k.pem")).unwrap();
    assert!(one(Target::BrokerDefault, &none, set(key, "/k.pem")).is_err());
}

#[test]
fn whatever_is_stored_can_be_deleted() {
    let current = stored(&[("key.of.a.later.version", "1")]);
    let delete = change("key.of.a.later.version", Operation::Delete, None);
    let result = one(Target::Topic, &current, delete).unwrap();
    assert_eq!(value_of(&result, "key.of.a.later.version"), None);
}

#[test]
fn operations_have_the_protocols_numbers() {
    use Operation::{Append, Delete, Set, Subtract};
    let all = [Set, Delete, Append, Subtract].map(Some);
    assert_eq!([0, 1, 2, 3].map(Operation::from_code), all);
    assert_eq!(Operation::from_code(4), None);
}
