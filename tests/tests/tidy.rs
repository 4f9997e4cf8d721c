//! The house keeps its own rules: imports go down only, the protocol does no IO, nothing is unsafe, and what the documents
//! name exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of proxy/src from the bottom to the top (STYLE: main → app → {ingress, admin} → dispatch → … →
/// {call, error, metrics, config}). A module may import from the rows above its own, which lie lower, and from itself.
const LEVELS: &[&[&str]] = &[
    &["clock", "error", "metrics", "config"],
    &["alarm", "call", "logging", "tls"],
    &["route", "balance", "admit", "edge"],
    &["record", "discovery"],
    &["upstream"],
    &["dispatch"],
    &["ingress", "admin"],
    &["worker", "wrapper"],
    &["drain"],
    &["app", "cli"],
    &["lib"],
    &["main"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// All files below `dir` with this ending, build results left out.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != "corpus" && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A source without its comment lines, and without the tests at its end (STYLE: tests last).
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// The top-level modules that a source names behind `crate::`, be it one path or a group in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (place, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                letter if at_start && depth == 0 && !letter.is_whitespace() => {
                    at_start = false;
                    found.insert(identifier(&group[place..]));
                }
                _ => {}
            }
        }
    }
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn imports_in_the_sidecar_go_down_only() {
    let level: BTreeMap<&str, usize> =
        LEVELS.iter().enumerate().flat_map(|(level, names)| names.iter().map(move |name| (*name, level))).collect();
    let source = root().join("proxy/src");
    let mut wrong = Vec::new();
    for path in files(&source, ".rs") {
        let inside = path.strip_prefix(&source).expect("below it");
        let first = inside.iter().next().expect("a name").to_string_lossy();
        let module = first.trim_end_matches(".rs");
        let Some(own) = level.get(module) else {
            wrong.push(format!("{}: '{module}' has no place in LEVELS of tests/tests/tidy.rs", shown(&path)));
            continue;
        };
        for import in imports(&code(&path)) {
            if import != module && level.get(import.as_str()).is_none_or(|other| other >= own) {
                wrong.push(format!("{}: '{module}' (level {own}) imports '{import}'", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "imports go down only:\n{}", wrong.join("\n"));
}

#[test]
fn the_protocol_does_no_io_and_reads_no_clock() {
    let manifest = read(&root().join("wire/Cargo.toml"));
    assert!(!manifest.contains("tokio"), "wire/ depends on no runtime");
    for path in files(&root().join("wire/src"), ".rs") {
        let code = code(&path);
        for word in ["std::net", "std::io::Read", "Instant::now", "SystemTime::now", "std::thread", "tokio"] {
            assert!(!code.contains(word), "{} uses {word}", shown(&path));
        }
    }
}

#[test]
fn what_counts_instructions_alone_knows_the_sidecar() {
    for path in files(root(), "Cargo.toml") {
        let manifest = read(&path);
        let knows = manifest.lines().any(|line| line.starts_with("pillion.workspace") || line.contains("../proxy\""));
        assert!(!knows || path.ends_with("bench/counts/Cargo.toml"), "{} depends on proxy/", shown(&path));
    }
}

#[test]
fn nothing_is_unsafe_and_nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for path in files(root(), ".rs") {
        if path.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        let text = read(&path);
        for word in ["unsafe {", "unsafe fn", "unsafe impl", "TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
            if text.contains(word) {
                wrong.push(format!("{}: {word}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read(&root().join("Cargo.toml")).contains("unsafe_code = \"forbid\""));
    for path in files(root(), "Cargo.toml") {
        let manifest = read(&path);
        if manifest.contains("[package]") && !path.starts_with(root().join("fuzz")) {
            assert!(manifest.contains("[lints]\nworkspace = true"), "{} takes the workspace's lints", shown(&path));
        }
    }
}

#[test]
fn the_catalogue_of_failures_names_tests_that_exist() {
    let text = read(&root().join("docs/pitfalls.md"));
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let Some((suite, test)) = word.split_once("::") else { continue };
        let path = root().join(format!("tests/tests/{suite}.rs"));
        if !path.exists() || test.contains(':') {
            continue; // a name of code, not of a test here
        }
        let there = read(&path).contains(&format!("fn {test}("));
        assert!(there, "docs/pitfalls.md names `{word}`, which is not in {}", shown(&path));
        named += 1;
    }
    assert!(named >= 40, "only {named} tests are named in docs/pitfalls.md");
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.contains("---")) {
        let last = line.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let header = last.trim() == "test";
        assert!(
            header || last.contains("::") || last.contains("not yet"),
            "this row has neither a test nor 'not yet': {line}"
        );
    }
}

#[test]
fn every_suite_is_in_the_list() {
    let list = read(&root().join("tests/tests/main.rs"));
    for path in files(&root().join("tests/tests"), ".rs") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let listed = list.contains(&format!("\nmod {name};"));
        assert!(listed || name == "main" || name == "tidy", "tests/tests/main.rs does not list {name}");
    }
}

#[test]
fn relative_links_in_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files(root(), ".md") {
        let text = read(&path);
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let foreign = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !foreign && !path.parent().expect("a file").join(target).exists() {
                broken.push(format!("{}: {target}", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn groups_and_paths_are_read_as_imports() {
    let names = imports("use crate::{\n a::{B, C},\n  d, E,\n};\nuse crate::f::G; let x = crate::h::i();");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "d", "f", "h"]);
}
