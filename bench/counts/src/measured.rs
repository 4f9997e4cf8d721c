//! What `cargo bench` left behind: a summary for each bench.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use counts::TIMES;
use serde::Deserialize;
use serde_json::Value;

/// The newest counts.
#[derive(Debug)]
pub struct Measured {
    /// What they were measured with.
    pub tools: Tools,
    /// Instructions of one operation, by the name of the bench.
    pub counts: BTreeMap<String, f64>,
}

/// Programs that the counts depend on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tools {
    /// As `rustc --version` says.
    pub rustc: String,
    /// As `valgrind --version` says.
    pub valgrind: String,
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.rustc, self.valgrind)
    }
}

impl Measured {
    /// Reads every summary below `dir`.
    pub fn load(dir: &Path) -> Result<Measured, String> {
        let tools = Tools { rustc: version("rustc")?, valgrind: version("valgrind")? };
        let mut counts = BTreeMap::new();
        gather(dir, &mut counts)?;
        if counts.is_empty() {
            return Err(format!("{}: no results; run `make counts`", dir.display()));
        }
        Ok(Measured { tools, counts })
    }
}

fn gather(dir: &Path, counts: &mut BTreeMap<String, f64>) -> Result<(), String> {
    let wrong = |error: &dyn fmt::Display| format!("{}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(|error| wrong(&error))? {
        let path = entry.map_err(|error| wrong(&error))?.path();
        if path.is_dir() {
            gather(&path, counts)?;
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            let text = fs::read_to_string(&path).map_err(|error| wrong(&error))?;
            let summary: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
            let (name, count) = read(&summary).ok_or_else(|| wrong(&"a summary of another form"))?;
            counts.insert(name, count);
        }
    }
    Ok(())
}

/// The name, without the binary's, and the instructions of one operation.
fn read(summary: &Value) -> Option<(String, f64)> {
    let path = summary["module_path"].as_str()?;
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let instructions = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
    Some((format!("{name}::{}", summary["id"].as_str()?), instructions.as_f64()? / f64::from(TIMES)))
}

fn version(program: &str) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output().map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
