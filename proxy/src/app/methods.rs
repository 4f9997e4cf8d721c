//! The own app's methods, where `descriptors` says that JSON calls of them are taken: from a file at the start, or from the app itself,
//! again each time that it was away.

use std::io::Read as _;
use std::sync::Arc;

use registry::ServiceName;
use transcode::Schema;
use transcode::limits::SCHEMA_BYTES;

use super::registration::{ASK_ROUTE, REMIND, Reminder};
use super::{StartError, cannot};
use crate::config::{AppAddress, Config, Descriptors};
use crate::upstream::health;
use crate::upstream::reflection::{self, Reflected};
use crate::upstream::transcode::Schemas;

/// What is known of them at the start. A file that is of no use is a reason not to start.
pub(super) fn at_start(config: &Config) -> Result<Option<Arc<Schemas>>, StartError> {
    let (Some(descriptors), Some(service)) = (&config.descriptors, &config.service) else { return Ok(None) };
    let Descriptors::File(path) = descriptors else { return Ok(Some(Arc::default())) };
    let wrong = |error: &dyn std::fmt::Display| cannot(format!("descriptors {}", path.display()), error);
    let mut set = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(SCHEMA_BYTES as u64 + 1).read_to_end(&mut set).map_err(|error| wrong(&error))?;
    let schema = read(&set, service).map_err(|error| wrong(&error))?;
    Ok(Some(Arc::new(Schemas::from_pointee(schema))))
}

fn read(set: &[u8], service: &ServiceName) -> Result<Schema, String> {
    let schema = Schema::new(set, service.as_str()).map_err(|error| error.to_string())?;
    for warning in schema.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(services = schema.services().join(", "), "JSON calls of the app's methods are taken");
    Ok(schema)
}

/// The methods of an app that tells them itself.
pub(super) struct Reflecting {
    pub(super) app: AppAddress,
    pub(super) service: ServiceName,
    pub(super) schemas: Arc<Schemas>,
}

impl Reflecting {
    /// Asks once. The error is a sentence.
    pub(super) async fn ask(&self) -> Result<Reflected, String> {
        let reflected = reflection::ask(&self.app, REMIND).await?;
        self.schemas.store(Some(Arc::new(read(&reflected.set, &self.service)?)));
        Ok(reflected)
    }

    /// Asks again whenever the app was away. What was known stays until something else is.
    pub(super) async fn follow(self, mut reflected: Reflected) {
        loop {
            reflected.gone().await;
            let mut reminder = Reminder::default();
            reflected = loop {
                // Also so that an app which closes what is idle is not asked without a pause.
                tokio::time::sleep(ASK_ROUTE).await;
                if !health::is_ready(&self.app, REMIND).await {
                    continue;
                }
                match self.ask().await {
                    Ok(reflected) => break reflected,
                    Err(error) => {
                        reminder.say(|| tracing::warn!(app = %self.app, "its methods stay as they were: {error}"));
                    }
                }
            };
        }
    }
}
