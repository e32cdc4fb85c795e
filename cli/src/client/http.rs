//! One request over plain HTTP, answered in JSON: all that the command line asks of a broker's HTTP
//! listener, and where that listener is (`ottla.http.listeners`, unknown to other brokers). Absent
//! on purpose: TLS, redirects, connections that are kept.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ottla_protocol::messages as api;
use serde_json::Value;

use super::{Cluster, str_bytes};
use crate::fault::Outcome;

const RESOURCE_BROKER: i8 = 4;
const HTTP_LISTENERS: &str = "ottla.http.listeners";
/// More than the largest group has to say.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The status and the body. `address` is host:port. The error is a sentence.
pub(crate) fn get_json(
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Value), String> {
    exchange("GET", address, path, timeout)
}

/// The same for a POST without a body.
pub(crate) fn post_json(
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Value), String> {
    exchange("POST", address, path, timeout)
}

fn exchange(
    method: &str,
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Value), String> {
    let mut stream = connect(address, timeout)?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let told = |error: std::io::Error| format!("{address}: {error}");
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(told)?;
    parse(&answer).ok_or_else(|| format!("{address} did not answer in JSON over HTTP"))
}

fn connect(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    let told = |error: std::io::Error| format!("{address}: {error}");
    let mut failure = format!("{address} has no address");
    for candidate in address.to_socket_addrs().map_err(told)? {
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => {
                let set = stream
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| stream.set_write_timeout(Some(timeout)));
                return set.map(|()| stream).map_err(told);
            }
            Err(error) => failure = told(error),
        }
    }
    Err(failure)
}

/// An answer without chunks, which HTTP/1.0 guarantees.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let body = serde_json::from_slice(&answer[end + 4..]).ok()?;
    Some((status.parse().ok()?, body))
}

/// A name as one segment of a path.
pub(crate) fn path_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

/// Where a broker that is reached at `address` (host:port) answers HTTP, as far as its
/// configuration tells.
pub(crate) fn listener(
    cluster: &mut Cluster,
    node_id: i32,
    address: &str,
) -> Outcome<Option<String>> {
    let response = cluster.on_broker(node_id, i16::MAX, |_version| {
        let mut resource = api::describe_configs_request::DescribeConfigsResource::default();
        resource.resource_type = RESOURCE_BROKER;
        resource.resource_name = str_bytes(&node_id.to_string());
        resource.configuration_keys = Some(vec![str_bytes(HTTP_LISTENERS)]);
        let mut request = api::DescribeConfigsRequest::default();
        request.resources = vec![resource];
        request
    })?;
    let configs = response.results.iter().flat_map(|result| &result.configs);
    let mut values = configs
        .filter(|config| config.name.as_str() == HTTP_LISTENERS)
        .filter_map(|config| config.value.as_ref());
    Ok(values
        .next()
        .and_then(|value| reachable(value, host_of(address))))
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// The first listener that can be reached from here, when the broker is reached at `host`.
fn reachable(listeners: &str, host: &str) -> Option<String> {
    let is_loopback =
        |host: &str| host == "localhost" || host.starts_with("127.") || host == "[::1]";
    listeners.split(',').find_map(|listener| {
        let address = listener.trim().strip_prefix("http://")?;
        let (bound, port) = address.trim_end_matches('/').rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        match bound {
            "" | "0.0.0.0" | "[::]" => Some(format!("{host}:{port}")),
            bound if is_loopback(bound) && !is_loopback(host) => None,
            bound => Some(format!("{bound}:{port}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_json() {
        let answer = b"HTTP/1.0 404 Not Found\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n";
        assert_eq!(parse(answer), Some((404, json!({"a": 1}))));
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\n<html>"), None);
        assert_eq!(parse(b"HTTP/1.0 200"), None);
    }

    #[test]
    fn any_name_is_one_segment_of_a_path() {
        assert_eq!(path_segment("a-b.c"), "a-b.c");
        assert_eq!(path_segment("a/b c\u{fc}"), "a%2Fb%20c%C3%BC");
    }

    #[test]
    fn a_listener_on_loopback_is_asked_only_on_the_same_machine() {
        let here = |listeners| reachable(listeners, "127.0.0.1");
        let there = |listeners| reachable(listeners, "kafka1");
        assert_eq!(here("http://127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(there("http://127.0.0.1:8080"), None);
        assert_eq!(there("http://0.0.0.0:8080").unwrap(), "kafka1:8080");
        assert_eq!(there("http://localhost:1,http://:80").unwrap(), "kafka1:80");
        assert_eq!(
            here("http://127.0.0.1:0"),
            None,
            "the port is not in the configuration"
        );
        assert_eq!(here(""), None);
        assert_eq!(host_of("[::1]:9092"), "[::1]");
    }
}
