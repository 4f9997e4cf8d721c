//! The same bytes to this codec and to others: hyper, which runs here, h11 and the HTTP server of Node.js, whose readings of
//! the corpus are written down (`second/`). README.md lists every difference; these tests hold the lists to what is found.

mod corpus;
mod fuzzing;
mod generate;
mod other;

use std::collections::{BTreeMap, BTreeSet};

use corpus::{Case, cases};
use fuzzing::common::{Side, read};
use generate::nearly;
use other::{Difference, Other, compare, first_answer_by_hyper, is_same, read_by_hyper};
use proptest::prelude::*;

const README: &str = include_str!("../README.md");

/// The rows of the table that stands behind a heading of the README, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = README.split_once(heading).expect("the heading");
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Who reads the corpus, and how.
fn others(cases: &[Case]) -> Vec<(&'static str, Vec<Other>)> {
    let written = |text: &'static str| -> Vec<Other> {
        let mut readings = BTreeMap::new();
        let mut lines: &[&str] = &text.lines().collect::<Vec<_>>();
        while let [name, digest, rest @ ..] = lines {
            let end = rest.iter().position(|line| line.starts_with('@')).unwrap_or(rest.len());
            readings.insert(format!("{name}\n{digest}"), other::parse(&rest[..end]));
            lines = &rest[end..];
        }
        let mut reading = |case: &Case| {
            let key = format!("@ {}\n? {:016x}", case.name, digest(&case.bytes));
            readings.remove(&key).unwrap_or_else(|| panic!("{key} has changed: run second/read.py again"))
        };
        cases.iter().map(&mut reading).collect()
    };
    vec![
        ("hyper", cases.iter().map(|case| read_by_hyper(&case.bytes)).collect()),
        ("h11", written(include_str!("second/h11.txt"))),
        ("Node.js", written(include_str!("second/node.txt"))),
    ]
}

/// FNV-1a, as `read.py` has it.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn the_readme_lists_what_others_do_not_take_or_read_otherwise() {
    let cases = cases(corpus::REQUESTS);
    let mut found = BTreeSet::new();
    for (who, readings) in others(&cases) {
        for (case, theirs) in cases.iter().zip(readings) {
            let ours = read(Side::Requests, &case.bytes, &[usize::MAX]);
            match compare(&ours, &theirs) {
                Difference::Same | Difference::WeRefuse => {}
                Difference::TheyRefuse => drop(found.insert(format!("{who} refuses: {}", case.name))),
                Difference::Otherwise => drop(found.insert(format!("{who} reads otherwise: {}", case.name))),
            }
        }
    }
    let listed: BTreeSet<_> = table("## What others do not take, or read otherwise")
        .iter()
        .flat_map(|row| row[1].split(", ").map(|who| format!("{who}: {}", row[0])))
        .collect();
    assert_eq!(listed, found, "the README's list, and what was found");
}

#[test]
fn the_readme_lists_what_is_refused_and_others_take() {
    let cases = cases(corpus::REQUESTS);
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (who, readings) in others(&cases) {
        for (case, theirs) in cases.iter().zip(readings) {
            let ours = read(Side::Requests, &case.bytes, &[usize::MAX]);
            if compare(&ours, &theirs) == Difference::WeRefuse {
                let (_, refusal) = case.end.split_once(' ').expect("a status and a refusal");
                found.entry(refusal).or_default().insert(who);
            }
        }
    }
    let listed: BTreeMap<&str, BTreeSet<&str>> = table("## What is refused here, and others take")
        .iter()
        .map(|row| (row[0].trim_matches('`'), row[1].split(", ").collect()))
        .collect();
    assert_eq!(listed, found, "the README's list, and what was found");
}

/// The first answer of each case, by hyper's client.
#[test]
fn hyper_reads_the_responses_that_are_taken_here_in_the_same_way() {
    let mut compared = 0;
    for case in cases(corpus::RESPONSES) {
        let ours = read(Side::Responses(&case.methods), &case.bytes, &[usize::MAX]);
        // What comes before the answer hyper keeps to itself.
        let answer = ours.messages.iter().find(|message| !message.start.starts_with("10"));
        let Some(ours) = answer.filter(|answer| answer.is_whole) else { continue };
        let theirs = first_answer_by_hyper(case.methods.first().unwrap_or(&"GET"), &case.bytes);
        assert!(theirs.as_ref().is_some_and(|theirs| is_same(ours, theirs)), "{}: {ours:?}, {theirs:?}", case.name);
        compared += 1;
    }
    assert!(compared >= 20, "{compared} answers compared");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever hyper does not take of what we take, or reads otherwise, is in the list: marks in the target.
    #[test]
    fn hyper_reads_the_same_or_more(bytes in nearly()) {
        other::check_against_hyper(&bytes);
    }
}
