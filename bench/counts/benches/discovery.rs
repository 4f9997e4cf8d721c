//! The table: what the registry says becomes one, and a call finds its service in the snapshot.

use std::hint::black_box;
use std::time::SystemTime;

use counts::TIMES;
use gungraun::prelude::*;
use registry::{Cause, Endpoint, ServiceName, Table};

use crate::rig::Rig;

// An endpoint of a list that the registry tells for the first time, and of one that says nothing new.
#[library_benchmark]
#[bench::new(args = (), setup = nothing_known)]
#[bench::known(args = (), setup = all_known)]
fn endpoint_listed((table, service, list): (Table, ServiceName, Vec<Endpoint>)) -> (Table, Table) {
    let next = table.apply(&service, list, 2, Cause::Listed, SystemTime::UNIX_EPOCH);
    (table, next)
}

#[library_benchmark]
#[bench::of_100(args = (), setup = hundred_services)]
fn service_in_table(table: Table) -> Table {
    for _ in 0..TIMES {
        black_box(table.services.get(black_box("payments")));
    }
    table
}

// Load the snapshot, find the service, take its endpoints: what each call does.
#[library_benchmark]
#[bench::of_1(args = (), setup = Rig::bare_peer)]
fn service_in_snapshot(rig: Rig) -> Rig {
    let view = rig.caller().view();
    for _ in 0..TIMES {
        let snapshot = view.load();
        black_box(snapshot.service(black_box("payments")).map(|service| service.endpoints(None).len()));
    }
    rig
}

fn nothing_known() -> (Table, ServiceName, Vec<Endpoint>) {
    let list = (0..TIMES as u16).map(crate::balance::endpoint).collect();
    (Table::new(), "payments".parse().expect("a name"), list)
}

fn all_known() -> (Table, ServiceName, Vec<Endpoint>) {
    let (table, service, list) = nothing_known();
    (table.apply(&service, list.clone(), 1, Cause::Listed, SystemTime::UNIX_EPOCH), service, list)
}

fn hundred_services() -> Table {
    let mut table = Table::new();
    let names = (1..100).map(|number| format!("service-{number}")).chain(["payments".to_owned()]);
    for name in names {
        let service = name.parse().expect("a name");
        table = table.apply(&service, Vec::new(), 1, Cause::Listed, SystemTime::UNIX_EPOCH);
    }
    table
}

library_benchmark_group!(name = table, benchmarks = [endpoint_listed, service_in_table, service_in_snapshot]);
