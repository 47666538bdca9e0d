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

/// A policy whose plans can be had again from a recording.
///
/// It sees and answers in numbers of 32 bits, as recordings hold them, so that what it does is recorded without loss.
/// And it plans for `at_once` requests at a time: the last bit of a plan may depend on the size of its batch, so a batch
/// must not depend on how many episodes happen to run side by side.
pub struct Reproducible {
    pub policy: Box<dyn Policy>,
    /// Requests in a batch, at least 1.
    pub at_once: usize,
}

impl Policy for Reproducible {
    fn interface(&self) -> &Interface {
        self.policy.interface()
    }

    fn horizon(&self) -> Horizon {
        self.policy.horizon()
    }

    fn max_committed(&self) -> usize {
        self.policy.max_committed()
    }

    fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
        let mut requests = requests.to_vec();
        for request in &mut requests {
            request.window.0.iter_mut().for_each(|observation| round(&mut observation.0));
            request.committed.iter_mut().for_each(|action| round(&mut action.0));
        }
        let mut chunks = Vec::with_capacity(requests.len());
        for batch in requests.chunks(self.at_once.max(1)) {
            chunks.extend(self.policy.predict(batch)?);
        }
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

    /// Answers chaotically: any change of what it sees, of its noise seed, or of its company changes everything.
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
                let seen = request
                    .window
                    .0
                    .iter()
                    .fold(request.noise_seed ^ requests.len() as u64, |seed, observation| {
                        split_mix_64(seed ^ observation.0[0].to_bits())
                    });
                let action = |step| Action(vec![split_mix_64(seen + step) as f64 / 3e18]);
                ActionChunk { first_step: request.step, actions: (0..4).map(action).collect() }
            };
            Ok(requests.iter().map(plan).collect())
        }
    }

    fn run(worlds: &[Episode], policy: &mut dyn Policy) -> Vec<Episode> {
        let task = |world: &Episode| -> (Box<dyn Task>, u64) {
            (Box::new(Playback::new(world.clone()).unwrap()), world.seed.unwrap())
        };
        let mut tasks: Vec<_> = worlds.iter().map(task).collect();
        let options = RolloutOptions::default();
        rollout(policy, &mut tasks, options, &|| Duration::ZERO, &mut |_| ()).unwrap().0
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
    fn a_policy_asked_again_from_its_own_recording_does_the_same_in_any_company() {
        let mut policy = Reproducible { policy: Box::new(Chaotic(interface())), at_once: 1 };
        let worlds = [recorded(|i| (i as f64).sin()), recorded(|i| (i as f64).cos())];
        let mut stored = run(&worlds, &mut policy);
        for frame in stored.iter_mut().flat_map(|episode| &mut episode.frames) {
            round(&mut frame.observation.0);
            let exact = frame.action.clone();
            round(&mut frame.action.0);
            assert_eq!(frame.action, exact, "what was done is recorded without loss");
        }
        assert_eq!(run(&stored, &mut policy), stored);
        assert_eq!(run(&stored[1..], &mut policy), stored[1..]);
        let mut another = stored[1].clone();
        another.seed = Some(6);
        assert_ne!(run(&[another.clone()], &mut policy), [another]);
    }

    #[test]
    fn an_episode_without_frames_is_no_task() {
        let mut episode = recorded(|_| 0.0);
        episode.frames.clear();
        assert!(Playback::new(episode).is_none());
    }
}
