//! From merged static values to a typed [`Config`]: checks every value, sets the fields, resolves
//! what several keys decide together (identity, listeners, log directories) and collects the
//! notices.
//!
//! All errors are reported at once, each with its key and where it was set.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::cordon::{self, CordonError};
use super::document::why_idle;
use super::group::{self, GroupConfigError};
use super::key::{Effect, Key, KeyType, Value, ValueError, split_list};
use super::listeners::{
    Listener, ListenerError, ListenerName, ProtocolMap, SecurityProtocol, check_ports,
    parse_http_listeners, parse_listeners, parse_protocol_map,
};
use super::notice::Notice;
use super::source::{Layers, Origin, StaticValue, StaticValues};
use super::{Config, TopicConfig, keys};

/// What the values alone do not say.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// `--insecure`: unauthenticated listeners on any address are wanted.
    pub insecure: bool,
    /// Advertised for a listener on all interfaces that advertises nothing else.
    pub hostname: String,
}

impl Default for Surroundings {
    fn default() -> Surroundings {
        Surroundings {
            insecure: false,
            hostname: "localhost".to_owned(),
        }
    }
}

/// What is wrong with the value of a key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Group(#[from] GroupConfigError),
    #[error(transparent)]
    Cordon(#[from] CordonError),
    #[error("must contain classic: groups of that protocol are always served")]
    NoClassicGroups,
    #[error("node.id is {node_id} and broker.id is {broker_id}; set only node.id")]
    TwoIds { node_id: i32, broker_id: i32 },
    #[error("must contain both broker and controller: one node is a whole cluster here")]
    Roles,
    #[error("'{0}' is not of the form id@host:port")]
    Voter(String),
    #[error("names {0} nodes; clusters of several nodes are not served yet")]
    SeveralNodes(usize),
    #[error("names node {voter}, but this node is {node_id}")]
    OtherNode { voter: i32, node_id: i32 },
    #[error("must name at least one listener for clients")]
    NoListener,
    #[error("must name at least one directory")]
    NoLogDir,
    #[error("{} is named twice", .0.display())]
    DuplicateLogDir(PathBuf),
    #[error(
        "{listener} would be reachable from other machines without authentication; name it in the \
         configuration to confirm, or start with --insecure"
    )]
    Unauthenticated { listener: String },
    #[error("'{0}' is not an address followed by a number of connections, as in 10.0.0.7:20")]
    ConnectionOverride(String),
}

/// One refused key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{origin}: {key}: {problem}")]
pub struct ConfigError {
    pub key: String,
    pub origin: Origin,
    pub problem: Problem,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Keys whose replication factor is clamped to the number of brokers.
const CLAMPED_FACTORS: &[&str] = &[
    "offsets.topic.replication.factor",
    "share.coordinator.state.topic.replication.factor",
    "transaction.state.log.replication.factor",
];

/// What comes of a set of values: a configuration, or errors; notices in either case.
pub(super) struct Examined {
    pub config: Option<Config>,
    pub notices: Vec<Notice>,
    pub errors: Vec<ConfigError>,
}

pub(super) fn build(
    values: StaticValues,
    surroundings: &Surroundings,
) -> Result<(Config, Vec<Notice>), ConfigErrors> {
    let examined = examine(values, surroundings);
    match examined.config {
        Some(config) => Ok((config, examined.notices)),
        None => Err(ConfigErrors(examined.errors)),
    }
}

pub(super) fn examine(mut values: StaticValues, surroundings: &Surroundings) -> Examined {
    complete_identity(&mut values);
    let mut builder = Builder {
        values,
        surroundings,
        errors: Vec::new(),
        notices: Vec::new(),
    };
    builder.check_values();
    // Fields are set only from values that passed, so what several keys decide waits for all.
    let config = if builder.errors.is_empty() {
        Some(builder.assemble())
    } else {
        None
    };
    let config = config.filter(|_| builder.errors.is_empty());
    let (mut notices, mut errors) = (builder.notices, builder.errors);
    notices.sort_by(|one, other| one.origin().cmp(&other.origin()));
    errors.sort_by(|one, other| one.origin.cmp(&other.origin));
    Examined {
        config,
        notices,
        errors,
    }
}

/// `broker.id` is an alias of `node.id`: either one gives both, as Kafka describes them.
fn complete_identity(values: &mut StaticValues) {
    for (from, to) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
        if let (Some(value), None) = (values.get(from).cloned(), values.get(to)) {
            values.set(to, value.text, value.origin);
        }
    }
    if values.get("node.id").is_none() {
        values.set("node.id", "1", Origin::Default);
        values.set("broker.id", "1", Origin::Default);
    }
}

