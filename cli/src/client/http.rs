//! One GET over plain HTTP, answered in JSON: all that the command line asks of a broker's HTTP
//! listener. Absent on purpose: TLS, redirects, connections that are kept.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

/// More than the largest group has to say.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The status and the body. `address` is host:port. The error is a sentence.
pub(crate) fn get_json(
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<(u16, Value), String> {
    let mut stream = connect(address, timeout)?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
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
}
