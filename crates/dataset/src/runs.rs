//! Episodes that are read, and held in memory, together.

use std::ops::Range;

/// Cuts episodes, each by its number and its frames, into runs that follow one another and hold `most_frames` together; an
/// episode that is longer than that is a run of its own.
pub fn runs(episodes: impl IntoIterator<Item = (usize, usize)>, most_frames: usize) -> Vec<Range<usize>> {
    let (mut runs, mut frames) = (Vec::<Range<usize>>::new(), 0);
    for (episode, length) in episodes {
        match runs.last_mut() {
            Some(run) if run.end == episode && frames + length <= most_frames => {
                run.end += 1;
                frames += length;
            }
            _ => {
                runs.push(episode..episode + 1);
                frames = length;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_FRAMES: usize = 1 << 16;

    fn runs_of(lengths: &[usize]) -> Vec<Range<usize>> {
        runs(lengths.iter().copied().enumerate(), RUN_FRAMES)
    }

    #[test]
    fn runs_hold_every_episode_once() {
        assert!(runs_of(&[]).is_empty());
        let whole = 0..3;
        assert_eq!(runs_of(&[3, 0, 2]), [whole]);
        assert_eq!(runs_of(&[RUN_FRAMES, 1, RUN_FRAMES - 1, 5, 5]), [0..1, 1..3, 3..5]);
    }

    #[test]
    fn episodes_apart_are_not_of_one_run() {
        assert_eq!(runs([(0, 3), (1, 3), (4, 3), (5, 9), (6, 1)], 10), [0..2, 4..5, 5..7]);
    }
}
