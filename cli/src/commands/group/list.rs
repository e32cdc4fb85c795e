//! `ottla group list`.

use clap::Args;
use serde_json::json;

use crate::arguments::ClientArgs;
use crate::fault::Outcome;
use crate::output::{OutputFormat, Table, say};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only groups in these states, separated by commas: Stable, Empty, PreparingRebalance,
    /// CompletingRebalance, Assigning, Reconciling, Dead
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// Only groups of these types, separated by commas: classic, consumer, share, streams
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    kind: Vec<String>,
}

pub(super) fn run(args: &ListArgs, client: &ClientArgs) -> Outcome {
    let mut cluster = client.connect()?;
    let groups = cluster.list_groups(&args.state, &args.kind)?;
    let mut table = Table::new(&["group", "state", "type", "protocol_type", "coordinator"]);
    for listed in &groups {
        table.row(vec![
            json!(listed.group),
            json!(listed.state),
            json!(listed.kind),
            json!(listed.protocol_type),
            json!(listed.coordinator),
        ]);
    }
    table.print(client.output);
    if groups.is_empty() && client.output == OutputFormat::Table {
        say("no groups; `ottla group list` shows them once consumers have joined or committed");
    }
    Ok(())
}
