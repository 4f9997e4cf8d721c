//! Merges file, environment and flags: flags win over variables, variables over the file, the file over defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    io::Read,
    path::PathBuf,
};

use serde_json::{Map, Value as Json, json};

use super::{
    Config, check,
    file::{self, FILE_BYTES},
    keys::{KEYS, Key, LISTS},
    problem::{Lines, Place, Problem, Problems, nearest},
};

/// What the configuration is made of. Nothing else is read: not the process's environment, not its arguments.
#[derive(Debug, Default)]
pub struct Inputs {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables; only those that begin with `PILLION_` are looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags with their dashes, and their texts.
    pub flags: Vec<(&'static str, OsString)>,
    /// The command of wrapper mode.
    pub command: Vec<OsString>,
}

/// Variables that begin with `PILLION_` and are no keys: the file's path, and what wrapper mode tells the app.
pub const OTHER_VARIABLES: [&str; 3] = ["PILLION_CONFIG", "PILLION_OUTBOUND_URL", "PILLION_ADMIN_URL"];

/// The effective configuration, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What is odd but does not stop the start, a sentence each; to be logged.
    pub warnings: Vec<String>,
    origins: Origins,
}

/// Where values came from. What is not in here is a default.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    pub(super) keys: BTreeMap<&'static str, Place>,
    /// Keys that were given a value that was refused: rules over them would only add noise.
    pub(super) refused: BTreeSet<&'static str>,
    /// Of the entries of each list of tables, in order.
    pub(super) entries: BTreeMap<&'static str, Vec<Place>>,
}

impl Origins {
    /// Where to point for a problem with `key`.
    pub(super) fn place(&self, key: &str) -> Place {
        self.keys.get(key).cloned().unwrap_or(Place::Nowhere)
    }

    /// Where entry `index` of the list of tables `list` begins.
    pub(super) fn entry(&self, list: &str, index: usize) -> Place {
        self.entries.get(list).and_then(|places| places.get(index)).cloned().unwrap_or(Place::Nowhere)
    }

    pub(super) fn given(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }
}

/// Reads, merges and checks.
///
/// # Errors
/// Everything that is wrong, in the order of places.
pub fn load(inputs: Inputs) -> Result<Loaded, Problems> {
    let mut config = Config::default();
    let mut origins = Origins::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();

    if let Some(path) = &inputs.file {
        match read_file(path) {
            Ok(text) => {
                origins = file::read(path, &text, &mut config, &mut problems);
            }
            Err(problem) => problems.push(problem),
        }
    }
    environment(&inputs.environment, &mut config, &mut origins, &mut problems, &mut warnings);
    for (flag, text) in &inputs.flags {
        let Some(key) = KEYS.iter().find(|key| key.flag == Some(*flag)) else {
            problems.push(problem(Place::Flag(flag), "no such flag"));
            continue;
        };
        set(key, Place::Flag(flag), text, &mut config, &mut origins, &mut problems);
    }
    config.command = inputs.command;

    let before = problems.len();
    check::check(&config, &origins, &mut problems);
    if before > 0 {
        // What is missing may be what was misspelt: only contradictions between given values are named besides.
        let contradictions = problems.split_off(before).into_iter().filter(|problem| problem.place != Place::Nowhere);
        problems.extend(contradictions.collect::<Vec<_>>());
    }
    if problems.is_empty() {
        // From here on they are looked up; until here their places were those of the file.
        config.egress.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(Loaded { config, file: inputs.file, warnings, origins })
    } else {
        problems.sort();
        Err(Problems(problems))
    }
}

