//! A small blocking Kafka client: finds brokers and leaders, routes requests to them, one at a
//! time.
//!
//! It works against any Kafka cluster, not only Ottla. Every reply passes the wire guard like a
//! request would: what is on the other end is not known. Absent on purpose: membership of groups,
//! TLS and SASL.

mod connection;
mod groups;
pub(crate) mod http;
pub(crate) mod offsets;

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::messages::{self as api, Request, Response, StrBytes};

pub(crate) use connection::Connection;

use crate::fault::{Exit, Fault, Outcome};

/// How to reach a cluster; from `-b`, `-X`, `--command-config` and `--timeout`.
#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) client_id: String,
    pub(crate) timeout: Duration,
}

pub(crate) struct Cluster {
    options: ClientOptions,
    seed: Connection,
    addresses: BTreeMap<i32, String>,
    connections: BTreeMap<i32, Connection>,
    /// Of groups.
    coordinators: BTreeMap<String, i32>,
    controller_id: i32,
}

impl Cluster {
    /// Connects to the first bootstrap address that answers.
    pub(crate) fn connect(options: ClientOptions) -> Outcome<Self> {
        let mut first_failure = None;
        for address in &options.bootstrap {
            match Connection::open(address, &options.client_id, options.timeout) {
                Ok(seed) => {
                    return Ok(Self {
                        options,
                        seed,
                        addresses: BTreeMap::new(),
                        connections: BTreeMap::new(),
                        coordinators: BTreeMap::new(),
                        controller_id: -1,
                    });
                }
                Err(fault) => first_failure = first_failure.or(Some(fault)),
            }
        }
        Err(first_failure.unwrap_or_else(|| Fault::usage("no bootstrap server was given")))
    }

    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Whether the bootstrap broker serves `api_key` at all.
    pub(crate) fn serves(&self, api_key: i16) -> bool {
        self.seed.serves(api_key)
    }

    /// Asks whichever broker we are connected to. `build` gets the version that will be used.
    pub(crate) fn any<R>(&mut self, build: impl FnOnce(i16) -> R) -> Outcome<R::Response>
    where
        R: Request,
        R::Response: Response,
    {
        let version = self.seed.version_of::<R>(i16::MAX)?;
        self.seed.call(version, &build(version))
    }

    /// Asks broker `node_id`, at most at version `highest`.
    pub(crate) fn on_broker<R>(
        &mut self,
        node_id: i32,
        highest: i16,
        build: impl FnOnce(i16) -> R,
    ) -> Outcome<R::Response>
    where
        R: Request,
        R::Response: Response,
    {
        let connection = self.connection(node_id)?;
        let version = connection.version_of::<R>(highest)?;
        let outcome = connection.call(version, &build(version));
        if outcome.is_err() {
            // Whatever happened, the stream may be out of step: start afresh next time.
            self.connections.remove(&node_id);
        }
        outcome
    }

    /// Asks the controller, which in a Kafka 4 cluster is any live broker.
    pub(crate) fn on_controller<R>(&mut self, build: impl FnOnce(i16) -> R) -> Outcome<R::Response>
    where
        R: Request,
        R::Response: Response,
    {
        if self.addresses.is_empty() {
            self.metadata(Some(&[]), false)?;
        }
        self.on_broker(self.controller_id, i16::MAX, build)
    }

    /// The connection to broker `node_id`, opened when needed.
    pub(crate) fn connection(&mut self, node_id: i32) -> Outcome<&mut Connection> {
        if !self.connections.contains_key(&node_id) {
            let address = self.addresses.get(&node_id).ok_or_else(|| {
                Fault::new(
                    "E1106",
                    Exit::Unreachable,
                    format!("broker {node_id} is not known"),
                )
                .why("the metadata names it, but gives no address for it")
                .hint("the broker may be down; try again")
            })?;
            let opened = Connection::open(address, &self.options.client_id, self.options.timeout)
                .map_err(|fault| {
                fault.hint(format!(
                    "the bootstrap server answered, but broker {node_id} advertises {address}; \
                         when that address is wrong, set advertised.listeners on the broker"
                ))
            })?;
            self.connections.insert(node_id, opened);
        }
        self.connections
            .get_mut(&node_id)
            .ok_or_else(|| Fault::usage("unreachable connection"))
    }

    /// Metadata of `topics` (`None` = all), which also refreshes the known brokers.
    pub(crate) fn metadata(
        &mut self,
        topics: Option<&[String]>,
        create_missing: bool,
    ) -> Outcome<api::MetadataResponse> {
        let response = self.any(|version| {
            let mut request = api::MetadataRequest::default();
            let named = |name: &String| {
                let mut topic = api::metadata_request::MetadataRequestTopic::default();
                topic.name = Some(topic_name(name));
                topic
            };
            // Version 0 has no null; there an empty list means all topics.
            request.topics = match topics {
                None if version == 0 => Some(Vec::new()),
                None => None,
                Some(names) => Some(names.iter().map(named).collect()),
            };
            if version >= 4 {
                request.allow_auto_topic_creation = create_missing;
            }
            request
        })?;
        if response.error_code != 0 {
            return Err(Fault::broker(
                "asking for metadata",
                response.error_code,
                None,
            ));
        }
        self.addresses = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, format!("{}:{}", broker.host, broker.port)))
            .collect();
        self.controller_id = response.controller_id.0;
        if !self.addresses.contains_key(&self.controller_id)
            && let Some(first) = self.addresses.keys().next()
        {
            self.controller_id = *first;
        }
        Ok(response)
    }

    /// Metadata of topics that must exist; a missing one is a fault with a suggestion.
    pub(crate) fn existing_topics(
        &mut self,
        names: &[String],
    ) -> Outcome<Vec<api::metadata_response::MetadataResponseTopic>> {
        let response = self.metadata(Some(names), false)?;
        for topic in &response.topics {
            let name = topic.name.as_ref().map_or("", |name| name.0.as_str());
            match topic.error_code {
                0 => {}
                3 => return Err(self.unknown_topic(name)),
                code => return Err(Fault::broker(&format!("topic \"{name}\""), code, None)),
            }
        }
        Ok(response.topics)
    }

    pub(crate) fn unknown_topic(&mut self, name: &str) -> Fault {
        let all = self
            .metadata(None, false)
            .map(|response| response.topics)
            .unwrap_or_default();
        let closest = all
            .iter()
            .filter_map(|topic| topic.name.as_ref().map(|name| name.0.to_string()))
            .map(|known| (strsim::damerau_levenshtein(&known, name), known))
            .min()
            .filter(|(distance, _)| *distance <= name.len().max(3) / 3 + 1);
        let fault = Fault::new(
            "E1204",
            Exit::NotFound,
            format!("topic \"{name}\" does not exist"),
        );
        match closest {
            Some((_, known)) => fault.hint(format!("did you mean \"{known}\"?")),
            None => fault.hint("`ottla topic list` shows what exists"),
        }
    }
}

pub(crate) fn topic_name(name: &str) -> api::TopicName {
    api::TopicName(str_bytes(name))
}

pub(crate) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
