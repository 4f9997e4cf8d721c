//! What was measured, for people (Markdown) and for programs (JSON below target/bench).

use crate::curves::Curve;
use crate::goals::{Judged, Verdict};
use crate::machine::Machine;
use crate::measure::{Outcome, PairOutcome, Plan, median};
use crate::peers::BEFORE;
use crate::site::{self, Site};
use crate::{Result, docs};
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) repetitions: usize,
    pub(crate) seconds: u64,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) goals: Vec<Judged>,
    pub(crate) curves: Vec<Curve>,
}

impl Report {
    pub(crate) fn new(machine: Machine, plan: Plan, outcomes: Vec<Outcome>, curves: Vec<Curve>) -> Report {
        Report {
            machine,
            repetitions: plan.repetitions,
            seconds: plan.span.as_secs(),
            goals: crate::goals::judge(&outcomes),
            outcomes,
            curves,
        }
    }

    /// Prints the tables, writes every single value as JSON and the curves as SVG; if asked for, into docs/ too.
    pub(crate) fn publish(&self, site: &Site, write_docs: bool) -> Result<()> {
        let dir = site::target()?.join("bench");
        std::fs::create_dir_all(&dir)?;
        let json = dir.join("results.json");
        std::fs::write(&json, serde_json::to_vec_pretty(self)?)?;
        let tables = format!("{}{}", self.tables(), self.curve_tables());
        std::io::Write::write_all(&mut std::io::stdout(), tables.as_bytes())?;
        let pictures = if write_docs { docs::beside_page() } else { dir };
        for curve in &self.curves {
            curve.plot(&pictures)?;
        }
        if write_docs {
            docs::write(self, site)?;
        }
        eprintln!("bench: also in {}", json.display());
        Ok(())
    }

    /// The workloads' tables and the goals.
    pub(crate) fn tables(&self) -> String {
        if self.outcomes.is_empty() {
            return String::new();
        }
        let mut text = self.circumstances();
        for outcome in &self.outcomes {
            text += &table(outcome);
        }
        if !self.goals.is_empty() {
            text += &goals(&self.goals);
        }
        text
    }

    /// The curves' tables.
    pub(crate) fn curve_tables(&self) -> String {
        if self.curves.is_empty() {
            return String::new();
        }
        let mut text = self.circumstances();
        for curve in &self.curves {
            text += &curve.table();
        }
        text
    }

    fn circumstances(&self) -> String {
        let Machine { date, cores, processor, kernel, load_average, versions } = &self.machine;
        format!(
            "{date}: {cores} cores of {processor}, Linux {kernel}, load average {load_average} at the start. {}. Median \
             (lowest–highest) of {} repetitions of {} s.\n",
            versions.join(", "),
            self.repetitions,
            self.seconds
        )
    }
}

/// A row a metric, a column a pair, and our median divided by the best peer's, and by the earlier build's if there is one.
fn table(outcome: &Outcome) -> String {
    let workload = outcome.workload;
    let mut text = format!("\n**({}) {}**\n\n", workload.letter, workload.what);
    let mut names: Vec<&str> = outcome.pairs.iter().map(|pair| pair.name).collect();
    names.push("pillion ÷ best peer");
    let before = outcome.pair(BEFORE);
    if before.is_some() {
        names.push("pillion ÷ before");
    }
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(names.len()));
    for metric in outcome.metrics() {
        let values = |pair: &PairOutcome| pair.values(metric).map_or("not offered yet".to_owned(), spread);
        let mut cells: Vec<String> = outcome.pairs.iter().map(values).collect();
        let ours = outcome.pair("pillion").and_then(|pair| pair.median(metric));
        let ratio_to =
            |other: Option<f64>| ours.zip(other).map_or(String::new(), |(ours, other)| format!("{:.2}", ours / other));
        cells.push(ratio_to(outcome.best_peer(metric)));
        if let Some(before) = before {
            cells.push(ratio_to(before.median(metric)));
        }
        let _ = writeln!(text, "| {} | {} |", metric.name, cells.join(" | "));
    }
    text
}

fn goals(goals: &[Judged]) -> String {
    let mut text = "\n**Goals**\n\n| goal | value | |\n| --- | ---: | --- |\n".to_owned();
    for Judged { text: goal, value, verdict } in goals {
        let value = value.map_or(String::new(), |value| format!("{value:.2}"));
        let verdict = match verdict {
            Verdict::Reached => "reached",
            Verdict::NotReached => "**not reached**",
            Verdict::NotOffered => "not offered yet",
            Verdict::NotCompared => "not compared",
        };
        let _ = writeln!(text, "| {goal} | {value} | {verdict} |");
    }
    text
}

/// Median, lowest and highest.
fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = digits(high);
    format!("{:.digits$} ({low:.digits$}–{high:.digits$})", median(values))
}

/// Digits behind the point that still say something.
pub(crate) fn digits(value: f64) -> usize {
    if value < 100.0 { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "2.0 (1.0–3.0)");
        assert_eq!(spread(&[100.0, 300.0]), "200 (100–300)");
        assert!(median(&[]).is_nan());
    }
}
