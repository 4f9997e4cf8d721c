//! Every metric of the sidecar. One registry of its own; every name begins with `pillion_`; docs/metrics.md lists them all.
//!
//! Handles are resolved once and kept: on a call nothing is looked up by label. Labels are bounded: they come from
//! code (reasons, codes) or from known services, and past [`MAX_SERIES`] label sets from the one set `other`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder};

mod calls;
mod families;
mod methods;
mod process;

pub use calls::{CallMetrics, Held, InFlight};
pub use families::Family;

use calls::Calls;
use families::Maker;
use process::Process;

/// Label sets of call metrics, and services in `pillion_table_endpoints`; whatever comes later counts as `other`.
pub const MAX_SERIES: usize = 2_000;

/// The label value that stands for everything past [`MAX_SERIES`].
pub const OTHER: &str = "other";

/// Which way a call goes, seen from this sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the own app to another service.
    Outbound,
    /// From another sidecar to the own app.
    Inbound,
}

impl Direction {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// How a call ended, seen from this sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The app answered with 1xx to 4xx.
    Ok,
    /// The app answered with 5xx.
    AppError,
    /// This sidecar generated the answer.
    Local,
    /// The other sidecar generated the answer.
    Remote,
    /// The caller left.
    Cancelled,
    /// The deadline passed.
    Deadline,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them; `outcome as usize` is the index.
    pub const ALL: [Self; 6] = [Self::Ok, Self::AppError, Self::Local, Self::Remote, Self::Cancelled, Self::Deadline];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AppError => "app_error",
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        }
    }
}

/// One handle a direction.
#[derive(Debug, Clone)]
pub struct ByDirection<T> {
    /// Own app → other services.
    pub outbound: T,
    /// Other sidecars → own app.
    pub inbound: T,
}

impl<T> ByDirection<T> {
    /// The handle of `direction`.
    pub fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Outbound => &self.outbound,
            Direction::Inbound => &self.inbound,
        }
    }
}

/// One byte counter a direction of flow; `received` and `sent` are seen from this sidecar.
#[derive(Debug, Clone)]
pub struct ByFlow {
    /// Bytes read from the socket.
    pub received: IntCounter,
    /// Bytes written to the socket.
    pub sent: IntCounter,
}

/// All metrics. Shared by every thread; fields are handles that are cheap to clone and keep.
pub struct Metrics {
    registry: prometheus::Registry,
    families: Vec<Family>,
    calls: Calls,
    process: Process,
    table_age_source: Mutex<Option<AgeSource>>,

    /// `pillion_channels_open`.
    pub channels_open: ByDirection<IntGauge>,
    /// `pillion_channels_opened_total`.
    pub channels_opened: ByDirection<IntCounter>,
    channels_closed: IntCounterVec,
    /// `pillion_streams_open`.
    pub streams_open: ByDirection<IntGauge>,
    /// `pillion_bytes_total` with `leg="app"`: plain bytes to and from apps.
    pub app_bytes: ByFlow,
    /// `pillion_bytes_total` with `leg="channel"`: bytes to and from other sidecars.
    pub channel_bytes: ByFlow,
    retries: IntCounterVec,
    errors: IntCounterVec,
    /// `pillion_app_connections_open`: from this sidecar to its app.
    pub app_connections_open: IntGauge,
    /// `pillion_app_connections_opened_total`.
    pub app_connections_opened: IntCounter,
    /// `pillion_callers_connected`: connections of the own app to the outbound doors.
    pub callers_connected: IntGauge,
    connections_refused: IntCounterVec,
    /// `pillion_late_frames_total`.
    pub late_frames: IntCounter,
    handshake_failures: IntCounterVec,
    /// `pillion_registry_connected`: 0 or 1.
    pub registry_connected: IntGauge,
    /// `pillion_registry_revision`.
    pub registry_revision: IntGauge,
    table_age: Gauge,
    /// `pillion_table_services`.
    pub table_services: IntGauge,
    table_endpoints: IntGaugeVec,
    /// `pillion_table_suspect_endpoints`.
    pub table_suspect_endpoints: IntGauge,
    /// `pillion_table_from_disk`: services served from the snapshot because the registry has not answered yet.
    pub table_from_disk: IntGauge,
    /// `pillion_registry_drift_total`.
    pub registry_drift: IntCounter,
    /// `pillion_registry_rejected_records_total`.
    pub registry_rejected_records: IntCounter,
    /// `pillion_registered`: 0 or 1.
    pub registered: IntGauge,
    /// `pillion_lease_losses_total`.
    pub lease_losses: IntCounter,
    /// `pillion_certificate_expiry_timestamp_seconds`; 0: no certificate.
    pub certificate_expiry: IntGauge,
    certificate_reloads: IntCounterVec,
    /// `pillion_draining`: 0 or 1.
    pub draining: IntGauge,
    /// `pillion_log_lines_dropped_total`.
    pub log_lines_dropped: IntCounter,
}

