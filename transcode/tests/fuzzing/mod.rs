//! What the fuzz targets do (fuzz/fuzz_targets/transcode_*.rs). The seeds replay it as an ordinary test.

#![allow(dead_code, reason = "each binary uses its own part")]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use transcode::{Schema, Template};

/// The file descriptor set of `tests/proto/{file}`, by protoc.
pub fn descriptors(file: &str, more: &[&str]) -> Vec<u8> {
    // From whichever crate includes this file.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcode/tests/proto");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let set = dir.path().join("set");
    let mut protoc = Command::new("protoc");
    protoc.arg("-I").arg(&sources).arg("--descriptor_set_out").arg(&set).args(more).arg(file);
    assert!(protoc.status().expect("protoc runs").success(), "protoc takes {file}");
    std::fs::read(set).expect("what protoc wrote")
}

/// The services of `table.proto`.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::new(&descriptors("table.proto", &["--include_imports"]), "table").expect("a schema"))
}

/// Whatever JSON is sent: no panic; and what is taken comes out as JSON that means the same message.
pub fn json(data: &[u8]) {
    let route = schema().find("POST", "/table.Table/Echo").expect("the method");
    let Ok(message) = route.request(data) else { return };
    // Not all that is taken can be written: a mask's odd name, a text that is no type.
    let Ok(text) = route.answer(&message) else { return };
    let again = route.request(&text).expect("what was written is read");
    let text_again = route.answer(&again).expect("and written");
    let tree = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
    assert_eq!(tree(&text), tree(&text_again));
}

/// Whatever a target says, and whatever a template: no panic, and a method is found by its own path.
pub fn paths(data: &[u8]) {
    // The first line is a template, the second a verb, the third a target; the rest a body.
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (template, verb, target, body) = (line(), line(), line(), line());
    if let Ok(template) = template.parse::<Template>()
        && let Some(filled) = template.matches(target)
    {
        assert_eq!(filled.len(), template.fields().count());
    }
    if let Ok(route) = schema().find(verb, target) {
        assert!(schema().find("POST", &route.path()).is_ok_and(|same| same.path() == route.path()));
        if let Ok(message) = route.request(body.as_bytes()) {
            let _ = route.answer(&message);
        }
    }
}
