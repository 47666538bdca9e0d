//! A set divided in two: one to train on, one to validate with.

use std::path::Path;

use super::{Conversion, Converted, convert};
use crate::staging::Staging;
use crate::{Dataset, DatasetError};

/// Which episodes are for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Division {
    /// This share of all, drawn with a seed; at least one, and never all.
    Share { share: f64, seed: u64 },
    /// Those from this one on.
    At(usize),
}

/// Writes `out/train` and `out/validation`, both or neither: no episode is in both, and every one in one of them. Both are
/// converted as `conversion` says, but for the episodes to keep.
///
/// # Errors
/// When the set has too few episodes for the division, and as [`convert`].
pub fn split(
    set: &Dataset,
    out: &Path,
    division: Division,
    conversion: &Conversion,
    progress: &mut dyn FnMut(usize),
) -> Result<[Converted; 2], DatasetError> {
    let validation = division.validation(set.episode_count())?;
    let train =
        (0..set.episode_count()).filter(|episode| validation.binary_search(episode).is_err()).collect();
    let staging = Staging::create(out)?;
    let mut write = |name: &str, episodes: Vec<usize>, before: usize| {
        let mut conversion = conversion.clone();
        conversion.selection.keep = Some(episodes);
        convert(set, &staging.path().join(name), &conversion, &mut |frames| progress(before + frames))
    };
    let train = write("train", train, 0)?;
    let validation = write("validation", validation, train.frames)?;
    staging.commit()?;
    Ok([train, validation])
}

impl Division {
    /// The episodes for validation, in order.
    fn validation(self, count: usize) -> Result<Vec<usize>, DatasetError> {
        if count < 2 {
            return Err(DatasetError::request(format!("a set of {count} episodes cannot be divided")));
        }
        match self {
            Self::At(at) if (1..count).contains(&at) => Ok((at..count).collect()),
            Self::At(at) => Err(DatasetError::request(format!(
                "the set cannot be divided at episode {at}: it holds {count}, so give one from 1 to {}",
                count - 1
            ))),
            Self::Share { share, .. } if !(share > 0.0 && share < 1.0) => {
                Err(DatasetError::request(format!("the share is {share}, but must lie between 0 and 1")))
            }
            Self::Share { share, seed } => {
                let wanted = ((share * count as f64).round() as usize).clamp(1, count - 1);
                let mut drawn: Vec<usize> = (0..count).collect();
                drawn.sort_by_key(|episode| (mixed(seed, *episode as u64), *episode));
                drawn.truncate(wanted);
                drawn.sort_unstable();
                Ok(drawn)
            }
        }
    }
}

/// A number without pattern for each episode (SplitMix64's output function, Steele et al. 2014), so that an order by it is
/// a shuffle.
fn mixed(seed: u64, episode: u64) -> u64 {
    let step = |state: u64| {
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    step(step(seed) ^ episode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_episode_is_drawn_alike_often() {
        let mut drawn = [0_u32; 20];
        for seed in 0..2_000 {
            let validation = Division::Share { share: 0.25, seed }.validation(20).unwrap();
            assert_eq!(validation.len(), 5);
            assert!(validation.is_sorted_by(|one, next| one < next));
            validation.iter().for_each(|episode| drawn[*episode] += 1);
        }
        // 500 are expected of each; the standard deviation is sqrt(2000 / 4 * 3 / 4) = 19.4, and 5 of them are 97.
        assert!(drawn.iter().all(|count| count.abs_diff(500) < 97), "{drawn:?}");
    }

    #[test]
    fn at_least_one_is_drawn_and_never_all() {
        let drawn =
            |share, count| Division::Share { share, seed: 3 }.validation(count).map(|drawn| drawn.len());
        assert_eq!(drawn(0.01, 5).unwrap(), 1);
        assert_eq!(drawn(0.99, 5).unwrap(), 4);
        for (share, count) in [(0.0, 5), (1.0, 5), (f64::NAN, 5), (0.5, 1)] {
            assert!(drawn(share, count).is_err(), "{share} {count}");
        }
        assert_eq!(Division::At(3).validation(5).unwrap(), [3, 4]);
        assert!(Division::At(0).validation(5).is_err() && Division::At(5).validation(5).is_err());
    }
}
