//! The page with the client x scenario matrix: what it should say, and whether it does.
//!
//! The page is made from the results of a run. A cell that the run did not reach keeps what the
//! page said before, so that running one client, or a machine without Java, changes nothing else.

use crate::clients::CLIENTS;
use crate::groups::clients::GROUP_CLIENTS;
use crate::groups::scenarios::GroupScenario;
use crate::process::root;
use crate::scenario::Scenario;
use std::collections::BTreeSet;
use std::path::PathBuf;

const WORKS: &str = "yes";
const CANNOT: &str = "-";
const UNKNOWN: &str = "not checked";

/// The cells that were run and hold, by client and scenario.
#[derive(Default)]
pub struct Results {
    works: BTreeSet<(&'static str, &'static str)>,
}

impl Results {
    pub fn add(&mut self, client: &'static str, scenario: &'static str) {
        self.works.insert((client, scenario));
    }

    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }
}

/// One row of a matrix: a client, and what it can do.
struct Row {
    name: &'static str,
    title: &'static str,
    how: &'static str,
    can: Vec<&'static str>,
}

/// A matrix: what its clients are called, its rows, and its columns with what is checked.
struct Table {
    corner: &'static str,
    rows: Vec<Row>,
    columns: Vec<(&'static str, &'static str)>,
}

fn clients() -> Table {
    let rows = CLIENTS.iter().map(|client| Row {
        name: client.name,
        title: client.title,
        how: client.how,
        can: client.scenarios.iter().map(|s| s.name()).collect(),
    });
    Table {
        corner: "client",
        rows: rows.collect(),
        columns: Scenario::ALL.map(|s| (s.name(), s.description())).into(),
    }
}

fn members() -> Table {
    let rows = GROUP_CLIENTS.iter().map(|client| Row {
        name: client.name,
        title: client.title,
        how: client.how,
        can: client.scenarios.iter().map(|s| s.name()).collect(),
    });
    Table {
        corner: "group member",
        rows: rows.collect(),
        columns: GroupScenario::ALL
            .map(|s| (s.name(), s.description()))
            .into(),
    }
}

pub fn page_path() -> PathBuf {
    root().join("docs/compatibility.md")
}

/// The page after this run; `before` is the page as it is.
pub fn page(results: &Results, before: &str) -> String {
    let [clients, members] = [clients(), members()];
    let mut page = String::from(HEAD);
    page.push_str(&clients.matrix(results, before));
    page.push_str(BETWEEN);
    page.push_str(&members.matrix(results, before));
    page.push_str("\n## What the scenarios check\n\n");
    page.push_str(&clients.legend());
    page.push_str("\nOf consumer groups:\n\n");
    page.push_str(&members.legend());
    page.push_str("\n## How the clients are run\n\n");
    page.push_str(&clients.how());
    page.push_str("\nAs members of groups, each in a process of its own:\n\n");
    page.push_str(&members.how());
    page.push_str(TOOLS);
    page
}

impl Table {
    fn matrix(&self, results: &Results, before: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut text = format!("| {} | {} |\n", self.corner, names.join(" | "));
        text.push_str(&format!("| --- |{}\n", " --- |".repeat(names.len())));
        for row in &self.rows {
            let cells = names
                .iter()
                .map(|name| self.cell(results, before, row, name));
            let cells: Vec<String> = cells.collect();
            text.push_str(&format!("| {} | {} |\n", row.title, cells.join(" | ")));
        }
        text
    }

    fn cell(&self, results: &Results, before: &str, row: &Row, scenario: &'static str) -> String {
        if !row.can.contains(&scenario) {
            return CANNOT.into();
        }
        if results.works.contains(&(row.name, scenario)) {
            return WORKS.into();
        }
        self.earlier_cell(before, row.title, scenario)
            .unwrap_or(UNKNOWN)
            .into()
    }

    /// What the page says about a cell now, if it has that table, row and column.
    fn earlier_cell<'a>(&self, page: &'a str, title: &str, scenario: &str) -> Option<&'a str> {
        let cells = |line: &'a str| line.split('|').map(str::trim).collect::<Vec<_>>();
        let mut lines = page.lines();
        let corner = format!("| {} |", self.corner);
        let header = cells(lines.find(|line| line.starts_with(&corner))?);
        let column = header.iter().position(|name| *name == scenario)?;
        let mut table = lines.take_while(|line| line.starts_with('|'));
        let row = cells(table.find(|line| line.starts_with(&format!("| {title} |")))?);
        let cell = *row.get(column)?;
        (cell != CANNOT).then_some(cell)
    }

    fn legend(&self) -> String {
        let lines = self.columns.iter();
        lines
            .map(|(name, description)| format!("- `{name}`: {description}\n"))
            .collect()
    }

    fn how(&self) -> String {
        let lines = self.rows.iter();
        lines
            .map(|row| format!("- {}: {}\n", row.title, row.how))
            .collect()
    }
}

const HEAD: &str = "\
# Compatibility

Each row is a client as its makers publish it, unmodified; each cell is a small real scenario that
it does against the built broker in the test suite. This page is written by
`UPDATE=1 scripts/compat` and compared by `scripts/test`.

\"yes\": works, checked. \"-\": not something this client does. \"not checked\": nobody has run it.

";

const BETWEEN: &str = "
Here consumers read partitions that they choose themselves.

## Consumer groups

The same clients and more as members of groups. Each is a process of its own that the test tells
what to do, kills or ends; the scenarios are the same for all. A broker is asked through another
client what is committed.

";

const TOOLS: &str = "
## Tools over consumer groups

- `kafka-consumer-groups` 4.3.0: one script of a hundred calls (list, describe with all its tables,
  reset-offsets in all its modes, delete, delete-offsets; refusals, too) is carried out against this
  broker and against Apache Kafka 4.3.0, and prints the same: `compat-tests/tests/group_tool.rs`.
  Members' ids, ports and the order of lines are left out of the comparison.
- Kafka's own formatters read the same records in `__consumer_offsets` of both, except that Apache
  Kafka also writes down a group that has no generation yet.
- Requests that no client sends get Kafka's error codes, and a neighbour group does not notice:
  `compat-tests/tests/hostile_groups.rs`, which can be run against Apache Kafka, too. Where Apache
  Kafka never answers (a subscription whose lengths lie), this broker treats it as bytes.
- Burrow 1.2.1, Debian's package: **not checked**. It cannot read Apache Kafka 4.3 either: it knows
  no record in `__consumer_offsets` of a version that Kafka writes now, asks for the ends of logs
  with a request that Kafka 4 has removed, and wants a ZooKeeper.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_not_run_keeps_what_the_page_said() {
        for table in [clients(), members()] {
            let row = &table.rows[0];
            let (ran, other) = (row.can[0], row.can[1]);
            let mut results = Results::default();
            let empty = page(&results, "");
            assert_eq!(table.earlier_cell(&empty, row.title, ran), Some(UNKNOWN));
            results.add(row.name, ran);
            let first = page(&results, &empty);
            assert_eq!(table.earlier_cell(&first, row.title, ran), Some(WORKS));
            assert_eq!(table.earlier_cell(&first, row.title, other), Some(UNKNOWN));
            assert_eq!(page(&Results::default(), &first), first);
        }
    }
}
