//! Faults in the numbers: each is planted at a place that the dice choose, and says what the doctor should
//! find.

use nudge_dataset::Fault;

use super::{Demos, Dice};

/// What the doctor should find.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub fault: Fault,
    pub episode: Option<usize>,
    /// The frame, and how far off the doctor may be.
    pub frame: Option<(usize, usize)>,
}

fn set(fault: Fault) -> Expected {
    Expected { fault, episode: None, frame: None }
}

fn episode(fault: Fault, episode: usize) -> Expected {
    Expected { fault, episode: Some(episode), frame: None }
}

fn frame(fault: Fault, episode: usize, frame: usize, off: usize) -> Expected {
    Expected { fault, episode: Some(episode), frame: Some((frame, off)) }
}

pub type Plant = fn(&mut Demos, &mut Dice) -> Expected;

/// Everything that can be planted in any set, by name.
pub const PLANTS: &[(&str, Plant)] = &[
    ("time goes back", time_goes_back),
    ("time stands still", time_stands_still),
    ("frames dropped, times tell", dropped_frames),
    ("an unsteady clock", unsteady_clock),
    ("another frame rate", other_rate),
    ("NaN", nan),
    ("infinity", infinity),
    ("a constant number", constant),
    ("a nearly constant number", nearly_constant),
    ("actions cut off in all episodes", clipped),
    ("an action stuck at its limit", stuck_at_limit),
    ("an angle wrapped in one episode", wrapped),
    ("a frame recorded five times", repeated),
    ("idle beginning", idle_start),
    ("idle middle", idle_middle),
    ("idle end", idle_end),
    ("a spike in the state", state_spike),
    ("a spike in the action", action_spike),
    ("a hung sensor", hung_sensor),
    ("lost commands", lost_commands),
    ("a teleport", teleport),
    ("frames dropped, times do not tell", hidden_drop),
    ("two episodes in one", cut_together),
    ("shuffled frames", shuffled),
    ("actions too late, whole set", late_actions),
    ("actions too early, whole set", early_actions),
    ("actions shifted in one episode", shifted_episode),
    ("the state as the action", state_as_action),
    ("actions of another episode", foreign_actions),
    ("swapped numbers", swapped),
    ("another handedness", flipped),
    ("actions in degrees", action_in_degrees),
    ("an episode in degrees", episode_in_degrees),
    ("an episode of eight frames", short),
    ("an overlong episode", overlong),
    ("a value far out of range", out_of_range),
    ("the same episode twice", duplicate),
    ("the same episode with noise", noisy_duplicate),
    ("a part of another episode", partial_duplicate),
    ("an empty task", no_task),
    ("done in the middle", done_early),
    ("no action", no_action),
];

fn time_goes_back(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    demos.takes[e].times[f] = demos.takes[e].times[f - 1] - 0.5 * dice.part() - 0.01;
    frame(Fault::TimeNotAdvancing, e, f, 0)
}

fn time_stands_still(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    demos.takes[e].times[f] = demos.takes[e].times[f - 1];
    frame(Fault::TimeNotAdvancing, e, f, 0)
}

fn dropped_frames(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    let gap = ((1 + dice.below(8)) as f64 / demos.fps) as f32;
    demos.takes[e].times[f..].iter_mut().for_each(|time| *time += gap);
    frame(Fault::DroppedFrames, e, f, 0)
}

fn unsteady_clock(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, _) = demos.busy(dice, 5);
    let period = (1.0 / demos.fps) as f32;
    for (f, time) in demos.takes[e].times.iter_mut().enumerate() {
        *time = (f as f32 + if f % 3 == 0 { 0.15 * dice.part() } else { -0.3 }) * period;
    }
    episode(Fault::UnevenTime, e)
}

fn other_rate(demos: &mut Demos, dice: &mut Dice) -> Expected {
    demos.fps *= if dice.below(2) == 0 { 1.5 } else { 0.5 };
    set(Fault::FpsMismatch)
}

