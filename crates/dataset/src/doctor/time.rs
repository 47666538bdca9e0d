//! The clock and the counters of a set.

use super::case::Case;
use super::finding::{Fault, Finding, Severity};
use super::layout::Series;
use super::robust::median;

/// What the time stamps of the episodes say together.
#[derive(Default)]
pub(super) struct Clock {
    /// The median period of each episode.
    periods: Vec<f64>,
    /// Frames with a time stamp, and those whose stamp is frame / fps to the last bit.
    stamped: usize,
    computed: usize,
}

impl Clock {
    /// Checks one episode; `first_frame` is its first in the set.
    pub(super) fn check(
        &mut self,
        case: &Case,
        series: &Series,
        first_frame: usize,
        found: &mut Vec<Finding>,
    ) {
        found.extend(series.frame_index.as_deref().and_then(|index| frame_index(case, series, index)));
        found
            .extend(series.index.as_deref().and_then(|index| global_index(case, series, index, first_frame)));
        if let Some(time) = series.time.as_deref() {
            self.stamps(case, series, time, found);
        }
    }

    fn stamps(&mut self, case: &Case, series: &Series, time: &[f32], found: &mut Vec<Finding>) {
        let Some(fps) = case.fps else { return };
        let origin = f64::from(time.first().copied().unwrap_or(0.0));
        self.stamped += time.len();
        self.computed += time
            .iter()
            .enumerate()
            .filter(|(frame, stamp)| {
                // The quotient rounded once, or computed in 32 bits.
                **stamp == (*frame as f64 / fps) as f32 || **stamp == *frame as f32 / fps as f32
            })
            .count();
        let steps: Vec<f64> = time.windows(2).map(|pair| f64::from(pair[1]) - f64::from(pair[0])).collect();
        if steps.is_empty() {
            return;
        }
        // Gaps are told against the frames' own period: another rate than the set states is one finding, not
        // thousands.
        let period = median(steps.clone());
        self.periods.push(period);
        let first = |bad: &dyn Fn(f64) -> bool| {
            let frames: Vec<usize> =
                steps.iter().enumerate().filter(|(_, step)| bad(**step)).map(|(f, _)| f + 1).collect();
            frames.first().map(|first| (*first, frames.len()))
        };
        if let Some((frame, count)) = first(&|step| step.is_nan() || step <= 0.0) {
            let what = format!(
                "time goes from {} s to {} s at frame {frame} of episode {}; {count} such steps",
                time[frame - 1],
                time[frame],
                series.episode
            );
            let effect =
                "the order or the spacing of these frames is wrong, so the policy sees motions that were not";
            let finding = Finding::new(Fault::TimeNotAdvancing, Severity::Error, what, effect)
                .of("timestamp", None)
                .at(series.episode, Some(frame))
                .count(count);
            found.push(finding.mend(case.convert("--drop-repeated")).mend(case.drop_episode(series.episode)));
        }
        if period <= 0.0 {
            return;
        }
        // A stamp of t seconds in 32 bits is off by up to t / 2^24; a gap is told from jitter at one and a
        // half periods.
        let noise = 2.0 * (origin.abs() + period * steps.len() as f64) / f64::from(1 << 24);
        if let Some((frame, count)) = first(&|step| step > 1.5 * period + noise) {
            let missing: f64 = steps
                .iter()
                .filter(|step| **step > 1.5 * period + noise)
                .map(|step| (step / period).round() - 1.0)
                .sum();
            let what = format!(
                "time jumps by {:.3} s at frame {frame} of episode {} where a period is {period:.3} s; \
                 {missing:.0} frames are missing at {count} places",
                steps[frame - 1],
                series.episode
            );
            let effect = "across each gap the motion is faster than the robot's; the policy learns jumps";
            let finding = Finding::new(Fault::DroppedFrames, Severity::Warning, what, effect)
                .of("timestamp", None)
                .at(series.episode, Some(frame))
                .count(count);
            found.push(finding.mend(case.drop_episode(series.episode)));
        }
        let uneven = |step: f64| {
            step > 0.0 && (step - period).abs() > 0.25 * period + noise && step <= 1.5 * period + noise
        };
        // One late frame is how computers are; a twentieth of them is a clock nobody can rely on.
        if let Some((frame, count)) =
            first(&uneven).filter(|(_, count)| 20 * count >= steps.len() && *count >= 3)
        {
            let what = format!(
                "{count} of {} frames of episode {} come more than a quarter of a period ({period:.3} s) \
                 early or late, the first is frame {frame}",
                series.frames, series.episode
            );
            let effect = "a step of the policy stands for steps of different lengths in time";
            let finding = Finding::new(Fault::UnevenTime, Severity::Warning, what, effect)
                .of("timestamp", None)
                .at(series.episode, Some(frame))
                .count(count);
            found.push(finding.mend(case.drop_episode(series.episode)));
        }
    }

