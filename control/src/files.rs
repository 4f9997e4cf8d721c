//! Writes files so that nobody ever reads half of one, and a secret is never readable by others, not even for a moment.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::{NamedTempFile, PersistError};

use crate::Failure;

/// Readable by all: certificates.
pub(crate) const PUBLIC: u32 = 0o644;
/// Readable by the owner: private keys.
pub(crate) const SECRET: u32 = 0o600;

/// Makes a directory and what is missing above it.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|e| Failure::new(format!("{} cannot be made: {e}", dir.display())))
}

/// Writes several files of one directory: all of them beside their places first, then each is moved into its place, in
/// the order given. So a full disk changes nothing, and the time during which old and new stand side by side is that of
/// a few renames.
pub(crate) fn replace(dir: &Path, files: &[(&str, u32, &str)]) -> Result<(), Failure> {
    let failed =
        |name: &str, e: io::Error| Failure::new(format!("{} cannot be written: {e}", dir.join(name).display()));
    let mut ready = Vec::with_capacity(files.len());
    for (name, mode, text) in files {
        ready.push((*name, prepare(dir, *mode, text).map_err(|e| failed(name, e))?));
    }
    for (name, file) in ready {
        file.persist(dir.join(name)).map_err(|PersistError { error, .. }| failed(name, error))?;
    }
    // The renames themselves must survive a power failure.
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("", e))
}

fn prepare(dir: &Path, mode: u32, text: &str) -> io::Result<NamedTempFile> {
    // Born with mode 0600; opened wider only once it belongs to whom it should.
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    let (ours, theirs) = (file.as_file().metadata()?, std::fs::metadata(dir)?);
    if (ours.uid(), ours.gid()) != (theirs.uid(), theirs.gid()) {
        // root renews the files of a sidecar that runs as another user: they belong to the directory's owner, or that
        // user could not read its own key. Whoever is not root may not give files away, and need not where the owner can
        // read them all the same.
        match fchown(file.as_file(), Some(theirs.uid()), Some(theirs.gid())) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                if !owner_reads(mode, ours.uid(), theirs.uid()) {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        format!(
                            "user {} owns the directory and could not read the file of user {}: run this as that user, or as root",
                            theirs.uid(),
                            ours.uid()
                        ),
                    ));
                }
            }
            given => given?,
        }
    }
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Whether the directory's owner can read a file of `ours` with this mode. Root reads everything.
fn owner_reads(mode: u32, ours: u32, theirs: u32) -> bool {
    const OTHERS_READ: u32 = 0o004;
    theirs == ours || theirs == 0 || mode & OTHERS_READ != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_must_be_readable_by_the_owner_of_its_directory() {
        for (mode, ours, theirs, reads) in [
            (SECRET, 1000, 1001, false),
            (SECRET, 0, 1001, false),
            (SECRET, 1000, 1000, true),
            (SECRET, 1000, 0, true),
            (PUBLIC, 1000, 1001, true),
        ] {
            assert_eq!(owner_reads(mode, ours, theirs), reads, "{mode:o} {ours} {theirs}");
        }
    }
}
