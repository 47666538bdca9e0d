//! One episode between reading and writing.

use std::hash::{DefaultHasher, Hasher};

use crate::Column;

/// An episode's columns, each row-major `[T, D]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    /// Seconds since the episode began, by frame.
    pub(super) times: Vec<f32>,
    pub(super) columns: Vec<Column>,
    /// What each column is called in the set to be, and how many numbers a frame of it holds.
    pub(super) layout: Vec<(String, usize)>,
}

/// `frame / fps` for each frame.
pub(super) fn nominal(frames: usize, fps: f64) -> Vec<f32> {
    (0..frames).map(|frame| (frame as f64 / fps) as f32).collect()
}

impl Draft {
    pub(super) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Applies `edit` to each of the numbers at `places` of a column of floats, as a series over the frames.
    pub(super) fn change(&mut self, column: usize, places: &[usize], edit: impl Fn(&mut [f64])) {
        let dim = self.layout[column].1;
        let column = &mut self.columns[column];
        let all = column.to_f64();
        for place in places {
            let mut series: Vec<f64> = all.iter().skip(*place).step_by(dim).copied().collect();
            edit(&mut series);
            match column {
                Column::Float16(values) | Column::Float32(values) => {
                    let own = values.iter_mut().skip(*place).step_by(dim);
                    own.zip(series).for_each(|(value, new)| *value = new as f32);
                }
                Column::Float64(values) => {
                    let own = values.iter_mut().skip(*place).step_by(dim);
                    own.zip(series).for_each(|(value, new)| *value = new);
                }
                // Refused before: whole numbers and flags are not measured.
                _ => {}
            }
        }
    }

    /// Whether two frames hold the same bits in every column.
    pub(super) fn same_frame(&self, one: usize, other: usize) -> bool {
        self.columns.iter().zip(&self.layout).all(|(column, (_, dim))| {
            (0..*dim).all(|place| column.bits(one * dim + place) == column.bits(other * dim + place))
        })
    }

    /// A fingerprint of everything but the times, from which equal episodes are known.
    pub(super) fn fingerprint(&self) -> [u64; 2] {
        [1_u64, 2].map(|salt| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(salt);
            for column in &self.columns {
                hasher.write_usize(column.len());
                (0..column.len()).for_each(|place| hasher.write_u64(column.bits(place)));
            }
            hasher.finish()
        })
    }

    /// Column and frame of the first number that is NaN or infinite.
    pub(super) fn non_finite(&self) -> Option<(&str, usize)> {
        self.columns.iter().zip(&self.layout).find_map(|(column, (name, dim))| {
            let place = column.to_f64().iter().position(|value| !value.is_finite())?;
            Some((name.as_str(), place / dim))
        })
    }

    /// Keeps these frames, which are in order; a column for whose name `instead` has others takes those.
    ///
    /// An episode begins at the time at which it began. Times that were nothing but `frame / fps` are so again, unless
    /// frames were taken out in between.
    pub(super) fn keep(&mut self, rows: &[usize], fps: f64, instead: impl Fn(&str) -> Option<Vec<usize>>) {
        if rows.len() == self.rows() {
            return;
        }
        let times = &self.times;
        self.times = match (rows.first(), rows.last()) {
            (Some(first), Some(last))
                if last - first + 1 == rows.len() && *times == nominal(times.len(), fps) =>
            {
                nominal(rows.len(), fps)
            }
            (Some(first), _) => {
                let late = f64::from(times[*first]) - f64::from(times[0]);
                rows.iter().map(|row| (f64::from(times[*row]) - late) as f32).collect()
            }
            _ => Vec::new(),
        };
        for (column, (name, dim)) in self.columns.iter_mut().zip(&self.layout) {
            *column = chosen(column, *dim, instead(name).as_deref().unwrap_or(rows));
        }
    }
}

/// These rows of a column.
pub(super) fn chosen(column: &Column, dim: usize, rows: &[usize]) -> Column {
    column.pick(&rows.iter().flat_map(|row| row * dim..(row + 1) * dim).collect::<Vec<_>>())
}

/// A column without some of its numbers.
pub(super) fn narrowed(column: &Column, dim: usize, kept: &[usize]) -> Column {
    let rows = 0..column.len() / dim;
    column.pick(&rows.flat_map(|row| kept.iter().map(move |place| row * dim + place)).collect::<Vec<_>>())
}
