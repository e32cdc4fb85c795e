//! What the two test binaries with a matrix have in common: a test per cell, made at run time.
//!
//! A client that is not installed is a loud NOT CHECKED, and a failure where CI is set, unless
//! `OTTLA_COMPAT_ALLOW_MISSING` lists it (comma-separated). At the end the page is compared, or
//! rewritten under `UPDATE=1`.

use crate::broker::{Broker, OTHER_BROKER};
use crate::matrix::{Results, page, page_path};
use anyhow::Result;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// Does it against a broker.
pub type Run = Box<dyn FnOnce(&str) -> Result<()> + Send>;

/// One cell of a matrix: who does what, and how.
pub struct Cell {
    pub client: &'static str,
    pub scenario: &'static str,
    pub run: Run,
}

/// The cells of the clients that are installed, and a line (`name: reason`) per client that is not.
#[derive(Default)]
pub struct Plan {
    pub cells: Vec<Cell>,
    pub missing: Vec<String>,
}

/// Runs a plan against the broker that `start` gives.
pub fn run(arguments: &Arguments, plan: Plan, start: impl FnOnce() -> Result<Broker>) -> ExitCode {
    let results = Arc::new(Mutex::new(Results::default()));
    if arguments.list {
        let trials = trials(plan.cells, "", &results);
        return libtest_mimic::run(arguments, trials).exit_code();
    }
    let broker = match start() {
        Ok(broker) => broker,
        Err(error) => return no_broker(&error),
    };
    let mut trials = trials(plan.cells, broker.bootstrap(), &results);
    for line in &plan.missing {
        eprintln!("NOT CHECKED: {line}");
    }
    trials.extend(plan.missing.into_iter().filter_map(missing_trial));
    let conclusion = libtest_mimic::run(arguments, trials);
    let page_holds = std::env::var_os(OTHER_BROKER).is_some() || check_page(&results, &conclusion);
    if conclusion.has_failed() {
        eprintln!("the broker's last words:\n{}", broker.settings().log_tail());
    }
    if page_holds {
        conclusion.exit_code()
    } else {
        ExitCode::FAILURE
    }
}

fn no_broker(error: &anyhow::Error) -> ExitCode {
    eprintln!("no broker to test: {error:#}");
    let why = format!("{error:#}");
    let failed = Trial::test("the_broker_starts", move || Err(why.into()));
    libtest_mimic::run(&Arguments::default(), vec![failed]).exit_code()
}

fn trials(cells: Vec<Cell>, bootstrap: &str, results: &Arc<Mutex<Results>>) -> Vec<Trial> {
    let trials = cells.into_iter().map(|cell| {
        let (bootstrap, results) = (bootstrap.to_owned(), Arc::clone(results));
        Trial::test(format!("{}::{}", cell.client, cell.scenario), move || {
            (cell.run)(&bootstrap).map_err(|error| Failed::from(format!("{error:#}")))?;
            let mut results = results.lock().expect("held for a moment only");
            results.add(cell.client, cell.scenario);
            Ok(())
        })
    });
    trials.collect()
}

/// Where CI is set, a missing client fails unless it is allowed to be missing.
fn missing_trial(line: String) -> Option<Trial> {
    let name = line.split(':').next().unwrap_or_default().to_owned();
    let allowed = std::env::var("OTTLA_COMPAT_ALLOW_MISSING").unwrap_or_default();
    let ci = std::env::var_os("CI").is_some_and(|ci| ci != "false" && !ci.is_empty());
    (ci && !allowed.split(',').any(|allowed| allowed == name))
        .then(|| Trial::test(format!("{name}::is_installed"), move || Err(line.into())))
}

/// Writes or compares docs/compatibility.md; a run that failed or checked nothing says nothing.
fn check_page(results: &Mutex<Results>, conclusion: &Conclusion) -> bool {
    let results = results.lock().expect("all tests have ended");
    let path = page_path();
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let after = page(&results, &before);
    if std::env::var_os("UPDATE").is_some() {
        let written = std::fs::write(&path, after);
        eprintln!("wrote {}: {written:?}", path.display());
        return written.is_ok();
    }
    let comparable = !conclusion.has_failed() && !results.is_empty();
    if comparable && before != after {
        eprintln!("{} is out of date: UPDATE=1 scripts/compat", path.display());
        return false;
    }
    true
}
