//! The shape of one configuration key: a row of `KEYS`. A row says everything there is to say about
//! a key (name, type, default, range, who may change it, what it does, what it means in one
//! sentence); parsing, validation, DescribeConfigs, `ottla config check` and the reference page
//! derive from it.
//!
//! Rows are written with the small `const` constructors below, so a table reads as one line per
//! key. Deliberately absent: any knowledge of a particular key. Those live in `config/keys/`.

use super::{Config, TopicConfig};

/// Kafka's config types, with the numbers DescribeConfigs uses for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum KeyType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    /// The name of a Java class. Known names are understood, others are accepted without effect.
    Class = 8,
    /// A secret: never shown, described as null.
    Password = 9,
}

impl KeyType {
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Boolean => "boolean",
            KeyType::String => "string",
            KeyType::Int => "int",
            KeyType::Short => "short",
            KeyType::Long => "long",
            KeyType::Double => "double",
            KeyType::List => "list",
            KeyType::Class => "class",
            KeyType::Password => "password",
        }
    }
}

impl KeyType {
    /// Completes "is not …" for values that are not of the type.
    fn expected(self) -> &'static str {
        match self {
            KeyType::Boolean => "true or false",
            KeyType::Int => "a whole number of 32 bits",
            KeyType::Short => "a whole number of 16 bits",
            KeyType::Long => "a whole number of 64 bits",
            KeyType::Double => "a number",
            KeyType::String | KeyType::List | KeyType::Class | KeyType::Password => "a text",
        }
    }
}

/// Who may change a key while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// Only in the file, the environment or an override; needs a restart.
    ReadOnly,
    /// For one broker, but not as the default of all brokers (listeners, key stores).
    PerBroker,
    /// For one broker or as the default of all brokers.
    ClusterWide,
}

impl Dynamic {
    pub fn name(self) -> &'static str {
        match self {
            Dynamic::ReadOnly => "read-only",
            Dynamic::PerBroker => "per-broker",
            Dynamic::ClusterWide => "cluster-wide",
        }
    }
}

/// What values a key accepts beyond being of its type.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Any,
    /// Inclusive; for int, short and long keys.
    Between(i64, i64),
    /// Inclusive; for double keys.
    BetweenDoubles(f64, f64),
    /// Exactly one of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words, possibly empty.
    EachOf(&'static [&'static str]),
    NotEmpty,
    /// A grammar of its own.
    Grammar(fn(&str) -> Result<(), GrammarError>),
}

/// What setting a key does in this broker.
#[derive(Clone, Copy)]
pub enum Effect {
    /// Sets a field of [`Config`].
    Sets(fn(&mut Config, &Value)),
    /// Sets a field of [`TopicConfig`] (topic keys only).
    SetsTopic(fn(&mut TopicConfig, &Value)),
    /// Is the broker-wide default of a topic key that names it as a synonym.
    TopicDefault,
    /// Read together with others (listeners, identity, what bounds the keys of groups).
    Combined,
    /// Accepted, described and stored, but nothing changes; the text says why.
    Nothing(&'static str),
}

/// A configuration key: one row of a table in `config/keys/`.
#[derive(Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub key_type: KeyType,
    /// `None`: the key has no value until it is set (Kafka's null).
    pub default: Option<&'static str>,
    pub rule: Rule,
    pub dynamic: Dynamic,
    pub doc: &'static str,
    pub effect: Effect,
    /// Broker keys that give this (topic, group) key its default, highest precedence first. A
    /// factor converts units: `log.retention.hours` feeds `retention.ms` times 3,600,000.
    pub synonyms: &'static [(&'static str, i64)],
    /// The field is set, but nothing reads it yet; the text says why.
    pub idle: Option<&'static str>,
    /// Described only once it has been set, as Kafka does with keys that live outside its main
    /// table.
    pub listed_when_set: bool,
}

/// A value that passed its key's type and rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Int(i32),
    Short(i16),
    Long(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

/// Why a value was refused by a key's grammar. The text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrammarError(pub &'static str);

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValueError {
    #[error("'{value}' is not {expected}")]
    WrongType {
        value: String,
        expected: &'static str,
    },
    #[error("{value} is below the minimum {min}")]
    BelowMinimum { value: String, min: String },
    #[error("{value} is above the maximum {max}")]
    AboveMaximum { value: String, max: String },
    #[error("'{value}' is not one of {}", allowed.join(", "))]
    NotAllowed {
        value: String,
        allowed: &'static [&'static str],
    },
    #[error("must not be empty")]
    Empty,
    #[error("'{value}': must be {expected}")]
    Grammar {
        value: String,
        expected: GrammarError,
    },
    #[error("'{value}' is named twice")]
    Duplicate { value: String },
}

