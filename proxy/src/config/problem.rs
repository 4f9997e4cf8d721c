//! What is wrong with a configuration, and where: one line each, all of them at once.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A position in the file: both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Finds positions in a text.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Byte offsets at which lines begin.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The position of byte `offset`; behind the end: of the end.
    pub(super) fn spot(&self, offset: usize) -> Spot {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        // The first line begins at 0, so at least one begins at or before the offset.
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Spot { line, column: self.text[start..offset].chars().count() + 1 }
    }
}

/// Where a value came from, or a problem is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File(Arc<Path>, Spot),
    /// The file as a whole: unreadable, too large.
    WholeFile(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(&'static str),
    /// Nowhere: something is missing.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, spot) => write!(f, "{}:{}:{}", path.display(), spot.line, spot.column),
            Self::WholeFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
    /// The likely name or word, when one is near enough.
    pub meant: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.meant {
            Some(meant) => write!(f, ", did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The candidate nearest to `word`, when it is near enough to be meant: about a third of its letters may differ.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word longer than any key is no slip of one, and the distance costs the product of both lengths.
    const LONGEST_CHARS: usize = 64;
    if word.chars().count() > LONGEST_CHARS {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= ((candidate.chars().count() + 1) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_count_lines_and_characters_from_one() {
        let lines = Lines::of("a = 1\nbé = 2\n");
        assert_eq!(lines.spot(0), Spot { line: 1, column: 1 });
        assert_eq!(lines.spot(6), Spot { line: 2, column: 1 });
        assert_eq!(lines.spot(10), Spot { line: 2, column: 4 });
        assert_eq!(lines.spot(8), Spot { line: 2, column: 2 }, "inside é");
        assert_eq!(lines.spot(999), Spot { line: 3, column: 1 });
    }

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let keys = ["connect", "response", "app_connect", "drain"];
        let cases = [
            ("conect", Some("connect")),
            ("Connect", Some("connect")),
            ("app-connect", Some("app_connect")),
            ("respones", Some("response")),
            ("colour", None),
            ("", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), keys), None);
    }
}
