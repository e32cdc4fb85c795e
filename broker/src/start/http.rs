//! The HTTP listeners on a thread of their own: metrics and health never take a worker from the
//! data path, and answer while the broker still starts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::StartError;
use crate::config::HttpListener;
use crate::http::{HttpBindError, HttpServer, HttpState};

const STACK_BYTES: usize = 512 * 1024;

/// The running listeners; stopped by dropping.
pub(super) struct HttpThread {
    addresses: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpThread {
    /// Returns when all listeners are bound.
    pub(super) fn start(
        listeners: &[HttpListener],
        state: Arc<HttpState>,
    ) -> Result<HttpThread, StartError> {
        let mut started = HttpThread {
            addresses: Vec::new(),
            stop: None,
            thread: None,
        };
        if listeners.is_empty() {
            return Ok(started);
        }
        let listeners = listeners.to_vec();
        let (bound, addresses) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let builder = std::thread::Builder::new()
            .name("http".to_owned())
            .stack_size(STACK_BYTES);
        #[allow(clippy::disallowed_methods)] // one of the few places that start threads
        let thread = builder
            .spawn(move || run(&listeners, state, &bound, stopped))
            .map_err(StartError::Threads)?;
        let gone = || StartError::Threads(io::Error::other("the HTTP thread ended"));
        match addresses.recv().map_err(|_| gone())? {
            Ok(addresses) => started.addresses = addresses,
            Err(Failed::Runtime(error)) => return Err(StartError::Threads(error)),
            Err(Failed::Bind(error)) => return Err(StartError::Http(error)),
        }
        (started.stop, started.thread) = (Some(stop), Some(thread));
        Ok(started)
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for HttpThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the HTTP thread ended by a defect");
        }
    }
}

enum Failed {
    Runtime(io::Error),
    Bind(HttpBindError),
}

fn run(
    listeners: &[HttpListener],
    state: Arc<HttpState>,
    bound: &mpsc::Sender<Result<Vec<SocketAddr>, Failed>>,
    stopped: oneshot::Receiver<()>,
) {
    // Nobody listens to `bound` when the start was given up: then there is nothing to serve.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = bound.send(Err(Failed::Runtime(error)));
            return;
        }
    };
    runtime.block_on(async {
        match HttpServer::start(listeners, state).await {
            Ok(server) => {
                let _ = bound.send(Ok(server.addresses().to_vec()));
                let _ = stopped.await;
                server.stop().await;
            }
            Err(error) => {
                let _ = bound.send(Err(Failed::Bind(error)));
            }
        }
    });
}
