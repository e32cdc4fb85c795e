//! The page with the client x scenario matrix: what it should say, and whether it does.
//!
//! The page is made from the results of a run. A cell that the run did not reach keeps what the
//! page said before, so that running one client, or a machine without Java, changes nothing else.

use crate::clients::{CLIENTS, Client};
use crate::process::root;
use crate::scenario::Scenario;
use std::collections::BTreeMap;
use std::path::PathBuf;

const WORKS: &str = "yes";
const CANNOT: &str = "-";
const UNKNOWN: &str = "not checked";

/// The cells that were run and hold, by (client, scenario).
#[derive(Default)]
pub struct Results {
    works: BTreeMap<(&'static str, Scenario), ()>,
}

impl Results {
    pub fn add(&mut self, client: &Client, scenario: Scenario) {
        self.works.insert((client.name, scenario), ());
    }

    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }
}

pub fn page_path() -> PathBuf {
    root().join("docs/compatibility.md")
}

/// The page after this run; `before` is the page as it is.
pub fn page(results: &Results, before: &str) -> String {
    let mut page = String::from(HEAD);
    let names: Vec<&str> = Scenario::ALL
        .iter()
        .map(|scenario| scenario.name())
        .collect();
    page.push_str(&format!("| client | {} |\n", names.join(" | ")));
    page.push_str(&format!("| --- |{}\n", " --- |".repeat(names.len())));
    for client in CLIENTS {
        let cells = Scenario::ALL.map(|scenario| cell(results, before, client, scenario));
        page.push_str(&format!("| {} | {} |\n", client.title, cells.join(" | ")));
    }
    page.push_str(BETWEEN);
    for scenario in Scenario::ALL {
        page.push_str(&format!(
            "- `{}`: {}\n",
            scenario.name(),
            scenario.description()
        ));
    }
    page.push_str(TAIL);
    for client in CLIENTS {
        page.push_str(&format!("- {}: {}\n", client.title, client.how));
    }
    page
}

fn cell(results: &Results, before: &str, client: &Client, scenario: Scenario) -> String {
    if !client.scenarios.contains(&scenario) {
        return CANNOT.into();
    }
    if results.works.contains_key(&(client.name, scenario)) {
        return WORKS.into();
    }
    earlier_cell(before, client.title, scenario)
        .unwrap_or(UNKNOWN)
        .into()
}

/// What the page says about a cell now, if it has that row and column.
fn earlier_cell<'a>(page: &'a str, title: &str, scenario: Scenario) -> Option<&'a str> {
    let cells = |line: &'a str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let header = cells(page.lines().find(|line| line.starts_with("| client |"))?);
    let column = header.iter().position(|name| *name == scenario.name())?;
    let row = cells(
        page.lines()
            .find(|line| line.starts_with(&format!("| {title} |")))?,
    );
    let cell = *row.get(column)?;
    (cell != CANNOT).then_some(cell)
}

const HEAD: &str = "\
# Compatibility

Each row is a client as its makers publish it, unmodified; each cell is a small real scenario that
it does against the built broker in the test suite. This page is written by
`UPDATE=1 scripts/compat` and compared by `scripts/test`.

\"yes\": works, checked. \"-\": not something this client does. \"not checked\": nobody has run it.

";

const BETWEEN: &str = "
Consumers read partitions that they choose themselves. Consumer groups are not served yet.

## What the scenarios check

";

const TAIL: &str = "
## How the clients are run

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_not_run_keeps_what_the_page_said() {
        let client = &CLIENTS[0];
        let ran = client.scenarios[0];
        let other = client.scenarios[1];
        let mut results = Results::default();
        let empty = page(&results, "");
        assert_eq!(earlier_cell(&empty, client.title, ran), Some(UNKNOWN));
        results.add(client, ran);
        let first = page(&results, &empty);
        assert_eq!(earlier_cell(&first, client.title, ran), Some(WORKS));
        assert_eq!(earlier_cell(&first, client.title, other), Some(UNKNOWN));
        assert_eq!(page(&Results::default(), &first), first);
    }
}
