//! The table's rules: those of the mishaps by example, and what must always hold by property.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pillion_registry::limits::{PROBE_SPACING, PROBES_TO_FORGET};
use pillion_registry::{Cause, Endpoint, EndpointKey, Entry, EntryState, Origin, Probed, ServiceName, Table, keys};
use proptest::prelude::*;

fn pay() -> ServiceName {
    "pay".parse().expect("a name")
}

fn key(port: u16) -> EndpointKey {
    keys::parse_relative(&format!("pay/1.0.0/10.0.0.1:{port}")).expect("a key")
}

fn endpoint(port: u16, instance: u32) -> Endpoint {
    Endpoint::new(key(port), format!("i-{instance}").parse().expect("an id"))
}

fn list(ports: &[u16]) -> Vec<Endpoint> {
    ports.iter().map(|&port| endpoint(port, 0)).collect()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn entries(table: &Table) -> &[Entry] {
    table.services.get("pay").map_or(&[], |service| &service.entries)
}

fn ports(table: &Table, live: bool) -> Vec<u16> {
    let fits = |entry: &&Entry| (entry.state == EntryState::Live) == live;
    entries(table).iter().filter(fits).map(|entry| entry.endpoint.key.address.port()).collect()
}

/// Each case: lists with their causes, then who is live and who is suspect.
#[test]
fn the_rules_of_apply() {
    use Cause::{Listed, NewCluster, Watched};
    type Step<'a> = (&'a [u16], u64, Cause);
    type Case<'a> = (&'a str, &'a [Step<'a>], &'a [u16], &'a [u16]);
    let cases: &[Case<'_>] = &[
        ("the first list", &[(&[1, 2], 1, Listed)], &[1, 2], &[]),
        ("an empty first list", &[(&[], 1, Listed)], &[], &[]),
        ("one more", &[(&[1], 1, Listed), (&[1, 2], 2, Watched)], &[1, 2], &[]),
        ("one less leaves at once", &[(&[1, 2], 1, Listed), (&[2], 2, Watched)], &[2], &[]),
        ("all others", &[(&[1, 2], 1, Listed), (&[3], 2, Listed)], &[3], &[]),
        ("empty: all are kept", &[(&[1, 2], 1, Listed), (&[], 2, Watched)], &[], &[1, 2]),
        ("empty by listing too", &[(&[1, 2], 1, Listed), (&[], 2, Listed)], &[], &[1, 2]),
        ("empty twice", &[(&[1, 2], 1, Listed), (&[], 2, Watched), (&[], 3, Listed)], &[], &[1, 2]),
        ("one is back", &[(&[1, 2], 1, Listed), (&[], 2, Watched), (&[1], 3, Watched)], &[1], &[2]),
        ("all are back", &[(&[1, 2], 1, Listed), (&[], 2, Watched), (&[1, 2], 3, Watched)], &[1, 2], &[]),
        ("a new cluster, empty", &[(&[1, 2], 9, Listed), (&[], 1, NewCluster)], &[], &[1, 2]),
        ("a new cluster, half full", &[(&[1, 2], 9, Listed), (&[1], 3, NewCluster)], &[1], &[2]),
        (
            "a new cluster that fills",
            &[(&[1, 2], 9, Listed), (&[], 1, NewCluster), (&[1], 2, Watched), (&[1, 3], 3, Watched)],
            &[1, 3],
            &[2],
        ),
        ("an older list is not looked at", &[(&[1, 2], 5, Listed), (&[1], 4, Watched)], &[1, 2], &[]),
        ("the same revision is", &[(&[1, 2], 5, Listed), (&[1], 5, Listed)], &[1], &[]),
    ];
    for (name, steps, live, suspect) in cases {
        let mut table = Table::new();
        for (i, (listed, revision, cause)) in steps.iter().enumerate() {
            table = table.apply(&pay(), list(listed), *revision, *cause, at(i as u64));
        }
        assert_eq!(ports(&table, true), *live, "{name}: live");
        assert_eq!(ports(&table, false), *suspect, "{name}: suspect");
    }
}

