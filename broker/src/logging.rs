//! Logs: JSON lines for programs, text for people at a terminal; levels that change while the
//! broker runs; and a limit on repeated warnings, so that one problem does not bury the others.
//!
//! Owns the process's one subscriber and its levels ([`levels`]), which the broker-logger config
//! resource, HTTP and the command line share. Everything else of the broker only says
//! `tracing::warn!`. Lines are written as they happen, by the thread they happen on.

mod format;
mod levels;
mod repeats;

pub use levels::{LevelError, LogLevels, ROOT, levels};

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogFormat;
use format::{JsonLines, TextLines};
use repeats::Repeats;

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// What a server does: its log is its output.
    Stdout,
    /// What a command does: its output is data.
    Stderr,
}

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error(transparent)]
    Level(#[from] LevelError),
    #[error("logging is already set up")]
    AlreadySetUp,
}

/// Sets up the process's logging. `level` is the grammar of `ottla.log.level`.
pub fn init(
    format: LogFormat,
    level: &str,
    node_id: Option<i32>,
    output: Output,
) -> Result<(), LoggingError> {
    let is_terminal = match output {
        Output::Stdout => std::io::stdout().is_terminal(),
        Output::Stderr => std::io::stderr().is_terminal(),
    };
    let shape = Shape {
        json: is_json(format, is_terminal),
        ansi: is_terminal,
        node_id,
    };
    match output {
        Output::Stdout => set_up(shape, level, std::io::stdout),
        Output::Stderr => set_up(shape, level, std::io::stderr),
    }
}

fn is_json(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !is_terminal,
    }
}

#[derive(Clone, Copy)]
struct Shape {
    json: bool,
    ansi: bool,
    node_id: Option<i32>,
}

fn set_up<W>(shape: Shape, level: &str, writer: W) -> Result<(), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let levels = levels();
    levels.replace(level)?;
    let (subscriber, handle) = subscriber(shape, levels.targets(), writer);
    subscriber
        .try_init()
        .map_err(|_| LoggingError::AlreadySetUp)?;
    levels.apply_to(handle);
    Ok(())
}

/// The subscriber and the handle that changes its levels.
fn subscriber<W>(
    shape: Shape,
    targets: Targets,
    writer: W,
) -> (
    impl tracing::Subscriber + Send + Sync,
    reload::Handle<Targets, Registry>,
)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, handle) = reload::Layer::new(targets);
    let repeats = Arc::new(Repeats::default());
    let filter = targets.and(repeats::Limit(repeats.clone()));
    let layer = fmt::layer().with_writer(writer).with_ansi(shape.ansi);
    let lines = if shape.json {
        layer
            .event_format(JsonLines {
                node_id: shape.node_id,
                repeats,
            })
            .boxed()
    } else {
        layer.event_format(TextLines::new(repeats)).boxed()
    };
    (Registry::default().with(lines.with_filter(filter)), handle)
}

#[cfg(test)]
mod tests;
