//! The listener grammar: `NAME://host:port`, with the security protocol of a name taken from
//! `listener.security.protocol.map`. Owns parsing and its errors; binding is the network's.
//!
//! An empty host means all interfaces for a listener that is bound; an advertised listener always
//! has one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::key::split_list;

/// A listener's name, upper case: connections carry it, so it is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerName(pub Arc<str>);

impl ListenerName {
    pub fn new(name: &str) -> ListenerName {
        ListenerName(Arc::from(name.to_ascii_uppercase().as_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    pub fn parse(name: &str) -> Option<SecurityProtocol> {
        [
            Self::Plaintext,
            Self::Ssl,
            Self::SaslPlaintext,
            Self::SaslSsl,
        ]
        .into_iter()
        .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

/// One address, to bind or to advertise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: ListenerName,
    pub protocol: SecurityProtocol,
    /// A name or an address, IPv6 without brackets; empty: all interfaces.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// The host to bind: an empty one means every interface.
    pub fn bind_host(&self) -> &str {
        if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        }
    }

    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Bound to every interface, so not an address anybody can connect to.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty()
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.name, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.name, self.host, self.port)
        }
    }
}

/// An address of `ottla.http.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    pub host: String,
    pub port: u16,
}

impl HttpListener {
    pub fn bind_host(&self) -> &str {
        if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        }
    }

    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for HttpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.bind_host(), self.port)
        }
    }
}

/// What is wrong with a listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenerError {
    #[error("'{0}' is not of the form NAME://host:port")]
    Form(String),
    #[error("'{0}': the port is not a number from 0 to 65535")]
    Port(String),
    #[error("two listeners are named {0}")]
    DuplicateName(ListenerName),
    #[error("two listeners use port {0} on the same address")]
    DuplicatePort(u16),
    #[error("{0} has no entry in listener.security.protocol.map; add {0}:PLAINTEXT")]
    UnmappedName(ListenerName),
    #[error("'{0}' in the protocol map is not of the form NAME:PROTOCOL")]
    MapForm(String),
    #[error("'{0}' is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")]
    UnknownProtocol(String),
    #[error(
        "{listener} uses {}, which is not served yet; listen with PLAINTEXT, on a network that \
        you trust",
        listener.protocol.name()
    )]
    NotServed { listener: Listener },
    #[error("{0} is not a name in listeners")]
    NotBound(ListenerName),
    #[error(
        "{0}: clients cannot connect to 0.0.0.0; set advertised.listeners to an address that \
        they can \
         reach, for example {1}://localhost:{2}"
    )]
    Unreachable(Listener, ListenerName, u16),
    #[error("'{0}' is not of the form http://host:port")]
    HttpForm(String),
    #[error("{0}: HTTPS is not served; use http:// behind a proxy that ends TLS")]
    HttpsNotServed(String),
}

pub(super) type ProtocolMap = BTreeMap<ListenerName, SecurityProtocol>;

pub(super) fn parse_protocol_map(text: &str) -> Result<ProtocolMap, ListenerError> {
    let mut map = ProtocolMap::new();
    for entry in split_list(text).iter().filter(|entry| !entry.is_empty()) {
        let (name, protocol) = entry
            .split_once(':')
            .ok_or_else(|| ListenerError::MapForm(entry.clone()))?;
        let name = ListenerName::new(name.trim());
        let protocol = SecurityProtocol::parse(protocol.trim())
            .ok_or_else(|| ListenerError::UnknownProtocol(protocol.trim().to_owned()))?;
        if map.insert(name.clone(), protocol).is_some() {
            return Err(ListenerError::DuplicateName(name));
        }
    }
    Ok(map)
}

