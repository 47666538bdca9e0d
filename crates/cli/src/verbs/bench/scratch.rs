//! Room on disk for the time of a measurement.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// A folder that is gone when it is dropped, or when the program is told to end.
pub struct Scratch(PathBuf);

/// Those that are there; `None` before the first one.
static THERE: Mutex<Option<Vec<PathBuf>>> = Mutex::new(None);

/// As shells tell of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

impl Scratch {
    /// # Errors
    /// When the folder for temporary files cannot be written.
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("nudge-bench-{name}-{}", std::process::id()));
        let mut there = THERE.lock().unwrap_or_else(PoisonError::into_inner);
        if there.is_none() {
            ctrlc::set_handler(end).context("listening for Ctrl-C")?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        there.get_or_insert_default().push(path.clone());
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the folder for temporary files is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
        if let Some(there) = THERE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            there.retain(|path| *path != self.0);
        }
    }
}

/// Ends the program with nothing left behind. Others may still write to the folders: they are asked for again.
fn end() {
    let there = THERE.lock().unwrap_or_else(PoisonError::into_inner);
    for path in there.iter().flatten() {
        let _ = (0..100).find(|_| std::fs::remove_dir_all(path).is_ok() || !path.exists());
    }
    exit(INTERRUPTED);
}
