//! The table on disk, so that a start with the registry down has something to serve from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::limits::SNAPSHOT_BYTES;
use crate::table::{SnapshotError, Table};

/// Saves `table` to `path`: whole or not at all, whatever happens meanwhile. Blocks; the directory is made when it is
/// not there.
///
/// # Errors
/// When the disk is full, the directory cannot be written, or the table is larger than
/// [`SNAPSHOT_BYTES`]; what stood at `path` still stands then.
pub fn save(path: &Path, table: &Table) -> io::Result<()> {
    let json = table.to_json(SystemTime::now());
    if json.len() > SNAPSHOT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("a table of {} bytes", json.len())));
    }
    write_atomically(path, &json, true)
}

/// Loads what [`save`] saved; `None` when there is no file.
///
/// # Errors
/// When the file cannot be read or is no snapshot. The caller starts without it.
pub fn load(path: &Path) -> Result<Option<Table>, SnapshotError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SnapshotError::Io(error)),
    };
    if !file.metadata().map_err(SnapshotError::Io)?.is_file() {
        return Err(SnapshotError::Corrupt("not a file".to_owned()));
    }
    let mut json = Vec::new();
    // One byte more than the limit: enough to see that it is exceeded.
    file.take(SNAPSHOT_BYTES as u64 + 1).read_to_end(&mut json).map_err(SnapshotError::Io)?;
    Table::from_json(&json).map(Some)
}

/// Writes `bytes` beside `path` under a hidden name, then renames. `durable`: it must outlive a crash of the machine.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = write_whole(&temporary, bytes, durable).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one worth telling; a temporary file that stays is overwritten next time.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    if durable { sync_directory(parent) } else { Ok(()) }
}

fn write_whole(path: &PathBuf, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn sync_directory(parent: &Path) -> io::Result<()> {
    match File::open(parent)?.sync_all() {
        // Some file systems cannot sync a directory: the rename was done all the same.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Endpoint, InstanceId, Origin, keys};

    fn table() -> Table {
        let service = "pay".parse().expect("name");
        let list = (1..=3u16)
            .map(|port| {
                let key = keys::parse_relative(&format!("pay/1.0.0/10.0.0.7:{port}")).expect("key");
                Endpoint::new(key, InstanceId::generate())
            })
            .collect();
        Table::new().apply(&service, list, 7, Cause::Listed, SystemTime::now())
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/er/table.json");
        assert!(load(&path).expect("no file is no error").is_none());
        let table = table();
        save(&path, &table).expect("save");
        save(&path, &table).expect("save over it");
        let loaded = load(&path).expect("load").expect("there");
        assert!(loaded.saved.is_some());
        let (before, after) = (&table.services["pay"], &loaded.services["pay"]);
        assert_eq!((after.revision, after.from), (7, Origin::Disk));
        assert_eq!(before.entries, after.entries);
        assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("list").count(), 1, "no temporary file stays");
    }

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("table.json");
        save(&path, &table()).expect("save");
        let good = fs::read(&path).expect("read");
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut]).expect("write");
            assert!(load(&path).is_err(), "cut at {cut}");
        }
        let text = String::from_utf8(good).expect("text");
        for (from, to) in [
            (r#""schema":1"#, r#""schema":2"#),
            ("10.0.0.7:1", "0.0.0.0:1"),
            (r#""service":"pay""#, r#""service":"../pay""#),
            (r#""weight":100"#, r#""weight":1e9"#),
        ] {
            let bad = text.replace(from, to);
            assert_ne!(bad, text);
            fs::write(&path, bad).expect("write");
            assert!(load(&path).is_err(), "{to}");
        }
        fs::write(&path, text.replace(r#""saved_ms":1"#, r#""saved_ms":9999999"#)).expect("write");
        assert!(load(&path).is_ok_and(|table| table.is_some()), "a time from far ahead is a time");
        let directory = dir.path().join("directory");
        fs::create_dir(&directory).expect("mkdir");
        assert!(load(&directory).is_err());
        let large = File::create(&path).expect("create");
        large.set_len(SNAPSHOT_BYTES as u64 + 1).expect("a sparse file");
        assert!(matches!(load(&path), Err(SnapshotError::TooLarge)));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error() {
        // /dev/full answers every write with "no space left on device".
        let error = write_whole(&PathBuf::from("/dev/full"), b"x", false).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = save(Path::new("/proc/pillion/table.json"), &table()).expect_err("no directory can be made there");
        assert_ne!(error.to_string(), "");
    }
}
