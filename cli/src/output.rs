//! How results are shown: tables for people, JSON for programs.
//!
//! A command builds one [`Table`]; the chosen [`OutputFormat`] decides what comes out. Standard
//! output carries data only; progress and hints go to standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Map, Value};

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// Comma-separated values with a header line.
    Csv,
}

/// Rows under named columns. Cells are JSON values, so that programs get numbers and lists, not
/// text.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// `columns` are lower_snake_case names: JSON keys as they are, table headings in capitals.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Value>) {
        assert!(
            cells.len() == self.columns.len(),
            "a row has one cell per column"
        );
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the table to standard output.
    pub(crate) fn print(&self, format: OutputFormat) {
        put(&self.text(format));
    }

    /// The table as it is written, with the end of its last line.
    pub(crate) fn text(&self, format: OutputFormat) -> String {
        let mut text = match format {
            OutputFormat::Table => self.as_text(),
            OutputFormat::Json => {
                let all: Vec<Value> = self.objects().collect();
                serde_json::to_string_pretty(&all).unwrap_or_default()
            }
            OutputFormat::Ndjson => self
                .objects()
                .map(|row| row.to_string())
                .collect::<Vec<_>>()
                .join("\n"),
            OutputFormat::Csv => self.as_csv(),
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// Each row as a JSON object.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.rows.iter().map(|row| {
            let pairs = self.columns.iter().zip(row);
            Value::Object(
                pairs
                    .map(|(key, cell)| ((*key).to_owned(), cell.clone()))
                    .collect::<Map<_, _>>(),
            )
        })
    }

    fn as_text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(
            self.columns
                .iter()
                .map(|name| name.to_uppercase().replace('_', "-")),
        );
        for row in &self.rows {
            table.add_row(row.iter().map(cell_text));
        }
        table.trim_fmt()
    }

    fn as_csv(&self) -> String {
        let quoted = |text: String| {
            if text.contains([',', '"', '\n']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text
            }
        };
        let mut lines = vec![self.columns.join(",")];
        lines.extend(self.rows.iter().map(|row| {
            row.iter()
                .map(|cell| quoted(cell_text(cell)))
                .collect::<Vec<_>>()
                .join(",")
        }));
        lines.join("\n")
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Data to standard output. A closed pipe (`| head`) is not an error.
pub(crate) fn put(text: &str) {
    let mut output = io::stdout();
    let _closed_pipe = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

/// A line for the person at the terminal; standard output stays clean.
pub(crate) fn say(text: &str) {
    let _closed_pipe = writeln!(io::stderr(), "{text}");
}

/// Asks before something that cannot be undone. Without a terminal the answer is no.
pub(crate) fn confirmed(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut line = String::new();
    let asked = write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stderr().flush());
    asked
        .and_then(|()| io::stdin().read_line(&mut line))
        .is_ok()
        && matches!(line.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["name", "partition_count", "isr"]);
        table.row(vec![json!("a,b"), json!(3), json!([1, 2])]);
        table
    }

    #[test]
    fn a_program_gets_numbers_and_lists_and_a_person_gets_columns() {
        let object = sample().objects().next().unwrap();
        assert_eq!(
            object,
            json!({"name": "a,b", "partition_count": 3, "isr": [1, 2]})
        );
        let text = sample().as_text();
        assert!(
            text.contains("PARTITION-COUNT") && text.contains("1,2"),
            "{text}"
        );
    }

    #[test]
    fn csv_quotes_what_holds_a_comma() {
        assert_eq!(
            sample().as_csv(),
            "name,partition_count,isr\n\"a,b\",3,\"1,2\""
        );
    }
}
