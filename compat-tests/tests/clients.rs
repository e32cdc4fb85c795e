//! Every client does every scenario that it can: one test per cell of the matrix.
//!
//! The tests are made at run time, hence a harness of its own; it prints what cargo's prints. A
//! client that is not installed is a loud NOT CHECKED, and a failure where CI is set, unless
//! `OTTLA_COMPAT_ALLOW_MISSING` lists it (comma-separated). At the end the page is compared, or
//! rewritten under `UPDATE=1`.

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use ottla_compat_tests::broker::{Broker, OTHER_BROKER};
use ottla_compat_tests::clients::{CLIENTS, Client, Target};
use ottla_compat_tests::matrix::{Results, page, page_path};
use ottla_compat_tests::scenario::Scenario;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let results = Arc::new(Mutex::new(Results::default()));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials("", &results).0).exit_code();
    }
    let broker = match Broker::from_environment() {
        Ok(broker) => broker,
        Err(error) => {
            eprintln!("no broker to test: {error:#}");
            let failed = Trial::test(
                "the_broker_starts",
                move || Err(format!("{error:#}").into()),
            );
            return libtest_mimic::run(&Arguments::default(), vec![failed]).exit_code();
        }
    };
    let (mut trials, missing) = trials(broker.bootstrap(), &results);
    for line in &missing {
        eprintln!("NOT CHECKED: {line}");
    }
    trials.extend(missing.into_iter().filter_map(missing_trial));
    let conclusion = libtest_mimic::run(&arguments, trials);
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

/// A test per cell of the clients that are installed, and a line per client that is not.
fn trials(bootstrap: &str, results: &Arc<Mutex<Results>>) -> (Vec<Trial>, Vec<String>) {
    let (mut trials, mut missing) = (Vec::new(), Vec::new());
    for client in CLIENTS {
        if let Some(reason) = (client.missing)() {
            missing.push(format!("{}: {reason}", client.name));
            continue;
        }
        for scenario in client.scenarios {
            trials.push(trial(
                client,
                *scenario,
                bootstrap.to_owned(),
                Arc::clone(results),
            ));
        }
    }
    (trials, missing)
}

fn trial(
    client: &'static Client,
    scenario: Scenario,
    bootstrap: String,
    results: Arc<Mutex<Results>>,
) -> Trial {
    let name = format!("{}::{}", client.name, scenario.name());
    Trial::test(name, move || {
        let prefix = format!("{}-{}-{}", client.name, scenario.name(), std::process::id());
        let target = Target {
            bootstrap: &bootstrap,
            prefix: &prefix,
        };
        (client.run)(scenario, &target).map_err(|error| Failed::from(format!("{error:#}")))?;
        results
            .lock()
            .expect("held for a moment only")
            .add(client, scenario);
        Ok(())
    })
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
