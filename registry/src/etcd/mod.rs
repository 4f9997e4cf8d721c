//! `etcd://h1:2379,h2:2379/prefix`.
//!
//! Three tasks: [`link`] keeps one connection, [`follow`] lists and watches over it, [`own`] keeps our own record. Each
//! row of the failures that etcd is known for has its answer in one of them; docs/registry.md lists them.

mod failure;
mod follow;
mod link;
mod listing;
mod own;
mod service;

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;

use self::link::{Link, Members};
use crate::desired::Control;
use crate::endpoint::Endpoint;
use crate::keys;
use crate::limits::LISTED_ENDPOINTS;
use crate::names::ServiceName;
use crate::rejected::rejections;
use crate::source::{BoxFuture, Change, Options, RegistryError, Source};
use crate::url::Secret;

/// How long `withdraw` takes at most.
const WITHDRAW_BOUND: Duration = Duration::from_secs(3);
/// How long `list` takes at most, the connecting included.
const LIST_BOUND: Duration = Duration::from_secs(15);

/// The parts of an etcd URL.
#[derive(Debug)]
pub(crate) struct Address<'a> {
    pub(crate) endpoints: &'a [String],
    pub(crate) prefix: &'a str,
    pub(crate) user: &'a Option<String>,
    pub(crate) password: &'a Option<Secret>,
    pub(crate) tls: bool,
}

pub(crate) struct EtcdSource {
    prefix: String,
    link: Link,
    control: Control,
}

impl EtcdSource {
    pub(crate) fn open(
        address: Address<'_>,
        options: Options,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Result<Self, RegistryError> {
        let members = Members::new(&address, &options.etcd)?;
        let (control, asked) = Control::new(changes.clone());
        let link = link::start(members, changes.clone());
        let prefix = address.prefix.to_owned();
        let desired = asked.desired.clone();
        tokio::spawn(follow::run(prefix.clone(), link.clone(), options.reconcile, desired, changes.clone()));
        tokio::spawn(own::run(prefix.clone(), link.clone(), options.lease_ttl, asked, changes));
        Ok(EtcdSource { prefix, link, control })
    }

    async fn list_all(&self) -> Result<Vec<Endpoint>, RegistryError> {
        let mut link = self.link.clone();
        let session = link.session.wait_for(Option::is_some).await;
        let session = session.ok().and_then(|session| session.clone());
        let session = session.ok_or_else(|| RegistryError::Unavailable("the source has ended".to_owned()))?;
        let below = keys::services(&self.prefix);
        let mut kv = session.client.kv_client();
        let listed = listing::list(&mut kv, &self.prefix, &below, LISTED_ENDPOINTS + 1).await;
        let listing = listed.map_err(|failure| {
            if let failure::Failure::Unreachable(error) = &failure {
                self.link.fail(&session, error);
            }
            RegistryError::from(failure)
        })?;
        if listing.records.len() > LISTED_ENDPOINTS {
            return Err(RegistryError::TooMany { limit: LISTED_ENDPOINTS });
        }
        for rejected in rejections(listing.rejected) {
            self.control.tell(rejected);
        }
        Ok(listing.records.into_values().map(|record| record.endpoint).collect())
    }
}

impl fmt::Debug for EtcdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSource").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Source for EtcdSource {
    fn follow(&self, service: &ServiceName) {
        self.control.follow(service);
    }

    fn unfollow(&self, service: &ServiceName) {
        self.control.unfollow(service);
    }

    fn register(&self, endpoint: Endpoint) {
        self.control.register(endpoint);
    }

    fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.control.withdraw(WITHDRAW_BOUND))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>> {
        Box::pin(async {
            let timeout = RegistryError::Timeout { doing: "listing", after: LIST_BOUND };
            tokio::time::timeout(LIST_BOUND, self.list_all()).await.unwrap_or(Err(timeout))
        })
    }

    fn reconcile(&self) {
        self.control.reconcile();
    }
}
