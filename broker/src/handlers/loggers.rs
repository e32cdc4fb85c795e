//! The log levels of this process as a configuration resource: `kafka-configs --entity-type
//! broker-loggers` reads and changes them while the broker runs. They are not replicated and end
//! with the process.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::incremental_alter_configs_request::AlterableConfig;

use crate::config::alter::Operation;
use crate::config::describe::{ConfigEntry, ConfigSource};
use crate::errors::Failure;
use crate::logging::{LevelError, ROOT, levels};

/// A checked change of one logger.
pub(super) enum LoggerChange {
    Set {
        logger: String,
        level: String,
    },
    /// The logger inherits its level again.
    Unset {
        logger: String,
    },
}

pub(super) fn entries() -> Vec<ConfigEntry> {
    let entry = |(name, level): (String, &str)| ConfigEntry {
        name,
        value: Some(level.to_owned()),
        source: ConfigSource::DynamicBrokerLogger,
        read_only: false,
        sensitive: false,
        synonyms: Vec::new(),
        key_type: None,
        doc: "",
    };
    levels().rows().into_iter().map(entry).collect()
}

/// All changes of a request, checked before the first is made. A logger that comes twice is
/// refused.
pub(super) fn changes(configs: &[AlterableConfig]) -> Result<Vec<LoggerChange>, Failure> {
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = configs.iter().find(|config| !seen.insert(&*config.name)) {
        let message = format!("logger {} is changed twice in one request", &*twice.name);
        return Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
    }
    configs.iter().map(change).collect()
}

fn change(config: &AlterableConfig) -> Result<LoggerChange, Failure> {
    let logger = config.name.to_string();
    match (Operation::from_code(config.config_operation), &config.value) {
        (Some(Operation::Set), Some(level)) => {
            levels().check(&logger, level)?;
            Ok(LoggerChange::Set {
                logger,
                level: level.to_string(),
            })
        }
        (Some(Operation::Delete), _) if logger == ROOT => Err(LevelError::RootIsNeeded.into()),
        (Some(Operation::Delete), _) => {
            levels().check(&logger, "INFO")?;
            Ok(LoggerChange::Unset { logger })
        }
        (Some(Operation::Set), None) => {
            let message = format!("logger {logger} needs a level");
            Err(Failure::new(ErrorCode::INVALID_REQUEST, message))
        }
        (Some(Operation::Append | Operation::Subtract) | None, _) => {
            let message = "the level of a logger can be set and deleted, nothing else";
            Err(Failure::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

pub(super) fn apply(changes: &[LoggerChange]) -> Result<(), Failure> {
    for change in changes {
        match change {
            LoggerChange::Set { logger, level } => levels().set(logger, level)?,
            LoggerChange::Unset { logger } => levels().unset(logger)?,
        }
    }
    Ok(())
}
