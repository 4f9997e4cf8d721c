//! What a sidecar believes of the services it calls. Pure: no clock, no disk, no registry.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, EndpointKey};
use crate::limits::{ENDPOINTS_PER_SERVICE, PROBE_SPACING, PROBES_TO_FORGET, SNAPSHOT_BYTES};
use crate::names::{InstanceId, ServiceName, Version, shown};
use crate::source::{Cause, Revision};

const SNAPSHOT_SCHEMA: u32 = 1;

/// All services that are followed. Immutable: each change gives a new one, which shares what did not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// By name.
    pub services: BTreeMap<ServiceName, Arc<ServiceTable>>,
    /// When the snapshot was saved that this table was loaded from; `None` for one that was not.
    pub saved: Option<SystemTime>,
    /// Failed probes of suspect entries.
    probes: BTreeMap<EndpointKey, Probes>,
}

/// Failed probes of one suspect, without a success between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probes {
    failed: u32,
    last: SystemTime,
}

/// What a failed probe came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It says nothing: no suspect, or too soon after the last one.
    Ignored,
    /// One more; the entry stays.
    Counted(Table),
    /// The last one: the entry is not in this table any more.
    Left(Table),
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTable {
    /// Its name.
    pub service: ServiceName,
    /// As of which revision of the registry.
    pub revision: Revision,
    /// When it was last heard of.
    pub updated: SystemTime,
    /// Whence it comes.
    pub from: Origin,
    /// Sorted by key, each key once.
    pub entries: Vec<Entry>,
}

/// Whence a service's list comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The registry told it to this very process.
    Registry,
    /// The snapshot of an earlier run.
    Disk,
}

/// One endpoint and what is thought of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What is thought of it.
    pub state: EntryState,
}

/// ```text
///   (listed) ──> Live ──── the list became empty, or the cluster is a new one ───> Suspect
///     │           ^ └── missing from a list that is not empty ──> (gone)             │ │
///     │           └──────────────────── listed again ────────────────────────────────┘ │
///     └── (gone) <── PROBES_TO_FORGET failed probes, or live ones again for `grace` ───┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// The registry lists it.
    Live,
    /// The registry lists it no more, in a way that may be the registry's own mishap: still called. Each attempt to connect
    /// is a probe.
    Suspect {
        /// Since when.
        since: SystemTime,
    },
}

impl ServiceTable {
    /// How many entries the registry lists.
    pub fn live(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state == EntryState::Live).count()
    }
}

impl Table {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is believed after the registry gave `list` for `service`.
    ///
    /// A list that shrinks but is not empty is believed: what is missing leaves at once. A list that becomes empty is not:
    /// all are kept as suspect. After [`Cause::NewCluster`] whatever is missing is kept as suspect, and so it is when a
    /// list is older than the snapshot that this table was loaded from. Suspects stay through later lists (see
    /// [`Table::expire`]), unless another endpoint stands at their address. What is listed is live.
    ///
    /// A list older than the one known is not looked at, but for [`Cause::NewCluster`]. Endpoints of other services in
    /// `list` are left out; of two with one key the one with the greater instance id counts, whatever their order.
    #[must_use]
    pub fn apply(
        &self,
        service: &ServiceName,
        list: Vec<Endpoint>,
        revision: Revision,
        cause: Cause,
        now: SystemTime,
    ) -> Table {
        let known = self.services.get(service);
        let older = known.is_some_and(|known| revision < known.revision);
        let from_disk = known.is_some_and(|known| known.from == Origin::Disk);
        if older && !from_disk && cause != Cause::NewCluster {
            return self.clone();
        }
        let listed = by_key(service, list);
        let keep_missing = listed.is_empty() || cause == Cause::NewCluster || older;

        let known_entries = known.map_or(&[][..], |known| &known.entries);
        let suspects = if known_entries.iter().all(|entry| listed.contains_key(&entry.endpoint.key)) {
            Vec::new()
        } else {
            suspects(known_entries, &listed, keep_missing, now)
        };

        let mut table = self.clone();
        // Counts of failed probes live only as long as their suspect does.
        let stays = |key: &EndpointKey| suspects.binary_search_by(|suspect| suspect.endpoint.key.cmp(key)).is_ok();
        table.probes.retain(|key, _| key.service != *service || stays(key));
        let live = listed.into_values().map(|endpoint| Entry { endpoint, state: EntryState::Live });
        let mut entries: Vec<Entry> = live.chain(suspects).collect();
        entries.sort_by(|a, b| a.endpoint.key.cmp(&b.endpoint.key));
        table.put(ServiceTable { service: service.clone(), revision, updated: now, from: Origin::Registry, entries });
        table
    }

    /// Without `service`.
    #[must_use]
    pub fn forget(&self, service: &ServiceName) -> Table {
        let mut table = self.clone();
        table.services.remove(service);
        table.probes.retain(|key, _| key.service != *service);
        table
    }

