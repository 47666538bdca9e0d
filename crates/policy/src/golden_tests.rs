//! Agreement with PyTorch and diffusers on recorded numbers. Skips, aloud, where the recordings are absent.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::checkpoint::weights_from;
use crate::config::{EmaConfig, OptimizerConfig, TrainingConfig};
use crate::data::Batch;
use crate::engine::{Asked, CpuEngine, HostNetwork, PlanEngine, Precision};
use crate::kernels::Kernels;
use crate::optimizer::{ema_decay, learning_rate};
use crate::parameters::{ParameterList, Weights, host};
use crate::sampler::Visit;
use crate::unet::{ConditionalUnet1d, sinusoidal_embedding};
use crate::updates::{self, GraphUpdates, TrainDevices, Updates};
use crate::{
    BetaCurve, DeviceChoice, NoiseSchedule, Objective, SamplerConfig, ScheduleConfig, Spacing, UnetConfig,
    Variance,
};

/// A recorded file: every tensor as f64, and the texts beside them.
pub(crate) struct Golden {
    pub tensors: HashMap<String, Vec<f64>>,
    metadata: HashMap<String, String>,
    pub bytes: Vec<u8>,
}

impl Golden {
    pub fn open(name: &str) -> Option<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(name);
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("SKIPPED: {} is not there", path.display());
            return None;
        };
        let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
        let number = |dtype: Dtype, b: &[u8]| match dtype {
            Dtype::F32 => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
            Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            Dtype::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            other => panic!("{other:?}"),
        };
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors
            .iter()
            .map(|(name, view)| {
                let size = if view.dtype() == Dtype::F32 { 4 } else { 8 };
                let values =
                    view.data().chunks_exact(size).map(|bytes| number(view.dtype(), bytes)).collect();
                (name.to_owned(), values)
            })
            .collect();
        Some(Self { tensors, metadata, bytes })
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.tensors[name].iter().map(|value| *value as f32).collect()
    }

    fn indices(&self, name: &str) -> Vec<usize> {
        self.tensors[name].iter().map(|value| *value as usize).collect()
    }

    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.f32(name), shape), &Device::flex())
    }
}

#[track_caller]
fn close(name: &str, is: &[f32], want: &[f64], absolute: f64, relative: f64) {
    assert_eq!(is.len(), want.len(), "{name}");
    for (index, (is, want)) in is.iter().zip(want).enumerate() {
        let error = (f64::from(*is) - want).abs();
        assert!(error <= absolute + relative * want.abs(), "{name}[{index}]: {is}, not {want}");
    }
}

fn cosine() -> NoiseSchedule {
    schedule_of(BetaCurve::SquaredcosCapV2, 100)
}

fn schedule_of(curve: BetaCurve, train_steps: usize) -> NoiseSchedule {
    let (beta_start, beta_end) = if train_steps == 1000 { (0.00085, 0.012) } else { (1e-4, 0.02) };
    ScheduleConfig { curve, train_steps, beta_start, beta_end }.build().unwrap()
}

fn recorded_unet(cond_predict_scale: bool) -> UnetConfig {
    UnetConfig {
        down_dims: vec![16, 32, 64],
        diffusion_step_embed_dim: 32,
        kernel_size: 5,
        n_groups: 8,
        cond_predict_scale,
    }
}

fn network(scale: bool, kernels: Kernels) -> Option<(ConditionalUnet1d, ParameterList, Weights)> {
    let file = Golden::open(&format!("unet_cps{}.weights.safetensors", u8::from(scale)))?;
    let config = recorded_unet(scale);
    config.check(16).unwrap();
    let (network, list) = config.build(kernels, 2, 10);
    let values = weights_from(&list, &file.bytes).unwrap();
    assert_eq!(list.count().to_string(), file.metadata["params"]);
    let weights = Weights::new(&list, values, &Device::flex());
    Some((network, list, weights))
}

