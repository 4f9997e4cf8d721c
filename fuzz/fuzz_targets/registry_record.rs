//! Whatever stands in the registry, at whatever key, or in the snapshot file: no panic, and what is accepted reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::{Endpoint, Table, keys};

fuzz_target!(|data: &[u8]| {
    // The first line is the key, the rest the record.
    let cut = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (key, record) = (String::from_utf8_lossy(&data[..cut]), data.get(cut + 1..).unwrap_or_default());
    if let Ok(key) = keys::parse_endpoint(keys::DEFAULT_PREFIX, &key) {
        assert_eq!(keys::parse_endpoint(keys::DEFAULT_PREFIX, &keys::endpoint(keys::DEFAULT_PREFIX, &key)), Ok(key));
    }
    let usual = keys::parse_relative("pay/1.0.0/10.0.0.7:4143").expect("a key");
    if let Ok(endpoint) = Endpoint::from_record(usual.clone(), record) {
        assert_eq!(endpoint.check(), Ok(()));
        assert_eq!(Endpoint::from_record(usual, &endpoint.to_json()), Ok(endpoint));
    }
    if let Ok(table) = Table::from_json(data) {
        let again = Table::from_json(&table.to_json(std::time::UNIX_EPOCH)).expect("what was read can be written");
        assert_eq!(again.services, table.services);
    }
    let _ = std::str::from_utf8(data).map(|text| text.parse::<registry::RegistryUrl>());
});
