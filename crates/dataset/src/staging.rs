//! A folder that appears whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::DatasetError;

/// A hidden sibling of the folder to be, removed unless it is [committed](Staging::commit).
pub(crate) struct Staging {
    target: PathBuf,
    partial: PathBuf,
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
        let partial = parent.join(format!(".{}.partial-{}", name.to_string_lossy(), std::process::id()));
        fs::create_dir(&partial).map_err(DatasetError::io(&partial))?;
        Ok(Self { target: target.to_owned(), partial })
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