fn nan(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    *demos.at(e, demos.action, f, 1) = f32::NAN;
    frame(Fault::NonFinite, e, f, 0)
}

fn infinity(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    *demos.at(e, demos.state, f, 0) = f32::NEG_INFINITY;
    frame(Fault::NonFinite, e, f, 0)
}

fn each(demos: &mut Demos, feature: usize, number: usize, edit: &mut dyn FnMut(f32) -> f32) {
    for e in 0..demos.takes.len() {
        one(demos, e, feature, number, edit);
    }
}

fn one(demos: &mut Demos, e: usize, feature: usize, number: usize, edit: &mut dyn FnMut(f32) -> f32) {
    for f in 0..demos.frames(e) {
        let value = demos.at(e, feature, f, number);
        *value = edit(*value);
    }
}

fn constant(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let value = dice.part();
    each(demos, demos.state, 1, &mut |_| value);
    set(Fault::ConstantNumber)
}

fn nearly_constant(demos: &mut Demos, dice: &mut Dice) -> Expected {
    each(demos, demos.state, 1, &mut |_| 3.0 + 2.5e-7 * dice.below(3) as f32);
    set(Fault::NearlyConstant)
}

fn clipped(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (low, high) = demos.extremes(demos.action, 0);
    let limit = low + (0.75 + 0.1 * dice.part()) * (high - low);
    each(demos, demos.action, 0, &mut |value| value.min(limit));
    set(Fault::SaturatedAction)
}

fn stuck_at_limit(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 30);
    let (_, high) = demos.extremes(demos.action, 1);
    (f..f + 30).for_each(|f| *demos.at(e, demos.action, f, 1) = high);
    frame(Fault::SaturatedAction, e, f, 1)
}

fn wrapped(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (feature, number) = demos.angle;
    let turn = std::f32::consts::TAU;
    loop {
        let e = dice.below(demos.takes.len());
        let values: Vec<f32> = (0..demos.frames(e)).map(|f| demos.get(e, feature, f, number)).collect();
        let (low, high) =
            values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        if high - low < 0.5 || high - low > 6.0 {
            continue;
        }
        // Its zero lies in the middle of what the episode covers.
        let zero = 0.5 * (low + high);
        let wrap = |value: f32| (value - zero).rem_euclid(turn);
        let first = (1..values.len()).find(|f| (wrap(values[*f]) - wrap(values[f - 1])).abs() > 3.0);
        one(demos, e, feature, number, &mut |value| wrap(value));
        return frame(Fault::AngleWrap, e, first.unwrap(), 0);
    }
}

fn repeated(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 8);
    let frames: Vec<usize> = (0..=f).chain([f; 4]).chain(f + 1..demos.frames(e)).collect();
    demos.rearrange(e, &frames);
    frame(Fault::RepeatedFrames, e, f + 1, 0)
}

/// Still frames at `f`, with the noise of a sensor that is a hundredth of a step.
fn still(demos: &mut Demos, e: usize, f: usize, count: usize) {
    let frames: Vec<usize> =
        (0..=f).chain(std::iter::repeat_n(f, count)).chain(f + 1..demos.frames(e)).collect();
    demos.rearrange(e, &frames);
}

fn idle_start(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    still(demos, e, 0, 40);
    frame(Fault::Idle, e, 0, 0)
}

fn idle_middle(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    still(demos, e, f, 60);
    frame(Fault::Idle, e, f + 1, 1)
}

fn idle_end(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let last = demos.frames(e) - 1;
    still(demos, e, last, 40);
    frame(Fault::Idle, e, last + 1, 1)
}

/// A spike of 0.25 to 0.75 of the range, up or down.
fn spike(demos: &mut Demos, dice: &mut Dice, feature: usize) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    let number = dice.below(demos.dim(feature));
    let size = (0.25 + 0.5 * dice.part()) * demos.range(feature, number);
    *demos.at(e, feature, f, number) += if dice.below(2) == 0 { size } else { -size };
    frame(Fault::Jerk, e, f, 0)
}

