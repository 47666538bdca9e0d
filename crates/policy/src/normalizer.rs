//! Physical units to the -1..=1 in which the network lives, and back.

use serde::{Deserialize, Serialize};

/// Linear scaling of each dimension: `low` becomes -1 and `high` 1. Those are the least and the greatest value in the
/// training set, or what else [`Normalization`](crate::Normalization) makes of it.
///
/// A constant dimension (its range is below 1e-4, or below 1e-6 of its size) carries nothing: it normalises to 0, plus
/// any departure from the constant in physical units, and unnormalises to the constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalizer {
    pub low: Vec<f64>,
    pub high: Vec<f64>,
}

impl Normalizer {
    /// The extremes over `rows`, each of `dim` numbers.
    ///
    /// # Errors
    /// When there are no rows, or a number is not finite. The text names row and dimension.
    pub fn fit<'a>(dim: usize, rows: impl IntoIterator<Item = &'a [f32]>) -> Result<Self, String> {
        let mut low = vec![f64::INFINITY; dim];
        let mut high = vec![f64::NEG_INFINITY; dim];
        for (index, row) in rows.into_iter().enumerate() {
            for (d, value) in row.iter().map(|value| f64::from(*value)).enumerate() {
                if !value.is_finite() {
                    return Err(format!("frame {index}, dimension {d} is {value}: mend or drop its episode"));
                }
                low[d] = low[d].min(value);
                high[d] = high[d].max(value);
            }
        }
        if low.iter().any(|low| low.is_infinite()) {
            return Err("there are no frames to learn a range from".into());
        }
        Ok(Self { low, high })
    }

    pub fn dim(&self) -> usize {
        self.low.len()
    }

    /// # Errors
    /// When the bounds do not belong together, which only a damaged checkpoint has.
    pub(crate) fn check(&self, dim: usize) -> Result<(), String> {
        let ordered = self.low.iter().zip(&self.high).all(|(low, high)| low.is_finite() && low <= high);
        let finite = self.high.iter().all(|high| high.is_finite());
        if self.low.len() != dim || self.high.len() != dim || !ordered || !finite {
            return Err(format!("the normaliser does not hold {dim} finite ranges"));
        }
        Ok(())
    }

    /// Factor and offset of a dimension: `normalised = (value - offset) * factor`.
    pub(crate) fn scale(&self, dim: usize) -> (f64, f64) {
        let (low, high) = (self.low[dim], self.high[dim]);
        let (center, range) = ((low + high) / 2.0, high - low);
        let constant = range < 1e-4 || range < 1e-6 * low.abs().max(high.abs());
        (if constant { 1.0 } else { 2.0 / range }, center)
    }

    /// Factors and offsets of all dimensions, for many rows.
    pub(crate) fn scaling(&self) -> Scaling {
        let (factors, offsets) = (0..self.dim()).map(|dim| self.scale(dim)).unzip();
        Scaling { factors, offsets }
    }

    /// Normalises one row of `dim` values.
    pub fn normalise(&self, row: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f32> {
        row.into_iter().enumerate().map(|(dim, value)| {
            let (factor, offset) = self.scale(dim);
            ((value - offset) * factor) as f32
        })
    }

    /// The inverse of [`normalise`](Self::normalise).
    pub fn unnormalise(&self, row: impl IntoIterator<Item = f32>) -> impl Iterator<Item = f64> {
        row.into_iter().enumerate().map(|(dim, value)| {
            let (factor, offset) = self.scale(dim);
            f64::from(value) / factor + offset
        })
    }
}

/// `normalised = (value - offset) * factor`, for each dimension.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scaling {
    pub factors: Vec<f64>,
    pub offsets: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_map_to_the_unit_range_and_back() {
        let rows = [[0.0f32, -3.0], [512.0, 5.0], [100.0, 1.0]];
        let normalizer = Normalizer::fit(2, rows.iter().map(|row| row.as_slice())).unwrap();
        let normalise = |row: [f64; 2]| normalizer.normalise(row).collect::<Vec<_>>();
        assert_eq!(normalise([0.0, 5.0]), [-1.0, 1.0]);
        for row in [[3.25, 4.5], [511.0, -2.0]] {
            let back: Vec<f64> = normalizer.unnormalise(normalise(row)).collect();
            assert!(back.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-4), "{back:?}");
        }
    }

    #[test]
    fn constant_dimensions_give_zero_and_come_back_as_the_constant() {
        let rows = [[7.0f32, 1e6], [7.0, 1e6 + 0.5]];
        let normalizer = Normalizer::fit(2, rows.iter().map(|row| row.as_slice())).unwrap();
        let normalised: Vec<f32> = normalizer.normalise([7.0, 1e6]).collect();
        assert_eq!(normalised[0], 0.0);
        assert!(normalised.iter().all(|value| value.is_finite() && value.abs() <= 1.0));
        assert_eq!(normalizer.unnormalise([0.0, 0.0]).next(), Some(7.0));
    }

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        let rows = [[0.0f32, 1.0], [0.0, f32::NAN]];
        let error = Normalizer::fit(2, rows.iter().map(|row| row.as_slice())).unwrap_err();
        assert!(error.contains("frame 1, dimension 1"), "{error}");
        assert!(Normalizer::fit(2, []).is_err());
    }
}
