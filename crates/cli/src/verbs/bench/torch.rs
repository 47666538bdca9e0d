//! The same work in PyTorch, where it is installed: `--vs torch`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use nudge_policy::TrainConfig;
use nudge_policy::bench::plan_case;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::synthetic::Scratch;
use super::times::Until;
use crate::output::say;

const SCRIPT: &str = include_str!("../../../../../benches/torch_reference.py");

/// Who else is measured
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rival {
    /// PyTorch with the same network, eager and, on a GPU, compiled and in a CUDA graph
    Torch,
}

#[derive(Args, Clone, Debug)]
pub struct VersusArgs {
    /// Let another framework do the same work in the same call, with as many threads
    #[arg(long, value_enum, value_name = "RIVAL")]
    vs: Option<Rival>,

    /// The Python that has PyTorch
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
}

/// What is to be done, and what it took here.
pub struct Work {
    pub verb: &'static str,
    pub device: &'static str,
    pub batch: usize,
    pub threads: usize,
    pub until: Until,
    pub median_ms: f64,
}

/// What PyTorch took, or why it took nothing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Torch {
    Measured {
        #[serde(flatten)]
        told: Told,
        /// The fastest of its ways.
        best: String,
        best_median_ms: f64,
        /// Its best median over ours.
        times_slower: f64,
    },
    Missing {
        problem: String,
    },
}

/// What the script tells.
#[derive(Debug, Deserialize, Serialize)]
pub struct Told {
    version: String,
    device_name: String,
    threads: usize,
    /// How far its plan lies from ours, of the same weights, input and noise in f32; normalised units.
    deviation: f64,
    /// Times, or a problem, by the name of the way.
    variants: Map<String, Value>,
}

impl VersusArgs {
    /// Runs the rival, if one is asked for; whatever goes wrong is told and ends nothing.
    pub fn run(&self, config: &TrainConfig, work: &Work) -> Option<Torch> {
        let Rival::Torch = self.vs?;
        let run = || -> Result<Torch> {
            let told = self.ask(config, work)?;
            let median = |times: &Value| times["median_ms"].as_f64();
            let medians = told.variants.iter().filter_map(|(name, times)| Some((name, median(times)?)));
            let Some((best, best_median_ms)) = medians.min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
                bail!("none of its ways worked: {}", serde_json::to_string(&told.variants)?);
            };
            let (best, times_slower) = (best.clone(), best_median_ms / work.median_ms);
            Ok(Torch::Measured { told, best, best_median_ms, times_slower })
        };
        Some(run().unwrap_or_else(|error| Torch::Missing { problem: format!("{error:#}") }))
    }

    fn ask(&self, config: &TrainConfig, work: &Work) -> Result<Told> {
        let scratch = Scratch::new("torch")?;
        let (script, case) =
            (scratch.path().join("torch_reference.py"), scratch.path().join("case.safetensors"));
        std::fs::write(&script, SCRIPT).context("cannot write the script")?;
        std::fs::write(&case, plan_case(config)?).context("cannot write the weights")?;
        let mut command = Command::new(&self.python);
        command.arg(&script).arg(&case).arg(work.verb).args(["--device", work.device]);
        command.args(["--batch", &work.batch.to_string(), "--threads", &work.threads.to_string()]);
        command.args(["--count", &work.until.count.to_string()]);
        command.args(["--seconds", &work.until.duration.as_secs_f64().to_string()]);
        let output = command.output().with_context(|| format!("cannot run `{}`", self.python))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.trim().lines().last().unwrap_or("the script failed and said nothing"));
        }
        serde_json::from_slice(&output.stdout).context("the script told nothing that can be read")
    }
}

/// A row for each way of PyTorch, in a table that begins with a name and [`Times::cells`](super::times::Times::cells).
pub fn add_rows(table: &mut Table, torch: Option<&Torch>) {
    let Some(Torch::Measured { told, .. }) = torch else { return };
    for (name, times) in &told.variants {
        let cell = |key: &str| times[key].as_f64().map_or(String::new(), |value| format!("{value:.3}"));
        let n = times["n"].as_u64().map_or(String::new(), |n| n.to_string());
        let cells = ["median_ms", "p99_ms", "p999_ms", "min_ms"].map(cell);
        table.add_row([vec![format!("PyTorch, {name}")], cells.to_vec(), vec![n]].concat());
    }
}

/// Who was faster, and whether both did the same.
pub fn print_summary(torch: Option<&Torch>) {
    match torch {
        None => {}
        Some(Torch::Missing { problem }) => say!("not compared with PyTorch: {problem}"),
        Some(Torch::Measured { told, best, times_slower, .. }) => {
            say!(
                "PyTorch {} ({best}, {} threads) takes {times_slower:.2} times as long; its plan from the same weights, \
                 input and noise lies {:.1e} from ours",
                told.version,
                told.threads,
                told.deviation
            );
            for (name, times) in &told.variants {
                if let Some(problem) = times["problem"].as_str() {
                    say!("PyTorch, {name}: {problem}");
                }
            }
        }
    }
}
