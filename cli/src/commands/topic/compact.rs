//! `ottla topic compact`: asks a broker to compact a topic now. Kafka's protocol has no such
//! request, so this one goes over HTTP.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::ClientArgs;
use crate::fault::{Exit, Fault, Outcome};
use crate::output::Table;

/// An answer is a line or two.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// HTTP address of the broker (ottla.http.listeners)
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "localhost:8080",
        env = "OTTLA_HTTP"
    )]
    http: String,
}

pub(crate) fn run(args: &CompactArgs, client: &ClientArgs) -> Outcome {
    let address = args
        .http
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let mut table = Table::new(&["topic", "partitions", "status"]);
    for topic in &args.topics {
        let (status, answer) = post(address, topic, client.timeout())?;
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

/// Sends the request on a connection of its own; answers its status and body.
fn post(address: &str, topic: &str, timeout: Duration) -> Outcome<(u16, Value)> {
    let unreachable = |error: std::io::Error| {
        Fault::new(
            "E1101",
            Exit::Unreachable,
            format!("{address} cannot be asked over HTTP"),
        )
        .why(error.to_string())
        .hint("--http names the address that the broker prints at start")
    };
    let mut text = String::new();
    let ask = |text: &mut String| {
        let mut addresses = address.to_socket_addrs()?;
        let first = addresses
            .next()
            .ok_or_else(|| std::io::Error::other("the name has no address"))?;
        let mut stream = TcpStream::connect_timeout(&first, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        write!(
            stream,
            "POST /admin/topics/{topic}/compact HTTP/1.1\r\nhost: {address}\r\n\
             connection: close\r\ncontent-length: 0\r\n\r\n"
        )?;
        stream.take(ANSWER_BYTES_MAX).read_to_string(text)
    };
    ask(&mut text).map_err(unreachable)?;
    Ok(parse(&text))
}

/// Status and JSON body of an answer; status 0 when it is not HTTP.
fn parse(text: &str) -> (u16, Value) {
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.unwrap_or(0), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_and_garbage_is_no_success() {
        let accepted = "HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\n\r\n\
                        {\"partitions\":3}";
        assert_eq!(parse(accepted), (202, json!({ "partitions": 3 })));
        let missing = refused("t", 404, &json!({ "detail": "no such topic" }));
        assert_eq!(
            (missing.exit, missing.why.as_deref()),
            (Exit::NotFound, Some("no such topic"))
        );
        assert_eq!(refused("t", 409, &Value::Null).exit, Exit::Conflict);
        assert_eq!(parse("\0\0\0\x07garbage"), (0, Value::Null));
        assert_eq!(parse("HTTP/1.1"), (0, Value::Null));
    }
}
