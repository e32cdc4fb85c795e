//! `ottla server`: a broker from Kafka's `server.properties`, until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ottla_broker::broker::Broker;
use ottla_broker::config::Config;
use ottla_broker::config::load::{LoadError, Loaded, Sources};
use ottla_broker::logging::{self, Output};
use ottla_broker::start::{Running, StartError, Storage};
use ottla_storage::image::{ImageHome, RocksHome};
use ottla_storage::layout;
use tokio::signal::unix::{SignalKind, signal};

use crate::fault::{Exit, Fault, Outcome};

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Kafka's server.properties, used as it is
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, above file and environment; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Listen without authentication on addresses that other machines reach
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn run(args: &ServerArgs) -> Outcome {
    let mut sources =
        Sources::from_system(args.config.as_deref(), &args.overrides).map_err(refused)?;
    sources.insecure = args.insecure;
    let loaded = sources.load().map_err(refused)?;
    let running = start(loaded, Storage::Disk, Output::Stdout)?;
    // What container tooling waits for, as Kafka prints it.
    println!("Transitioning from RECOVERY to RUNNING (Kafka Server started)");
    until_stopped(running)
}

/// Starts a broker after saying what there is to say about its configuration.
pub(super) fn start(loaded: Loaded, storage: Storage, output: Output) -> Outcome<Running> {
    let Loaded { config, notices } = loaded;
    logging::init(
        config.log_format,
        &config.log_level,
        Some(config.node_id),
        output,
    )
    .map_err(|error| {
        Fault::new("E1403", Exit::Usage, "logging cannot be set up").why(error.to_string())
    })?;
    for notice in &notices {
        if notice.is_warning() {
            tracing::warn!("{notice}");
        } else {
            tracing::info!("{notice}");
        }
    }
    let images = images(&config, storage);
    Broker::start(config, storage, images).map_err(|error| not_started(&error))
}

/// Where RocksDB keeps the images of internal topics; a broker that keeps nothing has none.
fn images(config: &Config, storage: Storage) -> Option<Arc<dyn ImageHome>> {
    let metadata_dir = config.metadata_dir().filter(|_| storage == Storage::Disk)?;
    let home = RocksHome::new(metadata_dir.join(layout::IMAGES_DIR));
    Some(Arc::new(home))
}

/// Waits for Ctrl-C, SIGTERM or the end of the broker, and stops it cleanly.
pub(super) fn until_stopped(running: Running) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let failure = runtime
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt())?;
                let mut terminate = signal(SignalKind::terminate())?;
                tokio::select! {
                    _ = interrupt.recv() => Ok(None),
                    _ = terminate.recv() => Ok(None),
                    error = running.failure() => Ok(Some(error)),
                }
            })
        })
        .map_err(|error| {
            Fault::new("E1404", Exit::Failed, "signals cannot be received").why(error.to_string())
        })?;
    let stopped = running.stop();
    if let Some(error) = failure {
        return Err(
            Fault::new("E1405", Exit::Failed, "the broker ended by itself")
                .why(error.to_string())
                .hint("free disk space or repair the disk, then start it again: nothing is lost"),
        );
    }
    stopped.map_err(|error| {
        Fault::new("E1406", Exit::Failed, "the shutdown was not clean").why(error.to_string())
    })
}

pub(super) fn refused(error: LoadError) -> Fault {
    Fault::new("E1401", Exit::Usage, "the configuration is refused")
        .why(error.to_string())
        .hint("`ottla config check FILE` explains a file key by key")
}

fn not_started(error: &StartError) -> Fault {
    let fault =
        Fault::new("E1407", Exit::Failed, "the broker did not start").why(error.to_string());
    match error {
        StartError::Bind(_) => fault
            .hint("is another broker running? choose another port with --override listeners=..."),
        StartError::LogDir(_) => fault.hint("one directory belongs to one broker of one cluster"),
        _ => fault,
    }
}
