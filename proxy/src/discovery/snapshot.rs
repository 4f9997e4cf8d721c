//! The immutable view of one moment: which services are known, with their endpoints prepared for picking.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ahash::AHashMap;
use registry::{EndpointKey, EntryState, Origin, ServiceName, ServiceTable, Table, Version};
use serde_json::{Value, json};

use crate::balance::EndpointState;
use crate::clock;
use crate::metrics::{CallMetrics, Direction, Metrics};

/// The `service` label of calls to services that nobody has ever registered.
pub const UNKNOWN: &str = "unknown";

/// Table and prepared endpoints together: they change in one swap.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What the registry said.
    pub table: Table,
    services: AHashMap<ServiceName, Arc<Service>>,
}

/// One service, ready for calls.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The registry's revision of this list.
    pub revision: u64,
    /// Handles of its call metrics.
    pub calls: CallMetrics,
    endpoints: Vec<Arc<EndpointState>>,
    versions: Vec<(Version, Vec<Arc<EndpointState>>)>,
    used_at: Arc<AtomicU64>,
    seen: bool,
}

impl Snapshot {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The endpoint of that key.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<&Arc<EndpointState>> {
        let endpoints = &self.services.get(&key.service)?.endpoints;
        let index = endpoints.binary_search_by(|state| state.record.key.cmp(key)).ok()?;
        Some(&endpoints[index])
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// For `/table`: every service with its endpoints, their standing and what is known of them.
    pub fn to_json(&self) -> Value {
        let services: Vec<Value> = self.table.services.values().map(|list| self.service_json(list)).collect();
        json!({ "services": services })
    }

    fn service_json(&self, list: &ServiceTable) -> Value {
        let age = list.updated.elapsed().unwrap_or_default().as_secs_f64();
        let states = self.services.get(&list.service);
        let endpoints: Vec<Value> = list
            .entries
            .iter()
            .map(|entry| {
                let state = states.and_then(|service| service.find(&entry.endpoint));
                json!({
                    "address": entry.endpoint.key.address.to_string(),
                    "version": entry.endpoint.key.version.as_str(),
                    "instance": entry.endpoint.instance.as_str(),
                    "secure": entry.endpoint.secure,
                    "state": match entry.state { EntryState::Live => "live", EntryState::Suspect { .. } => "suspect" },
                    "in_flight": state.map(|state| state.in_flight()),
                    "latency_us": state.and_then(|state| state.latency_micros()).map(f64::round),
                    "available": state.map(|state| state.is_available(clock::micros(Instant::now()))),
                })
            })
            .collect();
        json!({
            "service": list.service.as_str(),
            "revision": list.revision,
            "age_seconds": age,
            "from": match list.from { Origin::Registry => "registry", Origin::Disk => "disk" },
            "endpoints": endpoints,
        })
    }

    /// The snapshot that follows from `table`. Services and endpoints that did not change are carried over with
    /// their load and health. `next_uid` numbers new endpoints.
    pub fn next(&self, table: Table, metrics: &Metrics, next_uid: &mut u64, now_micros: u64) -> Snapshot {
        let services = table
            .services
            .iter()
            .map(|(name, list)| {
                let known = self.services.get(name);
                let service = match (known, self.table.services.get(name)) {
                    (Some(known), Some(before)) if Arc::ptr_eq(before, list) => Arc::clone(known),
                    _ => Arc::new(Service::build(list, known.map(Arc::as_ref), metrics, next_uid, now_micros)),
                };
                (name.clone(), service)
            })
            .collect();
        Snapshot { table, services }
    }
}

impl Service {
    fn build(
        list: &ServiceTable,
        known: Option<&Service>,
        metrics: &Metrics,
        next_uid: &mut u64,
        now_micros: u64,
    ) -> Service {
        let endpoints: Vec<Arc<EndpointState>> = list
            .entries
            .iter()
            .map(|entry| {
                let suspect = !matches!(entry.state, EntryState::Live);
                let before = known.and_then(|service| service.find(&entry.endpoint));
                match before {
                    Some(state) if state.record == entry.endpoint && state.suspect == suspect => Arc::clone(state),
                    Some(state) => state.renew(entry.endpoint.clone(), suspect),
                    None => {
                        *next_uid += 1;
                        EndpointState::new(*next_uid, entry.endpoint.clone(), suspect)
                    }
                }
            })
            .collect();
        let mut versions: Vec<(Version, Vec<Arc<EndpointState>>)> = Vec::new();
        for endpoint in &endpoints {
            let version = &endpoint.record.key.version;
            match versions.iter_mut().find(|(known, _)| known == version) {
                Some((_, list)) => list.push(Arc::clone(endpoint)),
                None => versions.push((version.clone(), vec![Arc::clone(endpoint)])),
            }
        }
        let seen = !endpoints.is_empty() || known.is_some_and(|service| service.seen);
        Service {
            seen,
            name: list.service.clone(),
            revision: list.revision,
            // Labels come from services that exist: what strangers make up shares one set.
            calls: match known {
                Some(known) if known.seen || !seen => known.calls.clone(),
                _ => metrics.calls(Direction::Outbound, if seen { list.service.as_str() } else { UNKNOWN }, ""),
            },
            endpoints,
            versions,
            used_at: known.map_or_else(|| Arc::new(AtomicU64::new(now_micros)), |known| Arc::clone(&known.used_at)),
        }
    }

    /// The state of the same instance, if it is known. The list is sorted by key.
    fn find(&self, endpoint: &registry::Endpoint) -> Option<&Arc<EndpointState>> {
        let index = self.endpoints.binary_search_by(|state| state.record.key.cmp(&endpoint.key)).ok()?;
        Some(&self.endpoints[index]).filter(|state| state.record.instance == endpoint.instance)
    }

    /// The endpoints of `version`, or all.
    pub fn endpoints(&self, version: Option<&Version>) -> &[Arc<EndpointState>] {
        match version {
            None => &self.endpoints,
            Some(version) => {
                self.versions.iter().find(|(known, _)| known == version).map_or(&[], |(_, list)| list.as_slice())
            }
        }
    }

    /// No instance of it was ever listed since it is followed: nobody knows the name.
    pub fn is_unknown(&self) -> bool {
        !self.seen
    }

    /// Notes a call, so that a service in use is not dropped.
    pub fn touch(&self, now_micros: u64) {
        self.used_at.store(now_micros, Relaxed);
    }

    /// When it was last called, or first known.
    pub fn used_at(&self) -> u64 {
        self.used_at.load(Relaxed)
    }
}
