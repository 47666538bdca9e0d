//! The law of the fuzz target `mcap`, held against files that others wrote, cut at every length and with bytes inverted.

use std::path::Path;

#[path = "../../../fuzz/laws/mcap.rs"]
mod mcap;

#[test]
fn mcap_files_keep_their_law() {
    let scratch = tempfile::NamedTempFile::new().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/mcap");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        (0..=bytes.len()).for_each(|length| mcap::law(scratch.path(), &bytes[..length]));
        for at in (0..bytes.len()).step_by(11) {
            let mut changed = bytes.clone();
            changed[at] = !changed[at];
            mcap::law(scratch.path(), &changed);
        }
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}