#[test]
fn another_instance_at_the_same_address_takes_its_place() {
    let table = Table::new().apply(&pay(), vec![endpoint(1, 1), endpoint(2, 1)], 1, Cause::Listed, at(0));
    let table = table.apply(&pay(), Vec::new(), 2, Cause::Watched, at(1));
    let mut other_version = endpoint(2, 2);
    other_version.key.version = "2.0.0".parse().expect("a version");
    let table = table.apply(&pay(), vec![endpoint(1, 2), other_version.clone()], 3, Cause::Watched, at(2));
    let live: Vec<_> = entries(&table).iter().map(|entry| entry.endpoint.clone()).collect();
    assert_eq!(live, [endpoint(1, 2), other_version], "no suspect stays where another listens now");
}

#[test]
fn suspects_leave_after_failed_probes() {
    let table = Table::new().apply(&pay(), list(&[1, 2]), 1, Cause::Listed, at(0));
    assert_eq!(table.probe_failed(&key(1), None, at(1)), Probed::Ignored, "a live one does not");
    assert_eq!(table.probe_failed(&key(9), None, at(1)), Probed::Ignored, "nor an unknown one");
    let mut table = table.apply(&pay(), Vec::new(), 2, Cause::Watched, at(1));
    for second in 1..PROBES_TO_FORGET {
        table = counted(&table, None, 2 + u64::from(second));
        assert_eq!(ports(&table, false), [1, 2]);
    }
    // Live again, and suspect again: the count begins anew.
    table = table.apply(&pay(), list(&[1, 2]), 3, Cause::Watched, at(13));
    table = table.apply(&pay(), Vec::new(), 4, Cause::Watched, at(14));
    for second in 1..PROBES_TO_FORGET {
        table = counted(&table, None, 20 + u64::from(second));
    }
    assert_eq!(ports(&table, false), [1, 2]);
    let Probed::Left(table) = table.probe_failed(&key(1), None, at(40)) else { panic!("it stays") };
    assert_eq!(ports(&table, false), [2]);
    assert_eq!(table.probe_failed(&key(1), None, at(41)), Probed::Ignored);
}

/// A failed probe of the first endpoint that is counted, and after which it stays.
fn counted(table: &Table, answered: Option<u64>, second: u64) -> Table {
    match table.probe_failed(&key(1), answered.map(at), at(second)) {
        Probed::Counted(table) => table,
        other => panic!("at {second}: {other:?}"),
    }
}

#[test]
fn probes_that_fail_together_are_one_and_an_answer_forgives_them() {
    let table = Table::new().apply(&pay(), list(&[1, 2]), 1, Cause::Listed, at(0));
    let table = table.apply(&pay(), Vec::new(), 2, Cause::Watched, at(1));
    let table = counted(&table, None, 10);
    assert_eq!(table.probe_failed(&key(1), None, at(10)), Probed::Ignored, "of another worker, a moment later");
    assert_eq!(table.probe_failed(&key(1), None, at(10) + PROBE_SPACING / 2), Probed::Ignored);
    let table = counted(&table, None, 12);
    // It would leave now, had it not answered meanwhile.
    assert!(matches!(table.probe_failed(&key(1), None, at(20)), Probed::Left(_)));
    assert!(matches!(table.probe_failed(&key(1), Some(at(11)), at(20)), Probed::Left(_)), "before the last failure");
    let table = counted(&table, Some(15), 20);
    let table = counted(&table, Some(15), 30);
    assert!(matches!(table.probe_failed(&key(1), Some(at(15)), at(40)), Probed::Left(_)));
    assert!(
        matches!(table.probe_failed(&key(1), Some(at(15)), at(5)), Probed::Left(_)),
        "a clock set back holds nobody"
    );
}

