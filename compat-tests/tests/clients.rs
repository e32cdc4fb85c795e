//! Every client does every scenario that it can: one test per cell of the first matrix.
//!
//! The tests are made at run time, hence a harness of its own; it prints what cargo's prints. What
//! happens to clients that are not installed, and to the page, is in `compat-tests/src/harness.rs`.

use libtest_mimic::Arguments;
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::clients::{CLIENTS, Client, Target};
use ottla_compat_tests::harness::{self, Cell, Plan};
use ottla_compat_tests::scenario::Scenario;
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run(&Arguments::from_args(), plan(), || {
        Broker::from_environment(|settings| settings)
    })
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    for client in CLIENTS {
        match (client.missing)() {
            Some(reason) => plan.missing.push(format!("{}: {reason}", client.name)),
            None => plan.cells.extend(
                client
                    .scenarios
                    .iter()
                    .map(|scenario| cell(client, *scenario)),
            ),
        }
    }
    plan
}

fn cell(client: &'static Client, scenario: Scenario) -> Cell {
    let run = move |bootstrap: &str| {
        let prefix = format!("{}-{}-{}", client.name, scenario.name(), std::process::id());
        let target = Target {
            bootstrap,
            prefix: &prefix,
        };
        (client.run)(scenario, &target)
    };
    Cell {
        client: client.name,
        scenario: scenario.name(),
        run: Box::new(run),
    }
}
