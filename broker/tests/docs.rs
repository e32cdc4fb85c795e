//! The reference pages equal the tables they are generated from. `UPDATE=1 cargo test -p
//! ottla-broker --test docs` rewrites them.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use ottla_broker::{api, config, metrics};

/// Compares a page with what its table generates, or rewrites it.
fn check(page: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/reference")
        .join(page);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("docs/reference")).expect("a writable tree");
        fs::write(&path, generated).expect("a writable tree");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let first = written
        .lines()
        .zip(generated.lines())
        .find(|(old, new)| old != new);
    assert!(
        written == generated,
        "{page} is not what its table generates; run UPDATE=1 cargo test -p ottla-broker --test \
         docs. First difference: {first:?}"
    );
}

#[test]
fn the_page_of_the_configuration_equals_its_tables() {
    check("config.md", &config::document::page());
}

#[test]
fn the_page_of_the_metrics_equals_its_table() {
    check("metrics.md", &metrics::document::page());
}

#[test]
fn the_page_of_the_protocol_equals_its_table() {
    check("apis.md", &api::document::page());
}

#[test]
fn the_fuzz_targets_are_the_apis_that_are_served() {
    check(
        "../../protocol/fuzz/apis.txt",
        &api::document::fuzz_targets(),
    );
}

/// The rules of clients are written by hand: what is checked is that their tests are there.
#[test]
fn every_test_named_by_the_client_rules_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/reference/client-rules.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<&str> = rows.filter(|row| !row.starts_with("rule ")).collect();
    assert!(rows.len() > 30, "the page has lost its rules");
    let sources = all_sources(&root);
    for row in rows {
        let tests = row.rsplit('|').nth(1).expect("a row has two columns");
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a rule without a test: {row}");
        for name in names {
            let declared = format!("fn {name}(");
            assert!(sources.contains(&declared), "no test is called {name}");
        }
    }
}

fn all_sources(root: &Path) -> String {
    let mut sources = String::new();
    let crates = [
        "protocol",
        "storage",
        "coordinator",
        "controller",
        "broker",
        "sim",
        "compat-tests",
    ];
    for folder in crates {
        read_sources(&root.join(folder), &mut sources);
    }
    sources
}

/// What the broker promises about data is written by hand: each sentence names a test that exists.
#[test]
fn every_sentence_about_durability_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/durability.md")).expect("the page");
    let (promises, _measured) = page
        .split_once("## Measured")
        .expect("the figures come last");
    let rows = promises.lines().filter_map(|line| line.strip_prefix("| "));
    let heads = ["class ", "event ", "sentence "];
    let rows: Vec<&str> = rows
        .filter(|row| !heads.iter().any(|head| row.starts_with(head)))
        .collect();
    assert!(rows.len() > 20, "the page has lost its sentences");
    let sources = all_sources(&root);
    for row in rows {
        let tests = row.rsplit('|').nth(1).expect("a column of tests");
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a sentence without a test: {row}");
        for name in names {
            let declared = format!("fn {name}(");
            assert!(sources.contains(&declared), "no test is called {name}");
        }
    }
}

fn read_sources(folder: &Path, sources: &mut String) {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}