    /// A probe of `key` failed: a suspect leaves after [`PROBES_TO_FORGET`] of them, [`PROBE_SPACING`] apart. One that
    /// answered since the last of them, at `answered`, begins anew.
    #[must_use]
    pub fn probe_failed(&self, key: &EndpointKey, answered: Option<SystemTime>, now: SystemTime) -> Probed {
        let Some(known) = self.services.get(&key.service) else { return Probed::Ignored };
        let Ok(at) = known.entries.binary_search_by(|entry| entry.endpoint.key.cmp(key)) else {
            return Probed::Ignored;
        };
        if known.entries[at].state == EntryState::Live {
            return Probed::Ignored;
        }
        let before = self.probes.get(key);
        // With a clock that was set back it counts: rather one too many than a suspect that stays for ever.
        if before.is_some_and(|probes| now.duration_since(probes.last).is_ok_and(|gap| gap < PROBE_SPACING)) {
            return Probed::Ignored;
        }
        let in_a_row = before.filter(|probes| answered.is_none_or(|answered| answered <= probes.last));
        let failed = in_a_row.map_or(0, |probes| probes.failed) + 1;
        let mut table = self.clone();
        if failed < PROBES_TO_FORGET {
            table.probes.insert(key.clone(), Probes { failed, last: now });
            return Probed::Counted(table);
        }
        table.probes.remove(key);
        let mut service = ServiceTable::clone(known);
        service.entries.remove(at);
        service.updated = service.updated.max(now);
        table.put(service);
        Probed::Left(table)
    }

    /// Lets the suspects go whose service has live entries again, and that have been suspect for `grace`. `None`: nothing
    /// changed.
    #[must_use]
    pub fn expire(&self, now: SystemTime, grace: Duration) -> Option<Table> {
        let over = |entry: &Entry| match entry.state {
            EntryState::Live => false,
            // A clock that was set back makes them stay longer, never leave sooner.
            EntryState::Suspect { since } => now.duration_since(since).is_ok_and(|age| age >= grace),
        };
        let mut table: Option<Table> = None;
        for known in self.services.values() {
            if known.live() == 0 || !known.entries.iter().any(over) {
                continue;
            }
            let table = table.get_or_insert_with(|| self.clone());
            let mut service = ServiceTable::clone(known);
            service.entries.retain(|entry| {
                let leaves = over(entry);
                if leaves {
                    table.probes.remove(&entry.endpoint.key);
                }
                !leaves
            });
            table.put(service);
        }
        table
    }

    fn put(&mut self, service: ServiceTable) {
        self.services.insert(service.service.clone(), Arc::new(service));
    }

    /// The snapshot for the disk, saying that it was saved at `saved`.
    pub fn to_json(&self, saved: SystemTime) -> Vec<u8> {
        let services = self.services.values().map(|known| SavedService {
            service: known.service.clone(),
            revision: known.revision,
            updated_ms: to_ms(known.updated),
            endpoints: known.entries.iter().map(SavedEndpoint::from).collect(),
        });
        let saved = Saved { schema: SNAPSHOT_SCHEMA, saved_ms: to_ms(saved), services: services.collect() };
        serde_json::to_vec(&saved).expect("strings, numbers and string maps always have a JSON form")
    }

    /// Reads a snapshot: entries as they stood, live or suspect, from disk, as old as their service's `updated` says.
    ///
    /// # Errors
    /// When it is too large, not a snapshot, of an unknown schema, or any part of it breaks its limits.
    pub fn from_json(json: &[u8]) -> Result<Table, SnapshotError> {
        if json.len() > SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge);
        }
        let corrupt = |e: serde_json::Error| SnapshotError::Corrupt(shown(&e.to_string()));
        let SavedSchema { schema } = serde_json::from_slice(json).map_err(corrupt)?;
        if schema != SNAPSHOT_SCHEMA {
            return Err(SnapshotError::Schema { found: schema });
        }
        let saved: Saved = serde_json::from_slice(json).map_err(corrupt)?;
        let mut table = Table { saved: Some(from_ms(saved.saved_ms)), ..Table::default() };
        for known in saved.services {
            if known.endpoints.len() > ENDPOINTS_PER_SERVICE || table.services.contains_key(&known.service) {
                return Err(SnapshotError::Corrupt(format!("service {} is twice or too large", known.service)));
            }
            let mut suspect = BTreeMap::new();
            let mut endpoints = Vec::with_capacity(known.endpoints.len());
            for saved in known.endpoints {
                let since = saved.suspect_since_ms;
                let endpoint = saved.into_endpoint(&known.service);
                if let Some(since) = since {
                    suspect.insert(endpoint.key.clone(), from_ms(since));
                }
                endpoints.push(endpoint);
            }
            for endpoint in &endpoints {
                endpoint.check().map_err(|e| SnapshotError::Corrupt(format!("{}: {e}", endpoint.key)))?;
            }
            let entries = by_key(&known.service, endpoints)
                .into_values()
                .map(|endpoint| {
                    let since = suspect.get(&endpoint.key).copied();
                    let state = since.map_or(EntryState::Live, |since| EntryState::Suspect { since });
                    Entry { endpoint, state }
                })
                .collect();
            table.put(ServiceTable {
                service: known.service,
                revision: known.revision,
                updated: from_ms(known.updated_ms),
                from: Origin::Disk,
                entries,
            });
        }
        Ok(table)
    }
}

