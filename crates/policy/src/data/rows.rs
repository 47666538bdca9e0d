//! Episodes in memory, one after another.

use nudge_dataset::Table;

/// Observations `[frames, Do]` and actions `[frames, Da]` of consecutive episodes, in physical units.
pub(crate) struct Rows {
    dims: [usize; 2],
    observation: Vec<f32>,
    action: Vec<f32>,
    /// The frame at which each episode begins, and that at which the last one ends.
    bounds: Vec<usize>,
}

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct EpisodeRows<'a> {
    dims: [usize; 2],
    /// `[T, Do]`
    observation: &'a [f32],
    /// `[T, Da]`
    action: &'a [f32],
}

/// A feature that makes part of a row: its table, and which of its numbers, or all.
pub(crate) type Part<'a> = (&'a Table, Option<&'a [usize]>);

impl Rows {
    /// No episodes yet, of `[Do, Da]` numbers a frame, and room for `frames`.
    pub fn new(dims: [usize; 2], frames: usize) -> Self {
        let [observation, action] = dims.map(|dim| Vec::with_capacity(frames * dim));
        Self { dims, observation, action, bounds: vec![0] }
    }

    /// Appends an episode whose rows are those of the parts side by side.
    pub fn push(&mut self, observation: &[Part], action: &[Part]) {
        append(observation, &mut self.observation);
        append(action, &mut self.action);
        self.bounds.push(self.action.len() / self.dims[1]);
    }

    /// Appends an episode of other rows.
    pub fn push_episode(&mut self, episode: EpisodeRows) {
        self.observation.extend_from_slice(episode.observation);
        self.action.extend_from_slice(episode.action);
        self.bounds.push(self.action.len() / self.dims[1]);
    }

    /// Frames of each episode.
    pub fn lengths(&self) -> Vec<usize> {
        self.bounds.windows(2).map(|bounds| bounds[1] - bounds[0]).collect()
    }

    /// # Panics
    /// When there is no such episode, as a slice would.
    pub fn episode(&self, episode: usize) -> EpisodeRows<'_> {
        let (from, to) = (self.bounds[episode], self.bounds[episode + 1]);
        let [observed, acted] = self.dims;
        EpisodeRows {
            dims: self.dims,
            observation: &self.observation[from * observed..to * observed],
            action: &self.action[from * acted..to * acted],
        }
    }
}

impl<'a> EpisodeRows<'a> {
    pub fn frames(&self) -> usize {
        self.action.len() / self.dims[1]
    }

    /// The observation at a frame; before the first and after the last frame those are repeated.
    pub fn observation(&self, frame: i64) -> &'a [f32] {
        row(self.observation, self.dims[0], self.inside(frame))
    }

    /// The action at a frame, likewise.
    pub fn action(&self, frame: i64) -> &'a [f32] {
        row(self.action, self.dims[1], self.inside(frame))
    }

    fn inside(&self, frame: i64) -> usize {
        frame.clamp(0, self.frames() as i64 - 1) as usize
    }
}

fn row(values: &[f32], dim: usize, frame: usize) -> &[f32] {
    &values[frame * dim..(frame + 1) * dim]
}

fn append(parts: &[Part], out: &mut Vec<f32>) {
    if let [(table, None)] = parts {
        out.extend_from_slice(&table.values);
        return;
    }
    for frame in 0..parts.first().map_or(0, |(table, _)| table.rows) {
        for (table, numbers) in parts {
            let row = table.row(frame);
            match numbers {
                Some(numbers) => out.extend(numbers.iter().map(|number| row[*number])),
                None => out.extend_from_slice(row),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_side_by_side_and_edges_are_repeated() {
        let pose = Table { rows: 2, dim: 3, values: vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0] };
        let gripper = Table { rows: 2, dim: 1, values: vec![5.0, 15.0] };
        let mut rows = Rows::new([3, 1], 4);
        rows.push(&[(&pose, Some(&[2, 0])), (&gripper, None)], &[(&gripper, None)]);
        rows.push(&[(&pose, None)], &[(&pose, Some(&[1]))]);
        assert_eq!(rows.lengths(), [2, 2]);
        let first = rows.episode(0);
        assert_eq!(
            (first.frames(), first.observation(0), first.action(1)),
            (2, &[2.0, 0.0, 5.0][..], &[15.0][..])
        );
        assert_eq!(
            (first.observation(-3), first.observation(7)),
            (first.observation(0), first.observation(1))
        );
        let mut copy = Rows::new([3, 1], 0);
        copy.push_episode(rows.episode(1));
        assert_eq!(copy.episode(0).action(1), [11.0]);
    }
}
