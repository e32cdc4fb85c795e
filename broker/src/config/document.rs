//! The reference page of the configuration, generated from `KEYS`: `docs/reference/config.md`. A
//! test keeps page and tables equal.

use std::fmt::Write as _;

use super::key::{Effect, Key, Rule};
use super::keys::{
    BROKER_KEYS, CLIENT_METRICS_KEYS, GROUP_KEYS, REMOVED_KEYS, REMOVED_TOPIC_KEYS, Removed,
    TOPIC_KEYS, topic_key,
};

const INTRODUCTION: &str = "\
# Configuration

A broker reads Kafka's `server.properties`, the environment (`KAFKA_` and the key in upper case,
with `_` for a dot, `__` for an underscore, `___` for a dash) and `--override key=value`; later ones
win. `ottla config check FILE` says what each line of a file means here. Every key that Kafka 4.3
describes is known and described; keys whose meaning is not served yet say so under *meaning*.

*Change* tells who may change a key while the broker runs: `-` nobody, `broker` for one broker,
`cluster` for one or for all. This page is generated from the tables in `broker/src/config/keys/`.
";

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, keys) in BROKER_KEYS {
        section(
            &mut page,
            &format!("Broker: {title}"),
            "",
            keys,
            broker_columns,
        );
    }
    let topic = "Set per topic; a topic that does not set a key has the value of the broker key.";
    section(&mut page, "Topic", topic, TOPIC_KEYS, inherited_columns);
    section(
        &mut page,
        "Group",
        "Set per group.",
        GROUP_KEYS,
        inherited_columns,
    );
    let metrics = "Set per subscription.";
    section(
        &mut page,
        "Client metrics",
        metrics,
        CLIENT_METRICS_KEYS,
        inherited_columns,
    );
    removed_section(&mut page, "Broker keys that Kafka 4 dropped", REMOVED_KEYS);
    removed_section(
        &mut page,
        "Topic keys that Kafka 4 dropped",
        REMOVED_TOPIC_KEYS,
    );
    page
}

fn section(
    page: &mut String,
    title: &str,
    text: &str,
    keys: &[Key],
    columns: fn(&Key) -> [String; 2],
) {
    let _ = write!(page, "\n## {title}\n\n");
    if !text.is_empty() {
        let _ = write!(page, "{text}\n\n");
    }
    page.push_str("| key | default | values | change or broker key | meaning |\n");
    page.push_str("|---|---|---|---|---|\n");
    for key in keys {
        let [change, meaning] = columns(key);
        let (name, default, values) = (key.name, default_of(key), values_of(key));
        let _ = writeln!(
            page,
            "| `{name}` | {default} | {values} | {change} | {meaning} |"
        );
    }
}

fn removed_section(page: &mut String, title: &str, keys: &[Removed]) {
    let _ = write!(
        page,
        "\n## {title}\n\nAccepted with a notice and ignored.\n\n"
    );
    page.push_str("| key | what to do |\n|---|---|\n");
    for removed in keys {
        let _ = writeln!(page, "| `{}` | {} |", removed.name, removed.why);
    }
}

fn broker_columns(key: &Key) -> [String; 2] {
    let change = match key.dynamic {
        super::Dynamic::ReadOnly => "-",
        super::Dynamic::PerBroker => "broker",
        super::Dynamic::ClusterWide => "cluster",
    };
    [change.to_owned(), meaning_of(key)]
}

fn inherited_columns(key: &Key) -> [String; 2] {
    let names: Vec<String> = key
        .synonyms
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let shown = if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    };
    [shown, meaning_of(key)]
}

/// A broker-wide default whose topic key does nothing does nothing either.
pub(super) fn why_idle(key: &Key) -> Option<&'static str> {
    if !matches!(key.effect, Effect::TopicDefault) {
        return key.why_without_effect();
    }
    let inherits = |topic: &&Key| topic.synonyms.iter().any(|(name, _)| *name == key.name);
    TOPIC_KEYS.iter().find(inherits)?.why_without_effect()
}

fn meaning_of(key: &Key) -> String {
    let is_topic_key = topic_key(key.name).is_some_and(|topic| std::ptr::eq(topic, key));
    let idle = if is_topic_key {
        key.why_without_effect()
    } else {
        why_idle(key)
    };
    match idle {
        Some(why) => format!("{} *No effect: {why}.*", key.doc),
        None => key.doc.to_owned(),
    }
    .replace('|', "\\|")
}

fn default_of(key: &Key) -> String {
    match key.default {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn values_of(key: &Key) -> String {
    let kind = key.key_type.name();
    match key.rule {
        Rule::Any | Rule::Grammar(_) => kind.to_owned(),
        Rule::NotEmpty => format!("{kind}, not empty"),
        Rule::Between(min, i64::MAX) => format!("{kind} from {min}"),
        Rule::Between(min, max) => format!("{kind} from {min} to {max}"),
        Rule::BetweenDoubles(min, max) => format!("{kind} from {min} to {max}"),
        Rule::OneOf(words) => words.join(", "),
        Rule::EachOf(words) => format!("list of {}", words.join(", ")),
    }
}
