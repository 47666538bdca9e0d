use nudge_control::{
    ActionFeature, ActionMode, Feature, FeatureKind, Limits, Observation, ObservationWindow,
};

use super::*;
use crate::checkpoint::{FORMAT, Trained};
use crate::engine::{Asked, PlanEngine};
use crate::{
    BetaCurve, NetworkConfig, Normalizer, Objective, PolicyConfig, Relative, ScheduleConfig, UnetConfig,
};

const HORIZON: Horizon = Horizon { observed: 3, predicted: 16, executed: 5 };

/// A policy with its first weights: 3 observed numbers, 2 acted ones.
fn untrained() -> DiffusionPolicy {
    let action = ActionFeature {
        name: "action".into(),
        kind: FeatureKind::Vector,
        shape: vec![2],
        unit: String::new(),
        mode: ActionMode::Absolute,
        limits: Limits { low: vec![0.0; 2], high: vec![10.0; 2] },
    };
    let interface = Interface {
        observation: vec![Feature::vector("state", 3, "")],
        action: vec![action],
        control_hz: 10.0,
    };
    let network = UnetConfig {
        down_dims: vec![8, 16],
        diffusion_step_embed_dim: 16,
        kernel_size: 3,
        n_groups: 4,
        cond_predict_scale: true,
    };
    let curve = BetaCurve::SquaredcosCapV2;
    let policy = PolicyConfig {
        horizon: HORIZON,
        network: NetworkConfig::ConditionalUnet1d(network),
        schedule: ScheduleConfig { curve, train_steps: 100, beta_start: 1e-4, beta_end: 0.02 },
        objective: Objective::Epsilon,
        sampler: SamplerConfig::ddim(5),
        relative: Vec::new(),
        angles: Vec::new(),
        normalization: Vec::new(),
        prefix: None,
    };
    let normalizer = |dim: usize| Normalizer { low: vec![0.0; dim], high: vec![10.0; dim] };
    let manifest = Manifest {
        format: FORMAT,
        task: "test".into(),
        interface,
        policy,
        observation: normalizer(3),
        action: normalizer(2),
        clip_range: 1.0,
        trained: Trained::nothing(0),
    };
    let values = first_weights(&manifest);
    DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap()
}

fn first_weights(manifest: &Manifest) -> Vec<Vec<f32>> {
    let list = manifest.host_network(Vec::new()).list;
    list.initialise(&mut ChaCha8Rng::seed_from_u64(1))
}

fn request(seed: u64) -> PlanRequest {
    let value = |step: usize, i: usize| ((seed as usize * 7 + step * 3 + i) % 10) as f64;
    let observation = |step| Observation((0..3).map(|i| value(step, i)).collect());
    PlanRequest {
        step: seed,
        window: ObservationWindow((0..3).map(observation).collect()),
        committed: Vec::new(),
        hurried: false,
        noise_seed: seed,
    }
}

#[test]
fn a_chunk_is_all_that_is_predicted_from_the_newest_observed_step_on() {
    let policy = untrained();
    // Step i of the prediction is 0.1 i in normalised units, so 5 + 0.5 i in physical ones.
    let prediction: Vec<f32> = (0..16).flat_map(|step| [0.1 * step as f32; 2]).collect();
    let chunk = policy.chunk(&request(40), &prediction);
    assert_eq!(chunk.first_step, 40);
    assert_eq!(chunk.actions.len(), 14);
    for (step, action) in (2..).zip(&chunk.actions) {
        let expected = 5.0 + 0.5 * f64::from(step);
        assert!(action.0.iter().all(|value| (value - expected).abs() < 1e-5), "{step}: {action:?}");
    }
}

