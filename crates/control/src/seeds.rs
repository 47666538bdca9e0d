//! Seeds from seeds.

/// One step of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters nearby inputs.
pub fn split_mix_64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The noise seed of the plan made at `step` of the episode of `episode_seed`.
pub fn noise_seed(episode_seed: u64, step: u64) -> u64 {
    split_mix_64(split_mix_64(episode_seed) ^ step)
}