fn by_key(service: &ServiceName, list: Vec<Endpoint>) -> BTreeMap<EndpointKey, Endpoint> {
    let mut by_key = BTreeMap::new();
    for endpoint in list {
        if endpoint.key.service != *service {
            continue;
        }
        match by_key.entry(endpoint.key.clone()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(endpoint);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                if place.get().instance < endpoint.instance {
                    place.insert(endpoint);
                }
            }
        }
    }
    by_key
}

/// The entries that stay though they are not listed.
fn suspects(
    known: &[Entry],
    listed: &BTreeMap<EndpointKey, Endpoint>,
    keep_missing: bool,
    now: SystemTime,
) -> Vec<Entry> {
    let taken: std::collections::BTreeSet<SocketAddr> = listed.keys().map(|key| key.address).collect();
    let mut suspects: Vec<Entry> = known
        .iter()
        .filter(|entry| !listed.contains_key(&entry.endpoint.key) && !taken.contains(&entry.endpoint.key.address))
        .filter_map(|entry| match entry.state {
            EntryState::Suspect { .. } => Some(entry.clone()),
            EntryState::Live if keep_missing => {
                Some(Entry { endpoint: entry.endpoint.clone(), state: EntryState::Suspect { since: now } })
            }
            EntryState::Live => None,
        })
        .collect();
    // However often a registry empties itself, the table stays bounded: the longest suspect leave first.
    let room = ENDPOINTS_PER_SERVICE.saturating_sub(listed.len());
    if suspects.len() > room {
        suspects.sort_by_key(|entry| match entry.state {
            EntryState::Suspect { since } => std::cmp::Reverse(since),
            EntryState::Live => std::cmp::Reverse(now),
        });
        suspects.truncate(room);
    }
    suspects.sort_by(|a, b| a.endpoint.key.cmp(&b.endpoint.key));
    suspects
}

/// Why a snapshot cannot be used.
#[derive(Debug)]
pub enum SnapshotError {
    /// The file cannot be read.
    Io(std::io::Error),
    /// It is longer than [`SNAPSHOT_BYTES`].
    TooLarge,
    /// It is not a snapshot, or damaged.
    Corrupt(String),
    /// It is of a schema that this version does not know.
    Schema {
        /// The number found.
        found: u32,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(error) => write!(f, "the snapshot cannot be read: {error}"),
            SnapshotError::TooLarge => write!(f, "the snapshot is longer than {SNAPSHOT_BYTES} bytes"),
            SnapshotError::Corrupt(reason) => write!(f, "the snapshot is damaged: {reason}"),
            SnapshotError::Schema { found } => {
                write!(f, "the snapshot has schema {found}: this version reads schema {SNAPSHOT_SCHEMA}")
            }
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Io(error) => Some(error),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct SavedSchema {
    schema: u32,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    schema: u32,
    saved_ms: u64,
    services: Vec<SavedService>,
}

#[derive(Serialize, Deserialize)]
struct SavedService {
    service: ServiceName,
    revision: Revision,
    updated_ms: u64,
    endpoints: Vec<SavedEndpoint>,
}

#[derive(Serialize, Deserialize)]
struct SavedEndpoint {
    version: Version,
    address: SocketAddr,
    instance: InstanceId,
    secure: bool,
    protocol: String,
    weight: u32,
    metadata: BTreeMap<String, String>,
    /// Not there for a live one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspect_since_ms: Option<u64>,
}

impl From<&Entry> for SavedEndpoint {
    fn from(Entry { endpoint, state }: &Entry) -> Self {
        SavedEndpoint {
            suspect_since_ms: match state {
                EntryState::Live => None,
                EntryState::Suspect { since } => Some(to_ms(*since)),
            },
            version: endpoint.key.version.clone(),
            address: endpoint.key.address,
            instance: endpoint.instance.clone(),
            secure: endpoint.secure,
            protocol: endpoint.protocol.clone(),
            weight: endpoint.weight,
            metadata: endpoint.metadata.clone(),
        }
    }
}

impl SavedEndpoint {
    fn into_endpoint(self, service: &ServiceName) -> Endpoint {
        Endpoint {
            key: EndpointKey { service: service.clone(), version: self.version, address: self.address },
            instance: self.instance,
            secure: self.secure,
            protocol: self.protocol,
            weight: self.weight,
            metadata: self.metadata,
        }
    }
}

fn to_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A damaged number must not make a time that the arithmetic of others panics on: the year 2500 is far enough.
fn from_ms(ms: u64) -> SystemTime {
    const YEAR_2500_MS: u64 = 16_725_225_600_000;
    UNIX_EPOCH + Duration::from_millis(ms.min(YEAR_2500_MS))
}
