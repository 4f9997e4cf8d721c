//! The gate: compares what `cargo bench` has just counted with the committed baseline. `bench/counts/README.md` says when
//! it fails, and what to do then.

mod baseline;
mod measured;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use baseline::{Baseline, Count};
use measured::Measured;

/// What a count may differ from its baseline, in per cent, when compiler and valgrind are the baseline's.
const TOLERANCE: f64 = 3.0;
/// With another compiler or valgrind: the same source becomes other instructions.
const OTHER_TOOLS_TOLERANCE: f64 = 10.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--raise", reason] if !reason.trim().is_empty() => raise(reason.trim()),
        ["--raise", _] => Err("a baseline is raised with a reason: make counts-baseline REASON='why'".to_owned()),
        _ => Err("usage: pillion-counts [--raise REASON]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("\n{problem}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    let (baseline, measured) = (Baseline::load(&baseline_path())?, Measured::load(&results())?);
    let (shown, problems) = compare(&baseline, &measured);
    print!("{shown}");
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nIf that is meant, commit the new baseline with what moved it: make counts-baseline REASON='why'",
        problems.join("\n")
    ))
}

/// The table, and what is wrong.
fn compare(baseline: &Baseline, measured: &Measured) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    let same_tools = baseline.tools == measured.tools;
    let tolerance = if same_tools { TOLERANCE } else { OTHER_TOOLS_TOLERANCE };
    if !same_tools {
        lines.push(format!(
            "OTHER TOOLS THAN THE BASELINE'S. Now: {}. Then: {}.\n\
             {OTHER_TOOLS_TOLERANCE} % are borne in place of {TOLERANCE} % until the baseline is measured anew.\n",
            measured.tools, baseline.tools
        ));
    }
    lines.push("| instructions each | baseline | now | change |\n| --- | ---: | ---: | ---: |".to_owned());
    let (mut grown, mut shrunk, mut unpaired) = (0, 0, 0);
    for (name, now) in &measured.counts {
        let Some(Count { instructions: before, .. }) = baseline.counts.get(name) else {
            unpaired += 1;
            lines.push(format!("| {name} | none | {now:.1} | |"));
            continue;
        };
        let change = percent(*before, *now);
        let verdict = if change > tolerance {
            grown += 1;
            " GREW"
        } else if change < -tolerance {
            shrunk += 1;
            " SHRANK"
        } else {
            ""
        };
        lines.push(format!("| {name} | {before:.1} | {now:.1} | {change:+.2} %{verdict} |"));
    }
    for (name, before) in baseline.counts.iter().filter(|(name, _)| !measured.counts.contains_key(*name)) {
        unpaired += 1;
        lines.push(format!("| {name} | {:.1} | none | |", before.instructions));
    }

    let problems = [
        (grown, format!("{grown} grew by more than {tolerance} %.")),
        (shrunk, format!("{shrunk} shrank by more than {tolerance} %: left high, a baseline hides the next growth.")),
        (unpaired, format!("{unpaired} have no baseline, or no bench.")),
    ];
    let problems = problems.into_iter().filter(|(count, _)| *count > 0).map(|(_, problem)| problem).collect();
    (lines.join("\n") + "\n", problems)
}

fn raise(reason: &str) -> Result<(), String> {
    let path = baseline_path();
    let before = if path.exists() { Some(Baseline::load(&path)?) } else { None };
    let after = raised(before, Measured::load(&results())?, reason);
    after.counts.iter().filter(|(_, count)| count.reason == reason).for_each(|(name, count)| {
        println!("{name}: {:.1}", count.instructions);
    });
    after.save(&path)
}

/// The baseline with what moved. What is within the tolerance keeps its number, so that many small steps add up and are
/// seen; with other tools than before every number is a new one.
fn raised(before: Option<Baseline>, measured: Measured, reason: &str) -> Baseline {
    let same_tools = before.as_ref().is_some_and(|before| before.tools == measured.tools);
    let mut known = before.map(|before| before.counts).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for (name, now) in measured.counts {
        let count = match known.remove(&name) {
            Some(count) if percent(count.instructions, now).abs() <= TOLERANCE => {
                Count { instructions: if same_tools { count.instructions } else { now }, ..count }
            }
            _ => Count { instructions: now, reason: reason.to_owned() },
        };
        counts.insert(name, count);
    }
    Baseline { tools: measured.tools, counts }
}

/// The change from `before` to `now`.
fn percent(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
}

/// Where the runner leaves its results.
fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/gungraun/pillion-counts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::Tools;

    fn tools(rustc: &str) -> Tools {
        Tools { rustc: rustc.to_owned(), valgrind: "valgrind-3.19.0".to_owned() }
    }

    fn baseline(counts: &[(&str, f64)]) -> Baseline {
        let count = |instructions| Count { instructions, reason: "then".to_owned() };
        Baseline { tools: tools("1"), counts: counts.iter().map(|(name, n)| ((*name).to_owned(), count(*n))).collect() }
    }

    fn measured(rustc: &str, counts: &[(&str, f64)]) -> Measured {
        Measured { tools: tools(rustc), counts: counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect() }
    }

    #[test]
    fn what_moves_fails_either_way_and_other_tools_widen_it() {
        let baseline = baseline(&[("a", 100.0)]);
        for (rustc, now, wrong) in [
            ("1", 102.9, ""),
            ("1", 103.1, "1 grew"),
            ("1", 97.1, ""),
            ("1", 96.9, "1 shrank"),
            ("2", 109.9, ""),
            ("2", 110.1, "1 grew"),
            ("2", 89.9, "1 shrank"),
        ] {
            let (shown, problems) = compare(&baseline, &measured(rustc, &[("a", now)]));
            assert_eq!(problems.len(), usize::from(!wrong.is_empty()), "{now}: {problems:?}");
            assert!(problems.iter().all(|problem| problem.starts_with(wrong)), "{now}: {problems:?}");
            assert_eq!(shown.contains("OTHER TOOLS"), rustc == "2", "{shown}");
        }
    }

    #[test]
    fn what_stands_on_one_side_only_fails() {
        let (_, problems) = compare(&baseline(&[("a", 1.0), ("b", 1.0)]), &measured("1", &[("b", 1.0), ("c", 1.0)]));
        assert_eq!(problems, ["2 have no baseline, or no bench."]);
    }

    #[test]
    fn only_what_moved_is_raised_and_gets_the_reason() {
        let before = baseline(&[("a", 100.0), ("b", 100.0), ("gone", 1.0)]);
        let now = measured("1", &[("a", 102.0), ("b", 105.0), ("new", 7.0)]);
        let after = raised(Some(before), now, "now");
        let shown: Vec<_> = after
            .counts
            .iter()
            .map(|(name, count)| (name.as_str(), count.instructions, count.reason.as_str()))
            .collect();
        assert_eq!(shown, [("a", 100.0, "then"), ("b", 105.0, "now"), ("new", 7.0, "now")]);
        let anew = raised(Some(after), measured("2", &[("a", 101.0)]), "a compiler");
        assert_eq!((anew.counts["a"].instructions, anew.counts["a"].reason.as_str()), (101.0, "then"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.toml");
        let mut written = baseline(&[("a::b::c", 12.34)]);
        written.counts.get_mut("a::b::c").unwrap().reason = "'quoted' and \"quoted\"".to_owned();
        written.save(&path).unwrap();
        let read = Baseline::load(&path).unwrap();
        assert_eq!(read.tools, written.tools);
        let count = &read.counts["a::b::c"];
        assert_eq!((count.instructions, &count.reason), (12.3, &written.counts["a::b::c"].reason));
    }
}
