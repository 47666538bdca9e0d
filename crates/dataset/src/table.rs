//! Numbers of one feature over consecutive frames.

/// A row-major `[rows, dim]` table in physical units.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub rows: usize,
    pub dim: usize,
    pub values: Vec<f32>,
}

impl Table {
    /// The `D` numbers of one frame.
    ///
    /// # Panics
    /// When `row` is not below `rows`, as a slice would.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    /// Row and number of the first value that is NaN or infinite, and how many there are.
    pub fn non_finite(&self) -> Option<((usize, usize), usize)> {
        let first = self.values.iter().position(|value| !value.is_finite())?;
        let count = self.values[first..].iter().filter(|value| !value.is_finite()).count();
        Some(((first / self.dim, first % self.dim), count))
    }
}
