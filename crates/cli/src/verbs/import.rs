//! `nudge import`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use nudge_policy::SamplerConfig;
use nudge_policy::import::{ImportOptions, ImportReport, import};

use crate::output::{self, say};

/// Make a checkpoint of a policy that was trained elsewhere: diffusion_policy's or LeRobot's
///
/// Two kinds are known by what they hold, both as safetensors. A LeRobot folder (`config.json` and `model.safetensors`,
/// with the policy_*processor files beside them) says nearly everything itself:
///
///   nudge import outputs/train/push/checkpoints/last/pretrained_model --control-hz 10 --out checkpoints/push
///
/// A state dict of diffusion_policy's low-dimensional U-Net does not say for what it was trained: give a configuration
/// as `nudge train` takes it. A `.ckpt` is a Python pickle, which can run code, so it is never opened here; where you
/// trust it, write its weights out first:
///
///   import torch, dill
///   from safetensors.torch import save_file
///   weights = torch.load("latest.ckpt", map_location="cpu", pickle_module=dill, weights_only=False)
///   weights = weights["state_dicts"]["ema_model"]
///   save_file({name: value.contiguous() for name, value in weights.items()}, "policy.safetensors")
///
///   nudge import policy.safetensors --config push.toml --out checkpoints/push
///
/// Its prediction is taken to begin with the oldest observation, and to be executed from the newest one on, as all of
/// that project's low-dimensional configurations have it (`oa_step_convention: True`, `pred_action_steps_only: False`).
///
/// A network that is not exactly one of ours (image encoders, transformers, other conditioning, tensors too many or too
/// few) is refused with the reason. The checkpoint is planned with once before it is handed over.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Import {
    /// A LeRobot policy's folder, or a state dict as a safetensors file
    source: PathBuf,

    /// The checkpoint folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// What the file does not say: a TOML with `task`, `policy` and `interface`, as configs/push_t.toml has them
    ///
    /// Every size in it is compared with the tensors. Where the state dict has no normaliser, a section `[normaliser]`
    /// with `observation = { low = [..], high = [..] }` and `action` likewise gives the ranges that went to -1..=1. For a
    /// LeRobot policy only `task` and `interface` are taken (units and limits, which LeRobot does not keep).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Control steps a second, for a LeRobot policy without --config: the `fps` of the data that it learned from
    #[arg(long, value_name = "HZ", conflicts_with = "config")]
    control_hz: Option<f64>,

    /// Name of its task, for a LeRobot policy without --config; `push_t` and `pick_place` have a simulation here
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    task: Option<String>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Import {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self
            .config
            .as_ref()
            .map(|path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            })
            .transpose()?;
        let options = ImportOptions {
            config: config.as_deref(),
            control_hz: self.control_hz,
            task: self.task.as_deref(),
        };
        let report = import(&self.source, &self.out, &options)?;
        if self.json {
            output::print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(report: &ImportReport) {
    let ImportReport { network, horizon, interface, .. } = report;
    let mut table = output::table(["", "recognised"]);
    let mut row = |what: &str, is: String| {
        table.add_row([what.to_owned(), is]);
    };
    row("from", format!("{} ({} names)", report.weights.display(), report.scheme));
    row(
        "network",
        format!(
            "conditional 1D U-Net, {} parameters: channels {:?}, kernel {}, step embedding {}, {} groups, FiLM with {}",
            report.parameters,
            network.down_dims,
            network.kernel_size,
            network.diffusion_step_embed_dim,
            network.n_groups,
            if network.cond_predict_scale { "scale and bias" } else { "bias" }
        ),
    );
    row(
        "horizon",
        format!(
            "sees {} steps, predicts {}, executes {}",
            horizon.observed, horizon.predicted, horizon.executed
        ),
    );
    let (sampler, steps, clip) = match report.sampler {
        SamplerConfig::Ddim { steps, clip, .. } => ("DDIM", steps, clip),
        SamplerConfig::Ddpm { steps, clip, .. } => ("DDPM", steps, clip),
    };
    row("sampler", format!("{sampler}, {steps} steps{}", if clip { ", clipped" } else { "" }));
    for feature in &interface.observation {
        row("observes", format!("{} {:?} {}", feature.name, feature.shape, feature.unit));
    }
    for feature in &interface.action {
        let limits = &feature.limits;
        row(
            "plans",
            format!(
                "{} {:?} {} within {:?} to {:?}",
                feature.name, feature.shape, feature.unit, limits.low, limits.high
            ),
        );
    }
    row("rate", format!("{} Hz", interface.control_hz));
    row("normaliser", report.normaliser.clone());
    say!("{table}");
    for note in &report.notes {
        say!("note: {note}");
    }
    let simulated = ["push_t", "pick_place"].contains(&report.task.as_str());
    let next = if simulated { "eval" } else { "serve" };
    say!("wrote {}: next, `nudge {next} {}`", report.out.display(), report.out.display());
}
