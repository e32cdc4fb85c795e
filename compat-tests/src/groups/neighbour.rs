//! A group of two ordinary members that consumes all the time and must not notice what others do.

use super::clients::GROUP_CLIENTS;
use super::log::{Kind, at_least_once, of, records};
use super::{Load, Stage};
use crate::broker::Broker;
use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Runs `attack` beside a neighbour; the broker lives on, and the neighbour's group has neither
/// rebalanced nor missed a record.
pub fn undisturbed(broker: &mut Broker, attack: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let bootstrap = broker.bootstrap().to_owned();
    let mut clients = GROUP_CLIENTS.iter();
    let client = clients.find(|client| client.name == "rdkafka");
    let client = client.expect("the Rust client is always there");
    // Tests that share a broker have a neighbour each.
    static NEIGHBOURS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("neighbour-{}", NEIGHBOURS.fetch_add(1, Ordering::Relaxed));
    let mut stage = Stage::new(client, &bootstrap, &name, 2)?;
    let load = Load::start(&bootstrap, &stage.topic, 2);
    let members = [
        stage.start(&[("commit", "batch")])?,
        stage.start(&[("commit", "batch")])?,
    ];
    let settled = |stage: &Stage<'_>, from: usize| {
        stage.wait("both neighbours are given records", |entries| {
            let busy = |member: &usize| !records(&entries[from..], *member).is_empty();
            members.iter().all(busy).then_some(())
        })
    };
    settled(&stage, 0)?;
    std::thread::sleep(Duration::from_millis(500));
    let from = stage.now();
    settled(&stage, from)?;
    let from = stage.now();
    attack(&bootstrap)?;
    settled(&stage, stage.now())?;
    let ends = load.stop()?;
    let noticed = stage.log.read(|entries| {
        let since = &entries[from..];
        let changes = members.iter().flat_map(|member| of(since, *member));
        let changes = changes.filter(|event| !matches!(event.kind, Kind::Record | Kind::Commit));
        changes
            .map(|event| format!("{event:?}"))
            .collect::<Vec<_>>()
    });
    ensure!(noticed.is_empty(), "the neighbours noticed: {noticed:?}");
    let total: i64 = ends.iter().sum();
    stage.wait("the neighbours have everything", |entries| {
        let count: usize = members
            .map(|member| records(entries, member).len())
            .iter()
            .sum();
        (count as i64 >= total).then_some(())
    })?;
    stage.log.read(at_least_once)?;
    for member in members {
        stage.close(member)?;
    }
    broker.assert_alive()
}
