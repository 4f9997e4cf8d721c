//! Whether the sidecar is ready: named conditions, of which all must hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Named conditions. Names are words of the code, so there are few.
#[derive(Debug)]
pub struct Readiness(Mutex<BTreeMap<&'static str, Result<(), String>>>);

impl Readiness {
    /// With no condition yet, and so not ready.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// A condition holds, or does not for this reason. A new name is a new condition.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }

    /// What does not hold, with the reasons.
    #[must_use]
    pub fn missing(&self) -> BTreeMap<&'static str, String> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.iter().filter_map(|(name, state)| Some((*name, state.as_ref().err()?.clone()))).collect()
    }

    /// Whether all hold, and there is one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !conditions.is_empty() && conditions.values().all(Result::is_ok)
    }
}
