//! A folder that appears whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::DatasetError;

/// Names tried for it before giving up.
const ATTEMPTS: usize = 1000;

/// A hidden sibling of the folder to be, removed unless it is [committed](Staging::commit). What a killed program left
/// is removed by the next that is to write the same folder.
pub(crate) struct Staging {
    target: PathBuf,
    partial: PathBuf,
    /// Held for as long as this program lives, which is how others know that it does.
    _lock: File,
}

impl Staging {
    /// # Errors
    /// When `target` exists, or its parent cannot be created or written to.
    pub(crate) fn create(target: &Path) -> Result<Self, DatasetError> {
        if target.symlink_metadata().is_ok() {
            return Err(DatasetError::Exists { path: target.to_owned() });
        }
        let Some(name) = target.file_name() else {
            return Err(DatasetError::metadata(target, "names no folder that could be created"));
        };
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(DatasetError::io(parent))?;
        let prefix = format!(".{}.partial-", name.to_string_lossy());
        remove_abandoned(parent, &prefix);
        // Process numbers repeat: in containers every program may be number 1.
        let mut partial = parent.join(format!("{prefix}{}", std::process::id()));
        for attempt in 1.. {
            match fs::create_dir(&partial) {
                Ok(()) => {
                    let lock = File::open(&partial).map_err(DatasetError::io(&partial))?;
                    // Where locks are not to be had, nothing is ever taken for abandoned.
                    let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
                    if !taken && partial.is_dir() {
                        return Ok(Self { target: target.to_owned(), partial, _lock: lock });
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
                Err(error) => return Err(DatasetError::io(&partial)(error)),
            }
            partial = parent.join(format!("{prefix}{}-{attempt}", std::process::id()));
        }
        unreachable!("the last attempt returns")
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Brings everything to the disk and gives the folder its name.
    ///
    /// # Errors
    /// When the disk refuses, or another has taken the name meanwhile. Nothing is left behind then.
    pub(crate) fn commit(self) -> Result<(), DatasetError> {
        sync(&self.partial)?;
        if self.target.symlink_metadata().is_ok() {
            return Err(DatasetError::Exists { path: self.target.clone() });
        }
        fs::rename(&self.partial, &self.target).map_err(DatasetError::io(&self.target))?;
        sync_one(parent(&self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit there is nothing by this name. Otherwise an error is already on its way to the caller.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

/// Removes what programs that are no more have left behind. That it fails is no reason to stop.
fn remove_abandoned(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    for entry in entries.filter_map(Result::ok).filter(named) {
        let Ok(folder) = File::open(entry.path()) else { continue };
        if folder.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Files first, then the folder that names them.
fn sync(folder: &Path) -> Result<(), DatasetError> {
    for entry in fs::read_dir(folder).map_err(DatasetError::io(folder))? {
        let path = entry.map_err(DatasetError::io(folder))?.path();
        if path.is_dir() { sync(&path)? } else { sync_one(&path)? }
    }
    sync_one(folder)
}

fn sync_one(path: &Path) -> Result<(), DatasetError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(DatasetError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("set");
        let abandoned = folder.path().join(".set.partial-1");
        let of_another = folder.path().join(".sets.partial-1");
        for dir in [&abandoned, &of_another] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("file"), "half").unwrap();
        }
        let first = Staging::create(&target).unwrap();
        let second = Staging::create(&target).unwrap();
        assert!(first.path() != second.path() && first.path().is_dir() && second.path().is_dir());
        assert!(!abandoned.exists() && of_another.exists());
        fs::write(first.path().join("file"), "whole").unwrap();
        first.commit().unwrap();
        let late = second.path().to_owned();
        assert!(matches!(second.commit(), Err(DatasetError::Exists { .. })) && !late.exists());
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "whole");
    }
}
