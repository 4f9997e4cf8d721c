//! What the sidecar and the operator's tool share of the registry.
//!
//! * The nouns: [`ServiceName`], [`Version`], [`InstanceId`], [`Endpoint`], and the [`keys`] they stand at.
//! * [`Table`]: what a sidecar believes, pure; [`save`] and [`load`] keep it on disk.
//! * [`Source`]: a registry that is followed and registered with: etcd, a directory, or a fixed list, by [`open`].
//!
//! `docs/registry.md` says what is written where, and what happens in each outage.

mod backoff;
mod desired;
mod disk;
mod endpoint;
mod etcd;
mod file;
mod fixed;
pub mod keys;
pub mod limits;
mod names;
mod rejected;
mod source;
mod table;
mod url;

pub use disk::{load, save};
pub use endpoint::{Endpoint, EndpointKey, RECORD_SCHEMA, RecordError};
pub use names::{InstanceId, NameError, ServiceName, Version};
pub use source::{BoxFuture, Cause, Change, EtcdOptions, Options, RegistryError, Reread, Revision, Source, open};
pub use table::{Entry, EntryState, Origin, Probed, ServiceTable, SnapshotError, Table};
pub use url::{RegistryUrl, Secret, UrlError};