    /// What all episodes say together.
    pub(super) fn conclude(self, case: &Case, found: &mut Vec<Finding>) {
        let Some(fps) = case.fps else { return };
        let period = median(self.periods);
        // Clocks of computers agree within 1e-4; 2 % is beyond every drift, and the smallest mistake in a
        // rate (29.97 for 30) that matters to nobody lies within.
        if period > 0.0 && (period * fps - 1.0).abs() > 0.02 {
            let rate = 1.0 / period;
            let what =
                format!("the set states {fps} frames per second, but its time stamps come at {rate:.4}");
            let effect = "the policy would be trained for one control rate and run at another: motions too \
                          fast or too slow";
            found.push(
                Finding::new(Fault::FpsMismatch, Severity::Error, what, effect)
                    .of("timestamp", None)
                    .mend(case.convert(&format!("--fps {}", (rate * 100.0).round() / 100.0)))
                    .mend(case.convert("--retime")),
            );
        }
        if self.stamped > 0 && self.computed == self.stamped {
            let what = format!(
                "all {} time stamps are frame / {fps} to the last bit: computed, not measured",
                self.stamped
            );
            let effect = "no harm in itself, but dropped or late frames cannot be seen any more";
            found.push(
                Finding::new(Fault::TimeSynthesised, Severity::Note, what, effect)
                    .of("timestamp", None)
                    .count(self.stamped),
            );
        }
    }
}

fn frame_index(case: &Case, series: &Series, index: &[f32]) -> Option<Finding> {
    let wrong: Vec<usize> = (0..index.len()).filter(|frame| index[*frame] != *frame as f32).collect();
    let first = *wrong.first()?;
    let forward = index.windows(2).all(|pair| pair[1] > pair[0]);
    let (severity, why, effect) = if forward {
        (
            Severity::Warning,
            "numbers are left out",
            "frames are missing there; across the gap the policy learns a jump",
        )
    } else {
        (
            Severity::Error,
            "numbers repeat or go back",
            "frames are double or not in the order of time, so windows show motions that were not",
        )
    };
    let what = format!(
        "frame {first} of episode {} is numbered {}: {why}, and {} frames have another number than their \
         place",
        series.episode,
        index[first],
        wrong.len()
    );
    Some(
        Finding::new(Fault::FrameIndex, severity, what, effect)
            .of("frame_index", None)
            .at(series.episode, Some(first))
            .count(wrong.len())
            .mend(case.drop_episode(series.episode)),
    )
}

fn global_index(case: &Case, series: &Series, index: &[f32], first_frame: usize) -> Option<Finding> {
    // Compared as 32-bit reals, which is how they were read: beyond 2^24 frames neighbours look alike.
    let wrong: Vec<usize> =
        (0..index.len()).filter(|frame| index[*frame] != (first_frame + frame) as f32).collect();
    let first = *wrong.first()?;
    let what = format!(
        "frame {first} of episode {} is number {} of the set, but `index` says {}; {} frames of the episode \
         are wrong",
        series.episode,
        first_frame + first,
        index[first],
        wrong.len()
    );
    let effect = "LeRobot's loader finds frames by this number and would take others; Nudge does not use it";
    Some(
        Finding::new(Fault::GlobalIndex, Severity::Warning, what, effect)
            .of("index", None)
            .at(series.episode, Some(first))
            .count(wrong.len())
            .mend(case.convert("")),
    )
}
