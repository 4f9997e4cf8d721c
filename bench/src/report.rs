//! The results: JSON below target/bench, and a Markdown table for people.

use crate::Result;
use crate::measure::{PairResults, Results};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Writes the JSON file and prints the table.
pub(crate) fn publish(results: &Results) -> Result<()> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("results.json");
    std::fs::write(&path, serde_json::to_vec_pretty(results)?)?;
    let table = markdown(results);
    std::io::Write::write_all(&mut std::io::stdout(), table.as_bytes())?;
    eprintln!("bench: also in {}", path.display());
    Ok(())
}

/// One line of the table: what, and how to read it off a pair's results.
type Row = (&'static str, fn(&PairResults) -> String);

const ROWS: &[Row] = &[
    ("64 connections, small GET: CPU µs a call, both sides", |pair| spread(&pair.many.cpu_us)),
    ("… calls a second", |pair| spread(&pair.many.per_second)),
    ("… p50 µs", |pair| spread(&pair.many.p50_us)),
    ("… p99 µs", |pair| spread(&pair.many.p99_us)),
    ("1 connection, small GET: CPU µs a call, both sides", |pair| spread(&pair.one.cpu_us)),
    ("… p50 µs", |pair| spread(&pair.one.p50_us)),
    ("… p99 µs", |pair| spread(&pair.one.p99_us)),
    ("8 connections, small GET, alone: p50 µs", |pair| spread(&pair.alone_p50_us)),
    ("… p99 µs", |pair| spread(&pair.alone_p99_us)),
    ("… beside 4 streams of 1 GiB (2 down, 2 up): p50 µs", |pair| spread(&pair.beside_p50_us)),
    ("… p99 µs", |pair| spread(&pair.beside_p99_us)),
    ("… p50 beside ÷ p50 alone", |pair| format!("{:.1}", median(&pair.beside_p50_us) / median(&pair.alone_p50_us))),
    ("RSS when idle, each side, MiB", |pair| mebibytes(pair.idle_rss_kib)),
    ("RSS after all this, each side, MiB", |pair| mebibytes(pair.after_rss_kib)),
];

fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "Median (lowest–highest) of {} repetitions in turns; {} cores of {}, Linux {}, {}.\n\n",
        results.pairs.first().map_or(0, |pair| pair.many.cpu_us.len()),
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.nginx
    );
    let names: Vec<&str> = results.pairs.iter().map(|pair| pair.name.as_str()).collect();
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(names.len()));
    for (what, read) in ROWS {
        let cells: Vec<String> = results.pairs.iter().map(read).collect();
        let _ = writeln!(text, "| {what} | {} |", cells.join(" | "));
    }
    if let [ours, theirs] = results.pairs.as_slice() {
        let many = median(&ours.many.cpu_us) / median(&theirs.many.cpu_us);
        let one = median(&ours.one.cpu_us) / median(&theirs.one.cpu_us);
        let _ = writeln!(
            text,
            "\nCPU a call, {} ÷ {}: {many:.2} at 64 connections, {one:.2} at one.",
            ours.name, theirs.name
        );
    }
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = if high < 100.0 { 1 } else { 0 };
    format!("{:.digits$} ({low:.digits$}–{high:.digits$})", median(values))
}

fn mebibytes(sides: [u64; 2]) -> String {
    let [first, second] = sides.map(|kib| kib as f64 / 1024.0);
    format!("{first:.1} and {second:.1}")
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
