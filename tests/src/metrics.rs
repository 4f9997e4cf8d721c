//! The Prometheus text format, read as far as the tests need it.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    /// Reads the text format; comments and what does not parse are left out.
    #[must_use]
    pub fn parse(text: &str) -> Scrape {
        Scrape { samples: text.lines().filter_map(parse_line).collect() }
    }

    /// The sum over all samples of `name` whose labels contain `labels`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether a sample of that name and those labels is there at all.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// How many samples (series) there are.
    #[must_use]
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// All samples.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        })
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (head, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, "", value)
        }
    };
    let value = value.trim().parse().ok()?;
    let labels = labels
        .split("\",")
        .filter_map(|pair| {
            let (key, value) = pair.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect();
    Some(Sample { name: head.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_text_format() {
        let scrape =
            Scrape::parse("# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"p,q\"} 3\na{x=\"2\",y=\"\"} 4.5\nplain 7\n");
        assert_eq!(scrape.series(), 3);
        assert!((scrape.sum("a", &[]) - 7.5).abs() < 1e-9);
        assert!((scrape.sum("a", &[("y", "p,q")]) - 3.0).abs() < 1e-9);
        assert!((scrape.sum("plain", &[]) - 7.0).abs() < 1e-9);
        assert!(!scrape.has("a", &[("x", "3")]));
    }
}
