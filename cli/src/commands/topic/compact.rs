//! `ottla topic compact`: asks a broker to compact a topic now. Kafka's protocol has no such
//! request, so this one goes over HTTP.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::ClientArgs;
use crate::client::http::{listener, path_segment, post_json};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::Table;

const HTTP_HINT: &str = "--http names the address that the broker prints at start";

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// HTTP address of the broker; without it the broker is asked (ottla.http.listeners)
    #[arg(long, value_name = "HOST:PORT", env = "OTTLA_HTTP")]
    http: Option<String>,
}

pub(crate) fn run(args: &CompactArgs, client: &ClientArgs) -> Outcome {
    let address = match &args.http {
        Some(address) => address
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned(),
        None => ask_for_address(client)?,
    };
    let mut table = Table::new(&["topic", "partitions", "status"]);
    for topic in &args.topics {
        let path = format!("/admin/topics/{}/compact", path_segment(topic));
        let (status, answer) = post_json(&address, &path, client.timeout()).map_err(|why| {
            Fault::new(
                "E1101",
                Exit::Unreachable,
                format!("{address} cannot be asked over HTTP"),
            )
            .why(why)
            .hint(HTTP_HINT)
        })?;
        if status != 202 {
            return Err(refused(topic, status, &answer));
        }
        let partitions = answer["partitions"].clone();
        table.row(vec![
            json!(topic),
            partitions,
            json!("COMPACTION ASKED FOR"),
        ]);
    }
    table.print(client.output);
    Ok(())
}

/// Where the first broker that tells it answers HTTP.
fn ask_for_address(client: &ClientArgs) -> Outcome<String> {
    let mut cluster = client.connect()?;
    let metadata = cluster.metadata(Some(&[]), false)?;
    for broker in &metadata.brokers {
        let address = format!("{}:{}", broker.host.as_str(), broker.port);
        if let Some(found) = listener(&mut cluster, broker.node_id.0, &address)? {
            return Ok(found);
        }
    }
    let what = "no broker tells where it answers HTTP";
    Err(Fault::new("E1101", Exit::Unreachable, what).hint(HTTP_HINT))
}

fn refused(topic: &str, status: u16, answer: &Value) -> Fault {
    let (id, exit) = match status {
        404 => ("E1204", Exit::NotFound),
        409 => ("E1205", Exit::Conflict),
        _ => ("E1209", Exit::Failed),
    };
    let fault = Fault::new(id, exit, format!("topic \"{topic}\" is not compacted"));
    match answer["detail"].as_str() {
        Some(detail) => fault.why(detail),
        None => fault.why(format!("the broker answered with HTTP status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_with_what_the_broker_says() {
        let missing = refused("t", 404, &json!({ "detail": "no such topic" }));
        assert_eq!(
            (missing.exit, missing.why.as_deref()),
            (Exit::NotFound, Some("no such topic"))
        );
        assert_eq!(refused("t", 409, &Value::Null).exit, Exit::Conflict);
    }
}
