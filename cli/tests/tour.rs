//! The thirty-second tour of the README, executed as it is written there.
//!
//! Lines that begin with `$ ` are run by a shell against a fresh `ottla dev`; the lines below them
//! must come out.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

#[path = "running/mod.rs"]
mod running;

use running::{Broker, OTTLA};

const README: &str = include_str!("../../README.md");

/// Commands and the lines expected of them.
fn tour() -> Vec<(String, Vec<String>)> {
    let (_, rest) = README
        .split_once("<!-- tour -->")
        .expect("the README marks its tour");
    let block = rest.split("```").nth(1).expect("a code block follows");
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), Vec::new())),
            None => {
                let step = steps.last_mut().expect("a command comes first");
                step.1.push(line.trim().to_owned());
            }
        }
    }
    assert!(steps.len() >= 4, "the tour shows something: {steps:?}");
    steps
}

#[test]
fn every_command_of_the_tour_prints_what_the_readme_shows() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let bin = Path::new(OTTLA).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    for (command, expected) in tour() {
        let output = Command::new("bash")
            .args(["-c", &command])
            .env("PATH", &path)
            .env("OTTLA_BOOTSTRAP", &broker.address)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{shown}");
        let shown: Vec<&str> = shown.lines().map(str::trim).collect();
        for line in expected {
            let found = shown.contains(&line.as_str());
            assert!(found, "{command}\nwanted: {line}\ngot: {shown:#?}");
        }
    }
}
