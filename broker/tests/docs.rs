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
