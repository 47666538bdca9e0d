//! The network in f64 and plain loops, straight from its definition: what the engine is held to.

use crate::engine::HostNetwork;
use crate::sampler::SamplerStep;

/// Channels of time steps.
type Signal = Vec<Vec<f64>>;

/// A plan `[Tp, Da]` for one condition and its noise `[1 + draws, Tp * Da]`.
pub fn plan(host: &HostNetwork, steps: &[SamplerStep], condition: &[f32], noise: &[f32]) -> Vec<f64> {
    let mut noise = noise.chunks_exact(host.predicted * host.action_dim);
    let mut draw = || -> Vec<f64> { noise.next().unwrap().iter().map(|value| f64::from(*value)).collect() };
    let mut x = draw();
    for step in steps {
        let output = forward(host, &x, step.timestep, condition);
        for (x, output) in x.iter_mut().zip(output) {
            let clean = (step.clean[0] * *x + step.clean[1] * output).clamp(-1.0, 1.0);
            *x = step.of_clean * clean + step.of_x * *x + step.of_output * output;
        }
        if step.deviation > 0.0 {
            x.iter_mut().zip(draw()).for_each(|(x, noise)| *x += step.deviation * noise);
        }
    }
    x
}

/// The network's output `[Tp, Da]`.
pub fn forward(host: &HostNetwork, sample: &[f64], timestep: usize, condition: &[f32]) -> Vec<f64> {
    let dims = &host.config.down_dims;
    let embed = host.config.diffusion_step_embed_dim;
    let angle = |i: usize| timestep as f64 * (-(10_000f64.ln()) / (embed / 2 - 1) as f64 * i as f64).exp();
    let embedding: Vec<f64> =
        (0..embed / 2).map(|i| angle(i).sin()).chain((0..embed / 2).map(|i| angle(i).cos())).collect();
    let hidden =
        linear(host, "diffusion_step_encoder.1", &embedding).into_iter().map(mish).collect::<Vec<_>>();
    let embedded = linear(host, "diffusion_step_encoder.3", &hidden);
    let features: Vec<f64> =
        embedded.into_iter().chain(condition.iter().map(|value| f64::from(*value))).map(mish).collect();
    let run = Run { host, features };

    let of_channel = |channel: usize| (0..host.predicted).map(move |t| sample[t * host.action_dim + channel]);
    let mut x: Signal = (0..host.action_dim).map(|channel| of_channel(channel).collect()).collect();
    let mut skips = Vec::new();
    for level in 0..dims.len() {
        x = run.level(&format!("down_modules.{level}"), &x);
        skips.push(x.clone());
        if level + 1 < dims.len() {
            x = run.convolve(&format!("down_modules.{level}.2.conv"), &x, 2);
        }
    }
    x = run.residual("mid_modules.0", &x);
    x = run.residual("mid_modules.1", &x);
    for level in 0..dims.len() - 1 {
        x.extend(skips.pop().unwrap());
        x = run.level(&format!("up_modules.{level}"), &x);
        x = run.double(&format!("up_modules.{level}.2.conv"), &x);
    }
    let x = run.convolve("final_conv.1", &run.block("final_conv.0", &x), 1);
    (0..host.predicted).flat_map(|t| x.iter().map(move |channel| channel[t])).collect()
}

pub fn mish(x: f64) -> f64 {
    x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()
}

fn linear(host: &HostNetwork, name: &str, input: &[f64]) -> Vec<f64> {
    let (weight, bias) = (host.get(&format!("{name}.weight")), host.get(&format!("{name}.bias")));
    let rows = weight.chunks_exact(input.len()).zip(bias);
    rows.map(|(row, bias)| {
        row.iter().zip(input).map(|(weight, x)| f64::from(*weight) * x).sum::<f64>() + f64::from(*bias)
    })
    .collect()
}

struct Run<'a> {
    host: &'a HostNetwork,
    features: Vec<f64>,
}

impl Run<'_> {
    fn level(&self, name: &str, x: &Signal) -> Signal {
        self.residual(&format!("{name}.1"), &self.residual(&format!("{name}.0"), x))
    }

    fn residual(&self, name: &str, x: &Signal) -> Signal {
        let mut hidden = self.block(&format!("{name}.blocks.0"), x);
        let film = linear(self.host, &format!("{name}.cond_encoder.1"), &self.features);
        let channels = hidden.len();
        for (channel, row) in hidden.iter_mut().enumerate() {
            for value in row {
                *value = match self.host.config.cond_predict_scale {
                    true => *value * film[channel] + film[channels + channel],
                    false => *value + film[channel],
                };
            }
        }
        let mut output = self.block(&format!("{name}.blocks.1"), &hidden);
        let shortcut = if x.len() == channels {
            x.clone()
        } else {
            self.convolve(&format!("{name}.residual_conv"), x, 1)
        };
        for (output, shortcut) in output.iter_mut().flatten().zip(shortcut.iter().flatten()) {
            *output += shortcut;
        }
        output
    }

    fn block(&self, name: &str, x: &Signal) -> Signal {
        let mut x = self.convolve(&format!("{name}.block.0"), x, 1);
        let scale = self.host.get(&format!("{name}.block.1.weight"));
        let shift = self.host.get(&format!("{name}.block.1.bias"));
        let own = x.len() / self.host.config.n_groups;
        for (group, rows) in x.chunks_exact_mut(own).enumerate() {
            let count = (own * rows[0].len()) as f64;
            let mean = rows.iter().flatten().sum::<f64>() / count;
            let variance = rows.iter().flatten().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            for (index, row) in rows.iter_mut().enumerate() {
                let (scale, shift) =
                    (f64::from(scale[group * own + index]), f64::from(shift[group * own + index]));
                row.iter_mut().for_each(|value| {
                    *value = mish((*value - mean) / (variance + 1e-5).sqrt() * scale + shift)
                });
            }
        }
        x
    }

    /// Odd taps around every `stride`-th step.
    fn convolve(&self, name: &str, x: &Signal, stride: usize) -> Signal {
        let (weight, bias) =
            (self.host.get(&format!("{name}.weight")), self.host.get(&format!("{name}.bias")));
        let taps = weight.len() / bias.len() / x.len();
        let length = x[0].len();
        let output = |out: usize, step: usize| {
            let mut sum = f64::from(bias[out]);
            for (channel, row) in x.iter().enumerate() {
                for tap in 0..taps {
                    let at = step * stride + tap;
                    if at >= taps / 2 && at - taps / 2 < length {
                        sum += f64::from(weight[(out * x.len() + channel) * taps + tap]) * row[at - taps / 2];
                    }
                }
            }
            sum
        };
        (0..bias.len()).map(|out| (0..length / stride).map(|step| output(out, step)).collect()).collect()
    }

    /// `ConvTranspose1d(kernel 4, stride 2, padding 1)`.
    fn double(&self, name: &str, x: &Signal) -> Signal {
        let (weight, bias) =
            (self.host.get(&format!("{name}.weight")), self.host.get(&format!("{name}.bias")));
        let outputs = bias.len();
        let length = 2 * x[0].len();
        let mut output: Signal = bias.iter().map(|bias| vec![f64::from(*bias); length]).collect();
        for (channel, row) in x.iter().enumerate() {
            for (step, value) in row.iter().enumerate() {
                for tap in 0..4 {
                    if (1..=length).contains(&(2 * step + tap)) {
                        for (out, output) in output.iter_mut().enumerate() {
                            output[2 * step + tap - 1] +=
                                f64::from(weight[(channel * outputs + out) * 4 + tap]) * value;
                        }
                    }
                }
            }
        }
        output
    }
}
