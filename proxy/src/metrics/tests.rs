use std::collections::BTreeSet;

use super::{families::FamilyKind, *};

#[test]
fn a_call_is_counted_timed_and_in_flight_only_while_it_lasts() {
    let metrics = Metrics::new();
    let calls = metrics.calls(Direction::Outbound, "payments", "");
    let guard = calls.started();
    let text = metrics.render().expect("render");
    let labels = "direction=\"outbound\",peer=\"\",service=\"payments\"";
    assert!(text.contains(&format!("pillion_calls_in_flight{{{labels}}} 1\n")), "{text}");
    drop(guard);
    calls.finished(Outcome::AppError, 0.003);
    calls.body_bytes(10, 20);
    let text = metrics.render().expect("render");
    for line in [
        format!("pillion_calls_in_flight{{{labels}}} 0\n"),
        "pillion_calls_total{direction=\"outbound\",outcome=\"app_error\",peer=\"\",service=\"payments\"} 1\n"
            .to_owned(),
        format!("pillion_call_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 0\n"),
        format!("pillion_call_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1\n"),
        "pillion_call_body_bytes_total{body=\"response\",direction=\"outbound\",peer=\"\",service=\"payments\"} 20\n"
            .to_owned(),
        "pillion_table_age_seconds NaN\n".to_owned(),
        format!("pillion_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_million_names_leave_the_series_flat() {
    let metrics = Metrics::new();
    let known = metrics.calls(Direction::Inbound, "orders", "web");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1_000_000 {
        let name = format!("{:x}", random.u64(..));
        metrics.calls(Direction::Outbound, &name, "").finished(Outcome::Local, 0.001);
    }
    known.finished(Outcome::Ok, 0.001);
    let text = metrics.render().expect("render");
    let services: BTreeSet<&str> =
        text.lines().filter(|line| line.starts_with("pillion_calls_total{direction=\"outbound\"")).collect();
    assert!(services.len() <= MAX_SERIES * Outcome::COUNT, "{} series", services.len());
    assert!(
        text.contains("pillion_calls_total{direction=\"inbound\",outcome=\"ok\",peer=\"web\",service=\"orders\"} 1\n")
    );
    let other = "pillion_calls_total{direction=\"outbound\",outcome=\"local\",peer=\"other\",service=\"other\"} ";
    let counted = text.lines().find_map(|line| line.strip_prefix(other)).expect("the set `other`");
    assert_eq!(counted.parse::<usize>().expect("a number"), 1_000_000 - (MAX_SERIES - 1));
}

#[test]
fn endpoints_per_service_are_replaced_and_bounded() {
    let metrics = Metrics::new();
    let names: Vec<String> = (0..MAX_SERIES + 3).map(|n| format!("s{n}")).collect();
    metrics.set_table_endpoints(names.iter().map(|name| (name.as_str(), 2)));
    let count = |text: &str| text.lines().filter(|line| line.starts_with("pillion_table_endpoints{")).count();
    let text = metrics.render().expect("render");
    assert_eq!(count(&text), MAX_SERIES + 1);
    assert!(text.contains("pillion_table_endpoints{service=\"other\"} 6\n"));
    metrics.set_table_endpoints([("one", 1)]);
    assert_eq!(count(&metrics.render().expect("render")), 1);
}

#[test]
fn process_figures_are_plausible() {
    let metrics = Metrics::new();
    let text = metrics.render().expect("render");
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect(name)
    };
    assert!(value("pillion_process_resident_memory_bytes") > 1e5);
    assert!(value("pillion_process_open_fds") >= 3.0);
    assert!(value("pillion_process_max_fds") >= value("pillion_process_open_fds"));
    assert!(value("pillion_process_threads") >= 1.0);
    assert!(value("pillion_process_start_time_seconds") > 1.6e9);
    assert!(value("pillion_process_cpu_seconds_total") >= 0.0);
}

#[test]
fn the_age_of_the_table_is_asked_at_each_render() {
    let metrics = Metrics::new();
    metrics.set_table_age_source(|| 12.5);
    assert!(metrics.render().expect("render").contains("pillion_table_age_seconds 12.5\n"));
}

/// docs/metrics.md has one table row a metric: name, type, labels, meaning.
#[test]
fn the_document_lists_every_metric_and_no_other() {
    let document = include_str!("../../../docs/metrics.md");
    let mut documented = BTreeSet::new();
    for line in document.lines().filter(|line| line.starts_with("| `pillion_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning] = cells[..] else { panic!("five cells are expected: {line}") };
        assert!(!unit.is_empty() && !meaning.is_empty(), "{line}");
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: Vec<String> = labels.filter(|label| !label.is_empty() && label != "–").collect();
        let new = documented.insert((name.trim_matches('`').to_owned(), kind.to_owned(), labels));
        assert!(new, "listed twice: {line}");
    }
    let metrics = Metrics::new();
    let made: BTreeSet<_> = metrics
        .families()
        .iter()
        .map(|family| {
            let labels: Vec<String> = family.labels.iter().map(|&label| label.to_owned()).collect();
            (family.name.to_owned(), family.kind.as_str().to_owned(), labels)
        })
        .collect();
    let missing: Vec<_> = made.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&made).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in docs: {missing:#?}\nonly in docs: {unknown:#?}");
}

#[test]
fn names_carry_their_unit_and_every_metric_has_a_help_text() {
    for family in Metrics::new().families() {
        assert!(family.name.starts_with("pillion_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == FamilyKind::Counter, "{}", family.name);
        assert!(family.help.ends_with('.'), "{}: {}", family.name, family.help);
    }
}
