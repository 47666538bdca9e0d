//! How signals lie in memory.

use std::ops::Range;

use super::product::Rows;

/// Shape of a signal `[B, L, C]`, stored with `pad` rows of zeros before and after every sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub length: usize,
    pub channels: usize,
    pub pad: usize,
}

impl Shape {
    fn stride(self) -> usize {
        (self.length + 2 * self.pad) * self.channels
    }

    /// Numbers of some samples, zeros between them included.
    pub fn len(self, samples: usize) -> usize {
        samples * self.stride()
    }

    /// Where the steps of a sample lie.
    pub fn inside(self, sample: usize) -> Range<usize> {
        let start = sample * self.stride() + self.pad * self.channels;
        start..start + self.length * self.channels
    }

    /// Every `stride`th row from `start` on, `steps` of each sample.
    pub fn rows(self, samples: usize, start: isize, stride: usize, steps: usize) -> Rows {
        let start = (self.pad as isize + start) as usize * self.channels;
        let rows =
            Rows { start, samples, sample_stride: self.stride(), steps, step_stride: stride * self.channels };
        // Without a time axis, samples are as good as steps.
        match self.length + 2 * self.pad {
            1 => Rows { samples: 1, steps: samples, step_stride: self.channels, ..rows },
            _ => rows,
        }
    }
}
