//! `static`: the endpoints of the config. Nothing changes, nothing is registered anywhere.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::endpoint::{Endpoint, EndpointKey};
use crate::limits::{FOLLOWED_SERVICES, LISTED_ENDPOINTS};
use crate::names::ServiceName;
use crate::source::{BoxFuture, Cause, Change, Options, RegistryError, Revision, Source};

/// The one revision there is.
const REVISION: Revision = 1;

pub(crate) struct FixedSource {
    /// Sorted by key.
    endpoints: Vec<Endpoint>,
    changes: mpsc::UnboundedSender<Change>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    followed: BTreeSet<ServiceName>,
    registered: Option<EndpointKey>,
}

impl FixedSource {
    pub(crate) fn open(options: Options, changes: mpsc::UnboundedSender<Change>) -> Result<Self, RegistryError> {
        let mut endpoints = options.static_endpoints;
        if endpoints.len() > LISTED_ENDPOINTS {
            return Err(RegistryError::TooMany { limit: LISTED_ENDPOINTS });
        }
        endpoints.sort_by(|a, b| a.key.cmp(&b.key));
        for endpoint in &endpoints {
            endpoint.check().map_err(|e| RegistryError::Invalid(format!("static endpoint {}: {e}", endpoint.key)))?;
        }
        if let Some(pair) = endpoints.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(RegistryError::Invalid(format!("static endpoint {} is there twice", pair[0].key)));
        }
        // A receiver that is gone is a sidecar that is shutting down.
        let _ = changes.send(Change::Connected);
        Ok(FixedSource { endpoints, changes, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is half done in the state when a thread panics: it is a set and a key.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    fn tell_list(&self, service: &ServiceName) {
        let list = self.endpoints.iter().filter(|endpoint| endpoint.key.service == *service).cloned().collect();
        self.tell(Change::Endpoints { service: service.clone(), list, revision: REVISION, cause: Cause::Listed });
    }
}

impl fmt::Debug for FixedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedSource").field("endpoints", &self.endpoints.len()).finish_non_exhaustive()
    }
}

impl Source for FixedSource {
    fn follow(&self, service: &ServiceName) {
        let mut state = self.state();
        if state.followed.len() >= FOLLOWED_SERVICES && !state.followed.contains(service) {
            tracing::warn!(%service, limit = FOLLOWED_SERVICES, "too many services are followed: this one is not");
            return;
        }
        // Told with the lock held: otherwise an `unfollow` in between could come before its list.
        if state.followed.insert(service.clone()) {
            self.tell_list(service);
        }
    }

    fn unfollow(&self, service: &ServiceName) {
        self.state().followed.remove(service);
    }

    /// There is nowhere to write to, and nobody needs it: the others have this endpoint in their configs.
    fn register(&self, endpoint: Endpoint) {
        let mut state = self.state();
        if let Err(error) = endpoint.check() {
            self.tell(Change::Unregistered { error: error.to_string() });
            return;
        }
        if state.registered.replace(endpoint.key.clone()).as_ref() != Some(&endpoint.key) {
            self.tell(Change::Registered { key: endpoint.key });
        }
    }

    fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(async {
            if self.state().registered.take().is_some() {
                self.tell(Change::Unregistered { error: "withdrawn".to_owned() });
            }
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>> {
        Box::pin(async { Ok(self.endpoints.clone()) })
    }

    fn reconcile(&self) {
        for service in &self.state().followed {
            self.tell_list(service);
        }
    }
}