/// Parses `listeners` or `advertised.listeners`. Names must be unique; two listeners may share a
/// port only on different hosts.
pub(super) fn parse_listeners(
    text: &str,
    protocols: &ProtocolMap,
) -> Result<Vec<Listener>, ListenerError> {
    let mut listeners = Vec::<Listener>::new();
    for entry in split_list(text).iter().filter(|entry| !entry.is_empty()) {
        let listener = parse_listener(entry, protocols)?;
        if listeners.iter().any(|other| other.name == listener.name) {
            return Err(ListenerError::DuplicateName(listener.name));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Two bound listeners may not want the same address.
pub(super) fn check_ports(listeners: &[Listener]) -> Result<(), ListenerError> {
    for (at, listener) in listeners
        .iter()
        .enumerate()
        .filter(|(_, one)| one.port != 0)
    {
        let clash = |other: &Listener| {
            other.port == listener.port
                && (other.host == listener.host || other.is_wildcard() || listener.is_wildcard())
        };
        if listeners.iter().take(at).any(clash) {
            return Err(ListenerError::DuplicatePort(listener.port));
        }
    }
    Ok(())
}

fn parse_listener(entry: &str, protocols: &ProtocolMap) -> Result<Listener, ListenerError> {
    let form = || ListenerError::Form(entry.to_owned());
    let (name, address) = entry.split_once("://").ok_or_else(form)?;
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    {
        return Err(form());
    }
    let (host, port) = split_address(address).ok_or_else(form)?;
    let port = port
        .parse()
        .map_err(|_| ListenerError::Port(entry.to_owned()))?;
    let name = ListenerName::new(name);
    // A protocol's own name needs no entry in the map.
    let protocol = protocols
        .get(&name)
        .copied()
        .or_else(|| SecurityProtocol::parse(name.as_str()))
        .ok_or_else(|| ListenerError::UnmappedName(name.clone()))?;
    Ok(Listener {
        name,
        protocol,
        host: host.to_owned(),
        port,
    })
}

pub(super) fn parse_http_listeners(text: &str) -> Result<Vec<HttpListener>, ListenerError> {
    let entries = split_list(text);
    entries
        .iter()
        .filter(|entry| !entry.is_empty())
        .map(|e| parse_http_listener(e))
        .collect()
}

fn parse_http_listener(entry: &str) -> Result<HttpListener, ListenerError> {
    let form = || ListenerError::HttpForm(entry.to_owned());
    if entry.starts_with("https://") {
        return Err(ListenerError::HttpsNotServed(entry.to_owned()));
    }
    let address = entry
        .strip_prefix("http://")
        .ok_or_else(form)?
        .trim_end_matches('/');
    let (host, port) = split_address(address).ok_or_else(form)?;
    let port = port
        .parse()
        .map_err(|_| ListenerError::Port(entry.to_owned()))?;
    Ok(HttpListener {
        host: host.to_owned(),
        port,
    })
}

/// `host:port`, `[v6]:port` or `:port`.
fn split_address(address: &str) -> Option<(&str, &str)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = address.rsplit_once(':')?;
    let plain = host
        .chars()
        .all(|c| !c.is_whitespace() && !"/:[]@".contains(c));
    plain.then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Vec<Listener>, ListenerError> {
        parse_listeners(
            text,
            &parse_protocol_map("INTERNAL:PLAINTEXT,SSL:SSL").unwrap(),
        )
    }

    #[test]
    fn listeners_in_kafkas_forms_are_understood() {
        let all = parse("PLAINTEXT://:9092, internal://[::1]:9093,SSL://h.example:0").unwrap();
        assert_eq!(all[0].bind_host(), "0.0.0.0");
        assert!(all[0].is_wildcard() && !all[0].is_loopback());
        assert_eq!(
            (all[1].name.as_str(), all[1].host.as_str()),
            ("INTERNAL", "::1")
        );
        assert!(all[1].is_loopback());
        assert_eq!(all[1].to_string(), "INTERNAL://[::1]:9093");
        assert_eq!((all[2].protocol, all[2].port), (SecurityProtocol::Ssl, 0));
    }

    #[test]
    fn malformed_listeners_say_what_is_wrong() {
        assert_eq!(
            parse("localhost:9092"),
            Err(ListenerError::Form("localhost:9092".into()))
        );
        assert_eq!(
            parse("PLAINTEXT://h"),
            Err(ListenerError::Form("PLAINTEXT://h".into()))
        );
        assert!(matches!(
            parse("PLAINTEXT://h:99999"),
            Err(ListenerError::Port(_))
        ));
        assert!(matches!(
            parse("PLAINTEXT://::1:9092"),
            Err(ListenerError::Form(_))
        ));
        assert_eq!(
            parse("OUTSIDE://h:1"),
            Err(ListenerError::UnmappedName(ListenerName::new("OUTSIDE")))
        );
        assert!(matches!(
            parse("INTERNAL://a:1,internal://b:2"),
            Err(ListenerError::DuplicateName(_))
        ));
    }

    #[test]
    fn two_listeners_share_a_port_only_on_different_hosts() {
        let clash = parse("INTERNAL://:9092,PLAINTEXT://127.0.0.1:9092").unwrap();
        assert_eq!(check_ports(&clash), Err(ListenerError::DuplicatePort(9092)));
        let apart = parse("INTERNAL://10.0.0.1:9092,PLAINTEXT://127.0.0.1:9092").unwrap();
        assert_eq!(check_ports(&apart), Ok(()));
        let chosen = parse("INTERNAL://:0,PLAINTEXT://:0").unwrap();
        assert_eq!(check_ports(&chosen), Ok(()));
    }

    #[test]
    fn http_listeners_are_plain_http() {
        let one = parse_http_listeners("http://127.0.0.1:8080/").unwrap();
        assert_eq!(
            one,
            [HttpListener {
                host: "127.0.0.1".into(),
                port: 8080
            }]
        );
        assert_eq!(parse_http_listeners("").unwrap(), []);
        assert!(matches!(
            parse_http_listeners("https://h:1"),
            Err(ListenerError::HttpsNotServed(_))
        ));
        assert!(matches!(
            parse_http_listeners("8080"),
            Err(ListenerError::HttpForm(_))
        ));
    }
}
