//! Logging to stderr, text or JSON, through `tracing`. Level and access log can be changed while running.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{
    Registry, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::config::{self, Log, LogFormat};

pub mod access;
mod writer;

pub use access::Access;
use writer::Writer;

/// Changes what is logged; cheap to clone. When the last clone is dropped the process is taken to be ending: what is
/// queued is written, and whatever is logged from then on waits until it is.
#[derive(Clone)]
pub struct Handle {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<Mutex<String>>,
    writer: Arc<Ending>,
}

/// Ends the time of queueing when dropped.
struct Ending(Writer);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Installs the process's logger. A log that nobody reads never holds a call up: lines that stderr does not take in
/// time are dropped and counted.
///
/// # Errors
/// When a logger is installed already, or the level does not parse (one from a loaded configuration does).
pub fn init(log: &Log) -> Result<Handle, LogError> {
    let writer = Writer::start(Box::new(io::stderr())).map_err(LogError::Thread)?;
    let (subscriber, handle) = build(log, writer)?;
    subscriber.try_init().map_err(|_| LogError::Installed)?;
    Access::set(log.access);
    Ok(handle)
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn build(log: &Log, writer: Writer) -> Result<(Subscriber, Handle), LogError> {
    let (filter, reload) = reload::Layer::new(filter(&log.level)?);
    let base = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_ansi(false);
    let subscriber: Subscriber = match log.format {
        LogFormat::Text => Box::new(base.with(lines)),
        LogFormat::Json => {
            Box::new(base.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)))
        }
    };
    let level = Arc::new(Mutex::new(log.level.clone()));
    Ok((subscriber, Handle { filter: reload, level, writer: Arc::new(Ending(writer)) }))
}

/// The access log has a switch of its own, so the filter always lets it through, whatever the level.
fn filter(level: &str) -> Result<Targets, LogError> {
    config::level(level).map_err(LogError::Level)?;
    format!("{level},{}=info", access::TARGET)
        .parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| LogError::Level(error.to_string()))
}

impl Handle {
    /// Sets the level; takes effect at once.
    ///
    /// # Errors
    /// When it does not parse; the old one stands.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        self.filter.reload(filter).map_err(|error| LogError::Level(error.to_string()))?;
        level.clone_into(&mut self.level.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines were dropped since this was last asked.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.writer.0.take_dropped()
    }

    /// A handle that leads nowhere, for tests of what holds one.
    #[cfg(test)]
    pub(crate) fn detached(keep: &mut Option<Subscriber>) -> Self {
        let writer = Writer::start(Box::new(io::sink())).expect("thread");
        let (subscriber, handle) = build(&Log::default(), writer).expect("build");
        *keep = Some(subscriber);
        handle
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = writer::Line;

    fn make_writer(&'a self) -> writer::Line {
        self.line()
    }
}

/// Why logging could not be set up or changed.
#[derive(Debug)]
pub enum LogError {
    /// Another logger is installed in this process.
    Installed,
    /// The level does not parse.
    Level(String),
    /// The writer's thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("a logger is installed already"),
            Self::Level(message) => f.write_str(message),
            Self::Thread(error) => write!(f, "the log's thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(error) => Some(error),
            Self::Installed | Self::Level(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