type AgeSource = Box<dyn Fn() -> f64 + Send + Sync>;

impl Metrics {
    /// Creates and registers everything.
    ///
    /// # Panics
    /// Never in practice: names and labels are constants, and a test creates them all.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut make = Maker::new();
        let calls = Calls::new(&mut make);
        let process = Process::new(&mut make);

        let channels_open = make.gauges(
            "pillion_channels_open",
            "Multiplexed connections between sidecars that are open.",
            &["direction"],
        );
        let channels_opened =
            make.counters("pillion_channels_opened_total", "Channels that completed their handshake.", &["direction"]);
        let channels_closed =
            make.counters("pillion_channels_closed_total", "Channels that ended, by reason.", &["reason"]);
        let streams_open = make.gauges("pillion_streams_open", "Streams in progress on all channels.", &["direction"]);
        let bytes = make.counters("pillion_bytes_total", "Bytes on sockets, by flow and leg.", &["direction", "leg"]);
        let retries =
            make.counters("pillion_retries_total", "Further attempts, by what became of the one before.", &["reason"]);
        let errors = make.counters("pillion_errors_total", "Errors this sidecar generated, by code.", &["code"]);
        let connections_refused = make.counters(
            "pillion_connections_refused_total",
            "Connections closed at accept because a listener was at its limit.",
            &["listener"],
        );
        let handshake_failures = make.counters(
            "pillion_handshake_failures_total",
            "Channels that failed before HELLO was accepted, by reason.",
            &["reason"],
        );
        let table_endpoints = make.gauges(
            "pillion_table_endpoints",
            "Endpoints known of a followed service, suspects included.",
            &["service"],
        );
        let certificate_reloads = make.counters(
            "pillion_certificate_reloads_total",
            "Attempts to load replaced identity files, by result.",
            &["result"],
        );
        let build_info =
            make.gauges("pillion_build_info", "Always 1; the binary's version is the label.", &["version"]);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        let by_direction = |name: &dyn Fn(&str) -> IntGauge| ByDirection {
            outbound: name(Direction::Outbound.as_str()),
            inbound: name(Direction::Inbound.as_str()),
        };
        let flow = |leg: &str| ByFlow {
            received: bytes.with_label_values(&["in", leg]),
            sent: bytes.with_label_values(&["out", leg]),
        };

        let table_age = make.float_gauge(
            "pillion_table_age_seconds",
            "Seconds since the registry last confirmed the table; NaN before it ever did.",
        );
        table_age.set(f64::NAN);

