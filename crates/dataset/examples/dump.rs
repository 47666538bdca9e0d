//! Prints what a data set holds in a form that other readers can be compared with, bit for bit:
//!
//! ```text
//! cargo run --release -p nudge-dataset --example dump SET
//! ```
//!
//! One JSON object: episodes, frames, and for each feature of numbers how many there are, their sum in f64, and the
//! FNV-1a hash (64 bits) of all of them as little-endian f32, in the order of the episodes.
//! `tests/python/compare_formats.py` computes the same with pyarrow, zarr-python and h5py.

use std::path::Path;

use nudge_dataset::Dataset;
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which data set? dump SET")?;
    let set = Dataset::open(Path::new(&path))?;
    let mut features = Map::new();
    for feature in set.info().features.iter().filter(|feature| feature.is_numeric()) {
        let (mut count, mut sum, mut hash) = (0, 0.0, OFFSET);
        let episodes = match set.read_all(&[&feature.name]) {
            Ok(episodes) => episodes,
            Err(error) => {
                features.insert(feature.name.clone(), json!({ "refused": error.to_string() }));
                continue;
            }
        };
        for tables in episodes {
            for value in &tables[0].values {
                count += 1;
                sum += f64::from(*value);
                hash = value.to_le_bytes().iter().fold(hash, fnv1a);
            }
        }
        // NaN and infinity are no JSON.
        let sum = if f64::is_finite(sum) { json!(sum) } else { Value::Null };
        features.insert(
            feature.name.clone(),
            json!({ "dtype": feature.dtype, "shape": feature.shape, "count": count, "sum": sum, "fnv1a": format!("{hash:016x}") }),
        );
    }
    let lengths: Vec<_> =
        (0..set.episode_count()).filter_map(|episode| set.episode_length(episode)).collect();
    let report = json!({ "format": set.format(), "frames": set.frame_count(), "lengths": lengths, "features": features });
    println!("{report}");
    Ok(())
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
}