#[test]
fn suspects_leave_after_the_grace_once_there_are_live_ones() {
    let grace = Duration::from_secs(60);
    let table = Table::new().apply(&pay(), list(&[1, 2]), 1, Cause::Listed, at(0));
    let table = table.apply(&pay(), Vec::new(), 2, Cause::Watched, at(10));
    assert_eq!(table.expire(at(10_000), grace), None, "never while there is nothing else");
    let table = table.apply(&pay(), list(&[3]), 3, Cause::Watched, at(20));
    assert_eq!(table.expire(at(69), grace), None);
    assert_eq!(table.expire(at(5), grace), None, "nor with a clock that was set back");
    let table = table.expire(at(70), grace).expect("they leave");
    assert_eq!((ports(&table, true), ports(&table, false)), (vec![3], vec![]));
    assert_eq!(table.expire(at(70), grace), None);
}

#[test]
fn a_table_from_disk_is_replaced_carefully() {
    let saved = Table::new().apply(&pay(), list(&[1, 2]), 500, Cause::Listed, at(0)).to_json(at(1));
    let table = Table::from_json(&saved).expect("a table");
    assert_eq!(table.saved, Some(at(1)));
    assert_eq!(table.services["pay"].from, Origin::Disk);
    assert_eq!(table.services["pay"].updated, at(0));
    let later = table.apply(&pay(), list(&[1]), 501, Cause::Listed, at(2));
    assert_eq!((ports(&later, true), ports(&later, false)), (vec![1], vec![]), "the registry went on: it is believed");
    assert_eq!(later.services["pay"].from, Origin::Registry);
    let emptied = table.apply(&pay(), list(&[1]), 3, Cause::Listed, at(2));
    assert_eq!((ports(&emptied, true), ports(&emptied, false)), (vec![1], vec![2]), "it was emptied meanwhile");
}

#[test]
fn a_forgotten_service_is_gone_and_others_are_shared() {
    let orders: ServiceName = "orders".parse().expect("a name");
    let table = Table::new().apply(&pay(), list(&[1]), 1, Cause::Listed, at(0));
    let both = table.apply(&orders, Vec::new(), 1, Cause::Listed, at(0));
    assert!(std::sync::Arc::ptr_eq(&table.services["pay"], &both.services["pay"]));
    assert_eq!(both.forget(&orders), table);
    assert_eq!(both.forget(&pay()).services.len(), 1);
}

/// Ports and instances, revision and cause.
type Told = (Vec<(u16, u32)>, u64, Cause);

fn lists() -> impl Strategy<Value = Vec<Told>> {
    let cause = prop_oneof![Just(Cause::Listed), Just(Cause::Watched), Just(Cause::NewCluster)];
    let endpoints = proptest::collection::vec((1..12u16, 0..3u32), 0..8);
    proptest::collection::vec((endpoints, 1..40u64, cause), 1..12)
}

fn endpoints(of: &[(u16, u32)]) -> Vec<Endpoint> {
    of.iter().map(|&(port, instance)| endpoint(port, instance)).collect()
}

