//! The laws of the fuzz targets, held against the small corpus that comes with the repository.

use std::path::Path;

#[path = "../../../fuzz/laws/attachment.rs"]
mod attachment;
#[path = "../../../fuzz/laws/cdr.rs"]
mod cdr;

/// Every file of a target's corpus, whole, cut at every length and with each byte inverted.
fn replay(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        law(&bytes);
        for at in 0..bytes.len() {
            law(&bytes[..at]);
            let mut changed = bytes.clone();
            changed[at] = !changed[at];
            law(&changed);
        }
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn messages_keep_their_law() {
    replay("cdr", cdr::law);
}

#[test]
fn attachments_keep_their_law() {
    replay("attachment", attachment::law);
}
