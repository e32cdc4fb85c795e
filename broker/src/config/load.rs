//! Loading: product defaults < file < environment < overrides, merged into one set of values that
//! remember where each came from. The file is Kafka's `server.properties`; the environment follows
//! the rule of Kafka's official image.
//!
//! The only place of the configuration that touches the world ([`Sources::from_system`]);
//! everything else works on what it is given.

mod environment;
mod properties;

pub use environment::{is_configuration, key_of_variable};
pub use properties::{Entry, PropertiesError, parse as parse_properties};

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Examined, Surroundings, examine};
use super::notice::Notice;
use super::source::{Origin, StaticValues};
use super::{Config, ConfigErrors};

/// No configuration is larger than this; a file that is was named by mistake.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Everything a configuration is made of, lowest precedence first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// What this variant of the product (`ottla dev`, the image) sets; described as defaults.
    pub defaults: Vec<(String, String)>,
    /// Name and text of the file.
    pub file: Option<(String, String)>,
    pub environment: Vec<(String, String)>,
    /// `key=value`, from the command line.
    pub overrides: Vec<String>,
    /// Unauthenticated listeners on any address are wanted.
    pub insecure: bool,
    pub hostname: Option<String>,
}

/// A configuration and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub notices: Vec<Notice>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is larger than {MAX_FILE_BYTES} bytes and so not a configuration", path.display())]
    TooLarge { path: PathBuf },
    #[error("{name} is not properties: write one key=value per line, as Kafka does")]
    OtherFormat { name: String },
    #[error("{name}:{}: {error}", error.line())]
    Syntax {
        name: String,
        error: PropertiesError,
    },
    #[error("override '{0}' is not of the form key=value")]
    Override(String),
    #[error(transparent)]
    Values(#[from] ConfigErrors),
}

impl Sources {
    /// The file, the process's environment and the host's name.
    pub fn from_system(file: Option<&Path>, overrides: &[String]) -> Result<Sources, LoadError> {
        let file = match file {
            Some(path) => Some((path.display().to_string(), read_file(path)?)),
            None => None,
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let hostname = hostname
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let overrides = overrides.to_vec();
        Ok(Sources {
            file,
            environment,
            overrides,
            hostname,
            ..Sources::default()
        })
    }

    pub fn load(self) -> Result<Loaded, LoadError> {
        let surroundings = self.surroundings();
        let (values, mut notices) = self.merge()?;
        let examined = examine(values, &surroundings);
        notices.extend(examined.notices);
        match examined.config {
            Some(config) => Ok(Loaded { config, notices }),
            None => Err(LoadError::Values(ConfigErrors(examined.errors))),
        }
    }

    /// As [`Sources::load`], with notices also when there are errors.
    pub(super) fn examine(self) -> Result<(Examined, StaticValues), LoadError> {
        let surroundings = self.surroundings();
        let (values, mut notices) = self.merge()?;
        let mut examined = examine(values.clone(), &surroundings);
        notices.append(&mut examined.notices);
        examined.notices = notices;
        Ok((examined, values))
    }

    fn surroundings(&self) -> Surroundings {
        let hostname = self.hostname.clone();
        Surroundings {
            insecure: self.insecure,
            hostname: hostname.unwrap_or_else(|| Surroundings::default().hostname),
        }
    }

    fn merge(self) -> Result<(StaticValues, Vec<Notice>), LoadError> {
        let mut values = StaticValues::default();
        let mut notices = Vec::new();
        for (name, text) in self.defaults {
            values.set(name, text, Origin::Default);
        }
        if let Some((name, text)) = self.file {
            merge_file(&name, &text, &mut values, &mut notices)?;
        }
        for (variable, text) in self.environment {
            if let Some(key) = environment::key_of_setting(&variable, &text) {
                values.set(key, text, Origin::Environment { variable });
            }
        }
        for assignment in self.overrides {
            let (key, text) = assignment
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| LoadError::Override(assignment.clone()))?;
            values.set(key.trim(), text.trim(), Origin::Override);
        }
        Ok((values, notices))
    }
}

fn merge_file(
    name: &str,
    text: &str,
    values: &mut StaticValues,
    notices: &mut Vec<Notice>,
) -> Result<(), LoadError> {
    if [".toml", ".yaml", ".yml", ".json"]
        .iter()
        .any(|extension| name.ends_with(extension))
    {
        return Err(LoadError::OtherFormat {
            name: name.to_owned(),
        });
    }
    let entries = properties::parse(text).map_err(|error| LoadError::Syntax {
        name: name.to_owned(),
        error,
    })?;
    let file: Arc<str> = Arc::from(name);
    for Entry { key, value, line } in entries {
        let origin = Origin::File {
            name: file.clone(),
            line,
        };
        let before = values.set(key.clone(), value, origin.clone());
        let earlier = before
            .map(|value| value.origin)
            .filter(|one| *one != Origin::Default);
        if let Some(earlier) = earlier {
            notices.push(Notice::SetTwice {
                key,
                origin,
                earlier,
            });
        }
    }
    Ok(())
}

/// Reads a configuration file. Kafka reads Latin-1; a file that is not UTF-8 is read so too.
#[expect(
    clippy::disallowed_types,
    reason = "the edge where configuration enters"
)]
pub(super) fn read_file(path: &Path) -> Result<String, LoadError> {
    let failed = |error| LoadError::Read {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect()))
}
