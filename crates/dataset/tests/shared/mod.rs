//! Reference recordings, which do not come with the program.

use std::path::{Path, PathBuf};

/// A folder or file of them; `None`, and said so, where they are not.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(folder);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: {} is not here", path.display());
    None
}
