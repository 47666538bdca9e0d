//! An expert at work, recorded.

use nudge_control::{Action, Episode, Expert, Frame, Task};

/// The episode of this seed, acted by `expert` until the task says that it is done. Actions are numbers of 32 bits, as
/// recordings hold them, so that a recording of the episode replays to the bit.
pub(crate) fn demonstrate<T: Task, E: Expert<T>>(task: &mut T, expert: &mut E, seed: u64) -> Episode {
    demonstrate_beyond_success(task, expert, seed, |_| false)
}

/// [`demonstrate`], going on for as long as `goes_on` says so of the task in its present state, once it is achieved; at
/// most to `max_steps`. The frames on the way are marked as success, and only the last as done.
pub(crate) fn demonstrate_beyond_success<T: Task, E: Expert<T>>(
    task: &mut T,
    expert: &mut E,
    seed: u64,
    goes_on: impl Fn(&E) -> bool,
) -> Episode {
    let control_hz = task.interface().control_hz;
    let mut observation = task.reset(seed);
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let action = recordable(expert.act(task));
        let step = task.step(&action);
        let time_secs = frames.len() as f64 / control_hz;
        let may_go_on = frames.len() + 1 < task.max_steps();
        let done = if step.success { !(may_go_on && goes_on(expert)) } else { step.done };
        let seen = std::mem::replace(&mut observation, step.observation);
        let (reward, success) = (step.reward, step.success);
        frames.push(Frame { time_secs, observation: seen, action, reward, success, done });
        if done {
            break;
        }
    }
    Episode { task: task.name().to_owned(), interface: task.interface().clone(), seed: Some(seed), frames }
}

fn recordable(mut action: Action) -> Action {
    action.0.iter_mut().for_each(|value| *value = f64::from(*value as f32));
    action
}