#[test]
fn network_and_gradients_agree_with_pytorch() {
    for (scale, kernels) in
        [(false, Kernels::Cpu), (true, Kernels::Cpu), (false, Kernels::Stock), (true, Kernels::Stock)]
    {
        let Some((network, list, weights)) = network(scale, kernels) else { return };
        let io = Golden::open(&format!("unet_cps{}.io.safetensors", u8::from(scale))).unwrap();
        let timesteps = io.indices("in.timesteps");
        close("sinusoidal", &sinusoidal_embedding(&timesteps, 32), &io.tensors["mid.sinusoidal"], 1e-6, 1e-6);

        let condition = io.tensor("in.global_cond", [4, 10]);
        let output = network.forward(&weights, io.tensor("in.sample", [4, 16, 2]), &timesteps, condition);
        close("prediction", &host(output), &io.tensors["out.pred_f64"], 2e-5, 0.0);

        let tracked = weights.tracked();
        let [sample, target] =
            ["in.sample", "in.target"].map(|name| Tensor::from_inner(io.tensor(name, [4, 16, 2])));
        let condition = Tensor::from_inner(io.tensor("in.global_cond", [4, 10]));
        let output = network.forward(&tracked, sample, &timesteps, condition);
        let loss = (output - target).square().mean();
        let gradients = loss.backward();
        close("loss", &[loss.into_scalar()], &io.tensors["out.loss"], 1e-6, 1e-5);
        let order: Vec<String> = serde_json::from_str(&io.metadata["grad_norm_order"]).unwrap();
        assert_eq!(order.len(), list.iter().len());
        let (mut compared, mut norms) = (0, HashMap::new());
        for (parameter, tensor) in list.iter().zip(tracked.tensors()) {
            let gradient = host(tensor.grad(&gradients).unwrap());
            if let Some(want) = io.tensors.get(&format!("grad.{}", parameter.name)) {
                close(&parameter.name, &gradient, want, 1e-6, 1e-4);
                compared += 1;
            }
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            norms.insert(parameter.name.clone(), norm);
        }
        assert_eq!(compared, io.tensors.keys().filter(|name| name.starts_with("grad.")).count());
        let norms: Vec<f32> = order.iter().map(|name| norms[name] as f32).collect();
        close("gradient norms", &norms, &io.tensors["grad_norm_all"], 1e-6, 1e-4);
    }
}

#[test]
fn schedules_timesteps_and_noising_agree_with_diffusers() {
    let Some(golden) = Golden::open("schedules.safetensors") else { return };
    for (name, curve) in [
        ("squaredcos_cap_v2", BetaCurve::SquaredcosCapV2),
        ("linear", BetaCurve::Linear),
        ("scaled_linear", BetaCurve::ScaledLinear),
    ] {
        for steps in [50, 100, 1000] {
            let schedule = schedule_of(curve, steps);
            for step in 0..steps {
                let beta = golden.tensors[&format!("{name}.n{steps}.betas_f64")][step];
                let alpha = golden.tensors[&format!("{name}.n{steps}.alphas_cumprod_f64")][step];
                assert!((schedule.beta(step) - beta).abs() <= 1e-12, "{name} {steps} {step}");
                let error = (schedule.alpha_cumprod(Some(step)) - alpha).abs();
                assert!(error <= 1e-12, "{name} {steps} {step}: {error}");
            }
        }
    }
    for (name, spacing) in
        [("leading", Spacing::Leading), ("trailing", Spacing::Trailing), ("linspace", Spacing::Linspace)]
    {
        for steps in [1, 4, 8, 10, 15, 16, 50, 100] {
            let sampler = SamplerConfig::Ddim {
                steps,
                eta: 0.0,
                clip: true,
                spacing,
                renoise_clipped: false,
                hurried_steps: None,
            };
            let want = golden.indices(&format!("timesteps.{name}.n{steps}"));
            assert_eq!(sampler.timesteps(100), want, "{name} {steps}");
        }
    }
    let (x0, noise) = (golden.f32("add_noise.x0"), golden.f32("add_noise.noise"));
    let timesteps = golden.indices("add_noise.timesteps");
    let parts = (&cosine(), Objective::Velocity);
    let batch =
        Batch::from_parts(2, vec![0.0; 6], x0, &noise, timesteps, parts).on_device(0..6, &Device::flex());
    close("noisy", &host(batch.noisy), &golden.tensors["add_noise.out"], 1e-5, 0.0);
    close("velocity", &host(batch.target), &golden.tensors["add_noise.velocity"], 1e-5, 0.0);
}

