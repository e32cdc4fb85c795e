//! HTTP: health, readiness, metrics and log levels on listeners of its own, up from the first
//! moment of a start so that progress can be watched.
//!
//! An edge: owns sockets and tasks, decides nothing. What it tells comes from [`Readiness`], the
//! metrics and an observer that the broker hands in once it exists. Everything is bounded:
//! connections, bodies, idle time. Deliberately absent: the Kafka protocol, and authentication
//! (loopback by default).

mod connections;
mod problem;
mod process;
pub mod readiness;
mod routes;

pub use readiness::{Phase, Progress, Readiness};

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cleaner::CompactRefused;
use crate::config::HttpListener;
use crate::metrics::{GroupBounds, GroupsSample, Metrics, Observation};
use crate::observe::report::GroupReport;
use crate::strangers::Strangers;

/// How long a stop waits for answers on their way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

type Observer = Box<dyn Fn() -> Observation + Send + Sync>;
type Compactor = Box<dyn Fn(&str) -> Result<usize, CompactRefused> + Send + Sync>;

/// The groups of a broker, as the routes ask for them.
pub trait GroupsView: Send + Sync {
    fn sample(&self, bounds: GroupBounds) -> GroupsSample;
    /// `None`: there is no such group here.
    fn report(&self, group: &str) -> Option<GroupReport>;
}

/// What `/metrics` shows one by one at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `ottla.metrics.partition.limit`.
    pub partitions: usize,
    /// `ottla.metrics.group.limit`.
    pub groups: usize,
}

/// What the routes share.
pub struct HttpState {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    limits: Limits,
    observer: OnceLock<Observer>,
    groups: OnceLock<Box<dyn GroupsView>>,
    compactor: OnceLock<Compactor>,
    strangers: Strangers,
}

impl HttpState {
    pub fn new(readiness: Arc<Readiness>, metrics: Arc<Metrics>, limits: Limits) -> HttpState {
        HttpState {
            readiness,
            metrics,
            limits,
            observer: OnceLock::new(),
            groups: OnceLock::new(),
            compactor: OnceLock::new(),
            strangers: Strangers::default(),
        }
    }

    /// Hands in how to look at the broker, once there is one. Later calls are ignored.
    pub fn observe_with(&self, observer: impl Fn() -> Observation + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Hands in the groups, once there is a broker. Later calls are ignored.
    pub fn show_groups_of(&self, groups: impl GroupsView + 'static) {
        let _ = self.groups.set(Box::new(groups));
    }

    /// Hands in how to have a topic compacted, once there is a broker. Later calls are ignored.
    pub fn compact_with(
        &self,
        compactor: impl Fn(&str) -> Result<usize, CompactRefused> + Send + Sync + 'static,
    ) {
        let _ = self.compactor.set(Box::new(compactor));
    }

    fn observation(&self) -> Observation {
        let mut observation = self
            .observer
            .get()
            .map(|observe| observe())
            .unwrap_or_default();
        observation.ready = self.readiness.is_ready();
        observation
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listener}: {error}; change ottla.http.listeners or free the port")]
pub struct HttpBindError {
    pub listener: HttpListener,
    pub error: io::Error,
}

/// The running HTTP listeners.
pub struct HttpServer {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl HttpServer {
    /// Binds all listeners, or none, and serves them on the current runtime.
    pub async fn start(
        listeners: &[HttpListener],
        state: Arc<HttpState>,
    ) -> Result<HttpServer, HttpBindError> {
        let mut bound = Vec::new();
        for listener in listeners {
            let failed = |error| HttpBindError {
                listener: listener.clone(),
                error,
            };
            let socket = TcpListener::bind((listener.bind_host(), listener.port)).await;
            let socket = socket.map_err(failed)?;
            bound.push((socket.local_addr().map_err(failed)?, socket));
        }
        let (stop, stopped) = watch::channel(false);
        let mut server = HttpServer {
            addresses: Vec::new(),
            stop,
            tasks: Vec::new(),
        };
        for (address, socket) in bound {
            server.addresses.push(address);
            server
                .tasks
                .push(serve(socket, state.clone(), stopped.clone()));
        }
        Ok(server)
    }

    /// The addresses bound, in the order of the listeners; a port of 0 is answered by the real one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets answers on their way finish, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for mut task in self.tasks {
            if tokio::time::timeout(STOP_PATIENCE, &mut task)
                .await
                .is_err()
            {
                task.abort();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: one task per listener")]
fn serve(
    socket: TcpListener,
    state: Arc<HttpState>,
    mut stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let server = axum::serve(
        connections::Bounded::new(socket, Arc::clone(&state)),
        routes::router(state),
    );
    let server = server.with_graceful_shutdown(async move {
        // An error means the server was dropped, which is a reason to stop as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "an HTTP listener ended");
        }
    })
}

#[cfg(test)]
mod tests;