#[test]
fn relative_actions_start_from_the_newest_observation() {
    let prediction = [0.0; 32];
    let absolute = untrained().chunk(&request(40), &prediction);
    let mut policy = untrained();
    let relative = Relative {
        action: "action".into(),
        numbers: vec![1],
        to: "state".into(),
        to_numbers: vec![2],
        hidden: true,
    };
    policy.manifest.policy.relative = vec![relative];
    policy.encoding = Encoding::new(&policy.manifest.policy, &policy.manifest.interface).unwrap();
    let newest = request(40).window.0[2].0[2];
    assert_ne!(newest, 0.0);
    for (absolute, action) in absolute.actions.iter().zip(policy.chunk(&request(40), &prediction).actions) {
        assert_eq!(action.0, [absolute.0[0], absolute.0[1] + newest]);
    }
    // All that is observed is hidden: the network plans the same from anywhere, and the plan moves along.
    let moved = |request: PlanRequest, by: f64| {
        let window = request.window.0.into_iter().map(|seen| seen.0.iter().map(|value| value + by).collect());
        PlanRequest { window: ObservationWindow(window.map(Observation).collect()), ..request }
    };
    let here = policy.predict(&[request(1)]).unwrap().remove(0);
    let there = policy.predict(&[moved(request(1), 5.0)]).unwrap().remove(0);
    for (here, there) in here.actions.iter().zip(&there.actions) {
        assert_eq!(here.0[0], there.0[0]);
        assert!((here.0[1] + 5.0 - there.0[1]).abs() < 1e-12);
    }
}

#[test]
fn a_plan_does_not_depend_on_its_batch_or_on_threads() {
    let requests: Vec<PlanRequest> = (0..130).map(request).collect();
    for sampler in [SamplerConfig::ddim(5), SamplerConfig::ddpm(10)] {
        let mut together = untrained().with_sampler(sampler).unwrap().with_threads(3);
        let mut alone = untrained().with_sampler(sampler).unwrap();
        let plans = together.predict(&requests).unwrap();
        assert_eq!(plans.len(), requests.len());
        for (request, plan) in requests.iter().zip(&plans).step_by(9) {
            let single = alone.predict(std::slice::from_ref(request)).unwrap().remove(0);
            assert_eq!(single, *plan);
        }
    }
}

/// Committed actions that differ from one another.
fn committed(seed: u64, count: usize) -> Vec<Action> {
    (0..count).map(|step| Action(vec![0.3 * (seed % 7) as f64 + 0.4 * step as f64, 2.5])).collect()
}

#[test]
fn a_plan_begins_with_what_is_committed_and_depends_on_nothing_beside_it() {
    let requests: Vec<PlanRequest> = (0..70)
        .map(|seed| PlanRequest {
            committed: committed(seed, seed as usize % 15),
            hurried: seed % 4 == 0,
            ..request(seed)
        })
        .collect();
    let sampler = SamplerConfig::Ddim {
        steps: 6,
        eta: 0.0,
        clip: true,
        spacing: crate::Spacing::Leading,
        renoise_clipped: false,
        hurried_steps: Some(4),
    };
    let policy = || untrained().with_sampler(sampler).unwrap();
    assert_eq!((policy().continuation(), policy().max_committed()), (Continuation::Ignore, 0));
    let inpainting = || policy().with_continuation(Continuation::Inpaint).unwrap();
    assert_eq!(inpainting().max_committed(), 13);
    let (mut together, mut alone) = (inpainting().with_threads(2), inpainting());
    let (mut ignoring, mut quick) = (policy(), policy().with_sampler(SamplerConfig::ddim(4)).unwrap());
    for (request, plan) in requests.iter().zip(together.predict(&requests).unwrap()) {
        // Of more than it can continue, the first.
        let continued = &request.committed[..request.committed.len().min(13)];
        assert_eq!(plan.actions.len(), 14);
        assert_eq!(&plan.actions[..continued.len()], continued);
        let one =
            |policy: &mut DiffusionPolicy| policy.predict(std::slice::from_ref(request)).unwrap().remove(0);
        assert_eq!(one(&mut alone), plan);
        assert_eq!(one(&mut ignoring) == plan, continued.is_empty());
        // Hurried is another sampler, and nothing else.
        assert_eq!(one(&mut ignoring) == one(&mut quick), request.hurried);
    }
}

#[test]
fn committed_actions_go_through_the_network_as_its_own_do() {
    let mut policy = untrained();
    policy.manifest.policy.relative = vec![Relative {
        action: "action".into(),
        numbers: vec![1],
        to: "state".into(),
        to_numbers: vec![2],
        hidden: false,
    }];
    policy.encoding = Encoding::new(&policy.manifest.policy, &policy.manifest.interface).unwrap();
    let mut policy = policy.with_continuation(Continuation::Inpaint).unwrap();
    let prediction = policy.predict(&[request(3)]).unwrap().remove(0);
    let request = PlanRequest { committed: prediction.actions[..5].to_vec(), ..request(3) };
    let kept = policy.kept(std::slice::from_ref(&request)).unwrap();
    assert_eq!((kept.rows.len(), &kept.rows[0]), (1, &(2..7)));
    // Back through the other door they are the same actions.
    let rows = kept.clean.chunks_exact(2).skip(2).take(5);
    let actions = policy.encoding.act(rows, &policy.manifest.action, newest(&request), Vec::new());
    for (action, committed) in actions.iter().flatten().zip(request.committed.iter().flat_map(|a| &a.0)) {
        assert!((action - committed).abs() < 1e-5, "{action}, not {committed}");
    }
}

