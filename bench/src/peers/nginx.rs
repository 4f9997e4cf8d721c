//! nginx, tuned as its own guides advise: kept-alive upstream connections over HTTP/1.1 with no limit on their requests,
//! TLS sessions used again, no access log, no temporary files.

use super::side;
use crate::Result;
use crate::site::{self, Pair, Running, Site, Speaks};
use std::path::Path;
use std::process::Command;

/// Whatever is asked for, it speaks HTTP/1.1 to servers.
pub(super) fn start(site: &Site, binary: &Path, workers: usize, _speaks: Speaks) -> Result<Pair> {
    let dir = site.subdirectory("nginx")?;
    let (door, h2c_door, between) = (site::free_port()?, site::free_port()?, site::free_port()?);
    // `proxy_ssl_verify` wants a DNS name, and a SPIFFE id is none: A does not check who B is. B checks who A is.
    let a = format!(
        "upstream peer {{
        server {between};
        keepalive 256;
        keepalive_requests 100000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen {door};
        listen {h2c_door} http2;
        location / {{
            proxy_pass https://peer;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_certificate {};
            proxy_ssl_certificate_key {};
            proxy_ssl_session_reuse on;
        }}
    }}",
        site.caller.file("cert.pem"),
        site.caller.file("key.pem")
    );
    let b = format!(
        "upstream app {{
        server {};
        keepalive 256;
        keepalive_requests 100000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen {between} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_client_certificate {};
        ssl_verify_client on;
        ssl_session_cache shared:tls:10m;
        location / {{
            proxy_pass http://app;
        }}
    }}",
        site.app,
        site.callee.file("cert.pem"),
        site.callee.file("key.pem"),
        site.callee.file("ca.pem")
    );
    let start = |name: &str, http: &str| -> Result<Running> {
        side(&dir, &format!("{name}.conf"), &whole(&dir, name, workers, http), |config| {
            let mut command = Command::new(binary);
            command.arg("-p").arg(&dir).arg("-c").arg(config);
            command
        })
    };
    let b = start("b", &b)?;
    let a = start("a", &a)?;
    Ok(Pair { door, h2c_door: Some(h2c_door), a, b })
}

fn whole(dir: &Path, name: &str, workers: usize, http: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off;
worker_processes {workers};
pid {dir}/{name}.pid;
error_log {dir}/{name}.error.log warn;
events {{
    worker_connections 12000;
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $host;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {http}
}}
"
    )
}
