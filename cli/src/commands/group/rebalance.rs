//! When and why a group last rebalanced, which the Kafka protocol does not tell. An Ottla broker
//! does, over HTTP: its address is what the coordinator's configuration says
//! (`ottla.http.listeners`), or what `--http` says.

use std::time::Duration;

use serde_json::{Value, json};

use super::view::GroupView;
use crate::client::Cluster;
use crate::client::http::{get_json, listener, path_segment};
use crate::fault::{Exit, Fault, Outcome};
use crate::values::show_time;

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
    let Some(address) = listener(cluster, view.coordinator, &view.coordinator_address)? else {
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
