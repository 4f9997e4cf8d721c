//! A failed handshake in words for an operator: whose side, which clocks, what to do; and in one word for a metric.

use std::error::Error as _;
use std::io;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use rustls_pki_types::UnixTime;

use super::identity::{rfc3339, system_time};
use super::{Identity, Tls, TlsError, TlsErrorKind};

/// What [`Tls::explain`] gives.
#[derive(Debug, Clone)]
pub struct HandshakeFailure {
    /// Its `as_str` is the metric's `reason`.
    pub kind: TlsErrorKind,
    /// For the log and the error's hint: what, on whose side, what to do.
    pub text: String,
}

impl Tls {
    /// Explains an error of a handshake, or of the first read after one (which is where a client learns that the
    /// server refused its certificate).
    pub fn explain(&self, error: &io::Error) -> HandshakeFailure {
        explain(error, &self.identity(), self.now())
    }
}

fn explain(error: &io::Error, own: &Identity, now: SystemTime) -> HandshakeFailure {
    let failure = |kind, text: String| HandshakeFailure { kind, text };
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return failure(TlsErrorKind::Closed, format!("the connection broke during the TLS handshake: {error}"));
    };
    match tls {
        Error::InvalidCertificate(problem) => certificate_problem(problem, own),
        Error::NoCertificatesPresented => {
            let text = "the peer presented no certificate: it must run as a sidecar with --identity".to_owned();
            failure(TlsErrorKind::NoCertificate, text)
        }
        Error::AlertReceived(alert) => failure(TlsErrorKind::Refused, refusal(*alert, own, now)),
        Error::NoApplicationProtocol => {
            let text =
                "the peer does not speak pillion/1 (no common ALPN): is its address that of a sidecar's inbound port?";
            failure(TlsErrorKind::WrongProtocol, text.to_owned())
        }
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            failure(TlsErrorKind::WrongProtocol, format!("the peer's TLS has nothing in common with ours: {tls}"))
        }
        Error::PeerIncompatible(_) | Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => failure(
            TlsErrorKind::WrongProtocol,
            format!("the peer does not speak TLS 1.3 ({tls}): is it a sidecar, and not one with --insecure?"),
        ),
        other => failure(TlsErrorKind::Other, format!("the TLS handshake failed: {other}")),
    }
}

fn certificate_problem(problem: &CertificateError, own: &Identity) -> HandshakeFailure {
    let (kind, text) = match problem {
        CertificateError::ExpiredContext { time, not_after } => (
            TlsErrorKind::Expired,
            format!(
                "the peer's certificate expired at {}, and this machine's clock says {}: renew it there, or set the clock here",
                stamp(*not_after),
                stamp(*time)
            ),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            TlsErrorKind::NotYetValid,
            format!(
                "the peer's certificate is not valid before {}, and this machine's clock says {}: compare both machines' clocks",
                stamp(*not_before),
                stamp(*time)
            ),
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            TlsErrorKind::UnknownCa,
            format!(
                "the peer's certificate was not issued by any CA in our ca.pem (we are {}): issue both from one CA, or add its CA to ca.pem",
                own.id
            ),
        ),
        CertificateError::Other(other) => match other.source().and_then(|e| e.downcast_ref::<TlsError>()) {
            Some(ours) => (ours.kind, ours.to_string()),
            None => (TlsErrorKind::Other, format!("the peer's certificate was refused: {other}")),
        },
        other => (TlsErrorKind::BadIdentity, format!("the peer's certificate was refused: {other}")),
    };
    HandshakeFailure { kind, text }
}

/// The peer sent a TLS alert: all it says is one word, so say what our side can know.
fn refusal(alert: AlertDescription, own: &Identity, now: SystemTime) -> String {
    let guess = match alert {
        AlertDescription::CertificateExpired => format!(
            "it holds our certificate for expired or not yet valid; it is valid from {} to {}, and our clock says {}: compare the peer's clock",
            rfc3339(own.not_before),
            rfc3339(own.not_after),
            rfc3339(now)
        ),
        AlertDescription::CertificateRequired => "it asks for a certificate and got none".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not know the CA that issued our certificate: compare both ca.pem".to_owned()
        }
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate | AlertDescription::AccessDenied => {
            "it does not accept our identity (another trust domain, or not the service it called)".to_owned()
        }
        AlertDescription::NoApplicationProtocol => "it does not speak pillion/1".to_owned(),
        _ => "its own log says why".to_owned(),
    };
    format!("the peer refused us, {} (alert {alert:?}): {guess}", own.id)
}

fn stamp(time: UnixTime) -> String {
    rfc3339(system_time(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)))
}