/// Runs a sampler over recorded network outputs, and from one recorded sample to the next.
fn compare_trajectory(
    golden: &Golden,
    schedule: &NoiseSchedule,
    name: &str,
    sampler: SamplerConfig,
    objective: Objective,
) {
    const SIZE: usize = 2 * 16 * 2;
    let timesteps = sampler.timesteps(100);
    assert_eq!(timesteps, golden.indices(&format!("{name}.timesteps")), "{name}");
    let part = |from: &str, index: usize| {
        let values = golden.f32(from)[index * SIZE..(index + 1) * SIZE].to_vec();
        Tensor::<3>::from_data(TensorData::new(values, [2, 16, 2]), &Device::flex())
    };
    let stored: Vec<usize> = if name.contains("ddpm") && timesteps.len() == 100 {
        serde_json::from_str::<serde_json::Value>(&golden.metadata[name]).unwrap()["stored_loop_positions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|position| position.as_u64().unwrap() as usize)
            .collect()
    } else {
        (0..timesteps.len()).collect()
    };
    let mut x = part("x_T", 0);
    let mut draws = 0;
    let (mut compared, mut largest) = (0, 0.0);
    for (index, timestep) in timesteps.iter().enumerate() {
        let previous = timesteps.get(index + 1).copied();
        let visit = Visit { timestep: *timestep, previous };
        let mut noise = || {
            draws += 1;
            part("noise", draws - 1)
        };
        largest = host(x.clone()).iter().map(|value| f64::from(value.abs())).fold(largest, f64::max);
        x = sampler.step_at(schedule, objective, visit).apply(x, part("model_outputs", index), &mut noise);
        largest = host(x.clone()).iter().map(|value| f64::from(value.abs())).fold(largest, f64::max);
        if let Some(place) = stored.iter().position(|position| *position == index) {
            let want = &golden.tensors[&format!("{name}.traj")][place * SIZE..(place + 1) * SIZE];
            // 1e-5 of the largest sample on the way: without clipping that is in the thousands, in f32.
            close(&format!("{name} step {index}"), &host(x), want, 1e-5 * largest.max(1.0), 0.0);
            let recorded = want.iter().map(|value| *value as f32).collect::<Vec<_>>();
            x = Tensor::from_data(TensorData::new(recorded, [2, 16, 2]), &Device::flex());
            largest = 0.0;
            compared += 1;
        }
    }
    assert_eq!(compared, stored.len());
}

#[test]
fn every_sampler_step_agrees_with_diffusers() {
    let Some(golden) = Golden::open("scheduler_steps.safetensors") else { return };
    // diffusers keeps 1 - beta in f32, where the last beta of 0.999 leaves a relative error of 3e-5. Fed its own rounded
    // schedule, what is compared is the arithmetic of a step; the schedule itself is held to its closed form above.
    let schedules = Golden::open("schedules.safetensors").unwrap();
    let recorded = |name: &str| schedules.tensors[&format!("squaredcos_cap_v2.n100.{name}_f32")].clone();
    let schedule = NoiseSchedule::recorded(recorded("betas"), recorded("alphas_cumprod"));
    let mut names: Vec<&str> = golden.tensors.keys().filter_map(|name| name.strip_suffix(".traj")).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 39);
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        let objective = match parts[1] {
            "epsilon" => Objective::Epsilon,
            "sample" => Objective::Sample,
            "v_prediction" => Objective::Velocity,
            other => panic!("{other}"),
        };
        let clip = parts[2] == "clip1";
        let steps = parts[3][1..].parse().unwrap();
        let spacing = Spacing::Leading;
        let sampler = match parts[0] {
            "ddim" => {
                let eta = if parts[4] == "eta1" { 1.0 } else { 0.0 };
                SamplerConfig::Ddim {
                    steps,
                    eta,
                    clip,
                    spacing,
                    renoise_clipped: parts.len() == 6,
                    hurried_steps: None,
                }
            }
            _ => {
                let large = parts[4] == "fixed_large";
                let variance = if large { Variance::FixedLarge } else { Variance::FixedSmall };
                SamplerConfig::Ddpm { steps, clip, variance, spacing }
            }
        };
        compare_trajectory(&golden, &schedule, name, sampler, objective);
    }
}

#[test]
fn samples_end_to_end_agree_with_pytorch() {
    for scale in [false, true] {
        let Some((network, _, weights)) = network(scale, Kernels::Cpu) else { return };
        let golden = Golden::open("sampling.safetensors").unwrap();
        let condition = golden.tensor::<2>("global_cond", [3, 10]);
        for (name, sampler) in [
            ("ddim10", SamplerConfig::ddim(10)),
            ("ddim16", SamplerConfig::ddim(16)),
            ("ddpm100", SamplerConfig::ddpm(100)),
        ] {
            let mut draws = 0;
            let noise = || {
                let values = golden.f32("noise")[draws * 96..(draws + 1) * 96].to_vec();
                draws += 1;
                Tensor::from_data(TensorData::new(values, [3, 16, 2]), &Device::flex())
            };
            let denoise =
                |x, timestep| network.forward(&weights, x, &[timestep; 3], Tensor::clone(&condition));
            let x = golden.tensor("x_T", [3, 16, 2]);
            let sample = sampler.sample(&cosine(), Objective::Epsilon, x, denoise, noise);
            let want = &golden.tensors[&format!("cps{}.{name}.final", u8::from(scale))];
            close(name, &host(sample), want, 1e-4, 0.0);
        }
    }
}

