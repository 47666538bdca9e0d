//! Asking a policy again what it once did: recorded episodes as tasks, and numbers as recordings hold them.

use crate::{
    Action, ActionChunk, Episode, Horizon, Interface, Observation, PlanRequest, Policy, PolicyError, Scene,
    Step, Task,
};

/// A recorded episode that takes its course whatever is done. A [`rollout`](crate::rollout()) in it tells what a policy
/// would have done in each of the recorded states.
pub struct Playback {
    episode: Episode,
    frame: usize,
}

impl Playback {
    /// `None` for an episode without frames.
    pub fn new(episode: Episode) -> Option<Self> {
        (!episode.frames.is_empty()).then_some(Self { episode, frame: 0 })
    }
}

impl Task for Playback {
    fn name(&self) -> &str {
        &self.episode.task
    }

    fn interface(&self) -> &Interface {
        &self.episode.interface
    }

    /// Back to the first frame; the seed is that of the recording.
    fn reset(&mut self, _: u64) -> Observation {
        self.frame = 0;
        self.episode.frames[0].observation.clone()
    }

    /// What came of the recorded action. The observation after the last frame was never recorded; the last one stays.
    fn step(&mut self, _: &Action) -> Step {
        let done = self.frame + 1 >= self.episode.frames.len();
        let (reward, success) = {
            let frame = &self.episode.frames[self.frame];
            (frame.reward, frame.success)
        };
        self.frame = (self.frame + 1).min(self.episode.frames.len() - 1);
        Step { observation: self.episode.frames[self.frame].observation.clone(), reward, success, done }
    }

    /// What was done in this step.
    fn hold_action(&self) -> Action {
        self.episode.frames[self.frame].action.clone()
    }

    fn max_steps(&self) -> usize {
        self.episode.frames.len()
    }

    /// Nothing: a recording holds numbers.
    fn scene(&self) -> Scene {
        Scene { size: [1.0; 2], shapes: Vec::new() }
    }
}

/// A policy that sees and answers in numbers of 32 bits, as recordings hold them: what it does can be recorded
/// without loss, and asked again from the recording it does the same.
pub struct SinglePrecision(pub Box<dyn Policy>);

impl Policy for SinglePrecision {
    fn interface(&self) -> &Interface {
        self.0.interface()
    }

    fn horizon(&self) -> Horizon {
        self.0.horizon()
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let mut requests = requests.to_vec();
        for request in &mut requests {
            request.window.0.iter_mut().for_each(|observation| round(&mut observation.0));
            request.committed.iter_mut().for_each(|action| round(&mut action.0));
        }
        let mut chunks = self.0.predict(&requests)?;
        chunks.iter_mut().flat_map(|chunk| &mut chunk.actions).for_each(|action| round(&mut action.0));
        Ok(chunks)
    }
}

fn round(values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value = f64::from(*value as f32));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ActionFeature, ActionMode, Feature, FeatureKind, Frame, Limits, RolloutOptions, rollout, split_mix_64,
    };

    fn interface() -> Interface {
        Interface {
            observation: vec![Feature::vector("x", 1, "m")],
            action: vec![ActionFeature {
                name: "action".into(),
                kind: FeatureKind::Vector,
                shape: vec![1],
                unit: "m".into(),
                mode: ActionMode::Absolute,
                limits: Limits { low: vec![-1e9], high: vec![1e9] },
            }],
            control_hz: 10.0,
        }
    }

    /// Answers chaotically: any change of what it sees, or of its noise seed, changes everything.
    struct Chaotic(Interface);

    impl Policy for Chaotic {
        fn interface(&self) -> &Interface {
            &self.0
        }
        fn horizon(&self) -> Horizon {
            Horizon { observed: 2, predicted: 8, executed: 4 }
        }
        fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
            let plan = |request: &PlanRequest| {
                let seen = request.window.0.iter().fold(request.noise_seed, |seed, observation| {
                    split_mix_64(seed ^ observation.0[0].to_bits())
                });
                let action = |step| Action(vec![split_mix_64(seen + step) as f64 / 3e18]);
                ActionChunk { first_step: request.step, actions: (0..4).map(action).collect() }
            };
            Ok(requests.iter().map(plan).collect())
        }
    }

    fn run(task: Box<dyn Task>, policy: &mut dyn Policy, seed: u64) -> Episode {
        let options = RolloutOptions { latency_steps: 0, threads: 1 };
        let clock = || Duration::ZERO;
        let (episodes, _) =
            rollout(policy, &mut [(task, seed)], options, &clock, &mut |_| ()).expect("a sound policy");
        episodes.into_iter().next().expect("one task gives one episode")
    }

    fn recorded(observe: impl Fn(usize) -> f64) -> Episode {
        let frame = |i: usize| Frame {
            time_secs: i as f64 / 10.0,
            observation: Observation(vec![observe(i)]),
            action: Action(vec![0.0]),
            reward: 0.1 * i as f64,
            success: false,
            done: i == 10,
        };
        let frames = (0..11).map(frame).collect();
        Episode { task: "line".into(), interface: interface(), seed: Some(5), frames }
    }

    #[test]
    fn a_policy_asked_again_from_its_own_recording_does_the_same() {
        let mut policy = SinglePrecision(Box::new(Chaotic(interface())));
        let world = recorded(|i| (i as f64).sin());
        let done = run(Box::new(Playback::new(world).unwrap()), &mut policy, 5);
        let mut stored = done.clone();
        for frame in &mut stored.frames {
            round(&mut frame.observation.0);
            let exact = frame.action.clone();
            round(&mut frame.action.0);
            assert_eq!(frame.action, exact, "what was done is recorded without loss");
        }
        let again = run(Box::new(Playback::new(stored.clone()).unwrap()), &mut policy, 5);
        assert_eq!(again, stored);
        assert_ne!(run(Box::new(Playback::new(stored.clone()).unwrap()), &mut policy, 6), stored);
    }

    #[test]
    fn an_episode_without_frames_is_no_task() {
        let mut episode = recorded(|_| 0.0);
        episode.frames.clear();
        assert!(Playback::new(episode).is_none());
    }
}