const fn row(
    name: &'static str,
    key_type: KeyType,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key {
        name,
        key_type,
        default,
        rule: Rule::Any,
        dynamic: Dynamic::ReadOnly,
        doc,
        effect: Effect::Nothing(""),
        synonyms: &[],
        idle: None,
        listed_when_set: false,
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $function:ident => $key_type:ident;)*) => {$(
        $(#[$doc])*
        pub(super) const fn $function(
            name: &'static str,
            default: &'static str,
            doc: &'static str,
        ) -> Key {
            row(name, KeyType::$key_type, Some(default), doc)
        }
    )*};
}

constructors! {
    boolean => Boolean;
    text => String;
    int => Int;
    short => Short;
    long => Long;
    double => Double;
    list => List;
    class => Class;
}

/// A key without a default.
pub(super) const fn unset(name: &'static str, key_type: KeyType, doc: &'static str) -> Key {
    row(name, key_type, None, doc)
}

/// A secret without a default.
pub(super) const fn password(name: &'static str, doc: &'static str) -> Key {
    row(name, KeyType::Password, None, doc)
}

impl Key {
    pub(super) const fn at_least(mut self, min: i64) -> Key {
        self.rule = Rule::Between(min, i64::MAX);
        self
    }

    pub(super) const fn between(mut self, min: i64, max: i64) -> Key {
        self.rule = Rule::Between(min, max);
        self
    }

    pub(super) const fn between_doubles(mut self, min: f64, max: f64) -> Key {
        self.rule = Rule::BetweenDoubles(min, max);
        self
    }

    pub(super) const fn one_of(mut self, words: &'static [&'static str]) -> Key {
        self.rule = Rule::OneOf(words);
        self
    }

    pub(super) const fn each_of(mut self, words: &'static [&'static str]) -> Key {
        self.rule = Rule::EachOf(words);
        self
    }

    pub(super) const fn not_empty(mut self) -> Key {
        self.rule = Rule::NotEmpty;
        self
    }

    pub(super) const fn grammar(mut self, check: fn(&str) -> Result<(), GrammarError>) -> Key {
        self.rule = Rule::Grammar(check);
        self
    }

    pub(super) const fn cluster_wide(mut self) -> Key {
        self.dynamic = Dynamic::ClusterWide;
        self
    }

    pub(super) const fn per_broker(mut self) -> Key {
        self.dynamic = Dynamic::PerBroker;
        self
    }

    pub(super) const fn listed_when_set(mut self) -> Key {
        self.listed_when_set = true;
        self
    }

    pub(super) const fn synonyms(mut self, keys: &'static [(&'static str, i64)]) -> Key {
        self.synonyms = keys;
        self
    }

    pub(super) const fn sets(mut self, set: fn(&mut Config, &Value)) -> Key {
        self.effect = Effect::Sets(set);
        self
    }

    pub(super) const fn sets_topic(mut self, set: fn(&mut TopicConfig, &Value)) -> Key {
        self.effect = Effect::SetsTopic(set);
        self
    }

    pub(super) const fn topic_default(mut self) -> Key {
        self.effect = Effect::TopicDefault;
        self
    }

    pub(super) const fn combined(mut self) -> Key {
        self.effect = Effect::Combined;
        self
    }

    pub(super) const fn idle(mut self, why: &'static str) -> Key {
        self.idle = Some(why);
        self
    }

    pub(super) const fn without_effect(mut self, why: &'static str) -> Key {
        self.effect = Effect::Nothing(why);
        self
    }
}

impl Key {
    pub fn is_sensitive(&self) -> bool {
        self.key_type == KeyType::Password
    }

    pub fn is_read_only(&self) -> bool {
        self.dynamic == Dynamic::ReadOnly
    }