fn read_file(path: &std::path::Path) -> Result<String, Problem> {
    let wrong = |message: String| Problem { place: Place::WholeFile(path.to_owned()), message, meant: None };
    let file = File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(wrong(format!("is larger than {FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let place = Place::File(path.into(), Lines::of(&text).spot(good));
        Problem { place, message: "is not UTF-8".to_owned(), meant: None }
    })
}

fn environment(
    variables: &[(OsString, OsString)],
    config: &mut Config,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    let known: Vec<(String, &Key<Config>)> = KEYS.iter().map(|key| (key.variable(), key)).collect();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("PILLION_")) else {
            continue;
        };
        if let Some((_, key)) = known.iter().find(|(variable, _)| variable == name) {
            // Set but empty is how compose files and unit files say 'not set'.
            if !text.is_empty() {
                set(key, Place::Variable(name.to_owned()), text, config, origins, problems);
            }
        } else if !OTHER_VARIABLES.contains(&name) {
            // Only a warning: Kubernetes sets PILLION_PORT and the like for any service called `pillion`.
            let meant = nearest(name, known.iter().map(|(variable, _)| variable.as_str()))
                .map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
            warnings.push(format!("variable {name} is not known and was ignored{meant}"));
        }
    }
}

fn set(
    key: &Key<Config>,
    place: Place,
    text: &OsString,
    config: &mut Config,
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) {
    let read = match text.to_str() {
        Some(text) => (key.set)(config, text),
        None => Err("is not UTF-8".to_owned()),
    };
    if let Err(message) = read {
        origins.refused.insert(key.path);
        problems.push(problem(place.clone(), &message));
    }
    origins.keys.insert(key.path, place);
}

fn problem(place: Place, message: &str) -> Problem {
    Problem { place, message: message.to_owned(), meant: None }
}

impl Loaded {
    /// What `/config` shows: every effective value in the shape of the file, and where each came from. Secrets are
    /// masked: passwords in the registry's URL; all others are files, of which only the path is known here.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut top = Map::new();
        let mut sources = Map::new();
        for key in KEYS {
            let value = (key.show)(&self.config).unwrap_or(Json::Null);
            let table = match key.section() {
                "" => &mut top,
                section => match top.entry(section).or_insert_with(|| json!({})) {
                    Json::Object(table) => table,
                    _ => continue,
                },
            };
            table.insert(key.name().to_owned(), value);
            let source = self.origins.keys.get(key.path).map_or_else(|| "default".to_owned(), ToString::to_string);
            sources.insert(key.path.to_owned(), Json::String(source));
        }
        let doors = self.config.outbound.iter().map(|door| {
            json!({
                "listen": door.listen.to_string(),
                "service": door.service.to_string(),
                "version": door.version.as_ref().map(ToString::to_string),
                "protocol": door.protocol.to_string(),
            })
        });
        let egress = self.config.egress.iter().map(|egress| {
            json!({
                "host": egress.host,
                "port": egress.port,
                "address": egress.address.map(|address| address.to_string()),
                "tls": egress.tls,
                "ca": egress.ca,
                "http2": egress.http2,
            })
        });
        let endpoints = self.config.endpoint.iter().map(|endpoint| {
            json!({
                "service": endpoint.service.to_string(),
                "version": endpoint.version.to_string(),
                "address": endpoint.address.to_string(),
            })
        });
        for (list, entries) in LISTS.iter().zip([doors.collect(), egress.collect(), endpoints.collect()]) {
            top.insert(list.name.to_owned(), Json::Array(entries));
        }
        let command: Vec<Json> = self
            .config
            .command
            .first()
            .map(|word| Json::String(word.to_string_lossy().into_owned()))
            .into_iter()
            .collect();
        json!({
            "file": self.file.as_ref().map(|path| path.display().to_string()),
            // Its arguments may hold secrets.
            "command": command.first(),
            "config": top,
            "sources": sources,
        })
    }

    /// How many keys were given, by a file, a variable or a flag.
    #[must_use]
    pub fn given(&self) -> usize {
        self.origins.keys.len() + self.origins.entries.values().map(Vec::len).sum::<usize>()
    }
}

/// All keys as the documents and the help text must name them: (path, flag, variable).
#[cfg(test)]
pub fn all_keys() -> impl Iterator<Item = (&'static str, Option<&'static str>, String)> {
    KEYS.iter().map(|key| (key.path, key.flag, key.variable()))
}