struct Builder<'a> {
    values: StaticValues,
    surroundings: &'a Surroundings,
    errors: Vec<ConfigError>,
    notices: Vec<Notice>,
}

impl Builder<'_> {
    fn refuse(&mut self, key: &str, problem: impl Into<Problem>) {
        let origin = self
            .values
            .get(key)
            .map_or(Origin::Default, |value| value.origin.clone());
        self.errors.push(ConfigError {
            key: key.to_owned(),
            origin,
            problem: problem.into(),
        });
    }

    fn check_values(&mut self) {
        let values = self.values.clone();
        for (name, value) in values.iter() {
            match keys::broker_key(name) {
                Some(key) => self.check_known(key, value),
                None => self
                    .notices
                    .extend(keys::unknown_key_notice(name, &value.origin)),
            }
        }
    }

    fn check_known(&mut self, key: &'static Key, value: &StaticValue) {
        // An empty value of a key without default means null, as templates often write it.
        if value.text.trim().is_empty() && key.default.is_none() {
            return;
        }
        if let Err(error) = key.parse(&value.text) {
            self.refuse(key.name, error);
            return;
        }
        if value.origin != Origin::Default {
            self.notices.extend(notices_of(key, value));
        }
    }

    /// Typed value in force; `None` is null.
    fn value(&self, name: &str) -> Option<Value> {
        let key = keys::broker_key(name).expect("build reads only keys of the table");
        Layers::static_only(&self.values).typed(key)
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = self.values.text(name).map(str::to_owned).or_else(|| {
            keys::broker_key(name)
                .and_then(|key| key.default)
                .map(str::to_owned)
        })?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn assemble(&mut self) -> Config {
        let mut config = Config::blank();
        {
            let layers = Layers::static_only(&self.values);
            for key in keys::all_broker_keys() {
                if let Effect::Sets(set) = key.effect {
                    set(&mut config, &layers.typed(key).unwrap_or(Value::Null));
                }
            }
            config.topic_defaults = TopicConfig::from_layers(&layers);
        }
        self.identity(&mut config);
        self.quorum(&config);
        self.connection_overrides(&mut config);
        self.log_dirs(&mut config);
        if let Err(error) = cordon::check(&config.cordoned_log_dirs, &config.log_dirs) {
            self.refuse(cordon::KEY, Problem::Cordon(error));
        }
        self.kafka_listeners(&mut config);
        self.http_listeners(&mut config);
        self.clamped_factors();
        self.groups();
        config.static_values = self.values.clone();
        config
    }

    fn groups(&mut self) {
        for (key, error) in group::check_defaults(&self.values) {
            self.refuse(key, error);
        }
        let key = "group.coordinator.rebalance.protocols";
        let protocols = self.value(key);
        if protocols.is_some_and(|list| !list.list().iter().any(|name| name == "classic")) {
            self.refuse(key, Problem::NoClassicGroups);
        }
    }

    fn identity(&mut self, config: &mut Config) {
        let id = |value: Option<Value>| value.map_or(-1, |value| value.i32());
        let (node_id, broker_id) = (id(self.value("node.id")), id(self.value("broker.id")));
        if node_id != broker_id {
            self.refuse("broker.id", Problem::TwoIds { node_id, broker_id });
        }
        config.node_id = node_id;
        let roles = self.text("process.roles").map(|text| split_list(&text));
        if let Some(roles) = roles {
            let has = |role: &str| roles.iter().any(|one| one == role);
            if !has("broker") || !has("controller") {
                self.refuse("process.roles", Problem::Roles);
            }
        }
    }

    /// Without voters the node is its own quorum.
    fn quorum(&mut self, config: &Config) {
        let voters = split_list(&self.text("controller.quorum.voters").unwrap_or_default());
        match voters.as_slice() {
            [] => {}
            [one] => match one
                .split_once('@')
                .and_then(|(id, _)| id.trim().parse().ok())
            {
                None => {
                    self.refuse("controller.quorum.voters", Problem::Voter(one.clone()));
                }
                Some(voter) if voter != config.node_id => {
                    let problem = Problem::OtherNode {
                        voter,
                        node_id: config.node_id,
                    };
                    self.refuse("controller.quorum.voters", problem);
                }
                Some(_) => {}
            },
            several => {
                self.refuse(
                    "controller.quorum.voters",
                    Problem::SeveralNodes(several.len()),
                );
            }
        }
        let bootstrap = "controller.quorum.bootstrap.servers";
        let servers = split_list(&self.text(bootstrap).unwrap_or_default());
        if servers.len() > 1 {
            self.refuse(bootstrap, Problem::SeveralNodes(servers.len()));
        }
    }

    fn connection_overrides(&mut self, config: &mut Config) {
        let name = "max.connections.per.ip.overrides";
        for entry in split_list(&self.text(name).unwrap_or_default()) {
            match keys::parse_connection_override(&entry) {
                Some((address, limit)) => {
                    config
                        .max_connections_per_ip_overrides
                        .insert(address, limit);
                }
                None => self.refuse(name, Problem::ConnectionOverride(entry)),
            }
        }
    }

    fn log_dirs(&mut self, config: &mut Config) {
        let name = if self.text("log.dirs").is_some() {
            "log.dirs"
        } else {
            "log.dir"
        };
        let dirs = split_list(&self.text(name).unwrap_or_default());
        let mut seen = BTreeSet::new();
        for dir in dirs
            .into_iter()
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
        {
            if !seen.insert(dir.clone()) {
                self.refuse(name, Problem::DuplicateLogDir(dir));
                continue;
            }
            self.warn_of_temporary_dir(&dir);
            config.log_dirs.push(dir);
        }
        if config.log_dirs.is_empty() {
            self.refuse(name, Problem::NoLogDir);
        }
    }

    fn warn_of_temporary_dir(&mut self, dir: &std::path::Path) {
        if !dir.starts_with("/tmp") {
            return;
        }
        for key in ["log.dirs", "log.dir"] {
            if let Some(value) = self.values.named_by_operator(key) {
                let why = "a temporary directory may be emptied at any time, with all data in it";
                self.notices.push(Notice::Dangerous {
                    key,
                    origin: value.origin.clone(),
                    why,
                });
                return;
            }
        }
    }

    fn kafka_listeners(&mut self, config: &mut Config) {
        let controller_names: BTreeSet<ListenerName> =
            split_list(&self.text("controller.listener.names").unwrap_or_default())
                .iter()
                .map(|name| ListenerName::new(name))
                .collect();
        let Some(protocols) = self.protocol_map(&controller_names) else {
            return;
        };
        let from_advertised =
            self.values.get("listeners").is_none() && self.text("advertised.listeners").is_some();
        let source = if from_advertised {
            "advertised.listeners"
        } else {
            "listeners"
        };
        let Some(mut bound) = self.parse_key(source, &protocols) else {
            return;
        };
        if from_advertised {
            bound
                .iter_mut()
                .for_each(|listener| listener.host = "0.0.0.0".to_owned());
            self.record_derived_listeners(&bound);
        }
        if let Err(error) = check_ports(&bound) {
            self.refuse(source, error);
        }
        let (controller, clients): (Vec<_>, Vec<_>) = bound
            .into_iter()
            .partition(|listener| controller_names.contains(&listener.name));
        if clients.is_empty() {
            self.refuse(source, Problem::NoListener);
        }
        for listener in &clients {
            self.check_served(source, listener);
        }
        config.controller_listeners = controller;
        config.advertised_listeners = self.advertised(&clients, &controller_names, &protocols);
        config.listeners = clients;
    }

    /// So that the configuration answers with the listeners that are really bound.
    fn record_derived_listeners(&mut self, bound: &[Listener]) {
        let text = bound
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",");
        if let Some(advertised) = self.values.get("advertised.listeners") {
            let origin = advertised.origin.clone();
            self.values.set("listeners", text, origin);
        }
    }

    fn protocol_map(&mut self, controller_names: &BTreeSet<ListenerName>) -> Option<ProtocolMap> {
        let name = "listener.security.protocol.map";
        match parse_protocol_map(&self.text(name).unwrap_or_default()) {
            Ok(mut protocols) => {
                for controller in controller_names {
                    protocols
                        .entry(controller.clone())
                        .or_insert(SecurityProtocol::Plaintext);
                }
                Some(protocols)
            }
            Err(error) => {
                self.refuse(name, error);
                None
            }
        }
    }

    fn parse_key(&mut self, name: &str, protocols: &ProtocolMap) -> Option<Vec<Listener>> {
        match parse_listeners(&self.text(name).unwrap_or_default(), protocols) {
            Ok(listeners) => Some(listeners),
            Err(error) => {
                self.refuse(name, error);
                None
            }
        }
    }

    fn check_served(&mut self, key: &'static str, listener: &Listener) {
        if listener.protocol != SecurityProtocol::Plaintext {
            self.refuse(
                key,
                ListenerError::NotServed {
                    listener: listener.clone(),
                },
            );
        } else if !listener.is_loopback() {
            self.check_open_address(key, listener.to_string());
        }
    }

    /// An address that other machines reach, without authentication: refused unless the operator
    /// named it or passed `--insecure`.
    fn check_open_address(&mut self, key: &'static str, listener: String) {
        if self.surroundings.insecure {
            return;
        }
        let strict = self.text("ottla.unauthenticated.listeners").as_deref() == Some("refuse");
        match self
            .values
            .named_by_operator(key)
            .map(|value| value.origin.clone())
        {
            Some(origin) if !strict => {
                self.notices.push(Notice::Unauthenticated {
                    key,
                    listener,
                    origin,
                });
            }
            _ => self.refuse(key, Problem::Unauthenticated { listener }),
        }
    }

    /// One advertised address per bound listener: the one set, else the bound one, where "all
    /// interfaces" becomes the host name.
    fn advertised(
        &mut self,
        bound: &[Listener],
        controller_names: &BTreeSet<ListenerName>,
        protocols: &ProtocolMap,
    ) -> Vec<Listener> {
        let name = "advertised.listeners";
        let Some(set) = self.parse_key(name, protocols) else {
            return Vec::new();
        };
        for listener in &set {
            let known = bound.iter().any(|one| one.name == listener.name);
            if !known && !controller_names.contains(&listener.name) {
                self.refuse(name, ListenerError::NotBound(listener.name.clone()));
            }
        }
        let mut advertised = Vec::new();
        for listener in bound {
            let chosen = set.iter().find(|one| one.name == listener.name);
            let source = if chosen.is_some() { name } else { "listeners" };
            let mut chosen = chosen.unwrap_or(listener).clone();
            if chosen.host.is_empty() {
                chosen.host.clone_from(&self.surroundings.hostname);
            }
            if chosen.is_wildcard() {
                let (name, port) = (chosen.name.clone(), chosen.port);
                self.refuse(
                    source,
                    ListenerError::Unreachable(chosen.clone(), name, port),
                );
            }
            advertised.push(chosen);
        }
        advertised
    }

    fn http_listeners(&mut self, config: &mut Config) {
        let name = "ottla.http.listeners";
        match parse_http_listeners(&self.text(name).unwrap_or_default()) {
            Ok(listeners) => {
                for listener in listeners.iter().filter(|listener| !listener.is_loopback()) {
                    self.check_open_address(name, listener.to_string());
                }
                config.http_listeners = listeners;
            }
            Err(error) => self.refuse(name, error),
        }
    }

    fn clamped_factors(&mut self) {
        let brokers = 1;
        for key in CLAMPED_FACTORS {
            let named = self.values.named_by_operator(key).is_some();
            let wanted = self.value(key).map_or(1, |value| value.i32());
            if named && super::clamp_to_brokers(wanted, brokers) != wanted {
                self.notices.push(Notice::Clamped {
                    key,
                    wanted,
                    brokers,
                });
            }
        }
    }
}

fn notices_of(key: &'static Key, value: &StaticValue) -> Vec<Notice> {
    let origin = || value.origin.clone();
    let text = value.text.trim();
    let mut notices = Vec::new();
    let names_class = key.key_type == KeyType::Class || key.name.contains(".class");
    if names_class && !text.is_empty() {
        let meaning = keys::java_class_meaning(text);
        let class = text.to_owned();
        notices.push(Notice::JavaClass {
            key: key.name,
            origin: origin(),
            class,
            meaning,
        });
    } else if let Some(why) = why_idle(key) {
        notices.push(Notice::WithoutEffect {
            key: key.name,
            origin: origin(),
            why,
        });
    }
    if let Some(why) = keys::danger_of(key.name, text) {
        notices.push(Notice::Dangerous {
            key: key.name,
            origin: origin(),
            why,
        });
    }
    notices
}
