//! Ports for things that must be told their port before they bind it.
//!
//! Asking the kernel for port 0, closing it and hoping is a race. Here a port is leased: a locked file below the
//! temporary directory stands for it as long as the [`Port`] lives, so that no two tests and no two test processes are
//! given the same one. The range lies below the kernel's ephemeral range, so outgoing connections do not take them.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A leased port. Dropping it gives it back.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lease: Flock<File>,
}

impl Port {
    /// Leases a port that nothing listens on.
    #[must_use]
    pub fn lease() -> Port {
        let dir = lease_dir();
        let span = u32::from(LAST - FIRST) + 1;
        let start = std::process::id().wrapping_mul(2_654_435_761) % span;
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + u16::try_from((start + step) % span).expect("within the range");
            let Ok(file) =
                OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(number.to_string()))
            else {
                continue;
            };
            let Ok(lease) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            // The lease keeps other tests away; the trial bind keeps us away from strangers.
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Port { number, _lease: lease };
            }
        }
        panic!("no free port between {FIRST} and {LAST}");
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

fn lease_dir() -> PathBuf {
    // Each user has a directory of their own: another's lock files could not be opened.
    let user = std::fs::metadata("/proc/self").expect("/proc").uid();
    let dir = std::env::temp_dir().join(format!("pillion-test-ports-{user}"));
    std::fs::create_dir_all(&dir).expect("create the directory of port leases");
    dir
}

/// Serialises the tests that load the machine, over all processes, for as long as the value lives.
///
/// Tests that measure time or memory, or that keep both cores busy, take it; all others run beside them.
#[must_use]
pub fn heavy() -> impl Drop {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lease_dir().join("heavy"))
        .expect("open the lock of the heavy tests");
    HeavyTurn(Some(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("lock")))
}

struct HeavyTurn(Option<Flock<File>>);

impl Drop for HeavyTurn {
    fn drop(&mut self) {
        self.0.take();
    }
}
