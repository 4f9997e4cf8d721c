//! haproxy, tuned as its own guides advise: connections to servers shared by all callers and kept. Between A and B it speaks
//! HTTP/2, which at 64 connections costs it half of what HTTP/1.1 does; `haproxy-h1` shows the other way. The windows are
//! at their default of 64 KiB: with 1 MiB downloads cost it no less, and small calls beside bulk waited five times as long.

use super::side;
use crate::Result;
use crate::site::{self, Pair, Running, Site, Speaks};
use std::path::Path;
use std::process::Command;

pub(super) fn start(site: &Site, binary: &Path, workers: usize, speaks: Speaks) -> Result<Pair> {
    start_with(site, binary, workers, speaks, " alpn h2")
}

pub(super) fn start_with_http1_between(site: &Site, binary: &Path, workers: usize, speaks: Speaks) -> Result<Pair> {
    start_with(site, binary, workers, speaks, "")
}

fn start_with(site: &Site, binary: &Path, workers: usize, speaks: Speaks, alpn: &str) -> Result<Pair> {
    let proto = if speaks == Speaks::H2c { " proto h2" } else { "" };
    let dir = site.subdirectory("haproxy")?;
    let (door, h2c_door, between) = (site::free_port()?, site::free_port()?, site::free_port()?);
    let (caller, callee) = (&site.caller, &site.callee);
    let a = format!(
        "frontend calls
    bind {door}
    bind {h2c_door} proto h2
    default_backend peer
backend peer
    server peer {between} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3{alpn} pool-max-conn -1 pool-purge-delay 300s
",
        caller.file("both.pem"),
        caller.file("ca.pem")
    );
    let b = format!(
        "frontend peers
    bind {between} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3{alpn}
    default_backend app
backend app
    server app {}{proto} pool-max-conn -1 pool-purge-delay 300s
",
        callee.file("both.pem"),
        callee.file("ca.pem"),
        site.app_for(speaks)
    );
    let start = |name: &str, proxies: &str| -> Result<Running> {
        side(&dir, &format!("{name}.cfg"), &(common(workers) + proxies), |config| {
            let mut command = Command::new(binary);
            command.arg("-db").arg("-f").arg(config);
            command
        })
    };
    let b = start("b", &b)?;
    let a = start("a", &a)?;
    Ok(Pair { door, h2c_door: Some(h2c_door), a, b })
}

/// `no strict-limits`: it counts two descriptors a connection, more than this machine may allow, and needs one.
fn common(workers: usize) -> String {
    format!(
        "global
    nbthread {workers}
    maxconn 12000
    no strict-limits
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
"
    )
}
