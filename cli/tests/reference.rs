//! `docs/reference/cli.md` is what the binary says about itself; `UPDATE=1` rewrites it.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::process::Command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/cli.md");
const COMMANDS: &[&[&str]] = &[
    &["dev"],
    &["server"],
    &["config", "check"],
    &["topic", "create"],
    &["topic", "list"],
    &["topic", "describe"],
    &["topic", "delete"],
    &["topic", "alter"],
    &["topic", "trim"],
    &["topic", "config"],
    &["topic", "compact"],
    &["group", "list"],
    &["group", "describe"],
    &["group", "lag"],
    &["group", "members"],
    &["group", "seek"],
    &["group", "delete"],
    &["group", "offset-delete"],
    &["group", "remove-member"],
    &["cluster", "logdirs"],
    &["storage", "check"],
    &["storage", "dump"],
    &["storage", "repair"],
    &["storage", "adopt"],
    &["produce"],
    &["consume"],
];
const HEAD: &str = "# Command line

One binary: `ottla dev` and `ottla server` run a broker, everything else is a client of any Kafka
cluster. Standard output is data, standard error is talk. `-o json` gives programs the same data;
errors then are JSON too. This page is generated from the binary.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong use, or a configuration that is refused |
| 3 | not found |
| 4 | it exists already, or is in use |
| 5 | not allowed |
| 6 | unreachable, or no answer in time |
| 7 | some of it worked, some failed |
| 8 | what was checked is not sound |
";

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .arg("--help")
        .env("COLUMNS", "100")
        .env_remove("OTTLA_BOOTSTRAP")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_says_what_the_binary_says() {
    let mut page = HEAD.to_owned();
    for command in COMMANDS {
        let help = help(command);
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let (name, text) = (command.join(" "), lines.join("\n"));
        let text = text.trim();
        write!(page, "\n## ottla {name}\n\n```text\n{text}\n```\n").unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let same = written == page;
    assert!(
        same,
        "docs/reference/cli.md is out of date: UPDATE=1 rewrites it"
    );
}
