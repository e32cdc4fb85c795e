//! `ottla config check FILE`: what a configuration file means here, key by key, without starting
//! anything. The environment is left out: the answer depends on the file alone.

use std::fmt;
use std::path::Path;

use super::build::ConfigError;
use super::document::why_idle;
use super::keys;
use super::load::{self, LoadError, Sources};
use super::notice::Notice;
use super::source::Origin;

/// What becomes of one key of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Used,
    WithoutEffect(&'static str),
    Unknown { suggestion: Option<&'static str> },
    Removed(&'static str),
    Invalid(ConfigError),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CheckedKey {
    pub key: String,
    /// `None` for a secret.
    pub value: Option<String>,
    /// Line in the file; 0 for problems of keys that are not in it.
    pub line: u32,
    pub verdict: Verdict,
    /// Risks and clarifications, each a sentence.
    pub remarks: Vec<Notice>,
}

/// The result for a whole file, in the file's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub keys: Vec<CheckedKey>,
}

impl Report {
    /// Whether a broker would start with this file.
    pub fn is_valid(&self) -> bool {
        !self
            .keys
            .iter()
            .any(|key| matches!(key.verdict, Verdict::Invalid(_)))
    }
}

pub fn report(path: &Path) -> Result<Report, LoadError> {
    report_text(&path.display().to_string(), &load::read_file(path)?)
}

/// `name` is how the file is called in messages.
pub fn report_text(name: &str, text: &str) -> Result<Report, LoadError> {
    let file = Some((name.to_owned(), text.to_owned()));
    let (examined, values) = Sources {
        file,
        ..Sources::default()
    }
    .examine()?;
    let mut keys = Vec::new();
    for (key, value) in values.iter() {
        let Origin::File { line, .. } = value.origin else {
            continue;
        };
        let error = examined.errors.iter().find(|error| error.key == key);
        let notices = || examined.notices.iter().filter(|notice| notice.key() == key);
        let verdict = match error {
            Some(error) => Verdict::Invalid(error.clone()),
            None => verdict(key, notices()),
        };
        let remarks = notices()
            .filter(|notice| is_remark(notice))
            .cloned()
            .collect();
        let secret = keys::broker_key(key).is_some_and(super::Key::is_sensitive)
            || keys::listener_specific(key).is_some_and(super::Key::is_sensitive);
        let value = (!secret).then(|| value.text.clone());
        keys.push(CheckedKey {
            key: key.to_owned(),
            value,
            line,
            verdict,
            remarks,
        });
    }
    for error in examined
        .errors
        .iter()
        .filter(|error| values.get(&error.key).is_none())
    {
        let (key, verdict) = (error.key.clone(), Verdict::Invalid(error.clone()));
        keys.push(CheckedKey {
            key,
            value: None,
            line: 0,
            verdict,
            remarks: Vec::new(),
        });
    }
    keys.sort_by_key(|key| key.line);
    Ok(Report { keys })
}

fn verdict<'a>(key: &str, mut notices: impl Iterator<Item = &'a Notice>) -> Verdict {
    let of_notice = notices.find_map(|notice| match notice {
        Notice::UnknownKey { suggestion, .. } => Some(Verdict::Unknown {
            suggestion: *suggestion,
        }),
        Notice::RemovedKey { why, .. } => Some(Verdict::Removed(why)),
        _ => None,
    });
    let without_effect = || {
        let known = keys::broker_key(key).or_else(|| keys::listener_specific(key));
        known.and_then(why_idle).map(Verdict::WithoutEffect)
    };
    of_notice.or_else(without_effect).unwrap_or(Verdict::Used)
}

fn is_remark(notice: &Notice) -> bool {
    !matches!(
        notice,
        Notice::UnknownKey { .. } | Notice::RemovedKey { .. } | Notice::WithoutEffect { .. }
    )
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Used => f.write_str("used"),
            Verdict::WithoutEffect(why) => write!(f, "accepted without effect: {why}"),
            Verdict::Unknown {
                suggestion: Some(name),
            } => {
                write!(f, "unknown, ignored; did you mean {name}?")
            }
            Verdict::Unknown { suggestion: None } => f.write_str("unknown, ignored"),
            Verdict::Removed(why) => write!(f, "gone since Kafka 4, ignored: {why}"),
            Verdict::Invalid(error) => write!(f, "refused: {}", error.problem),
        }
    }
}

/// One line per key, remarks indented below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checked in &self.keys {
            let CheckedKey {
                key, line, verdict, ..
            } = checked;
            match &checked.value {
                _ if *line == 0 => write!(f, "     {key}")?,
                Some(value) => write!(f, "{line:>4} {key}={value}")?,
                None => write!(f, "{line:>4} {key}=(hidden)")?,
            }
            writeln!(f, "  {verdict}")?;
            for remark in &checked.remarks {
                writeln!(f, "     ! {remark}")?;
            }
        }
        Ok(())
    }
}
