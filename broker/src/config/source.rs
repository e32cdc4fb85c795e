//! Where values come from: the static layers (file, environment, override) merged into one map that
//! remembers each value's origin, and the dynamic layers of the metadata log above them.
//!
//! Invariant: looking a key up through [`Layers`] follows Kafka's precedence, this broker's dynamic
//! config over the cluster's dynamic default over the static value over the built-in default.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::key::{Key, Value};

/// Who set a static value. Ordered by precedence, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A default of the product variant (`ottla dev`, the image), not of the key itself.
    Default,
    File {
        name: Arc<str>,
        line: u32,
    },
    Environment {
        variable: String,
    },
    Override,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Environment { variable } => write!(f, "environment variable {variable}"),
            Origin::Override => f.write_str("override"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticValue {
    pub text: String,
    pub origin: Origin,
}

/// The merged static layers. Later calls of [`StaticValues::set`] win over earlier ones, so callers
/// go from the lowest precedence to the highest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticValues {
    values: BTreeMap<String, StaticValue>,
}

impl StaticValues {
    /// Returns what was there before.
    pub fn set(
        &mut self,
        name: impl Into<String>,
        text: impl Into<String>,
        origin: Origin,
    ) -> Option<StaticValue> {
        self.values.insert(
            name.into(),
            StaticValue {
                text: text.into(),
                origin,
            },
        )
    }

    pub fn get(&self, name: &str) -> Option<&StaticValue> {
        self.values.get(name)
    }

    /// The text of a key that somebody set, product defaults included.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// The text of a key that the operator set himself.
    pub fn operator_text(&self, name: &str) -> Option<&str> {
        self.named_by_operator(name)
            .map(|value| value.text.as_str())
    }

    pub fn named_by_operator(&self, name: &str) -> Option<&StaticValue> {
        self.values
            .get(name)
            .filter(|value| value.origin != Origin::Default)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &StaticValue)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }
}

/// A lookup into one dynamic layer, whatever string types the metadata image keeps.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<&'a str> + 'a>;

/// All layers that give a broker key its value.
pub struct Layers<'a> {
    broker_dynamic: Lookup<'a>,
    cluster_dynamic: Lookup<'a>,
    static_values: &'a StaticValues,
}

impl<'a> Layers<'a> {
    pub fn new<K, V>(
        broker_dynamic: &'a BTreeMap<K, V>,
        cluster_dynamic: &'a BTreeMap<K, V>,
        static_values: &'a StaticValues,
    ) -> Layers<'a>
    where
        K: Borrow<str> + Ord,
        V: AsRef<str>,
    {
        Layers {
            broker_dynamic: Box::new(|name| broker_dynamic.get(name).map(AsRef::as_ref)),
            cluster_dynamic: Box::new(|name| cluster_dynamic.get(name).map(AsRef::as_ref)),
            static_values,
        }
    }

    pub fn static_only(static_values: &'a StaticValues) -> Layers<'a> {
        Layers {
            broker_dynamic: Box::new(|_| None),
            cluster_dynamic: Box::new(|_| None),
            static_values,
        }
    }

    pub(super) fn broker_dynamic(&self, name: &str) -> Option<&'a str> {
        (self.broker_dynamic)(name)
    }

    pub(super) fn cluster_dynamic(&self, name: &str) -> Option<&'a str> {
        (self.cluster_dynamic)(name)
    }

    pub(super) fn static_values(&self) -> &'a StaticValues {
        self.static_values
    }

    /// The typed value in force, unless it is the key's built-in default. A dynamic value was
    /// checked when it was set; should a later version find it invalid, the layer below counts.
    pub(super) fn explicit(&self, key: &Key) -> Option<Value> {
        [
            self.broker_dynamic(key.name),
            self.cluster_dynamic(key.name),
        ]
        .into_iter()
        .chain([self.static_values.text(key.name)])
        .flatten()
        .find_map(|text| key.parse(text).ok())
    }

    /// The typed value in force; `None` when the key is null.
    pub(super) fn typed(&self, key: &Key) -> Option<Value> {
        self.explicit(key).or_else(|| match key.default_value() {
            Value::Null => None,
            value => Some(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_key;

    #[test]
    fn a_dynamic_value_that_no_longer_parses_falls_back_to_the_layer_below() {
        let mut values = StaticValues::default();
        values.set("message.max.bytes", "2000", Origin::Override);
        let broker = BTreeMap::from([("message.max.bytes".to_owned(), "many".to_owned())]);
        let cluster = BTreeMap::<String, String>::new();
        let layers = Layers::new(&broker, &cluster, &values);
        let key = broker_key("message.max.bytes").expect("a key");
        assert_eq!(layers.typed(key), Some(Value::Int(2000)));
    }

    #[test]
    fn the_broker_wins_over_the_cluster_and_the_cluster_over_the_file() {
        let mut values = StaticValues::default();
        values.set("message.max.bytes", "1", Origin::Override);
        let cluster = BTreeMap::from([("message.max.bytes".to_owned(), "2".to_owned())]);
        let broker = BTreeMap::from([("message.max.bytes".to_owned(), "3".to_owned())]);
        let none = BTreeMap::<String, String>::new();
        let key = broker_key("message.max.bytes").expect("a key");
        let of = |broker: &BTreeMap<String, String>, cluster: &BTreeMap<String, String>| {
            Layers::new(broker, cluster, &values).typed(key)
        };
        assert_eq!(of(&none, &none), Some(Value::Int(1)));
        assert_eq!(of(&none, &cluster), Some(Value::Int(2)));
        assert_eq!(of(&broker, &cluster), Some(Value::Int(3)));
    }
}
