//! Puts what was measured into docs/: the tables of performance.md between their marks, the configurations beside them.

use crate::Result;
use crate::peers;
use crate::report::Report;
use crate::site::Site;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "performance.md";

/// Where the repository has its documents.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs")
}

/// The directory for what the page shows or points at.
pub(crate) fn beside_page() -> PathBuf {
    docs().join("bench")
}

pub(crate) fn write(report: &Report, site: &Site) -> Result<()> {
    let page = docs().join(PAGE);
    let mut text = fs::read_to_string(&page)?;
    if !report.outcomes.is_empty() {
        text = replaced(&text, "bench", &report.tables())?;
        write_configs(&beside_page(), site)?;
    }
    if !report.curves.is_empty() {
        text = replaced(&text, "curves", &report.curve_tables())?;
    }
    Ok(fs::write(page, text)?)
}

/// `text` with `new` between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
fn replaced(text: &str, name: &str, new: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{PAGE} has no marks {begin} … {end}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", new.trim()))
}

/// The very files that the pairs were started with, but for this run's directory.
fn write_configs(dir: &Path, site: &Site) -> Result<()> {
    fs::create_dir_all(dir)?;
    for name in peers::DEFAULT {
        for file in fs::read_dir(site.first(name))? {
            let file = file?.path();
            let extension = file.extension().unwrap_or_default().to_string_lossy().into_owned();
            if ["toml", "conf", "cfg", "yaml"].contains(&extension.as_str()) {
                let side = file.file_stem().unwrap_or_default().to_string_lossy();
                let text = site.anonymous(&fs::read_to_string(&file)?);
                fs::write(dir.join(format!("{name}-{side}.{extension}")), text)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_marks_changes() {
        let text = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n";
        let new = replaced(text, "bench", "\nnew\n").expect("marks");
        assert_eq!(new, "a\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\nb\n");
        assert!(replaced(text, "curves", "new").is_err());
    }
}
