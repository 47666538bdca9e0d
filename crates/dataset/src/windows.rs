//! Training windows over episodes.

use nudge_control::Horizon;

use crate::Table;

/// Every window of `Tp` consecutive frames that a policy is trained on, over all episodes.
///
/// Windows start at each frame from `-(To - 1)`, and the last one reaches `pad_after` frames beyond the episode's end;
/// frames outside are repetitions of the edge frame (Chi et al. 2023, `create_indices` of the reference
/// implementation with `pad_before = To - 1`; there `pad_after` is `Ta - 1`).
#[derive(Clone, Debug)]
pub struct Windows {
    predicted: usize,
    first_start: i64,
    /// For each episode with windows: its number, and how many windows lie before it.
    episodes: Vec<(usize, usize)>,
    len: usize,
}

impl Windows {
    /// Windows over episodes of these lengths, in frames. An episode shorter than `Tp - To + 1 - pad_after` has none. With
    /// `pad_after = Ta - 1` the last `Tp - To - Ta + 1` frames of an episode are never the newest observed one; with
    /// `Tp - To` every frame is.
    pub fn new(episode_lengths: &[usize], horizon: Horizon, pad_after: usize) -> Self {
        let Horizon { observed, predicted, .. } = horizon;
        let (before, after) = (observed.saturating_sub(1), pad_after);
        let (before, after) =
            (before.min(predicted.saturating_sub(1)), after.min(predicted.saturating_sub(1)));
        let mut episodes = Vec::new();
        let mut len = 0;
        for (episode, length) in episode_lengths.iter().enumerate() {
            let count = (before + length + after + 1).saturating_sub(predicted);
            if count > 0 && *length > 0 {
                episodes.push((episode, len));
                len += count;
            }
        }
        Self { predicted, first_start: -(before as i64), episodes, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Episode and first frame of a window; the frame is negative for windows that begin before the episode.
    pub fn get(&self, index: usize) -> Option<(usize, i64)> {
        if index >= self.len {
            return None;
        }
        let at = self.episodes.partition_point(|(_, before)| *before <= index) - 1;
        let (episode, before) = self.episodes[at];
        Some((episode, self.first_start + (index - before) as i64))
    }

    /// `Tp`
    pub fn predicted(&self) -> usize {
        self.predicted
    }
}

/// Copies rows `start .. start + steps` of an episode into `out`, `[steps, dim]`, repeating the edge rows.
///
/// # Panics
/// When the table is empty or `out` is not `steps * dim` long.
pub fn gather(table: &Table, start: i64, steps: usize, out: &mut [f32]) {
    assert_eq!(out.len(), steps * table.dim, "`out` holds steps * dim numbers");
    let last = table.rows as i64 - 1;
    for (step, row) in out.chunks_exact_mut(table.dim).enumerate() {
        row.copy_from_slice(table.row((start + step as i64).clamp(0, last) as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Horizon = Horizon { observed: 2, predicted: 16, executed: 8 };

    #[test]
    fn windows_are_those_of_the_reference() {
        // create_indices over episode_ends [161, 165, 306] gives starts -1 ..= length - 16 + 7 for each.
        let lengths = [161, 4, 141, 10];
        let windows = Windows::new(&lengths, HORIZON, 7);
        let expected: Vec<(usize, i64)> = lengths
            .iter()
            .enumerate()
            .flat_map(|(episode, length)| (-1..=*length as i64 - 16 + 7).map(move |start| (episode, start)))
            .collect();
        assert_eq!(windows.len(), expected.len());
        let all: Vec<_> = (0..windows.len()).filter_map(|index| windows.get(index)).collect();
        assert_eq!(all, expected);
        assert_eq!(windows.get(windows.len()), None);
        assert!(Windows::new(&[], HORIZON, 7).is_empty());
        assert!(Windows::new(&[0], Horizon { observed: 1, predicted: 1, executed: 1 }, 0).is_empty());
    }

    #[test]
    fn with_enough_padding_every_frame_is_once_the_newest_observed() {
        let windows = Windows::new(&[20, 5], HORIZON, 14);
        let newest: Vec<_> = (0..windows.len())
            .filter_map(|index| windows.get(index))
            .map(|(episode, start)| (episode, start + 1))
            .collect();
        let expected: Vec<_> =
            [20, 5].iter().enumerate().flat_map(|(e, len)| (0..*len).map(move |f| (e, f))).collect();
        assert_eq!(newest, expected);
    }

    #[test]
    fn frames_outside_the_episode_repeat_the_edge() {
        let table = Table { rows: 3, dim: 2, values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
        let mut out = [0.0; 12];
        gather(&table, -2, 6, &mut out);
        assert_eq!(out, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 5.0]);
        gather(&table, 1, 6, &mut out);
        assert_eq!(out[..2], [2.0, 3.0]);
        assert_eq!(out[2..], [4.0, 5.0].repeat(5));
    }
}
