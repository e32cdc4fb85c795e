//! One blocking connection to one broker: connects, learns the broker's versions, sends one request
//! at a time.
//!
//! Absent on purpose: pipelining, retries and metadata (see `client.rs`).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{self as api, Request, Response, StrBytes};

use crate::fault::{Exit, Fault, Outcome};

/// A reply larger than this is refused; Kafka's own limit for requests is 100 MiB.
const REPLY_SIZE_BYTES_MAX: u32 = 256 * 1024 * 1024;
const UNSUPPORTED_VERSION: i16 = 35;

pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    client_id: String,
    timeout: Duration,
    next_correlation_id: i32,
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects to `host:port` and asks which versions it speaks. `timeout` bounds each step.
    pub(crate) fn open(address: &str, client_id: &str, timeout: Duration) -> Outcome<Self> {
        let stream = connect(address, timeout)?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            timeout,
            next_correlation_id: 1,
            versions: BTreeMap::new(),
        };
        connection.learn_versions()?;
        Ok(connection)
    }

    /// The highest version of `R` that this client, the broker and `highest` allow.
    pub(crate) fn version_of<R: Request>(&self, highest: i16) -> Outcome<i16> {
        let ours = R::VERSIONS;
        let Some(&(low, high)) = self.versions.get(&R::KEY) else {
            return Err(self.too_different::<R>("it does not serve that API at all".to_owned()));
        };
        let version = high.min(ours.max).min(highest);
        if version < low || version < ours.min {
            return Err(self.too_different::<R>(format!(
                "it serves versions {low} to {high}, this client speaks {} to {}",
                ours.min,
                ours.max.min(highest)
            )));
        }
        Ok(version)
    }

    pub(crate) fn serves(&self, api_key: i16) -> bool {
        self.versions.contains_key(&api_key)
    }

    /// Sends `request` at `version` and waits for the reply.
    pub(crate) fn call<R>(&mut self, version: i16, request: &R) -> Outcome<R::Response>
    where
        R: Request,
        R::Response: Response,
    {
        let correlation_id = self.send(version, request)?;
        let frame = self.receive()?;
        let (answered, response) = api::decode_response::<R::Response>(frame, version)
            .map_err(|error| self.garbled(&error.to_string()))?;
        if answered != correlation_id {
            return Err(self.garbled("the reply belongs to another request"));
        }
        Ok(response)
    }

    /// Sends a request that has no reply (Produce with acks=0).
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> Outcome<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1).max(1);
        let frame = api::encode_request(correlation_id, &self.client_id, version, request)
            .map_err(|error| {
                Fault::new("E1102", Exit::Failed, "this request cannot be encoded")
                    .why(error.to_string())
            })?;
        self.stream
            .write_all(&frame)
            .map_err(|error| self.lost(&error))?;
        Ok(correlation_id)
    }

    fn receive(&mut self) -> Outcome<Bytes> {
        let mut length = [0_u8; 4];
        self.stream
            .read_exact(&mut length)
            .map_err(|error| self.lost(&error))?;
        let length = u32::from_be_bytes(length);
        if length > REPLY_SIZE_BYTES_MAX {
            return Err(self.garbled(&format!("it announces a reply of {length} bytes")));
        }
        // Grown as bytes arrive: a lying length costs nothing.
        let mut body = BytesMut::with_capacity((length as usize).min(64 * 1024));
        let mut chunk = vec![0_u8; 64 * 1024];
        let mut missing = length as usize;
        while missing > 0 {
            let wanted = missing.min(chunk.len());
            let got = self
                .stream
                .read(&mut chunk[..wanted])
                .map_err(|error| self.lost(&error))?;
            if got == 0 {
                return Err(self.lost(&io::ErrorKind::UnexpectedEof.into()));
            }
            body.extend_from_slice(&chunk[..got]);
            missing -= got;
        }
        Ok(body.freeze())
    }

    /// Asks with version 3 first; a broker that is too old answers in version 0's form with error
    /// 35.
    fn learn_versions(&mut self) -> Outcome {
        for version in [3, 0] {
            let mut request = api::ApiVersionsRequest::default();
            if version >= 3 {
                request.client_software_name = StrBytes::from_static_str("ottla-cli");
                request.client_software_version =
                    StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
            }
            self.send(version, &request)?;
            let frame = self.receive()?;
            let refused = frame.get(4..6) == Some(&UNSUPPORTED_VERSION.to_be_bytes()[..]);
            if refused && version > 0 {
                continue;
            }
            let (_, response) = api::decode_response::<api::ApiVersionsResponse>(frame, version)
                .map_err(|error| self.garbled(&error.to_string()))?;
            if response.error_code != 0 {
                return Err(Fault::broker(
                    "asking for API versions",
                    response.error_code,
                    None,
                ));
            }
            self.versions = response
                .api_keys
                .iter()
                .map(|row| (row.api_key, (row.min_version, row.max_version)))
                .collect();
            return Ok(());
        }
        Err(self.garbled("it refuses every version of ApiVersions"))
    }

    fn too_different<R: Request>(&self, why: String) -> Fault {
        let name = ottla_protocol::api::facts(R::KEY).map_or("?", |facts| facts.name);
        Fault::new(
            "E1103",
            Exit::Failed,
            format!("{} cannot be asked for {name}", self.address),
        )
        .why(why)
    }

    fn garbled(&self, why: &str) -> Fault {
        Fault::new(
            "E1104",
            Exit::Failed,
            format!("{} sent an unreadable reply", self.address),
        )
        .why(why)
        .hint("is this a Kafka listener without TLS? HTTP and TLS ports look like this")
    }

    fn lost(&self, error: &io::Error) -> Fault {
        let waited = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        let why = if waited {
            format!("no answer within {} ms", self.timeout.as_millis())
        } else {
            error.to_string()
        };
        Fault::new(
            "E1105",
            Exit::Unreachable,
            format!("lost the connection to {}", self.address),
        )
        .why(why)
        .hint("the broker may have stopped, or speaks TLS or SASL on this port")
    }
}

fn connect(address: &str, timeout: Duration) -> Outcome<TcpStream> {
    let unreachable = |why: String| {
        Fault::new(
            "E1101",
            Exit::Unreachable,
            format!("cannot connect to {address}"),
        )
        .why(why)
        .hint("is a broker running there? `ottla dev` starts one on localhost:9092")
    };
    let candidates: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| unreachable(error.to_string()))?
        .collect();
    let give_up_at = Instant::now() + timeout;
    let mut last_error = "the name has no address".to_owned();
    for candidate in candidates {
        let left = give_up_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&candidate, left) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(timeout)))
                    .and_then(|()| stream.set_write_timeout(Some(timeout)));
                return set
                    .map(|()| stream)
                    .map_err(|error| unreachable(error.to_string()));
            }
            Err(error) => last_error = format!("{candidate}: {error}"),
        }
    }
    Err(unreachable(last_error))
}
