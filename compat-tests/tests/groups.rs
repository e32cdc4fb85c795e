//! Every client is a member of consumer groups: one test per cell of the second matrix.
//!
//! A scenario mostly waits (for a rebalance, a session to end), so many run at once, each with a
//! topic and groups of its own. What happens to clients that are not installed, and to the page, is
//! in `compat-tests/src/harness.rs`.

use libtest_mimic::Arguments;
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::groups::Stage;
use ottla_compat_tests::groups::clients::{GROUP_CLIENTS, GroupClient};
use ottla_compat_tests::groups::scenarios::{BROKERS_SESSION, GroupScenario};
use ottla_compat_tests::harness::{self, Cell, Plan};
use std::process::ExitCode;

/// How many scenarios run at once, unless `--test-threads` says otherwise.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    harness::run(&arguments, plan(), || {
        let session_ms = BROKERS_SESSION.as_millis();
        Broker::from_environment(|settings| {
            settings
                .with("group.initial.rebalance.delay.ms", 0)
                // Members of the new protocol have the broker's times.
                .with("group.consumer.min.session.timeout.ms", session_ms)
                .with("group.consumer.session.timeout.ms", session_ms)
                .with("group.consumer.min.heartbeat.interval.ms", 400)
                .with("group.consumer.heartbeat.interval.ms", 400)
        })
    })
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    for client in GROUP_CLIENTS {
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
    // The slow scenarios of all clients side by side, not one after the other at the end.
    plan.cells.sort_by_key(|cell| cell.scenario);
    plan
}

fn cell(client: &'static GroupClient, scenario: GroupScenario) -> Cell {
    let run = move |bootstrap: &str| {
        let partitions = scenario.partitions();
        let mut stage = Stage::new(client, bootstrap, scenario.name(), partitions)?;
        scenario.run(&mut stage)
    };
    Cell {
        client: client.name,
        scenario: scenario.name(),
        run: Box::new(run),
    }
}
