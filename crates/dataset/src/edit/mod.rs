//! Data sets made of others: chosen episodes, converted to LeRobot v3.0, with faults mended on the way.
//!
//! A set is read block by block, each [`Edit`] is a function of one episode's columns, and what comes out goes to the
//! writer: a set of any size passes through. Without edits every number keeps its type and its bits.

mod angles;
mod convert;
mod draft;
mod frames;
mod mapping;
mod note;
mod plan;
mod selection;
mod source;
mod split;

pub use convert::{Conversion, Converted, LeftOut, convert};
pub use mapping::Mapped;
pub use selection::Selection;
pub use split::{Division, split};

use draft::Draft;

/// Numbers of one feature: all of them, or those at these places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// By its name in the source, or the one it is written under.
    pub feature: String,
    pub places: Option<Vec<usize>>,
}

/// One thing to mend in every episode.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Multiplies by a factor.
    Scale(Numbers, f64),
    /// Turns degrees into radians.
    Degrees(Numbers),
    /// Adds whole turns of 2 pi, so that an angle never jumps by more than pi from one frame to the next.
    Unwrap(Numbers),
    /// Removes frames that equal the one before in every number, where time did not advance or the motion around them did.
    DropRepeated,
    /// Removes the frames at either end of an episode in which nothing moves, but for one.
    TrimIdle,
    /// `action[t]` becomes `action[t + steps]`; frames for which there is none are removed.
    ShiftAction(i64),
    /// A frame's time becomes its number divided by the frame rate.
    Retime,
    /// Removes numbers from a vector.
    DropNumbers(Numbers),
}

/// An edit whose feature has been found: places of columns and of numbers in them.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Scale { column: usize, places: Vec<usize>, factor: f64 },
    Unwrap { column: usize, places: Vec<usize> },
    DropRepeated,
    TrimIdle,
    ShiftAction { columns: Vec<usize>, steps: i64 },
    Retime,
}

impl Step {
    fn apply(&self, draft: &mut Draft, fps: f64) {
        match self {
            Self::Scale { column, places, factor } => draft.change(*column, places, |values| {
                values.iter_mut().for_each(|value| *value *= factor);
            }),
            Self::Unwrap { column, places } => draft.change(*column, places, angles::unwrap),
            Self::DropRepeated => frames::drop_repeated(draft, fps),
            Self::TrimIdle => frames::trim_idle(draft, fps),
            Self::ShiftAction { columns, steps } => frames::shift(draft, columns, *steps, fps),
            Self::Retime => draft.times = draft::nominal(draft.rows(), fps),
        }
    }
}

#[cfg(test)]
mod tests;
