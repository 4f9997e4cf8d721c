//! Lists that lie: emptied by mistake, poisoned, or left behind.

use pillion_tests::prelude::*;

/// Callees register in one registry; the test copies their records into the etcd that the caller watches, so that the
/// caller's list can be emptied without the callees putting themselves back.
fn copy_records(from: &Etcd, to: &Etcd) -> usize {
    let records = from.list("/pillion/services/payments/");
    for (key, value) in &records {
        to.put(key, value);
    }
    records.len()
}

#[test]
fn a_list_emptied_by_mistake_is_kept_as_suspect_until_probes_fail() {
    let (real, shown) = (Etcd::start(), Etcd::start());
    let mesh = Mesh::on_etcd(&real);
    let first = mesh.instance("payments", "p1");
    let mut second = mesh.instance("payments", "p2");
    until("both to be registered", Duration::from_secs(10), || {
        if copy_records(&real, &shown) == 2 { Ok(()) } else { Err(real.instances("payments")) }
    });
    let caller = Sidecar::builder("orders").registry(&shown.url()).identity(mesh.ca().issue("orders")).start();
    first_call(&caller, "payments");
    let all = [first.sidecar.inbound(), second.sidecar.inbound()];
    caller.wait_table("payments", Duration::from_secs(5), &all);
    let load = Load::gets(caller.outbound(), "payments", 4, Duration::from_millis(5));
    load.run_for(100, Duration::from_secs(10));

    assert_eq!(shown.delete_prefix("/pillion/services/payments/"), 2);
    until("both to be suspect", Duration::from_secs(5), || {
        let suspects = caller.metric("pillion_table_suspect_endpoints", &[]);
        if suspects == 2.0 { Ok(()) } else { Err(suspects) }
    });
    load.run_for(300, Duration::from_secs(10));

    // One of the two is really gone: calls find out, and it leaves.
    second.sidecar.kill();
    caller.wait_table("payments", Duration::from_secs(20), &all[..1]);
    load.run_for(100, Duration::from_secs(10));

    // The list comes back: no suspects any more.
    let records = real.list(&format!("/pillion/services/payments/1.0.0/{}", all[0]));
    for (key, value) in &records {
        shown.put(key, value);
    }
    until("nobody to be suspect", Duration::from_secs(10), || {
        let suspects = caller.metric("pillion_table_suspect_endpoints", &[]);
        if suspects == 0.0 { Ok(()) } else { Err(suspects) }
    });
    load.stop().assert_clean(500);
}

#[test]
fn an_instance_whose_record_was_deleted_puts_it_back() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (_caller, payments) = mesh.pair();
    let before = etcd.instances("payments");
    assert_eq!(etcd.delete_prefix("/pillion/services/payments/"), 1);
    until("the record to be back", Duration::from_secs(5), || {
        let there = etcd.instances("payments");
        if there == before { Ok(()) } else { Err(there) }
    });
    assert_eq!(payments.sidecar.metric("pillion_registered", &[]), 1.0);
}

#[test]
fn a_service_whose_name_begins_another_is_not_mixed_up_with_it() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let _pay = mesh.instance("pay", "pay-1");
    let _payments = mesh.instance("payments", "payments-1");
    let caller = mesh.caller("orders");
    first_call(&caller, "pay");
    first_call(&caller, "payments");
    for _ in 0..20 {
        assert_eq!(get(caller.outbound(), "pay", "/who").text(), "pay-1");
        assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1");
    }
}