fn state_spike(demos: &mut Demos, dice: &mut Dice) -> Expected {
    spike(demos, dice, demos.state)
}

fn action_spike(demos: &mut Demos, dice: &mut Dice) -> Expected {
    spike(demos, dice, demos.action)
}

/// Holds all numbers of a feature for 35 frames.
fn hold(demos: &mut Demos, dice: &mut Dice, feature: usize) -> (usize, usize) {
    let (e, f) = demos.busy(dice, 36);
    for number in 0..demos.dim(feature) {
        let value = demos.get(e, feature, f, number);
        (f..f + 36).for_each(|f| *demos.at(e, feature, f, number) = value);
    }
    (e, f)
}

fn hung_sensor(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = hold(demos, dice, demos.state);
    frame(Fault::FrozenObservation, e, f, 2)
}

fn lost_commands(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = hold(demos, dice, demos.action);
    frame(Fault::FrozenAction, e, f, 2)
}

fn teleport(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 12);
    let number = dice.below(demos.dim(demos.state));
    let size = (0.25 + 0.25 * dice.part()) * demos.range(demos.state, number);
    (f..f + 10).for_each(|f| *demos.at(e, demos.state, f, number) += size);
    // Where it comes back is as far a leap.
    frame(Fault::UnreachableState, e, f + 5, 6)
}

/// Frames are gone, and the times were made up afterwards.
fn hidden_drop(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 24);
    let gone = 20;
    let frames: Vec<usize> = (0..f).chain(f + gone..demos.frames(e)).collect();
    let times = demos.takes[e].times.clone();
    demos.rearrange(e, &frames);
    demos.takes[e].times = times[..frames.len()].to_vec();
    // State and action are both elsewhere then, as where two recordings meet.
    frame(Fault::CutTogether, e, f, 1)
}

fn cut_together(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let other = (e + 1 + dice.below(demos.takes.len() - 1)) % demos.takes.len();
    let f = demos.frames(e);
    let more = demos.takes[other].clone();
    for (table, more) in demos.takes[e].tables.iter_mut().zip(&more.tables) {
        table.extend(more);
    }
    let then = demos.takes[e].times[f - 1] + (1.0 / demos.fps) as f32;
    demos.takes[e].times.extend(more.times.iter().map(|time| time + then));
    frame(Fault::CutTogether, e, f, 1)
}

fn shuffled(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 32);
    let mut frames: Vec<usize> = (0..demos.frames(e)).collect();
    for at in (f + 1..f + 32).rev() {
        frames.swap(at, f + dice.below(at - f + 1));
    }
    demos.rearrange(e, &frames);
    frame(Fault::ShuffledFrames, e, f + 16, 24)
}

/// Gives each frame the action of `by` frames before.
fn delay_actions(demos: &mut Demos, e: usize, by: i64) {
    let last = demos.frames(e) as i64 - 1;
    let dim = demos.dim(demos.action);
    let table = demos.takes[e].tables[demos.action].clone();
    let from = (0..=last).map(|f| (f - by).clamp(0, last) as usize);
    demos.takes[e].tables[demos.action] = from.flat_map(|f| table[f * dim..(f + 1) * dim].to_vec()).collect();
}

fn late_actions(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let by = 4 + dice.below(3) as i64;
    (0..demos.takes.len()).for_each(|e| delay_actions(demos, e, by));
    set(Fault::ActionShifted)
}

fn early_actions(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let by = (0.25 * demos.fps).round() as i64 + 1 + dice.below(2) as i64;
    (0..demos.takes.len()).for_each(|e| delay_actions(demos, e, -by));
    set(Fault::ActionShifted)
}

fn shifted_episode(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    delay_actions(demos, e, if dice.below(2) == 0 { 4 } else { -4 });
    episode(Fault::ActionShifted, e)
}

fn state_as_action(demos: &mut Demos, _: &mut Dice) -> Expected {
    for take in &mut demos.takes {
        take.tables[demos.action] = take.tables[demos.state].clone();
    }
    set(Fault::ActionIsState)
}

