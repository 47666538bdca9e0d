//! Files cut short and with wrong bits: an error, or the right numbers.

use rand::Rng;

use super::super::settings::Settings;
use super::super::tensors::TensorFile;
use super::super::{Read, read};
use super::*;

/// Reads bytes as a state dict, as far as a checkpoint in memory.
fn read_bytes(place: &Place, bytes: &[u8], settings: Option<&Settings>) -> Result<Read, String> {
    let path = place.path("damaged.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let file = TensorFile::open(&path).map_err(|failure| failure.to_string())?;
    read(&file, None, settings, &ImportOptions::default())
}

#[test]
fn cut_short_a_file_is_an_error() {
    let (place, settings) = (Place::new(), Settings::from_toml(&format!("{SETTINGS}{RANGES}")).unwrap());
    let bytes = serialize_tensors(&named(Scheme::DiffusionPolicy, weights()), HashMap::new());
    assert!(read_bytes(&place, &bytes, Some(&settings)).is_ok());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..200 {
        let length = rng.random_range(0..bytes.len());
        assert!(read_bytes(&place, &bytes[..length], Some(&settings)).is_err(), "{length} bytes");
    }
}

#[test]
fn wrong_bits_in_the_header_are_an_error_or_change_nothing() {
    let (place, settings) = (Place::new(), Settings::from_toml(&format!("{SETTINGS}{RANGES}")).unwrap());
    let whole = serialize_tensors(&named(Scheme::DiffusionPolicy, weights()), HashMap::new());
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let right = read_bytes(&place, &whole, Some(&settings)).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..500 {
        let mut bytes = whole.clone();
        bytes[rng.random_range(0..header)] ^= 1 << rng.random_range(0..8);
        if let Ok(read) = read_bytes(&place, &bytes, Some(&settings)) {
            assert_eq!(read.values, right.values, "round {round}");
        }
    }
}

#[test]
fn an_exported_file_knows_any_wrong_bit() {
    let place = Place::new();
    let (checkpoint, exported) = (place.path("checkpoint"), place.path("exported.safetensors"));
    let source = place.path("policy.safetensors");
    write(&source, &named(Scheme::DiffusionPolicy, weights()));
    let settings = format!("{SETTINGS}{RANGES}");
    import(&source, &checkpoint, &ImportOptions { config: Some(&settings), ..Default::default() }).unwrap();
    crate::export::export(&checkpoint, &exported, Scheme::DiffusionPolicy).unwrap();
    let whole = std::fs::read(exported).unwrap();
    let right = read_bytes(&place, &whole, None).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut refused = 0;
    for round in 0..500 {
        let mut bytes = whole.clone();
        bytes[rng.random_range(0..whole.len())] ^= 1 << rng.random_range(0..8);
        match read_bytes(&place, &bytes, None) {
            Ok(read) => {
                assert_eq!(
                    (&read.values, &read.manifest.policy),
                    (&right.values, &right.manifest.policy),
                    "{round}"
                );
            }
            Err(_) => refused += 1,
        }
    }
    // Spaces that pad the header may change into others; nothing else may.
    assert!(refused >= 495, "{refused} of 500");
}
