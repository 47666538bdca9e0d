//! Files of a set that is being recorded: changed together, and on the disk, whenever the program or the power goes.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::sums::{self, ABSENT, List, MARKER};
use crate::{DatasetError, write_meta};

/// Where files are written before they take their places.
const PARTIAL: &str = ".partial";
const PARTIAL_LIST: &str = ".SHA256SUMS.partial";

const ABOUT: &str = "\
# Episodes are being recorded here, or their recording was cut off: the set is what info.json counts, and whole.
# Recording into it again goes on from there, and ends with this file gone. The files may have these SHA-256 sums:
";

/// A folder that this program alone changes.
pub(crate) struct Journal {
    root: PathBuf,
    /// What the files are; several sums where a recording was cut off.
    files: List,
    /// Whether the marker is on the disk.
    begun: bool,
    /// Changes after which the disk is to refuse, as if the program had been killed.
    #[cfg(test)]
    pub(crate) steps_left: usize,
    /// Held for as long as this program lives, which is how others know that it does.
    _lock: File,
}

impl Journal {
    /// Takes the folder `root`, which is made when there is none.
    ///
    /// # Errors
    /// When another program records into it, or the disk refuses.
    pub(crate) fn open(root: &Path) -> Result<Self, DatasetError> {
        fs::create_dir_all(root).map_err(DatasetError::io(root))?;
        let lock = File::open(root).map_err(DatasetError::io(root))?;
        // Where locks are not to be had, the user is trusted.
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(DatasetError::Busy { path: root.to_owned() });
        }
        let partial = root.join(PARTIAL);
        if partial.is_dir() {
            fs::remove_dir_all(&partial).map_err(DatasetError::io(&partial))?;
        }
        let marker = root.join(MARKER);
        if marker.is_file() && root.join(sums::LIST).is_file() {
            // A recording was cut off as it ended, or before it changed anything: the set is the one of the list.
            fs::remove_file(&marker).map_err(DatasetError::io(&marker))?;
        }
        let left = sums::read_list(&marker)?;
        let begun = left.is_some();
        Ok(Self {
            root: root.to_owned(),
            files: left.unwrap_or_default(),
            begun,
            #[cfg(test)]
            steps_left: usize::MAX,
            _lock: lock,
        })
    }

    /// Whether something lies in the folder `root` that no recording left which was killed before it began.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn is_foreign(root: &Path) -> Result<bool, DatasetError> {
        if root.symlink_metadata().is_err() || root.join(MARKER).is_file() {
            return Ok(false);
        }
        for entry in fs::read_dir(root).map_err(DatasetError::io(root))? {
            let entry = entry.map_err(DatasetError::io(root))?;
            // The marker is written in the one folder, and was about to be moved to the other.
            let beginning = match entry.file_name().to_str() {
                Some(PARTIAL) => true,
                Some("meta") => fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none()),
                _ => false,
            };
            if !beginning {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a recording into this folder was cut off, and not gone on with since.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// The files that may be of the set, or were to be when its recording was cut off.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// Gives these files, by their paths in the folder, new contents. Until the last has taken its place the set is as
    /// it was, and then it is as it is to be; that one decides what of the others belongs to it. Files that `drop`
    /// names belong to the set no more, and are removed.
    ///
    /// # Errors
    /// When the disk refuses; then the set is as it was.
    pub(crate) fn commit(
        &mut self,
        files: &[(String, Vec<u8>)],
        drop: &[String],
    ) -> Result<(), DatasetError> {
        let committed = self.try_commit(files, drop);
        if committed.is_err() {
            // A full disk is not to be kept full; what cannot be removed is removed when the recording goes on.
            std::mem::drop(fs::remove_dir_all(self.root.join(PARTIAL)));
        }
        committed
    }

    fn try_commit(&mut self, files: &[(String, Vec<u8>)], drop: &[String]) -> Result<(), DatasetError> {
        self.begin()?;
        let (partial, absent) = (self.root.join(PARTIAL), ABSENT.to_owned());
        fs::create_dir_all(&partial).map_err(DatasetError::io(&partial))?;
        for (number, (_, bytes)) in files.iter().enumerate() {
            write_synced(&partial.join(number.to_string()), bytes)?;
        }
        let sums: Vec<String> = files.iter().map(|(_, bytes)| sums::sum(bytes)).collect();
        let after: Vec<(&String, &String)> = files.iter().map(|(name, _)| name).zip(&sums).collect();
        let mut during = self.files.clone();
        for (name, sum) in after.iter().copied().chain(drop.iter().map(|name| (name, &absent))) {
            let known = during.entry(name.clone()).or_insert_with(|| vec![absent.clone()]);
            if !known.contains(sum) {
                known.push(sum.clone());
            }
        }
        self.mark(&during)?;
        self.files = during;
        let last = files.len().saturating_sub(1);
        for (number, (name, _)) in files.iter().enumerate() {
            if number == last {
                self.sync_folders(files[..last].iter().map(|(name, _)| name.as_str()))?;
            }
            let path = self.root.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(DatasetError::io(parent))?;
            }
            self.step()?;
            fs::rename(partial.join(number.to_string()), &path).map_err(DatasetError::io(&path))?;
        }
        self.sync_folders(files[last..].iter().map(|(name, _)| name.as_str()))?;
        drop.iter().try_for_each(|name| self.remove(name))?;
        if !drop.is_empty() {
            self.sync_folders(drop.iter().map(String::as_str))?;
        }
        for (name, sum) in after {
            self.files.insert(name.clone(), vec![sum.clone()]);
        }
        drop.iter().for_each(|name| std::mem::drop(self.files.remove(name)));
        Ok(())
    }

    /// Ends the recording: the set is one of those that are finished. The files of `drop`, which spoke of the recording
    /// alone, are the last to be removed: while one is there, it can be told whose set this is.
    ///
    /// # Errors
    /// When the disk refuses; then the set is as one that was cut off after its last episode.
    pub(crate) fn finish(&mut self, drop: &[String]) -> Result<(), DatasetError> {
        if !self.begun {
            return Ok(());
        }
        drop.iter().for_each(|name| std::mem::drop(self.files.remove(name)));
        let partial = self.root.join(PARTIAL);
        if partial.is_dir() {
            fs::remove_dir_all(&partial).map_err(DatasetError::io(&partial))?;
        }
        self.settle()?;
        let list = self.root.join(sums::LIST);
        let half = self.root.join(PARTIAL_LIST);
        write_synced(&half, sums::text(&self.files).as_bytes())?;
        self.step()?;
        fs::rename(&half, &list).map_err(DatasetError::io(&list))?;
        sync(&self.root)?;
        for name in [MARKER].into_iter().chain(drop.iter().map(String::as_str)) {
            self.remove(name)?;
            sync(&self.root.join("meta"))?;
        }
        self.begun = false;
        Ok(())
    }

    /// Finds out which of several sums a file has: when it changed as a recording was cut off, and not since.
    fn settle(&mut self) -> Result<(), DatasetError> {
        for (name, sums) in self.files.iter_mut().filter(|(_, sums)| sums.len() > 1) {
            let path = self.root.join(name);
            let sum = sums::sum_of(&path)?;
            if !sums.contains(&sum) {
                return Err(DatasetError::Changed { path, list: self.root.join(MARKER) });
            }
            *sums = vec![sum];
        }
        self.files.retain(|_, sums| *sums != [ABSENT]);
        Ok(())
    }

    /// Removes a file, if it is there.
    fn remove(&mut self, name: &str) -> Result<(), DatasetError> {
        let path = self.root.join(name);
        self.step()?;
        if path.is_file() { fs::remove_file(&path).map_err(DatasetError::io(&path)) } else { Ok(()) }
    }

    /// Comes before each change that takes effect.
    #[cfg(not(test))]
    fn step(&mut self) -> Result<(), DatasetError> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&mut self) -> Result<(), DatasetError> {
        let refused = || DatasetError::metadata(&self.root, "the test wants no more");
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(refused)?;
        Ok(())
    }

    /// Removes a folder in which nothing was recorded, with what a recording that was cut off before its first episode
    /// has left. Whatever else lies there stays.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn clear(&self) -> Result<(), DatasetError> {
        let names = self.files.keys().map(String::as_str).chain([MARKER]);
        let mut folders = BTreeSet::from([self.root.clone()]);
        for path in names.map(|name| self.root.join(name)) {
            if path.is_file() {
                fs::remove_file(&path).map_err(DatasetError::io(&path))?;
            }
            let above = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
            folders.extend(above.map(Path::to_owned));
        }
        let partial = self.root.join(PARTIAL);
        if partial.is_dir() {
            fs::remove_dir_all(&partial).map_err(DatasetError::io(&partial))?;
        }
        // The deepest first; one that holds something else cannot be removed, and is to stay.
        folders.iter().rev().for_each(|folder| std::mem::drop(fs::remove_dir(folder)));
        Ok(())
    }

    /// Marks the set as being recorded, with the sums of its files as they are.
    fn begin(&mut self) -> Result<(), DatasetError> {
        if self.begun {
            return Ok(());
        }
        let list = self.root.join(sums::LIST);
        self.files = match sums::read_list(&list)? {
            Some(files) => files,
            None => sums::list_of(&self.root)?,
        };
        self.mark(&self.files)?;
        self.begun = true;
        if list.is_file() {
            fs::remove_file(&list).map_err(DatasetError::io(&list))?;
        }
        Ok(())
    }

    fn mark(&self, files: &List) -> Result<(), DatasetError> {
        let partial = self.root.join(PARTIAL).join("marker");
        let text = format!("{ABOUT}{}", sums::text(files));
        write_meta::write_file(&partial, &[])?;
        write_synced(&partial, text.as_bytes())?;
        let (meta, marker) = (self.root.join("meta"), self.root.join(MARKER));
        fs::create_dir_all(&meta).map_err(DatasetError::io(&meta))?;
        fs::rename(&partial, &marker).map_err(DatasetError::io(&marker))?;
        sync(&meta)
    }

    /// Brings to the disk what the folders of these files name, up to the set's own.
    fn sync_folders<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), DatasetError> {
        let mut folders = BTreeSet::new();
        for name in names {
            let path = self.root.join(name);
            let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
            folders.extend(above.map(Path::to_owned));
        }
        folders.iter().rev().try_for_each(|folder| sync(folder))
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(DatasetError::io(path))
}

fn sync(path: &Path) -> Result<(), DatasetError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(DatasetError::io(path))
}