    /// Why setting this key changes nothing, or `None` when it does something.
    pub fn why_without_effect(&self) -> Option<&'static str> {
        match self.effect {
            Effect::Nothing(why) => Some(why),
            _ => self.idle,
        }
    }

    /// The default as a typed value. Defaults are ours, so one that does not parse is a defect.
    pub fn default_value(&self) -> Value {
        match self.default {
            None => Value::Null,
            Some(text) => self
                .parse(text)
                .unwrap_or_else(|error| panic!("default of {}: {error}", self.name)),
        }
    }

    /// Reads a value as Kafka does (surrounding blanks ignored) and applies the key's rule.
    pub fn parse(&self, raw: &str) -> Result<Value, ValueError> {
        let text = raw.trim();
        let value = parse_type(self.key_type, text)?;
        self.check_rule(text, &value)?;
        Ok(value)
    }

    fn check_rule(&self, text: &str, value: &Value) -> Result<(), ValueError> {
        match self.rule {
            Rule::Any => Ok(()),
            Rule::Between(min, max) => within(value.integer(), min, max),
            Rule::BetweenDoubles(min, max) => within(value.double(), min, max),
            Rule::OneOf(words) => one_of(text, words),
            Rule::EachOf(words) => value.list().iter().try_for_each(|item| one_of(item, words)),
            Rule::NotEmpty if text.is_empty() => Err(ValueError::Empty),
            Rule::NotEmpty => Ok(()),
            Rule::Grammar(check) => check(text).map_err(|expected| ValueError::Grammar {
                value: text.to_owned(),
                expected,
            }),
        }
    }
}

fn parse_type(key_type: KeyType, text: &str) -> Result<Value, ValueError> {
    let wrong = |_| ValueError::WrongType {
        value: text.to_owned(),
        expected: key_type.expected(),
    };
    match key_type {
        KeyType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        KeyType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        KeyType::Boolean => Err(wrong(())),
        KeyType::Int => text.parse().map(Value::Int).map_err(|_| wrong(())),
        KeyType::Short => text.parse().map(Value::Short).map_err(|_| wrong(())),
        KeyType::Long => text.parse().map(Value::Long).map_err(|_| wrong(())),
        KeyType::Double => match text.parse::<f64>() {
            Ok(number) if !number.is_nan() => Ok(Value::Double(number)),
            _ => Err(wrong(())),
        },
        KeyType::String | KeyType::Class | KeyType::Password => Ok(Value::Text(text.to_owned())),
        KeyType::List => Ok(Value::List(split_list(text))),
    }
}

/// Kafka's list grammar: comma separated, blanks around the commas ignored, empty text = empty
/// list.
pub(super) fn split_list(text: &str) -> Vec<String> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, min: T, max: T) -> Result<(), ValueError> {
    if value < min {
        return Err(ValueError::BelowMinimum {
            value: value.to_string(),
            min: min.to_string(),
        });
    }
    if value > max {
        return Err(ValueError::AboveMaximum {
            value: value.to_string(),
            max: max.to_string(),
        });
    }
    Ok(())
}

fn one_of(word: &str, allowed: &'static [&'static str]) -> Result<(), ValueError> {
    if allowed.contains(&word) {
        return Ok(());
    }
    Err(ValueError::NotAllowed {
        value: word.to_owned(),
        allowed,
    })
}

/// Typed access for the setters in the tables. The type is the row's own, so a mismatch is a defect
/// in the table; `every_setter_accepts_its_default` walks all rows.
impl Value {
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    pub(super) fn boolean(&self) -> bool {
        match self {
            Value::Boolean(value) => *value,
            other => panic!("expected a boolean, found {other:?}"),
        }
    }

    /// Any of the integer types, widened.
    pub(super) fn integer(&self) -> i64 {
        match self {
            Value::Int(value) => i64::from(*value),
            Value::Short(value) => i64::from(*value),
            Value::Long(value) => *value,
            other => panic!("expected an integer, found {other:?}"),
        }
    }

    pub(super) fn i32(&self) -> i32 {
        i32::try_from(self.integer()).expect("the key's type is int or short")
    }

    /// For keys whose rule has a minimum of at least zero.
    pub(super) fn u32(&self) -> u32 {
        u32::try_from(self.integer()).expect("the key's rule keeps it within u32")
    }

    pub(super) fn usize(&self) -> usize {
        usize::try_from(self.integer()).expect("the key's rule has a minimum of zero")
    }

    pub(super) fn double(&self) -> f64 {
        match self {
            Value::Double(value) => *value,
            other => panic!("expected a double, found {other:?}"),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Value::Text(value) => value,
            other => panic!("expected a text, found {other:?}"),
        }
    }

    pub(super) fn text_or_none(&self) -> Option<String> {
        match self {
            Value::Null => None,
            other => Some(other.text().to_owned()),
        }
    }

    pub(super) fn list(&self) -> &[String] {
        match self {
            Value::List(items) => items,
            other => panic!("expected a list, found {other:?}"),
        }
    }
}