        Arc::new(Self {
            calls,
            process,
            table_age_source: Mutex::new(None),
            channels_open: by_direction(&|d| channels_open.with_label_values(&[d])),
            channels_opened: ByDirection {
                outbound: channels_opened.with_label_values(&[Direction::Outbound.as_str()]),
                inbound: channels_opened.with_label_values(&[Direction::Inbound.as_str()]),
            },
            channels_closed,
            streams_open: by_direction(&|d| streams_open.with_label_values(&[d])),
            app_bytes: flow("app"),
            channel_bytes: flow("channel"),
            retries,
            errors,
            app_connections_open: make
                .gauge("pillion_app_connections_open", "Connections to the own app that are open."),
            app_connections_opened: make
                .counter("pillion_app_connections_opened_total", "Connections made to the own app."),
            callers_connected: make.gauge(
                "pillion_callers_connected",
                "Connections of local callers to the outbound doors that are open.",
            ),
            connections_refused,
            late_frames: make
                .counter("pillion_late_frames_total", "Frames for streams that had ended: counted and dropped."),
            handshake_failures,
            registry_connected: make.gauge("pillion_registry_connected", "1 while the registry answers."),
            registry_revision: make.gauge("pillion_registry_revision", "Newest registry revision the table holds."),
            table_age,
            table_services: make.gauge("pillion_table_services", "Services followed."),
            table_endpoints,
            table_suspect_endpoints: make
                .gauge("pillion_table_suspect_endpoints", "Endpoints kept although the registry no longer lists them."),
            table_from_disk: make
                .gauge("pillion_table_from_disk", "Services served from the disk snapshot, not yet confirmed."),
            registry_drift: make.counter(
                "pillion_registry_drift_total",
                "Registry records that a listing found other than the watch had told.",
            ),
            registry_rejected_records: make.counter(
                "pillion_registry_rejected_records_total",
                "Registry records that did not parse and were skipped.",
            ),
            registered: make.gauge("pillion_registered", "1 while the own record stands in the registry."),
            lease_losses: make.counter("pillion_lease_losses_total", "Times the own lease lapsed or was lost."),
            certificate_expiry: make.gauge(
                "pillion_certificate_expiry_timestamp_seconds",
                "When the own certificate ends, Unix time; 0 without one.",
            ),
            certificate_reloads,
            draining: make.gauge("pillion_draining", "1 from the start of the shutdown on."),
            log_lines_dropped: make
                .counter("pillion_log_lines_dropped_total", "Log lines dropped because stderr did not take them."),
            families: make.families,
            registry: make.registry,
        })
    }

    /// The handles of one (direction, service, peer). Outbound: `service` is the one called and `peer` is empty
    /// (endpoints are not labels). Inbound: `service` is the own one and `peer` the caller's proven name. To be
    /// resolved once and kept; takes a lock. Past [`MAX_SERIES`] sets everything new shares the set `other`.
    #[must_use]
    pub fn calls(&self, direction: Direction, service: &str, peer: &str) -> CallMetrics {
        self.calls.resolve(direction, service, peer)
    }

    /// Counts a channel's end. `reason` is a word of the code, never of a peer.
    #[must_use]
    pub fn channel_closed(&self, reason: &'static str) -> IntCounter {
        self.channels_closed.with_label_values(&[reason])
    }

    /// Counts a further attempt.
    #[must_use]
    pub fn retry(&self, reason: &'static str) -> IntCounter {
        self.retries.with_label_values(&[reason])
    }

    /// Counts an error generated here; `code` is `ErrorCode::as_str`.
    #[must_use]
    pub fn generated_error(&self, code: &'static str) -> IntCounter {
        self.errors.with_label_values(&[code])
    }

    /// Creates the counters of all error codes, so that each is there at 0 before its first error.
    pub fn declare_errors(&self, codes: impl IntoIterator<Item = &'static str>) {
        for code in codes {
            self.errors.with_label_values(&[code]);
        }
    }

    /// Counts a channel that failed before its first call.
    #[must_use]
    pub fn handshake_failed(&self, reason: &'static str) -> IntCounter {
        self.handshake_failures.with_label_values(&[reason])
    }

    /// Counts a connection refused at accept; `listener` is `outbound`, `inbound` or `admin`.
    #[must_use]
    pub fn connection_refused(&self, listener: &'static str) -> IntCounter {
        self.connections_refused.with_label_values(&[listener])
    }

    /// Counts a reload of the identity files; `result` is `ok` or `error`.
    #[must_use]
    pub fn certificate_reload(&self, result: &'static str) -> IntCounter {
        self.certificate_reloads.with_label_values(&[result])
    }

    /// Replaces `pillion_table_endpoints` by this list. Past [`MAX_SERIES`] services the rest is summed under `other`.
    pub fn set_table_endpoints<'a>(&self, services: impl IntoIterator<Item = (&'a str, usize)>) {
        self.table_endpoints.reset();
        let mut rest = 0i64;
        for (index, (service, count)) in services.into_iter().enumerate() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            if index < MAX_SERIES {
                self.table_endpoints.with_label_values(&[service]).set(count);
            } else {
                rest = rest.saturating_add(count);
            }
        }
        if rest > 0 {
            self.table_endpoints.with_label_values(&[OTHER]).add(rest);
        }
    }

    /// Says how old the table is, in seconds; asked at each [`Metrics::render`].
    pub fn set_table_age_source(&self, source: impl Fn() -> f64 + Send + Sync + 'static) {
        *self.table_age_source.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(source));
    }

    /// The Prometheus text format, with the process figures read anew. Costs milliseconds: for the control thread.
    ///
    /// # Errors
    /// When the encoder refuses a family (it does not, for what is registered here).
    pub fn render(&self) -> Result<String, MetricsError> {
        self.process.refresh();
        if let Some(source) = &*self.table_age_source.lock().unwrap_or_else(PoisonError::into_inner) {
            self.table_age.set(source());
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError)
    }

    /// Every metric there is: what docs/metrics.md must list.
    #[cfg(test)]
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("families", &self.families.len()).finish_non_exhaustive()
    }
}

/// The text could not be rendered.
#[derive(Debug)]
pub struct MetricsError(prometheus::Error);

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics cannot be rendered: {}", self.0)
    }
}

impl std::error::Error for MetricsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests;
