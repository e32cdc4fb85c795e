//! `ottla config check`: what a configuration file means here, without starting anything.

use std::path::PathBuf;

use clap::Subcommand;
use ottla_broker::config::check::{self, Verdict};
use serde_json::json;

use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say for each key of a server.properties whether it is used, has no effect, is unknown or
    /// wrong
    Check {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn run(command: &ConfigCommand, output: OutputFormat) -> Outcome {
    let ConfigCommand::Check { file } = command;
    let report = check::report(file).map_err(|error| {
        Fault::new(
            "E1401",
            Exit::Failed,
            format!("{} cannot be checked", file.display()),
        )
        .why(error.to_string())
    })?;
    let mut table = Table::new(&["line", "key", "value", "verdict", "remark"]);
    let mut unknown = 0;
    for key in &report.keys {
        let (verdict, mut remarks) = match &key.verdict {
            Verdict::Used => ("used", Vec::new()),
            Verdict::WithoutEffect(why) => ("no effect", vec![(*why).to_owned()]),
            Verdict::Removed(why) => ("removed", vec![(*why).to_owned()]),
            Verdict::Invalid(error) => ("INVALID", vec![error.problem.to_string()]),
            Verdict::Unknown { suggestion } => {
                unknown += 1;
                (
                    "unknown",
                    suggestion
                        .iter()
                        .map(|key| format!("did you mean {key}?"))
                        .collect(),
                )
            }
        };
        remarks.extend(key.remarks.iter().map(ToString::to_string));
        table.row(vec![
            if key.line > 0 {
                json!(key.line)
            } else {
                json!(null)
            },
            json!(key.key),
            json!(key.value),
            json!(verdict),
            json!(remarks.join("; ")),
        ]);
    }
    table.print(output);
    if !report.is_valid() {
        return Err(Fault::new(
            "E1402",
            Exit::Failed,
            "a broker would not start with this file",
        )
        .hint("the lines marked INVALID say what is wrong"));
    }
    if unknown > 0 && output == OutputFormat::Table {
        say(&format!(
            "{unknown} unknown keys: they are ignored, with a warning at start"
        ));
    }
    Ok(())
}
