//! The one trait behind which etcd, file and static stand, and what they tell.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::endpoint::{Endpoint, EndpointKey};
use crate::limits::{LEASE_TTL_MAX, LEASE_TTL_MIN};
use crate::names::ServiceName;
use crate::url::RegistryUrl;

/// A future on the heap.
pub type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

/// The registry's own count of its changes: etcd's revision; for the other kinds a number that only grows.
pub type Revision = u64;

/// What all sources are told. `Debug` masks secrets.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long our record outlives us, 10 s. Renewed at a third of it.
    pub lease_ttl: Duration,
    /// How often every followed service is listed again, 10 min, give or take a quarter.
    pub reconcile: Duration,
    /// For `etcd://`.
    pub etcd: EtcdOptions,
    /// For `static`.
    pub static_endpoints: Vec<Endpoint>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lease_ttl: Duration::from_secs(10),
            reconcile: Duration::from_secs(600),
            etcd: EtcdOptions::default(),
            static_endpoints: Vec::new(),
        }
    }
}

/// How to log in to etcd. They win over what the URL says. `Debug` masks the password and the key.
#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// User name, for password authentication.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The authorities that etcd's certificate may come from. With it TLS is spoken, and without it never: those of the
    /// system are not trusted.
    pub ca_pem: Option<Vec<u8>>,
    /// Our own certificate chain, together with `key_pem` and `ca_pem`.
    pub cert_pem: Option<Vec<u8>>,
    /// The private key of `cert_pem`.
    pub key_pem: Option<Vec<u8>>,
    /// Gives all of this anew for each connection, for files may have been replaced. `None`: it stays as it is.
    pub reread: Option<Reread>,
}

/// Reads the options from wherever they stand. May block; an error leaves those of before in use.
pub type Reread = Arc<dyn Fn() -> Result<EtcdOptions, String> + Send + Sync>;

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = |there: bool| if there { "given" } else { "none" };
        f.debug_struct("EtcdOptions")
            .field("user", &self.user)
            .field("password", &given(self.password.is_some()))
            .field("ca_pem", &given(self.ca_pem.is_some()))
            .field("cert_pem", &given(self.cert_pem.is_some()))
            .field("key_pem", &given(self.key_pem.is_some()))
            .field("reread", &given(self.reread.is_some()))
            .finish()
    }
}

/// A registry as seen by one sidecar or tool. All methods return at once; the work goes on in tasks on the tokio runtime
/// in which [`open`] was called, and ends when the source is dropped.
pub trait Source: Send + Sync + fmt::Debug + 'static {
    /// Follows `service` from now on: [`Change::Endpoints`] comes once it is listed (with an empty list too) and whenever
    /// it changes. Following twice is following once.
    fn follow(&self, service: &ServiceName);

    /// No longer follows `service`; what was known of it is forgotten.
    fn unfollow(&self, service: &ServiceName);

    /// Keeps `endpoint` registered, put back when it is deleted, until [`Source::withdraw`]. One source registers one
    /// endpoint: another takes the place of the first.
    fn register(&self, endpoint: Endpoint);

    /// Takes our own record out, and only our own. Bounded in time; after an error the record lapses with its lease.
    fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// Everything, sorted by key, for tools: bounded in time and size, read in pages. Records that do not parse are
    /// left out and named by [`Change::Rejected`].
    fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>>;

    /// Lists every followed service again now; each answers with [`Cause::Listed`].
    fn reconcile(&self);
}

/// What a source tells.
#[derive(Debug, Clone)]
pub enum Change {
    /// The endpoints of a followed service: always the whole list, sorted by key. Bursts are gathered into one.
    Endpoints {
        /// The service.
        service: ServiceName,
        /// All its endpoints.
        list: Vec<Endpoint>,
        /// As of which revision.
        revision: Revision,
        /// How they were learnt.
        cause: Cause,
    },
    /// The registry is reached. Edges only.
    Connected,
    /// It is not reached any more, or not yet. Edges only; the source goes on trying.
    Disconnected {
        /// Why.
        error: String,
    },
    /// Our own record stands.
    Registered {
        /// Its key.
        key: EndpointKey,
    },
    /// Our own record does not stand any more, or cannot be put.
    Unregistered {
        /// Why.
        error: String,
    },
    /// A listing found records that the watch should have told otherwise, and put them right. Of etcd alone: a directory
    /// is always listed.
    Drifted {
        /// The service.
        service: ServiceName,
        /// How many.
        records: u64,
    },
    /// A record that does not parse: skipped and named; the rest of the list stands.
    Rejected {
        /// Its key as it stands in the registry, or the prefix that could not be read.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How a list was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// An event of the watch.
    Watched,
    /// A listing: the first one, or a later one that holds the watch to account.
    Listed,
    /// A listing of a registry that is not the one known before: it was emptied or restored (its revision went
    /// backwards, its cluster id or its marker changed). What is missing may only not have registered again yet.
    NewCluster,
}

/// Why a call of a [`Source`] failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryError {
    /// The options or the surroundings do not allow it; trying again does not help.
    Invalid(String),
    /// The registry is not reached, or does not answer.
    Unavailable(String),
    /// It answers no.
    Refused(String),
    /// The time for the call is over.
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// More than the limit.
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Invalid(reason) => f.write_str(reason),
            RegistryError::Unavailable(reason) => write!(f, "the registry is not reached: {reason}"),
            RegistryError::Refused(reason) => write!(f, "the registry refuses: {reason}"),
            RegistryError::Timeout { doing, after } => write!(f, "{doing}: no answer of the registry within {after:?}"),
            RegistryError::TooMany { limit } => write!(f, "more than {limit} endpoints are registered"),
        }
    }
}

impl std::error::Error for RegistryError {}

/// Opens the registry at `url`. `Ok` even when it is down: the source goes on trying, and says so through `changes`.
///
/// # Errors
/// When the options make no sense (a broken certificate, a lease outside its limits, a static endpoint that breaks its
/// limits), or outside a tokio runtime.
pub fn open(
    url: &RegistryUrl,
    options: Options,
    changes: mpsc::UnboundedSender<Change>,
) -> Result<Arc<dyn Source>, RegistryError> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(RegistryError::Invalid("a registry is opened inside a tokio runtime".to_owned()));
    }
    if options.lease_ttl < LEASE_TTL_MIN || options.lease_ttl > LEASE_TTL_MAX {
        return Err(RegistryError::Invalid(format!(
            "a lease of {:?}: it lasts {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}",
            options.lease_ttl
        )));
    }
    if options.reconcile.is_zero() {
        return Err(RegistryError::Invalid("reconcile: must be longer than nothing".to_owned()));
    }
    Ok(match url {
        RegistryUrl::Static => Arc::new(crate::fixed::FixedSource::open(options, changes)?),
        RegistryUrl::File { dir } => Arc::new(crate::file::FileSource::open(dir, options, changes)?),
        RegistryUrl::Etcd { endpoints, prefix, user, password, tls } => {
            let url = crate::etcd::Address { endpoints, prefix, user, password, tls: *tls };
            Arc::new(crate::etcd::EtcdSource::open(url, options, changes)?)
        }
    })
}
