//! A `file://` registry in a temporary directory.

use std::path::Path;
use tempfile::TempDir;

/// The directory; it goes when dropped.
#[derive(Debug)]
pub struct RegistryDir(TempDir);

impl RegistryDir {
    #[must_use]
    pub fn new() -> RegistryDir {
        RegistryDir(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The registry URL for `--registry`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Default for RegistryDir {
    fn default() -> RegistryDir {
        RegistryDir::new()
    }
}
