//! When and why a group last rebalanced, which the Kafka protocol does not tell. An Ottla broker
//! does, over HTTP: its address is what the coordinator's configuration says
//! (`ottla.http.listeners`, unknown to other brokers), or what `--http` says.

use std::time::Duration;

use ottla_protocol::messages as api;
use serde_json::{Value, json};

use super::view::GroupView;
use crate::client::http::{get_json, path_segment};
use crate::client::{Cluster, str_bytes};
use crate::fault::{Exit, Fault, Outcome};
use crate::values::show_time;

const RESOURCE_BROKER: i8 = 4;
const HTTP_LISTENERS: &str = "ottla.http.listeners";
/// HTTP is an extra that is not waited for, unless `--http` asks for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// When a group last rebalanced.
pub(super) struct LastRebalance {
    at_ms: i64,
    reason: String,
}

impl LastRebalance {
    pub(super) fn json(&self) -> Value {
        json!({ "at": show_time(self.at_ms), "at_ms": self.at_ms, "reason": self.reason })
    }

    pub(super) fn text(&self) -> String {
        format!("{}: {}", show_time(self.at_ms), self.reason)
    }
}

/// `None`: nobody knows. With `http` (host:port or a URL) a failure is a fault.
pub(super) fn last(
    cluster: &mut Cluster,
    view: &GroupView,
    http: Option<&str>,
    timeout: Duration,
) -> Outcome<Option<LastRebalance>> {
    if let Some(address) = http {
        let address = address.trim_start_matches("http://").trim_end_matches('/');
        return ask(cluster, view, address, timeout).map_err(|why| {
            let what = format!("{address} does not tell about group \"{}\"", view.group);
            Fault::new("E1107", Exit::Unreachable, what)
                .why(why)
                .hint("--http wants the HTTP listener of an Ottla broker")
        });
    }
    let Some(address) = http_address(cluster, view)? else {
        return Ok(None);
    };
    Ok(ask(cluster, view, &address, PATIENCE).unwrap_or_default())
}

fn ask(
    cluster: &mut Cluster,
    view: &GroupView,
    address: &str,
    timeout: Duration,
) -> Result<Option<LastRebalance>, String> {
    let path = format!("/admin/consumer-groups/{}", path_segment(&view.group));
    let (status, body) = get_json(address, &path, timeout)?;
    if status != 200 {
        let detail = body["detail"].as_str().unwrap_or("no reason given");
        return Err(format!("it answered {status}: {detail}"));
    }
    // Another cluster may have a group of the same name.
    let ours = cluster.metadata(Some(&[]), false).ok();
    let ours = ours.and_then(|metadata| metadata.cluster_id);
    let theirs = body["cluster_id"].as_str();
    if ours.as_ref().map(|id| id.as_str()) != theirs {
        return Err("it belongs to another cluster".to_owned());
    }
    let last = &body["last_rebalance"];
    Ok(last["at_ms"].as_i64().map(|at_ms| LastRebalance {
        at_ms,
        reason: last["reason"].as_str().unwrap_or_default().to_owned(),
    }))
}

/// Where the coordinator answers HTTP, as far as its configuration tells.
fn http_address(cluster: &mut Cluster, view: &GroupView) -> Outcome<Option<String>> {
    let response = cluster.on_broker(view.coordinator, i16::MAX, |_version| {
        let mut resource = api::describe_configs_request::DescribeConfigsResource::default();
        resource.resource_type = RESOURCE_BROKER;
        resource.resource_name = str_bytes(&view.coordinator.to_string());
        resource.configuration_keys = Some(vec![str_bytes(HTTP_LISTENERS)]);
        let mut request = api::DescribeConfigsRequest::default();
        request.resources = vec![resource];
        request
    })?;
    let configs = response.results.iter().flat_map(|result| &result.configs);
    let mut values = configs
        .filter(|config| config.name.as_str() == HTTP_LISTENERS)
        .filter_map(|config| config.value.as_ref());
    let host = host_of(&view.coordinator_address);
    Ok(values.next().and_then(|value| reachable(value, host)))
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
    use super::*;

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
