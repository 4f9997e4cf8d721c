//! The committed counts: a line for each, with the reason why it stands where it stands.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::measured::Tools;

const HEAD: &str = "\
# Instructions each, and why the number was last changed. Written by `make counts-baseline REASON='why'`; README.md says more.
";

/// `baseline.toml`.
#[derive(Debug, Deserialize)]
pub struct Baseline {
    /// What the counts were measured with.
    pub tools: Tools,
    /// By name.
    pub counts: BTreeMap<String, Count>,
}

/// One number.
#[derive(Debug, Deserialize)]
pub struct Count {
    /// Of one operation, on the average.
    pub instructions: f64,
    /// Why it stands where it stands.
    pub reason: String,
}

impl Baseline {
    /// Reads it.
    pub fn load(path: &Path) -> Result<Baseline, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes it.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let mut text = format!("{HEAD}\n[tools]\n");
        let Tools { rustc, valgrind } = &self.tools;
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let _ = writeln!(text, "rustc = {}\nvalgrind = {}\n\n[counts]", quoted(rustc), quoted(valgrind));
        for (name, Count { instructions, reason }) in &self.counts {
            let reason = quoted(reason);
            let _ = writeln!(text, "\"{name}\" = {{ instructions = {instructions:.1}, reason = {reason} }}");
        }
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}
