//! Reads a TOML file into the configuration. Goes on after an error, so that one reading names everything.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    codec::Kind,
    keys::{self, Entry, EntryList, KEYS, Key, LISTS},
    load::Origins,
    problem::{Lines, Place, Problem, nearest},
};

/// A file larger than this is not a configuration. Bytes.
pub(super) const FILE_BYTES: u64 = 1024 * 1024;

/// Entries of one list of tables.
const LIST_ENTRIES: usize = 10_000;

/// Problems named of one file.
const PROBLEMS: usize = 100;

/// Reads `text` into `config`; says where each value stood; appends what is wrong to `problems`.
pub(super) fn read(path: &Path, text: &str, config: &mut Config, problems: &mut Vec<Problem>) -> Origins {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    let mut reader =
        Reader { path: Arc::from(path), lines, problems, spots: Origins::default(), broken: BTreeSet::new() };
    let mut broken = BTreeSet::new();
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong(at, error.message().to_owned(), None);
        broken.insert(reader.lines.spot(at).line);
    }
    reader.broken = broken;
    reader.table(config, "", document.get_ref());
    reader.spots
}

struct Reader<'a> {
    path: Arc<Path>,
    lines: Lines<'a>,
    problems: &'a mut Vec<Problem>,
    spots: Origins,
    /// Lines that are not TOML. What was made out of them is no value, and with any of them unknown keys are passed
    /// over: they may be debris.
    broken: BTreeSet<usize>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::File(Arc::clone(&self.path), self.lines.spot(offset))
    }

    /// Whether so much is wrong that more would only scroll by.
    fn enough(&self) -> bool {
        self.problems.len() >= PROBLEMS
    }

    fn wrong(&mut self, offset: usize, message: String, meant: Option<String>) {
        if self.enough() {
            return;
        }
        let spot = self.lines.spot(offset);
        if !self.broken.contains(&spot.line) {
            let place = Place::File(Arc::clone(&self.path), spot);
            self.problems.push(Problem { place, message, meant });
        }
    }

    /// The top table (`section` is empty) or one section.
    fn table(&mut self, config: &mut Config, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let at = name.span().start;
            let name: &str = name.get_ref();
            let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            if let Some(key) = keys::find(&path) {
                self.spots.keys.insert(key.path, self.place(at));
                let before = self.problems.len();
                self.value(key, &path, value, config);
                if self.problems.len() > before {
                    self.spots.refused.insert(key.path);
                }
            } else if section.is_empty() && keys::sections().any(|known| known == name) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(config, name, inner),
                    other => {
                        let found = describe(other);
                        self.wrong(at, format!("`{name}` is a section, not {found}: write [{name}]"), None);
                    }
                }
            } else if let Some(list) = LISTS.iter().find(|list| section.is_empty() && list.name == name) {
                self.list(config, list, at, value.get_ref());
            } else {
                self.unknown(section, name, &path, at);
            }
        }
    }

    fn unknown(&mut self, section: &str, name: &str, path: &str, at: usize) {
        if self.enough() || !self.broken.is_empty() {
            return;
        }
        let siblings = KEYS.iter().filter(|key| key.section() == section).map(Key::name);
        let meant = if section.is_empty() {
            nearest(name, siblings.chain(keys::sections()).chain(LISTS.iter().map(|list| list.name))).map(str::to_owned)
        } else {
            nearest(name, siblings).map(|near| format!("{section}.{near}"))
        };
        // A right name in the wrong section.
        let meant = meant
            .or_else(|| KEYS.iter().find(|key| key.name() == name).map(|key| key.path.to_owned()))
            .or_else(|| nearest(path, KEYS.iter().map(|key| key.path)).map(str::to_owned));
        self.wrong(at, format!("unknown key `{path}`"), meant);
    }

    fn list(&mut self, config: &mut Config, list: &EntryList, at: usize, value: &DeValue<'_>) {
        let name = list.name;
        let DeValue::Array(entries) = value else {
            let found = describe(value);
            self.wrong(at, format!("`{name}` is a list of tables, not {found}: write [[{name}]]"), None);
            return;
        };
        if entries.len() > LIST_ENTRIES {
            self.wrong(at, format!("`{name}` has more than {LIST_ENTRIES} entries"), None);
            return;
        }
        for entry in entries {
            let start = entry.span().start;
            let DeValue::Table(table) = entry.get_ref() else {
                let found = describe(entry.get_ref());
                self.wrong(start, format!("an entry of `{name}` is a table, not {found}: write [[{name}]]"), None);
                continue;
            };
            self.entry(config, list, start, table);
        }
    }

    fn entry(&mut self, config: &mut Config, list: &EntryList, start: usize, table: &DeTable<'_>) {
        let before = self.problems.len();
        let mut draft = Entry::default();
        for (name, value) in table {
            let at = name.span().start;
            let name: &str = name.get_ref();
            let path = format!("{}.{name}", list.name);
            match list.keys.iter().find(|key| key.path == name) {
                Some(key) => self.value(key, &path, value, &mut draft),
                None if self.enough() || !self.broken.is_empty() => {}
                None => {
                    let meant = nearest(name, list.keys.iter().map(|key| key.path)).map(str::to_owned);
                    self.wrong(at, format!("unknown key `{path}`"), meant);
                }
            }
        }
        for required in list.required {
            if !table.iter().any(|(name, _)| name.get_ref() == required) {
                self.wrong(start, format!("this entry of [[{}]] lacks `{required}`", list.name), None);
            }
        }
        if self.problems.len() == before && (list.add)(config, draft).is_some() {
            let place = self.place(start);
            self.spots.entries.entry(list.name).or_default().push(place);
        }
    }

    /// Reads one value into its place in `target`.
    fn value<T>(&mut self, key: &Key<T>, path: &str, value: &Spanned<DeValue<'_>>, target: &mut T) {
        let at = value.span().start;
        let read = match (key.kind, value.get_ref()) {
            (Kind::Text | Kind::Duration | Kind::Size, DeValue::String(text)) => (key.set)(target, text),
            (Kind::Size | Kind::Integer, DeValue::Integer(number)) => {
                match u64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => (key.set)(target, &number.to_string()),
                    Err(_) => Err(format!("`{number}` is not a whole number from 0 on")),
                }
            }
            (Kind::Bool, DeValue::Boolean(on)) => (key.set)(target, if *on { "true" } else { "false" }),
            (Kind::List, DeValue::Array(items)) => {
                self.items(key, path, items.iter(), target);
                return;
            }
            (kind, other) => {
                let found = describe(other);
                Err(match kind {
                    Kind::Text => format!("a string in quotes is expected, not {found}"),
                    Kind::Duration => {
                        format!("a duration in quotes such as \"500ms\" or \"10s\" is expected, not {found}")
                    }
                    Kind::Size => format!("a size such as \"64KiB\" or a number of bytes is expected, not {found}"),
                    Kind::Integer => format!("a number is expected, not {found}"),
                    Kind::Bool => format!("true or false is expected, not {found}"),
                    Kind::List => format!("a list of strings such as [\"a\", \"b\"] is expected, not {found}"),
                })
            }
        };
        if let Err(message) = read {
            self.wrong(at, format!("{path}: {message}"), None);
        }
    }

    /// Reads a list of strings: each alone first, so that each wrong one is named where it stands.
    fn items<'v, T>(
        &mut self,
        key: &Key<T>,
        path: &str,
        items: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
        target: &mut T,
    ) {
        let mut texts: Vec<&str> = Vec::new();
        let mut fine = true;
        for item in items {
            let at = item.span().start;
            let read = match item.get_ref() {
                DeValue::String(text) if text.is_empty() || text.contains(',') => {
                    Err(format!("`{text}` is not one name"))
                }
                DeValue::String(text) => {
                    texts.push(text);
                    (key.set)(target, text)
                }
                other => Err(format!("a string in quotes is expected, not {}", describe(other))),
            };
            if let Err(message) = read {
                fine = false;
                self.wrong(at, format!("{path}: {message}"), None);
            }
        }
        if fine && let Err(message) = (key.set)(target, &texts.join(",")) {
            self.problems.push(Problem { place: Place::Nowhere, message: format!("{path}: {message}"), meant: None });
        }
    }
}

fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
