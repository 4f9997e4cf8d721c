//! The harness of the end-to-end suites: real binaries, a real etcd, small real apps, plain clients.
//!
//! Everything here treats the product as a black box, through the names that DESIGN.md section 2 fixes. The harness
//! blocks (threads, not futures) wherever it can: a test then reads as the story it tells. What it starts, it stops:
//! each process is killed on drop, each port is leased, each directory is temporary.

pub mod app;
pub mod binaries;
pub mod databases;
pub mod etcd;
pub mod frames;
pub mod grpc;
pub mod held;
pub mod http;
pub mod identity;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod outside;
pub mod pattern;
pub mod peer;
pub mod ports;
pub mod process;
pub mod rawapp;
pub mod registry_dir;
pub mod served;
pub mod sidecar;
pub mod thrift;
pub mod wait;
pub mod wire_peer;

/// What nearly every suite uses.
pub mod prelude {
    pub use crate::app::App;
    pub use crate::etcd::Etcd;
    pub use crate::http::{Conn, Request, Response, get, post};
    pub use crate::identity::Ca;
    pub use crate::load::Load;
    pub use crate::mesh::{Instance, Mesh, first_call};
    pub use crate::ports::Port;
    pub use crate::registry_dir::RegistryDir;
    pub use crate::sidecar::Sidecar;
    pub use crate::wait::{until, within};
    pub use std::net::SocketAddr;
    pub use std::time::{Duration, Instant};
}
