//! `nudge export`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use nudge_policy::export::export;
use nudge_policy::import::Scheme;

use crate::output::{self, say};

/// Write a checkpoint's policy as diffusion_policy or LeRobot load it
///
/// The weights are the same to the bit. Control rate, units and limits are kept as text beside the tensors, so that
/// `nudge import` of what was exported needs no more to give the checkpoint again.
#[derive(Args)]
pub struct Export {
    /// Checkpoint folder, or a training's folder: its newest checkpoint is then taken
    checkpoint: PathBuf,

    /// What to write; it must not exist: a safetensors file for diffusion_policy, a folder for LeRobot
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Who is to load it
    #[arg(long, value_enum, default_value_t)]
    names: Names,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Names {
    /// A file that `DiffusionUnetLowdimPolicy.load_state_dict(load_file(PATH))` takes, normaliser and all
    #[default]
    DiffusionPolicy,
    /// A folder that `DiffusionPolicy.from_pretrained(PATH)` takes, with its pre- and postprocessor
    Lerobot,
}

impl Export {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let names = match self.names {
            Names::DiffusionPolicy => Scheme::DiffusionPolicy,
            Names::Lerobot => Scheme::LeRobot,
        };
        let report = export(&self.checkpoint, &self.out, names)?;
        if self.json {
            output::print_json(&report)?;
            return Ok(ExitCode::SUCCESS);
        }
        say!("wrote {}: {} parameters under {} names", report.out.display(), report.parameters, report.names);
        match report.names {
            Scheme::DiffusionPolicy => {
                say!("`policy.load_state_dict(safetensors.torch.load_file(...))` takes it in Python");
            }
            Scheme::LeRobot => {
                say!("{}", report.files.join(", "));
                say!("`DiffusionPolicy.from_pretrained(...)` takes it in Python");
            }
        }
        for note in &report.notes {
            say!("note: {note}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