#[test]
fn a_prefix_is_continued_only_by_a_policy_that_learned_to() {
    let refused = untrained().with_continuation(Continuation::Prefix).err().unwrap().to_string();
    assert!(refused.contains("policy.prefix"), "{refused}");
    let mut manifest = untrained().manifest;
    manifest.policy.prefix = Some(crate::PrefixConfig { max_steps: 6 });
    let values = first_weights(&manifest);
    let mut policy = DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap();
    assert_eq!((policy.continuation(), policy.max_committed()), (Continuation::Prefix, 6));
    assert!(policy.steps_of(SamplerConfig::ddim(5)).iter().all(|step| step.kept == CLEAN));
    // Without anything committed it plans as one that never heard of it.
    let (plain, prefixed) = (untrained().predict(&[request(3)]), policy.predict(&[request(3)]));
    assert_eq!(plain.unwrap(), prefixed.unwrap());
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let mut policy = untrained();
    let refused = |policy: &mut DiffusionPolicy, request: PlanRequest, problem: &str| {
        let error = policy.predict(&[self::request(1), request]).unwrap_err();
        assert!(matches!(error, PolicyError::BadRequest { request: 1, .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    };
    let mut nan = request(2);
    nan.window.0[1].0[2] = f64::NAN;
    refused(&mut policy, nan, "number 2 is NaN");
    let mut short = request(2);
    short.window.0.pop();
    refused(&mut policy, short, "2 observations");
    let mut narrow = request(2);
    narrow.window.0[0].0.pop();
    refused(&mut policy, narrow, "2 numbers, not 3");
    let committing = |actions: &[&[f64]]| {
        let committed = actions.iter().map(|action| Action(action.to_vec())).collect();
        PlanRequest { committed, ..request(2) }
    };
    // Nobody looks at what is not continued.
    assert!(policy.predict(&[committing(&[&[1.0]])]).is_ok());
    let mut policy = policy.with_continuation(Continuation::Inpaint).unwrap();
    refused(&mut policy, committing(&[&[1.0, 2.0], &[1.0]]), "committed action 1");
    refused(&mut policy, committing(&[&[1.0, f64::INFINITY]]), "committed action 0");
    assert!(policy.predict(&[]).unwrap().is_empty());
}

#[test]
fn a_planning_thread_that_panics_is_an_error() {
    struct Broken;

    impl PlanEngine for Broken {
        fn precision(&self) -> Precision {
            Precision::F32
        }

        fn largest_batch(&self) -> usize {
            1
        }

        fn set_steps(&mut self, _: &[crate::sampler::SamplerStep]) -> Result<(), PolicyFailure> {
            Ok(())
        }

        fn plan(&mut self, _: Asked, _: &mut [f32]) -> Result<(), PolicyFailure> {
            panic!("as it should")
        }

        fn another(&self) -> Option<Box<dyn PlanEngine>> {
            Some(Box::new(Broken))
        }
    }

    let mut policy = untrained();
    policy.usual.set_engines(vec![Box::new(Broken), Box::new(Broken)]);
    let error = policy.predict(&[request(1), request(2)]).unwrap_err();
    assert!(matches!(error, PolicyError::Failed(_)), "{error}");
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn weights_that_are_not_finite_never_become_actions() {
    let manifest = untrained().manifest;
    let mut values = first_weights(&manifest);
    values.last_mut().unwrap()[0] = f32::NAN;
    let mut policy = DiffusionPolicy::new(manifest, values, PlanOptions::default()).unwrap();
    assert!(matches!(policy.predict(&[request(0)]), Err(PolicyError::NotFinite { request: 0 })));
}

#[test]
fn overrides_that_do_not_fit_are_refused() {
    assert!(untrained().with_executed(14).is_ok());
    assert!(untrained().with_executed(15).is_err());
    assert!(untrained().with_sampler(SamplerConfig::ddim(101)).is_err());
}