fn foreign_actions(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let (frames, dim) = (demos.frames(e), demos.dim(demos.action));
    let others: Vec<usize> =
        (0..demos.takes.len()).filter(|o| *o != e && demos.frames(*o) >= frames).collect();
    let Some(other) = others.get(dice.below(others.len())) else { return foreign_actions(demos, dice) };
    demos.takes[e].tables[demos.action] = demos.takes[*other].tables[demos.action][..frames * dim].to_vec();
    episode(Fault::UnrelatedAction, e)
}

fn swapped(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let dim = demos.dim(demos.action);
    demos.takes[e].tables[demos.action].chunks_mut(dim).for_each(|row| row.swap(0, 1));
    episode(Fault::SwappedNumbers, e)
}

fn flipped(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let (low, high) = demos.extremes(demos.action, 1);
    one(demos, e, demos.action, 1, &mut |value| low + high - value);
    episode(Fault::SignFlip, e)
}

fn action_in_degrees(demos: &mut Demos, _: &mut Dice) -> Expected {
    for number in 0..demos.dim(demos.action) {
        each(demos, demos.action, number, &mut f32::to_degrees);
    }
    set(Fault::UnitMismatch)
}

fn episode_in_degrees(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    for number in 0..demos.dim(demos.state) {
        one(demos, e, demos.state, number, &mut f32::to_degrees);
    }
    episode(Fault::UnitEpisode, e)
}

fn short(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    demos.rearrange(e, &(0..8).collect::<Vec<_>>());
    episode(Fault::ShortEpisode, e)
}

fn overlong(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let e = dice.below(demos.takes.len());
    let last = demos.frames(e) - 1;
    // To and fro, seventeen times.
    let frames: Vec<usize> = (0..17 * last)
        .map(|f| if (f / last).is_multiple_of(2) { f % last } else { last - f % last })
        .collect();
    demos.rearrange(e, &frames);
    episode(Fault::OutlierEpisode, e)
}

fn out_of_range(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 12);
    let far = 5.0 * demos.range(demos.state, 0);
    (f..f + 10).for_each(|f| *demos.at(e, demos.state, f, 0) = far);
    frame(Fault::OutlierEpisode, e, f + 5, 5)
}

fn duplicate(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let take = demos.takes[dice.below(demos.takes.len())].clone();
    demos.takes.push(take);
    episode(Fault::DuplicateEpisode, demos.takes.len() - 1)
}

fn noisy_duplicate(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let mut take = demos.takes[dice.below(demos.takes.len())].clone();
    for (table, feature) in take.tables.iter_mut().zip(&demos.features) {
        if feature.dtype == "float32" {
            table.iter_mut().for_each(|value| *value *= 1.0 + 1e-3 * dice.noise());
        }
    }
    demos.takes.push(take);
    episode(Fault::NearDuplicate, demos.takes.len() - 1)
}

fn partial_duplicate(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let take = demos.takes[dice.below(demos.takes.len())].clone();
    let frames = take.times.len();
    demos.takes.push(take);
    let e = demos.takes.len() - 1;
    demos.rearrange(e, &(frames / 3..frames).collect::<Vec<_>>());
    episode(Fault::NearDuplicate, e)
}

fn no_task(demos: &mut Demos, _: &mut Dice) -> Expected {
    demos.task = String::new();
    set(Fault::TaskMissing)
}

fn done_early(demos: &mut Demos, dice: &mut Dice) -> Expected {
    let (e, f) = demos.busy(dice, 5);
    let done = demos.features.iter().position(|feature| feature.name == "next.done").unwrap();
    *demos.at(e, done, f, 0) = 1.0;
    frame(Fault::DoneEarly, e, f, 0)
}

fn no_action(demos: &mut Demos, _: &mut Dice) -> Expected {
    demos.features[demos.action].name = "target".into();
    set(Fault::NoAction)
}
