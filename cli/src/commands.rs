//! The command tree: one module per noun, each with its arguments and a `run`.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod dev;
pub(crate) mod group;
pub(crate) mod produce;
pub(crate) mod scope;
pub(crate) mod server;
pub(crate) mod storage;
pub(crate) mod topic;

use ottla_protocol::messages::{self as api, StrBytes};
use regex::Regex;

use crate::fault::{Exit, Fault, Outcome};
use crate::output::say;

/// Error text of a reply, where the broker sent one.
pub(crate) fn said(message: Option<&StrBytes>) -> Option<&str> {
    message
        .map(|text| text.as_str())
        .filter(|text| !text.is_empty())
}

/// The name of a topic in a metadata reply.
pub(crate) fn name_of(topic: &api::metadata_response::MetadataResponseTopic) -> &str {
    topic.name.as_ref().map_or("", |name| name.0.as_str())
}

/// Whether a whole name matches one of these regular expressions.
pub(crate) fn whole_names(expressions: &[String]) -> Outcome<impl Fn(&str) -> bool + use<>> {
    let mut patterns = Vec::new();
    for expression in expressions {
        let pattern = Regex::new(&format!("^(?:{expression})$")).map_err(|error| {
            Fault::usage(format!("\"{expression}\" is not a regular expression"))
                .why(error.to_string())
        })?;
        patterns.push(pattern);
    }
    Ok(move |name: &str| patterns.iter().any(|pattern| pattern.is_match(name)))
}

/// The first failure; where others succeeded, the exit code says that it was partial.
pub(crate) fn first_of(mut failures: Vec<Fault>, total: usize) -> Outcome {
    let failed = failures.len();
    if failed == 0 {
        return Ok(());
    }
    for other in failures.drain(1..) {
        say(&other.to_string());
    }
    let mut first = failures.remove(0);
    if failed < total {
        first.exit = Exit::Partial;
    }
    Err(first)
}
