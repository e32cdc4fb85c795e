//! Figures by row and broker: medians, ratios, and a table for people.

use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::peer::Kind;

/// Samples of one figure for both brokers, in the order in which they were taken.
#[derive(Default)]
struct Samples {
    ottla: Vec<f64>,
    kafka: Vec<f64>,
}

/// One line of the result.
#[derive(Debug, Serialize)]
pub struct Line {
    pub figure: String,
    pub ottla: f64,
    pub kafka: Option<f64>,
    /// The median of the ratios of the pairs, Ottla to Kafka.
    pub ratio: Option<f64>,
    pub samples: usize,
}

/// Collects samples under the name of a figure; figures keep the order of their first sample.
#[derive(Default)]
pub struct Report {
    order: Vec<String>,
    samples: BTreeMap<String, Samples>,
}

impl Report {
    /// Runs each kind in turn, so many times, and says on standard error where it is.
    pub fn of_pairs(
        pairs: u32,
        kinds: &[Kind],
        turn: impl Fn(Kind, &mut Report) -> Result<()>,
    ) -> Result<Report> {
        let mut report = Report::default();
        for pair in 1..=pairs {
            for kind in kinds {
                eprintln!("-- pair {pair}/{pairs}: {}", kind.name());
                turn(*kind, &mut report)?;
            }
        }
        Ok(report)
    }

    fn samples(&mut self, figure: &str) -> &mut Samples {
        if !self.samples.contains_key(figure) {
            self.order.push(figure.to_owned());
        }
        self.samples.entry(figure.to_owned()).or_default()
    }

    pub fn add(&mut self, kind: Kind, figure: &str, value: f64) {
        let samples = self.samples(figure);
        match kind {
            crate::peer::Kind::Ottla => samples.ottla.push(value),
            crate::peer::Kind::ApacheKafka => samples.kafka.push(value),
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        let line = |figure: &String| {
            let samples = &self.samples[figure];
            let pairs = samples.ottla.iter().zip(&samples.kafka);
            let ratios: Vec<f64> = pairs.map(|(ottla, kafka)| ottla / kafka).collect();
            Line {
                figure: figure.clone(),
                ottla: median(&samples.ottla).unwrap_or(f64::NAN),
                kafka: median(&samples.kafka),
                ratio: median(&ratios),
                samples: samples.ottla.len().max(samples.kafka.len()),
            }
        };
        self.order.iter().map(line).collect()
    }

    /// The table that a person reads, as Markdown.
    pub fn table(&self) -> String {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
        let lines = self.lines();
        let width = lines.iter().map(|line| line.figure.len()).max();
        let width = width.unwrap_or(0);
        let row = |cells: [&str; 4]| {
            let [figure, ottla, kafka, ratio] = cells;
            format!("| {figure:<width$} | {ottla:>9} | {kafka:>12} | {ratio:>7} |\n")
        };
        let mut text = row(["figure (median)", "Ottla", "Apache Kafka", "ratio"]);
        text.push_str("|---|---|---|---|\n");
        for line in lines {
            let ottla = cell((!line.ottla.is_nan()).then_some(line.ottla));
            let (kafka, ratio) = (cell(line.kafka), cell(line.ratio));
            text.push_str(&row([&line.figure, &ottla, &kafka, &ratio]));
        }
        text
    }
}

/// Three significant digits are more than these figures are good for.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Kind;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let mut report = Report::default();
        for (ottla, kafka) in [(1.0, 2.0), (3.0, 3.0), (1.0, 10.0)] {
            report.add(Kind::Ottla, "a", ottla);
            report.add(Kind::ApacheKafka, "a", kafka);
        }
        report.add(Kind::Ottla, "only ours", 7.0);
        let lines = report.lines();
        assert_eq!(
            (lines[0].ottla, lines[0].kafka, lines[0].ratio),
            (1.0, Some(3.0), Some(0.5))
        );
        assert_eq!((lines[1].kafka, lines[1].ratio), (None, None));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
