//! Who is measured: a file each, which writes the configuration of A and B and starts both.

mod envoy;
mod haproxy;
mod nginx;
pub(crate) mod pillion;

use crate::Result;
use crate::site::{self, Pair, Running, Site, Speaks};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is measured unless `--peers` says otherwise.
pub(crate) const DEFAULT: &[&str] = &["pillion", "nginx", "haproxy", "envoy"];
/// The pair that `--against` adds.
pub(crate) const BEFORE: &str = "before";

/// A proxy that can stand on both sides.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    binary: PathBuf,
    start: fn(&Site, &Path, usize, Speaks) -> Result<Pair>,
    version_flag: &'static str,
}

impl Peer {
    pub(crate) fn named(name: &str) -> Result<Peer> {
        Ok(match name {
            "pillion" => Peer::of_pillion("pillion", site::built("pillion")?),
            "nginx" => Peer { name: "nginx", binary: site::on_path("nginx"), start: nginx::start, version_flag: "-v" },
            "haproxy" => {
                Peer { name: "haproxy", binary: site::on_path("haproxy"), start: haproxy::start, version_flag: "-v" }
            }
            "haproxy-h1" => Peer {
                name: "haproxy-h1",
                binary: site::on_path("haproxy"),
                start: haproxy::start_with_http1_between,
                version_flag: "-v",
            },
            "envoy" => Peer {
                name: "envoy",
                binary: site::target()?.join("bench-tools/envoy/envoy/_bin/envoy"),
                start: envoy::start,
                version_flag: "--version",
            },
            _ => return Err(format!("no peer {name}: pillion, nginx, haproxy, haproxy-h1, envoy").into()),
        })
    }

    /// Another build of the sidecar, from its own directory.
    pub(crate) fn before(dir: &Path) -> Peer {
        Peer::of_pillion(BEFORE, dir.join("pillion"))
    }

    fn of_pillion(name: &'static str, binary: PathBuf) -> Peer {
        Peer { name, binary, start: pillion::start, version_flag: "--version" }
    }

    /// Our own sidecars are judged; everybody else is a peer to be judged against.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.name, "pillion" | BEFORE)
    }

    /// Starts A and B with this many workers each, and waits for the first answer.
    pub(crate) fn start(&self, site: &Site, workers: usize) -> Result<Pair> {
        self.start_for(site, workers, Speaks::Http1)
    }

    /// The same with a B that speaks this to the app.
    pub(crate) fn start_for(&self, site: &Site, workers: usize, speaks: Speaks) -> Result<Pair> {
        let failed = |error| format!("{} does not start: {error}", self.name);
        Ok((self.start)(site, &self.binary, workers, speaks).and_then(Pair::ready).map_err(failed)?)
    }

    /// What it says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        let output = Command::new(&self.binary)
            .arg(self.version_flag)
            .output()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let digits = |word: &&str| word.contains('.') && word.contains(|letter: char| letter.is_ascii_digit());
        let word = text.split([' ', '/', '\n']).find(digits).unwrap_or("of unknown version");
        Ok(format!("{} {word}", self.name))
    }
}

/// One side: its configuration, written to `DIR/SIDE.EXTENSION`, and the process that reads it.
fn side(dir: &Path, file: &str, text: &str, command: impl FnOnce(&Path) -> Command) -> Result<Running> {
    let path = dir.join(file);
    std::fs::write(&path, text)?;
    Running::spawn(command(&path), &path.with_extension("log"))
}