proptest! {
    #[test]
    fn the_order_within_a_list_does_not_matter(steps in lists(), seed in any::<u64>()) {
        let (mut one, mut two) = (Table::new(), Table::new());
        let mut rng = fastrand::Rng::with_seed(seed);
        for (i, (listed, revision, cause)) in steps.iter().enumerate() {
            let listed = endpoints(listed);
            let mut shuffled = listed.clone();
            rng.shuffle(&mut shuffled);
            one = one.apply(&pay(), listed, *revision, *cause, at(i as u64));
            two = two.apply(&pay(), shuffled, *revision, *cause, at(i as u64));
        }
        prop_assert_eq!(one, two);
    }

    #[test]
    fn lists_that_arrive_out_of_order_end_as_the_newest(mut revisions in proptest::collection::vec(1..1000u64, 1..8)) {
        // One list a revision, none empty, no new cluster: whatever the order, the newest one counts.
        let newest = revisions.iter().copied().max().unwrap_or(0);
        revisions.dedup();
        let mut table = Table::new();
        for &revision in &revisions {
            let port = u16::try_from(revision).expect("small");
            table = table.apply(&pay(), list(&[port]), revision, Cause::Watched, at(0));
        }
        prop_assert_eq!(ports(&table, true), vec![u16::try_from(newest).expect("small")]);
    }

    #[test]
    fn what_is_listed_is_live_and_nothing_else_is(steps in lists()) {
        let mut table = Table::new();
        for (i, (listed, revision, cause)) in steps.iter().enumerate() {
            let known = table.services.get("pay").map_or(0, |service| service.revision);
            let before = table.clone();
            table = table.apply(&pay(), endpoints(listed), *revision, *cause, at(i as u64));
            if *revision < known && *cause != Cause::NewCluster {
                prop_assert_eq!(&table, &before);
                continue;
            }
            let wanted: BTreeSet<u16> = listed.iter().map(|(port, _)| *port).collect();
            let live: BTreeSet<u16> = ports(&table, true).into_iter().collect();
            prop_assert_eq!(&live, &wanted);
            // Never is there nobody left where there was somebody.
            prop_assert!(entries(&before).is_empty() || !entries(&table).is_empty());
            // Of a new cluster nobody is missing.
            if *cause == Cause::NewCluster {
                for entry in entries(&before) {
                    prop_assert!(entries(&table).iter().any(|now| now.endpoint.key == entry.endpoint.key));
                }
            }
            // Sorted, each key once; each address once.
            prop_assert!(entries(&table).windows(2).all(|pair| pair[0].endpoint.key < pair[1].endpoint.key));
            prop_assert_eq!(table.services["pay"].revision, *revision);
        }
    }

    #[test]
    fn suspects_can_always_be_got_rid_of(steps in lists()) {
        let mut table = Table::new();
        for (i, (listed, revision, cause)) in steps.iter().enumerate() {
            table = table.apply(&pay(), endpoints(listed), *revision, *cause, at(i as u64));
        }
        for port in ports(&table, false) {
            for probe in 1..=PROBES_TO_FORGET {
                table = match table.probe_failed(&key(port), None, at(99 + u64::from(probe))) {
                    Probed::Counted(table) | Probed::Left(table) => table,
                    Probed::Ignored => panic!("it is a suspect"),
                };
            }
        }
        prop_assert_eq!(ports(&table, false), Vec::<u16>::new());
    }

    #[test]
    fn a_snapshot_round_trips(steps in lists()) {
        let mut table = Table::new();
        for (i, (listed, revision, cause)) in steps.iter().enumerate() {
            table = table.apply(&pay(), endpoints(listed), *revision, *cause, at(i as u64));
        }
        let loaded = Table::from_json(&table.to_json(at(50))).expect("a table");
        let (before, after) = (&table.services["pay"], &loaded.services["pay"]);
        prop_assert_eq!((before.revision, before.updated), (after.revision, after.updated));
        // A suspect is one still: a restart does not make the registry's mishap true.
        prop_assert_eq!(&before.entries, &after.entries);
    }

    #[test]
    fn garbage_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400usize, by in any::<u8>()) {
        let _ = Table::from_json(&bytes);
        let _ = Endpoint::from_record(key(1), &bytes);
        let _ = keys::parse_relative(&String::from_utf8_lossy(&bytes));
        // A good one with one byte changed.
        let mut json = Table::new().apply(&pay(), list(&[1, 2]), 1, Cause::Listed, UNIX_EPOCH).to_json(UNIX_EPOCH);
        let place = at % json.len();
        json[place] = by;
        if let Ok(table) = Table::from_json(&json) {
            let _ = table.expire(SystemTime::now(), Duration::MAX);
        }
        let mut record = endpoint(1, 1).to_json();
        let place = at % record.len();
        record[place] = by;
        if let Ok(read) = Endpoint::from_record(key(1), &record) {
            prop_assert_eq!(Endpoint::from_record(key(1), &read.to_json()), Ok(read));
        }
    }
}
