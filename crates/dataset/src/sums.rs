//! Checksums of a set's files: `SHA256SUMS` beside `meta/` and `data/`, as `sha256sum --check` reads it.
//!
//! Files in `meta/` are checked when a set is opened, those in `data/` when they are first read. Sets without the list
//! are read as they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::DatasetError;

/// The list of a finished set.
pub(crate) const LIST: &str = "SHA256SUMS";
/// The list of a set that is being recorded, which may name several sums a file: those before and after the episode
/// that is being added. While it is there, only what info.json counts belongs to the set.
pub(crate) const MARKER: &str = "meta/recording.lock";
/// Stands for the sum of a file that need not be there yet.
pub(crate) const ABSENT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// By path in the set's folder, with `/` between its parts: the sums that a file may have.
pub(crate) type List = BTreeMap<String, Vec<String>>;

/// What the files of a set must be.
pub(crate) struct Sums {
    root: PathBuf,
    name: &'static str,
    /// And whether it was found to be so.
    files: BTreeMap<String, (Vec<String>, AtomicBool)>,
}

impl Sums {
    /// The list of the set in `root`; `None` when it has none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>, DatasetError> {
        for name in [MARKER, LIST] {
            if let Some(list) = read_list(&root.join(name))? {
                let files = list.into_iter().map(|(path, sums)| (path, (sums, AtomicBool::new(false))));
                return Ok(Some(Self { root: root.to_owned(), name, files: files.collect() }));
            }
        }
        Ok(None)
    }

    /// Whether the set is being recorded, or its recording was cut off.
    pub(crate) fn recording(&self) -> bool {
        self.name == MARKER
    }

    /// Checks the listed files of `meta/`, one by one.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = Result<(), DatasetError>> {
        let listed = self.files.keys().filter(|path| path.starts_with("meta/"));
        listed.map(|path| self.check(&self.root.join(path)))
    }

    /// Checks a file, once; what is not listed passes.
    ///
    /// # Errors
    /// When it cannot be read, or is not what the list says.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DatasetError> {
        let Some((sums, checked)) = name_in(&self.root, path).and_then(|name| self.files.get(&name)) else {
            return Ok(());
        };
        if checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !sums.contains(&sum_of(path)?) {
            return Err(DatasetError::Changed { path: path.to_owned(), list: self.root.join(self.name) });
        }
        checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes the list of the set in `dir` anew, from its files as they are: after something in it was changed on purpose.
///
/// # Errors
/// When a file cannot be read, or the list not be written.
pub fn write_sums(dir: &Path) -> Result<(), DatasetError> {
    let list = list_of(dir)?;
    let partial = dir.join(format!(".{LIST}.partial"));
    fs::write(&partial, text(&list)).map_err(DatasetError::io(&partial))?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(DatasetError::io(&partial))?;
    fs::rename(&partial, dir.join(LIST)).map_err(DatasetError::io(&partial))
}

/// The files of `meta/` and `data/` below `root` as they are.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn list_of(root: &Path) -> Result<List, DatasetError> {
    let mut list = List::new();
    let mut folders = vec![root.join("meta"), root.join("data")];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(&folder).map_err(DatasetError::io(&folder))? {
            let path = entry.map_err(DatasetError::io(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = name_in(root, &path).filter(|name| name != MARKER) {
                list.insert(name, vec![sum_of(&path)?]);
            }
        }
    }
    Ok(list)
}

/// One line a sum, in the order of the paths.
pub(crate) fn text(list: &List) -> String {
    let lines = list.iter().flat_map(|(path, sums)| sums.iter().map(move |sum| format!("{sum}  {path}\n")));
    lines.collect()
}

/// A list as [`text`] writes it, lines that begin with `#` apart; `None` when there is no such file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_list(path: &Path) -> Result<Option<List>, DatasetError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DatasetError::io(path)(error)),
    };
    let mut list = List::new();
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n'));
        if line.is_some_and(|line| line.starts_with('#')) {
            continue;
        }
        let parts = line.and_then(|line| line.split_at_checked(64)).and_then(|(sum, rest)| {
            let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
            sum.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some((sum, name))
        });
        let Some((sum, name)) = parts else {
            let problem = format!(
                "line {} is not a SHA-256 sum and a path; copy the file again, or remove it to read the set unchecked",
                number + 1
            );
            return Err(DatasetError::metadata(path, problem));
        };
        list.entry(name.to_owned()).or_default().push(sum.to_owned());
    }
    Ok(Some(list))
}

/// The sum of a file; [`ABSENT`] when there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn sum_of(path: &Path) -> Result<String, DatasetError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(ABSENT.into()),
        Err(error) => return Err(DatasetError::io(path)(error)),
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(DatasetError::io(path))? {
            0 => return Ok(format!("{:x}", hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The sum of what a file is to hold.
pub(crate) fn sum(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// A path as lists have it; `None` when it does not lie in `root` or is no text.
fn name_in(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.iter().map(|part| part.to_str());
    Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
}
