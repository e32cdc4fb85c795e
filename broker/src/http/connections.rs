//! A listener with bounds: so many connections at a time, each closed when it is idle for too long.
//! A slow or silent client costs one of the places and nothing else.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::HttpState;
use crate::strangers::Stranger;

const CONNECTIONS_MAX: usize = 256;
const IDLE_MAX: Duration = Duration::from_secs(60);
/// After an error that does not concern one connection, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    state: Arc<HttpState>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, state: Arc<HttpState>) -> Bounded {
        Bounded {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            state,
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let idle = Box::pin(tokio::time::sleep(IDLE_MAX));
                    return (
                        Connection {
                            stream,
                            idle,
                            greeting: Some((Arc::clone(&self.state), address)),
                            _place: place,
                        },
                        address,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails its reads and writes once nothing moved for `IDLE_MAX`.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    /// Until the first bytes came: they tell whether this is HTTP at all.
    greeting: Option<(Arc<HttpState>, SocketAddr)>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes a result on, or an error when the connection waited for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            return result;
        }
        std::task::ready!(self.idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        if let Some((state, peer)) = self.greeting.take_if(|_| !came.is_empty())
            && let Some(stranger) = Stranger::at_http(came)
        {
            let now = Instant::now().into_std();
            state.strangers.note(stranger, &peer, now);
        }
        self.watch(context, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
