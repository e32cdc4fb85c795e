//! Configurations as people bring them, as data files in `broker/tests/data/config`: what goes in,
//! and below `---- result` what comes out. `UPDATE=1 cargo test -p ottla-broker --test config`
//! rewrites the results.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ottla_broker::config::check;
use ottla_broker::config::load::{LoadError, Loaded, Sources};

/// The sections of a data file, by title.
struct Case {
    path: PathBuf,
    text: String,
}

const RESULT: &str = "---- result\n";

impl Case {
    fn section(&self, title: &str) -> Option<String> {
        let head = format!("---- {title}");
        let mut inside = false;
        let mut found = None::<String>;
        for line in self.text.lines() {
            if let Some(rest) = line.strip_prefix("---- ") {
                inside = rest == title || line.starts_with(&format!("{head} "));
                if inside {
                    found.get_or_insert_default();
                }
            } else if let (true, Some(text)) = (inside, found.as_mut()) {
                let _ = writeln!(text, "{line}");
            }
        }
        found
    }

    fn pairs(&self, title: &str) -> Vec<(String, String)> {
        let split = |line: &str| {
            line.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        self.section(title)
            .unwrap_or_default()
            .lines()
            .filter_map(split)
            .collect()
    }

    fn sources(&self) -> Sources {
        let overrides = self.section("override").unwrap_or_default();
        Sources {
            defaults: self.pairs("defaults"),
            file: self
                .section("file")
                .map(|text| ("server.properties".to_owned(), text)),
            environment: self.pairs("environment"),
            overrides: overrides.lines().map(str::to_owned).collect(),
            insecure: self.section("insecure").is_some(),
            hostname: Some("this-host".to_owned()),
        }
    }

    fn result(&self) -> String {
        let mut out = String::new();
        match self.sources().load() {
            Ok(loaded) => show_loaded(&mut out, &loaded),
            Err(error) => show_error(&mut out, &error),
        }
        if self.section("check").is_some() {
            let text = self.section("file").unwrap_or_default();
            out.push_str("config check:\n");
            match check::report_text("server.properties", &text) {
                Ok(report) => {
                    let _ = writeln!(out, "{report}valid: {}", report.is_valid());
                }
                Err(error) => show_error(&mut out, &error),
            }
        }
        out
    }
}

fn show_loaded(out: &mut String, loaded: &Loaded) {
    let config = &loaded.config;
    let _ = writeln!(
        out,
        "node {} of cluster {:?}",
        config.node_id, config.cluster_id
    );
    for (bound, advertised) in config.listeners.iter().zip(&config.advertised_listeners) {
        let _ = writeln!(out, "listens on {bound}, advertises {advertised}");
    }
    for listener in &config.controller_listeners {
        let _ = writeln!(out, "controller listener {listener}");
    }
    for listener in &config.http_listeners {
        let _ = writeln!(out, "serves {listener}");
    }
    let _ = writeln!(out, "data in {:?}", config.log_dirs);
    for (key, value) in config.static_values.iter() {
        let _ = writeln!(out, "{key} = {} ({})", value.text, value.origin);
    }
    for notice in &loaded.notices {
        let kind = if notice.is_warning() {
            "warning"
        } else {
            "note"
        };
        let _ = writeln!(out, "{kind}: {notice}");
    }
}

fn show_error(out: &mut String, error: &LoadError) {
    for line in error.to_string().lines() {
        let _ = writeln!(out, "error: {line}");
    }
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the data directory")
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| Case {
            text: fs::read_to_string(&path).expect("a text file"),
            path,
        })
        .collect()
}

#[test]
fn every_configuration_means_what_its_data_file_says() {
    let mut failures = String::new();
    let cases = cases();
    assert!(cases.len() >= 10, "only {} cases", cases.len());
    for case in &cases {
        let (input, expected) = case.text.split_once(RESULT).unwrap_or((&case.text, ""));
        let result = case.result();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&case.path, format!("{input}{RESULT}{result}")).expect("a writable tree");
        } else if result != expected {
            let _ = writeln!(
                failures,
                "{}\nis\n{result}not\n{expected}",
                case.path.display()
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn a_file_is_read_from_disk_and_a_missing_or_foreign_one_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("server.properties");
    // Latin-1, as Kafka writes it.
    fs::write(&path, b"broker.rack=Z\xfcrich\n").expect("written");
    let loaded = Sources::from_system(Some(&path), &["node.id=4".to_owned()])
        .and_then(Sources::load)
        .expect("a valid file");
    assert_eq!(loaded.config.broker_rack.as_deref(), Some("Zürich"));
    assert_eq!(loaded.config.node_id, 4);

    let missing = dir.path().join("no.properties");
    let error = Sources::from_system(Some(&missing), &[]).expect_err("no such file");
    assert!(error.to_string().contains("no.properties"), "{error}");

    let huge = dir.path().join("huge");
    fs::File::create(&huge)
        .and_then(|file| file.set_len(1 << 30))
        .expect("a sparse file");
    let error = Sources::from_system(Some(&huge), &[]).expect_err("too large");
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");

    let yaml = dir.path().join("server.yaml");
    fs::write(&yaml, "node.id: 1\n").expect("written");
    let error = Sources::from_system(Some(&yaml), &[]).and_then(Sources::load);
    assert!(matches!(error, Err(LoadError::OtherFormat { .. })));
}
