//! Clients that are driven by a script of ours in their own language (`compat-tests/clients/`).

use super::Target;
use crate::process::{cache, is_installed, root, run_ok};
use crate::rust_client;
use crate::scenario::Scenario;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Command;

fn script(name: &str) -> PathBuf {
    root().join("compat-tests/clients").join(name)
}

fn python() -> PathBuf {
    cache().join("clients/python/bin/python")
}

fn node_modules() -> PathBuf {
    cache().join("clients/node/node_modules")
}

pub(crate) fn python_missing(module: &str) -> Option<String> {
    let mut import = Command::new(python());
    import.arg("-c").arg(format!("import {module}"));
    run_ok(&mut import, b"")
        .err()
        .map(|_| format!("no Python module {module}: scripts/clients"))
}

pub(super) fn run_python(name: &str, scenario: Scenario, target: &Target<'_>) -> Result<()> {
    let mut command = Command::new(python());
    command
        .arg(script(name))
        .args([target.bootstrap, scenario.name(), target.prefix]);
    run_ok(&mut command, b"")?;
    Ok(())
}

pub(crate) fn node_missing(package: &str) -> Option<String> {
    let there = is_installed("node") && node_modules().join(package).is_dir();
    (!there).then(|| format!("no node or no {package}: scripts/clients"))
}

/// What the script says must be found in partition 0 of a topic.
#[derive(Deserialize)]
struct Produced {
    topic: String,
    values: Vec<String>,
}

pub(super) fn run_node(scenario: Scenario, target: &Target<'_>) -> Result<()> {
    let mut command = Command::new("node");
    command
        .arg(script("kafkajs.mjs"))
        .args([target.bootstrap, scenario.name(), target.prefix]);
    command.env("NODE_PATH", node_modules());
    let output = run_ok(&mut command, b"")?;
    for line in output.stdout.lines().filter(|line| !line.is_empty()) {
        let produced: Produced = serde_json::from_str(line).context("the script's own output")?;
        let count = produced.values.len();
        let records = rust_client::consume(target.bootstrap, &produced.topic, 0, 0, count)?;
        let found = records
            .iter()
            .map(|record| record.value.as_deref().unwrap_or_default());
        let same = found.eq(produced.values.iter().map(|value| value.as_bytes()));
        ensure!(
            same,
            "{}: what was read is not what was produced",
            produced.topic
        );
        rust_client::delete_topic(target.bootstrap, &produced.topic)?;
    }
    Ok(())
}
