//! Reading all records below a prefix, page by page, as of one revision.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, KvClient};

use super::failure::{Failure, within};
use crate::endpoint::{Endpoint, EndpointKey, RecordError};
use crate::keys;

/// Records in one page, as long as they are of the usual size.
const PAGE: i64 = 1_000;
/// For one page.
const PAGE_BOUND: Duration = Duration::from_secs(5);
/// A listing begins anew when the revision is compacted under it, at most so often.
const RESTARTS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) records: BTreeMap<EndpointKey, Record>,
    /// Keys and reasons.
    pub(super) rejected: Vec<(String, String)>,
    pub(super) revision: i64,
}

/// One record that parses.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) endpoint: Endpoint,
    /// The revision of the cluster in which it was written last.
    pub(super) written: i64,
}

/// Lists what begins with `below` (which ends in '/'), at most `limit` records; further ones are rejected.
pub(super) async fn list(kv: &mut KvClient, prefix: &str, below: &str, limit: usize) -> Result<Listing, Failure> {
    let mut restarts = 0;
    loop {
        match list_once(kv, prefix, below, limit).await {
            Err(Failure::Compacted) if restarts < RESTARTS => restarts += 1,
            done => return done,
        }
    }
}

async fn list_once(kv: &mut KvClient, prefix: &str, below: &str, limit: usize) -> Result<Listing, Failure> {
    let mut listing = Listing::default();
    let mut end = below.as_bytes().to_vec();
    // '/' + 1 is '0': all that begins with the prefix, and nothing else.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let mut from = below.as_bytes().to_vec();
    let mut page = PAGE;
    loop {
        // In the order of the keys by itself: asking for it would make etcd read the whole range for each page.
        let options = GetOptions::new().with_range(end.clone()).with_limit(page).with_revision(listing.revision);
        let answer = match within(PAGE_BOUND, "listing", kv.get(from.clone(), Some(options))).await {
            Ok(answer) => answer,
            Err(Failure::TooLarge) if page > 1 => {
                page = (page / 8).max(1);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if listing.revision == 0 {
            listing.revision = answer.header().map_or(0, |header| header.revision());
        }
        for record in answer.kvs() {
            let key = String::from_utf8_lossy(record.key()).into_owned();
            match parse(prefix, &key, record) {
                Ok(_) if listing.records.len() >= limit => {
                    listing.rejected.push((key, format!("more than {limit} endpoints")));
                }
                Ok(endpoint) => {
                    let written = record.mod_revision();
                    listing.records.insert(endpoint.key.clone(), Record { endpoint, written });
                }
                Err(error) => listing.rejected.push((key, error.to_string())),
            }
        }
        let Some(last) = answer.kvs().last().filter(|_| answer.more()) else { return Ok(listing) };
        if listing.rejected.len() > limit {
            return Err(Failure::Refused(format!("more than {limit} records that do not parse")));
        }
        from = last.key().to_vec();
        from.push(0);
    }
}

/// The record in `kv`, whose key as text is `key`.
pub(super) fn parse(prefix: &str, key: &str, kv: &KeyValue) -> Result<Endpoint, RecordError> {
    Endpoint::from_record(keys::parse_endpoint(prefix, key)?, kv.value())
}
