//! The levels in force: one for everything (`root`), and one for each logger that has its own. A
//! logger is a module path of ours; what it is set to counts for everything below it.
//!
//! There is one set of levels per process, as there is one subscriber. Without a subscriber (tests,
//! the simulator) levels can be read and set all the same, to no effect.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

/// The logger that everything else inherits from, as Kafka calls it.
pub const ROOT: &str = "root";

/// Loggers that are always listed; others can be named if they lie below the first part of one of
/// these.
const LISTED: &[&str] = &[
    "ottla",
    "ottla_broker",
    "ottla_broker::config",
    "ottla_broker::connection",
    "ottla_broker::flusher",
    "ottla_broker::handlers",
    "ottla_broker::http",
    "ottla_broker::metadata",
    "ottla_broker::net",
    "ottla_broker::partition",
    "ottla_broker::start",
    "ottla_controller",
    "ottla_controller::raft",
    "ottla_storage",
    "ottla_storage::disk",
    "ottla_storage::log",
    "raft",
];

/// Nobody needs more than a few; a bound keeps strangers from growing the list.
const OWN_LEVELS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("'{level}' is not one of OFF, FATAL, ERROR, WARN, INFO, DEBUG, TRACE")]
    Level { level: String },
    #[error("'{levels}' is neither a level nor a list as in info,ottla_broker::net=debug")]
    Levels { levels: String },
    #[error("there is no logger {logger}; loggers are module paths such as ottla_broker::net")]
    Logger { logger: String },
    #[error("the root logger always has a level")]
    RootIsNeeded,
    #[error("more than {OWN_LEVELS_MAX} loggers have levels of their own")]
    TooMany,
}

struct Set {
    root: LevelFilter,
    own: BTreeMap<String, LevelFilter>,
    handle: Option<reload::Handle<Targets, Registry>>,
}

/// The levels of this process.
pub struct LogLevels {
    set: Mutex<Set>,
}

/// The one set of levels.
pub fn levels() -> &'static LogLevels {
    static LEVELS: LazyLock<LogLevels> = LazyLock::new(LogLevels::new);
    &LEVELS
}

impl LogLevels {
    pub(super) fn new() -> LogLevels {
        let set = Set {
            root: LevelFilter::INFO,
            own: BTreeMap::new(),
            handle: None,
        };
        LogLevels {
            set: Mutex::new(set),
        }
    }

    /// Every logger and its level, upper case as Kafka prints it; `root` first.
    pub fn rows(&self) -> Vec<(String, &'static str)> {
        let set = self.set.lock();
        let names = LISTED
            .iter()
            .map(|name| (*name).to_owned())
            .chain(set.own.keys().cloned());
        let names: std::collections::BTreeSet<String> = names.collect();
        let rows = names.into_iter().map(|name| {
            let level = level_of(&set, &name);
            (name, level_name(level))
        });
        [(ROOT.to_owned(), level_name(set.root))]
            .into_iter()
            .chain(rows)
            .collect()
    }

    /// Sets one logger's level; `level` in any case.
    pub fn set(&self, logger: &str, level: &str) -> Result<(), LevelError> {
        let filter = parse_level(level)?;
        self.change(logger, |set, logger| {
            if logger == ROOT {
                set.root = filter;
                return Ok(());
            }
            if set.own.len() >= OWN_LEVELS_MAX && !set.own.contains_key(&logger) {
                return Err(LevelError::TooMany);
            }
            set.own.insert(logger, filter);
            Ok(())
        })
    }

    /// Whether `set` would accept this.
    pub fn check(&self, logger: &str, level: &str) -> Result<(), LevelError> {
        parse_level(level)?;
        known_logger(logger).map(|_| ())
    }

    /// Takes a logger's own level away: it inherits again.
    pub fn unset(&self, logger: &str) -> Result<(), LevelError> {
        self.change(logger, |set, logger| {
            if logger == ROOT {
                return Err(LevelError::RootIsNeeded);
            }
            set.own.remove(&logger);
            Ok(())
        })
    }

    /// Replaces all levels by those of a text as in `ottla.log.level`.
    pub(super) fn replace(&self, levels: &str) -> Result<(), LevelError> {
        let invalid = || LevelError::Levels {
            levels: levels.to_owned(),
        };
        let targets = levels.parse::<Targets>().map_err(|_| invalid())?;
        let mut set = self.set.lock();
        set.root = targets.default_level().unwrap_or(LevelFilter::INFO);
        set.own = targets
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, level)| (name.to_owned(), level))
            .collect();
        Ok(())
    }

    pub(super) fn apply_to(&self, handle: reload::Handle<Targets, Registry>) {
        self.set.lock().handle = Some(handle);
    }

    pub(super) fn targets(&self) -> Targets {
        targets_of(&self.set.lock())
    }

    fn change(
        &self,
        logger: &str,
        change: impl FnOnce(&mut Set, String) -> Result<(), LevelError>,
    ) -> Result<(), LevelError> {
        let logger = known_logger(logger)?;
        let mut set = self.set.lock();
        change(&mut set, logger)?;
        let targets = targets_of(&set);
        if let Some(handle) = &set.handle {
            // Fails only when the subscriber is gone, and with it every line.
            let _ = handle.reload(targets);
        }
        Ok(())
    }
}

fn targets_of(set: &Set) -> Targets {
    let own = set.own.iter().map(|(name, level)| (name.clone(), *level));
    Targets::new().with_default(set.root).with_targets(own)
}

/// The level of the longest prefix that has one.
fn level_of(set: &Set, logger: &str) -> LevelFilter {
    let covers = |name: &str| logger.starts_with(name);
    let own = set.own.iter().filter(|(name, _)| covers(name));
    own.max_by_key(|(name, _)| name.len())
        .map_or(set.root, |(_, level)| *level)
}

/// Module paths are also understood with dots. Anything else is refused: a typing error should not
/// look as if it had worked.
fn known_logger(name: &str) -> Result<String, LevelError> {
    if name.eq_ignore_ascii_case(ROOT) {
        return Ok(ROOT.to_owned());
    }
    let path = name.replace('.', "::");
    let first = path.split("::").next().unwrap_or_default();
    let plain = path.len() <= 128
        && path.split("::").all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        });
    if plain && LISTED.contains(&first) {
        return Ok(path);
    }
    Err(LevelError::Logger {
        logger: name.chars().take(128).collect(),
    })
}

fn parse_level(level: &str) -> Result<LevelFilter, LevelError> {
    match level.trim().to_ascii_uppercase().as_str() {
        "OFF" => Ok(LevelFilter::OFF),
        // Java's highest level; we have nothing above errors.
        "FATAL" | "ERROR" => Ok(LevelFilter::ERROR),
        "WARN" => Ok(LevelFilter::WARN),
        "INFO" => Ok(LevelFilter::INFO),
        "DEBUG" => Ok(LevelFilter::DEBUG),
        "TRACE" => Ok(LevelFilter::TRACE),
        _ => Err(LevelError::Level {
            level: level.chars().take(32).collect(),
        }),
    }
}

fn level_name(level: LevelFilter) -> &'static str {
    match level {
        LevelFilter::OFF => "OFF",
        LevelFilter::ERROR => "ERROR",
        LevelFilter::WARN => "WARN",
        LevelFilter::INFO => "INFO",
        LevelFilter::DEBUG => "DEBUG",
        _ => "TRACE",
    }
}
