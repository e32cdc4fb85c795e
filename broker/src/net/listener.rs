//! Listening sockets: bound early, so that a port that is taken is known before anything is opened,
//! and accepting late, when the broker is ready.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::admission::Admission;
use super::session;
use crate::broker::Broker;
use crate::config::{Config, Listener, ListenerName};
use crate::reply::CloseReason;

/// A dead peer is noticed by keepalive after about two minutes, and by unacknowledged data as soon.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;
const USER_TIMEOUT: Duration = Duration::from_secs(120);
/// Kafka's default of 50 overflows when a worker is not scheduled for a few milliseconds, and each
/// client beyond waits a second for its next SYN.
const BACKLOG_MIN: u32 = 1024;
/// After an accept failed because descriptors or memory ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("listener {listener}: {address} is already in use by another process")]
    InUse { listener: String, address: String },
    #[error("listener {listener}: the host of {address} is not an address of this machine")]
    NotAvailable { listener: String, address: String },
    #[error("listener {listener}: no permission to bind {address}")]
    Denied { listener: String, address: String },
    #[error("listener {listener}: cannot listen on {address}: {source}")]
    Io {
        listener: String,
        address: String,
        source: io::Error,
    },
}

/// A listening socket that does not accept yet.
#[derive(Debug)]
pub struct Bound {
    pub name: ListenerName,
    pub address: SocketAddr,
    socket: std::net::TcpListener,
}

/// Binds one listener of the configuration.
pub fn bind(listener: &Listener, config: &Config) -> Result<Bound, BindError> {
    let host = listener.bind_host();
    let name = listener.to_string();
    let text = format!("{host}:{}", listener.port);
    let failed = |source: io::Error| bind_error(name.clone(), text.clone(), source);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, listener.port).to_socket_addrs().map_err(failed)? {
        match listen(address, config) {
            Ok(socket) => {
                let address = socket.local_addr().map_err(failed)?;
                return Ok(Bound {
                    name: listener.name.clone(),
                    address,
                    socket,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn bind_error(listener: String, address: String, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { listener, address },
        io::ErrorKind::AddrNotAvailable => BindError::NotAvailable { listener, address },
        io::ErrorKind::PermissionDenied => BindError::Denied { listener, address },
        _ => BindError::Io {
            listener,
            address,
            source,
        },
    }
}

fn listen(address: SocketAddr, config: &Config) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Inherited by accepted sockets, and must be set before the window scale is negotiated.
    if let Some(bytes) = config.socket_receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = config.socket_send_buffer_bytes {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    socket.bind(&address.into())?;
    let backlog = config.socket_listen_backlog_size.max(BACKLOG_MIN);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until `shutdown`, then waits until every connection has drained.
pub async fn accept(
    broker: Arc<Broker>,
    bound: Bound,
    admission: Arc<Admission>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(bound.socket)?;
    let mut sessions = JoinSet::new();
    let mut stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = sessions.join_next() => {
                note_end(&broker, ended);
                continue;
            }
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                if let Some(wait) = admission.pause(broker.clock.now()) {
                    tokio::time::sleep(wait).await;
                }
                let permit = match admission.admit(peer.ip()) {
                    Ok(permit) => permit,
                    Err(refused) => {
                        tracing::debug!(%peer, %refused, "refused a connection");
                        broker
                            .metrics
                            .connection_closed(CloseReason::TooManyConnections.label());
                        continue;
                    }
                };
                tune(&socket);
                let (broker, name) = (Arc::clone(&broker), bound.name.clone());
                let shutdown = shutdown.clone();
                broker.metrics.connection_opened();
                sessions.spawn(async move {
                    let _permit = permit;
                    session::serve(broker, socket, peer, name, shutdown).await
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    let _ = shutdown.wait_for(|stop| *stop).await;
    while let Some(ended) = sessions.join_next().await {
        note_end(&broker, ended);
    }
    Ok(())
}

fn note_end(broker: &Broker, ended: Result<CloseReason, tokio::task::JoinError>) {
    let reason = match ended {
        Ok(reason) => reason,
        Err(panic) => {
            tracing::error!(error = %panic, "a connection ended by a defect of the broker");
            CloseReason::Panic
        }
    };
    broker.metrics.connection_closed(reason.label());
}

/// Errors of one connection are over at once; running out of descriptors needs a pause, or the loop
/// would spin on the same connection.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        tracing::warn!(%error, "cannot accept connections for the moment");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Socket options that help and whose failure harms nobody.
fn tune(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let results = [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT)),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was refused");
    }
}
