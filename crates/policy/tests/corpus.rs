//! The laws of the fuzz targets: checkpoints and experiments that others wrote are refused or good, and never end the program.

use std::path::{Path, PathBuf};

#[path = "../../../fuzz/laws/checkpoint.rs"]
mod checkpoint;
#[path = "../../../fuzz/laws/train_config.rs"]
mod train_config;

fn texts(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn checkpoints_keep_their_law() {
    let (folder, good) = checkpoint::base();
    for (which, file) in (0_u8..).zip(good) {
        let with = |bytes: &[u8]| checkpoint::law(&[&[which], bytes].concat());
        (0..=file.len()).for_each(|length| with(&file[..length]));
        // Changed bytes of the headers, and of the numbers behind them, here and there.
        let header =
            if which == 0 { file.len() } else { 8 + usize::from(file[0]) + 256 * usize::from(file[1]) };
        let stride = (header / 150).max(1);
        for at in (0..header).step_by(stride).chain((header..file.len()).step_by(997)) {
            let mut changed = file.clone();
            changed[at] = !changed[at];
            with(&changed);
        }
    }
    for text in texts("tests/corpus/checkpoint") {
        checkpoint::law(&text);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn experiments_keep_their_law() {
    let shipped = texts("configs").into_iter().chain(texts("tests/corpus/train_config"));
    for text in shipped {
        (0..=text.len()).for_each(|length| train_config::law(&text[..length]));
        for at in (0..text.len()).step_by(5) {
            let mut changed = text.clone();
            changed[at] = changed[at].wrapping_add(1);
            train_config::law(&changed);
        }
    }
}