#[test]
fn plans_of_the_cpu_engine_agree_with_pytorch() {
    for scale in [false, true] {
        let Some((_, list, weights)) = network(scale, Kernels::Cpu) else { return };
        let golden = Golden::open("sampling.safetensors").unwrap();
        let network = HostNetwork {
            config: recorded_unet(scale),
            predicted: 16,
            action_dim: 2,
            condition_dim: 10,
            list,
            values: weights.to_host(),
        };
        let mut engine = CpuEngine::new(&network, Precision::F32);
        for (name, sampler) in [
            ("ddim10", SamplerConfig::ddim(10)),
            ("ddim16", SamplerConfig::ddim(16)),
            ("ddpm100", SamplerConfig::ddpm(100)),
        ] {
            engine.set_steps(&sampler.steps_of(&cosine(), Objective::Epsilon)).unwrap();
            let mut sample = vec![0.0; 96];
            let noise = [golden.f32("x_T"), golden.f32("noise")].concat();
            engine.plan(Asked::new(&golden.f32("global_cond"), &noise), &mut sample).unwrap();
            let want = &golden.tensors[&format!("cps{}.{name}.final", u8::from(scale))];
            close(name, &sample, want, 1e-4, 0.0);
        }
    }
}

#[test]
fn twenty_training_steps_agree_with_pytorch() {
    let Some((_, list, weights)) = network(true, Kernels::Cpu) else { return };
    let start = HostNetwork {
        config: recorded_unet(true),
        predicted: 16,
        action_dim: 2,
        condition_dim: 10,
        list,
        values: weights.to_host(),
    };
    let optimizer = OptimizerConfig {
        learning_rate: 1e-4,
        betas: [0.95, 0.999],
        epsilon: 1e-8,
        weight_decay: 1e-6,
        warmup_steps: 5,
    };
    let training = TrainingConfig {
        steps: 20,
        batch_size: 8,
        shards: 2,
        optimizer,
        ema: EmaConfig { power: 0.75, max_decay: 0.9999 },
        validate_every: 1,
        checkpoint_every: 1,
        keep: 1,
    };
    let cpu = TrainDevices::from(DeviceChoice::Cpu);
    let ours = updates::open(start.clone(), &training, cpu).unwrap();
    follow_the_recorded_training(ours, &start.list, &training);
    let graph = GraphUpdates::new(start.clone(), &training, cpu).unwrap();
    follow_the_recorded_training(Box::new(graph), &start.list, &training);
}

fn follow_the_recorded_training(
    mut updates: Box<dyn Updates>,
    list: &ParameterList,
    training: &TrainingConfig,
) {
    let golden = Golden::open("training.safetensors").unwrap();
    let (action, condition) = (golden.f32("action"), golden.f32("global_cond"));
    for step in 0..20 {
        let rate = learning_rate(&training.optimizer, step as u64, 20);
        let decay = ema_decay(&training.ema, step as u64);
        assert!((rate - golden.tensors["lr_used"][step]).abs() < 1e-12, "{step}: {rate}");
        assert!((decay - golden.tensors["ema_decay"][step]).abs() < 1e-12, "{step}: {decay}");
        let noise = &golden.f32("noise")[step * 256..(step + 1) * 256];
        let timesteps = golden.indices("timesteps")[step * 8..(step + 1) * 8].to_vec();
        let parts = (&cosine(), Objective::Epsilon);
        let batch = Batch::from_parts(2, condition.clone(), action.clone(), noise, timesteps, parts);
        updates.step(&batch, rate, decay).unwrap();
        let loss = updates.losses(true).unwrap();
        let want = golden.tensors["loss"][step];
        assert_eq!(loss.len(), 1);
        assert!((loss[0] - want).abs() <= 1e-4 * want, "step {step}: {loss:?}, not {want}");
    }
    let learned = updates.learned().unwrap();
    for (group, weights) in [("final", learned.weights), ("ema", learned.average)] {
        let order: Vec<String> = serde_json::from_str(&golden.metadata["norms_order"]).unwrap();
        let values: HashMap<&str, Vec<f32>> =
            list.iter().zip(weights).map(|(parameter, values)| (parameter.name.as_str(), values)).collect();
        let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        let norms: Vec<f32> = order.iter().map(|name| norm(&values[name.as_str()])).collect();
        close("norms", &norms, &golden.tensors[&format!("{group}.norms")], 1e-6, 1e-4);
        let mut compared = 0;
        for (name, want) in golden.tensors.iter().filter(|(name, _)| !name.ends_with("norms")) {
            if let Some(name) = name.strip_prefix(&format!("{group}.")) {
                close(name, &values[name], want, 1e-5, 1e-4);
                compared += 1;
            }
        }
        assert_eq!(compared, 4);
    }
}
