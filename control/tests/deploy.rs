//! What `deploy/` says of metrics and variables exists: held against the pages that other tests hold against the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every word of `text` that begins with `prefix`.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    let known = words(&read("docs/metrics.md"), "pillion_");
    assert!(known.contains("pillion_calls_total"), "docs/metrics.md lists the metrics");
    for file in ["deploy/prometheus/alerts.yml", "deploy/prometheus/alerts_test.yml", "deploy/grafana/pillion.json"] {
        let used = words(&read(file), "pillion_");
        assert!(used.len() > 4, "{file} uses metrics: {used:?}");
        for name in used {
            let family = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(known.contains(family), "{file}: docs/metrics.md knows no {name}");
        }
    }
}

#[test]
fn the_dashboard_is_json_with_panels_of_their_own_ids() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/pillion.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{}", panel["title"]);
    }
}

#[test]
fn units_and_environment_use_variables_that_exist() {
    let known = words(&read("docs/configuration.md"), "PILLION_");
    for file in ["deploy/systemd/pillion@.service", "deploy/systemd/example.env"] {
        for name in words(&read(file), "PILLION_") {
            assert!(known.contains(&name), "{file}: docs/configuration.md knows no {name}");
        }
    }
}
