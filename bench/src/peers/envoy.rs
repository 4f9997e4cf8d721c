//! Envoy, as its own guides advise for speed: HTTP/2 with wide windows between A and B, the router filter alone, no access
//! log, circuit breakers out of the way. Statistics are at their default.

use super::side;
use crate::Result;
use crate::site::{self, Pair, Running, Site, Speaks};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const WINDOWS: &str = "{initial_stream_window_size: 1048576, initial_connection_window_size: 16777216}";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";

pub(super) fn start(site: &Site, binary: &Path, workers: usize, speaks: Speaks) -> Result<Pair> {
    let dir = site.subdirectory("envoy")?;
    let (door, between) = (site::free_port()?, site::free_port()?);
    let a = Side { listen: door, listen_tls: String::new(), forward: between, forward_tls: upstream_tls(site) };
    let app_protocol = if speaks == Speaks::H2c { http2_to_servers() } else { String::new() };
    let b = Side {
        listen: between,
        listen_tls: downstream_tls(site),
        forward: site.app_for(speaks),
        forward_tls: app_protocol,
    };
    let start = |name: &str, text: &str| -> Result<Running> {
        side(&dir, &format!("{name}.yaml"), text, |config| {
            let mut command = Command::new(binary);
            command.args(["--concurrency", &workers.to_string(), "--disable-hot-restart", "--log-level", "warning"]);
            command.arg("-c").arg(config);
            command
        })
    };
    let b = start("b", &b.config())?;
    let a = start("a", &a.config())?;
    Ok(Pair { door, h2c_door: Some(door), a, b })
}

struct Side {
    listen: SocketAddr,
    listen_tls: String,
    forward: SocketAddr,
    forward_tls: String,
}

impl Side {
    fn config(&self) -> String {
        let Side { listen, listen_tls, forward, forward_tls } = self;
        let address =
            |of: &SocketAddr| format!("{{socket_address: {{address: {}, port_value: {}}}}}", of.ip(), of.port());
        format!(
            "static_resources:
  listeners:
  - address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": {MANAGER}.HttpConnectionManager
          stat_prefix: calls
          http2_protocol_options: {WINDOWS}
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: next, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
{listen_tls}  clusters:
  - name: next
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}
    load_assignment:
      cluster_name: next
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {forward}}}
{forward_tls}",
            listen = address(listen),
            forward = address(forward),
        )
    }
}

fn downstream_tls(site: &Site) -> String {
    let identity = &site.callee;
    format!(
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": {TLS}.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {{tls_minimum_protocol_version: TLSv1_3}}
            tls_certificates:
            - certificate_chain: {{filename: {}}}
              private_key: {{filename: {}}}
            validation_context:
              trusted_ca: {{filename: {}}}
",
        identity.file("cert.pem"),
        identity.file("key.pem"),
        identity.file("ca.pem")
    )
}

fn http2_to_servers() -> String {
    format!(
        "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {WINDOWS}
"
    )
}

fn upstream_tls(site: &Site) -> String {
    let identity = &site.caller;
    format!(
        "{}    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": {TLS}.UpstreamTlsContext
        common_tls_context:
          alpn_protocols: [h2]
          tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
          tls_certificates:
          - certificate_chain: {{filename: {}}}
            private_key: {{filename: {}}}
          validation_context:
            trusted_ca: {{filename: {}}}
",
        http2_to_servers(),
        identity.file("cert.pem"),
        identity.file("key.pem"),
        identity.file("ca.pem")
    )
}
