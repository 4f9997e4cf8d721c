//! Listening on a Unix domain socket: a file that stays behind when its process is killed, and that has mode bits.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketMode;

/// The file of a socket that listens. Removed on drop, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| id_of(&found) == self.id) {
            // It may be gone by now, and that is what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Binds `path`. What a killed process left there is replaced; a socket that somebody listens on, or any other file, is not.
pub fn bind(path: &Path, mode: SocketMode, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    // Of two that start at once one would remove the other's new socket.
    let _one_at_a_time =
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    remove_abandoned(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), id: id_of(&fs::symlink_metadata(path)?) };
    // Nobody can connect before it listens, so nobody does whom the mode shuts out.
    fs::set_permissions(path, Permissions::from_mode(mode.0))?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket; it is left alone"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // It listens, or cannot be asked.
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: SocketMode = SocketMode(0o640);

    fn kind(bound: io::Result<(UnixListener, SocketFile)>) -> io::ErrorKind {
        bound.err().map(|error| error.kind()).expect("refused")
    }

    #[test]
    fn the_file_has_the_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (listener, file) = bind(&path, MODE, 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it, as a kill does");
        let (_listener, file) = bind(&path, MODE, 1).unwrap();
        assert_eq!(kind(bind(&path, MODE, 1)), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();

        // Whoever took the path over keeps it.
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert_eq!(kind(bind(&path, MODE, 1)), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"data");
        assert_eq!(kind(bind(&dir.path().join("no/such/a.sock"), MODE, 1)), io::ErrorKind::NotFound);
    }
}
