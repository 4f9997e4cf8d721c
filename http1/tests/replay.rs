//! The corpus: what tries to be read in two ways, and how it is read here, however it arrives.

mod common;
mod corpus;

use common::{Reading, Side, read};
use corpus::{Case, cases};

#[test]
fn requests_are_read_as_the_corpus_says() {
    let cases = cases(corpus::REQUESTS);
    assert!(cases.len() >= 170);
    check(&cases, |_| Side::Requests);
}

#[test]
fn responses_are_read_as_the_corpus_says() {
    check(&cases(corpus::RESPONSES), |case| Side::Responses(&case.methods));
}

fn check<'c>(cases: &'c [Case], side: impl Fn(&'c Case) -> Side<'c>) {
    let mut wrong = Vec::new();
    for case in cases {
        let whole = read(side(case), &case.bytes, &[usize::MAX]);
        for step in [1, 2, 3, 7, 64] {
            assert_eq!(read(side(case), &case.bytes, &[step]), whole, "{} in steps of {step}", case.name);
        }
        if !agrees(case, &whole) {
            let lines: Vec<_> = whole.lines().iter().map(|line| line.escape_ascii().to_string()).collect();
            wrong.push(format!("@ {}\n{}\n! {}", case.name, lines.join("\n"), whole.end.line()));
        }
    }
    assert!(wrong.is_empty(), "of {} cases {} are read otherwise:\n{}", cases.len(), wrong.len(), wrong.join("\n"));
}

fn agrees(case: &Case, reading: &Reading) -> bool {
    let has = |message: usize, field: &[u8]| {
        let fields = &reading.messages[message].fields;
        fields.iter().any(|(name, value)| [name.as_bytes(), b": ", value].concat() == field)
    };
    case.read == reading.lines()
        && case.end == reading.end.line()
        && case.fields.iter().all(|(message, field)| has(*message, field))
}
