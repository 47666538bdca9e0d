//! The same work in PyTorch, where it is installed: `--vs torch`.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use nudge_policy::TrainConfig;
use nudge_policy::bench::plan_case;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scratch::Scratch;
use super::times::{Times, Until};
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
#[derive(Clone, Copy)]
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
        told: Box<Told>,
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
    /// From before its process was made to the end of the first work that it did; `None` where all failed.
    first_ms: Option<f64>,
    /// Times, or a problem, by the name of the way.
    variants: Map<String, Value>,
}

impl VersusArgs {
    /// Runs the rival, if one is asked for; whatever goes wrong is told and ends nothing.
    pub fn run(&self, config: &TrainConfig, work: &Work) -> Option<Torch> {
        let Rival::Torch = self.vs?;
        let told = || Told::of(&self.python, &Case::new(config)?, work);
        Some(Torch::beside(told(), work.median_ms))
    }

    /// Starts the rival until it has made its first plan, once cold and then as often as is to be measured.
    pub fn starts(&self, config: impl FnOnce() -> Result<TrainConfig>, work: &Work) -> Option<Torch> {
        let Rival::Torch = self.vs?;
        let told = || -> Result<Told> {
            let case = Case::new(&config()?)?;
            let start = || Told::of(&self.python, &case, work);
            let mut cold = start()?;
            let warm = (0..work.until.count).map(|_| Ok(start()?.first_ms)).collect::<Result<Vec<_>>>()?;
            let warm: Vec<f64> = warm.into_iter().flatten().collect();
            if !warm.is_empty() {
                let times = serde_json::to_value(Times::of(warm))?;
                // The ways that failed stay as they are told.
                let worked = cold.variants.values_mut().filter(|told| told.get("problem").is_none());
                worked.for_each(|told| *told = times.clone());
            }
            Ok(cold)
        };
        Some(Torch::beside(told(), work.median_ms))
    }
}

/// What the script is given.
struct Case {
    folder: Scratch,
}

impl Case {
    fn new(config: &TrainConfig) -> Result<Self> {
        let this = Self { folder: Scratch::new("torch")? };
        std::fs::write(this.script(), SCRIPT).context("cannot write the script")?;
        std::fs::write(this.weights(), plan_case(config)?).context("cannot write the weights")?;
        Ok(this)
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("torch_reference.py")
    }

    fn weights(&self) -> PathBuf {
        self.folder.path().join("case.safetensors")
    }
}

impl Told {
    fn of(python: &str, case: &Case, work: &Work) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(case.script()).arg(case.weights()).arg(work.verb).args(["--device", work.device]);
        command.args(["--batch", &work.batch.to_string(), "--threads", &work.threads.to_string()]);
        command.args(["--count", &work.until.count.to_string()]);
        command.args(["--seconds", &work.until.duration.as_secs_f64().to_string()]);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        command.args(["--begun", &now.as_secs_f64().to_string()]);
        let output = command.output().with_context(|| format!("cannot run `{python}`"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.trim().lines().last().unwrap_or("the script failed and said nothing"));
        }
        serde_json::from_slice(&output.stdout).context("the script told nothing that can be read")
    }
}

impl Torch {
    /// Beside our own median.
    fn beside(told: Result<Told>, median_ms: f64) -> Self {
        let measured = || -> Result<Self> {
            let told = told?;
            let median = |times: &Value| times["median_ms"].as_f64();
            let medians = told.variants.iter().filter_map(|(name, times)| Some((name, median(times)?)));
            let Some((best, best_median_ms)) = medians.min_by(|(_, a), (_, b)| a.total_cmp(b)) else {
                bail!("none of its ways worked: {}", serde_json::to_string(&told.variants)?);
            };
            let (best, times_slower) = (best.clone(), best_median_ms / median_ms);
            Ok(Self::Measured { told: Box::new(told), best, best_median_ms, times_slower })
        };
        measured().unwrap_or_else(|error| Self::Missing { problem: format!("{error:#}") })
    }
}

/// A row for each way of PyTorch, in a table that begins with a name and [`Times::cells`].
pub fn add_rows(table: &mut Table, torch: Option<&Torch>) {
    let Some(Torch::Measured { told, .. }) = torch else { return };
    for (name, times) in &told.variants {
        table.add_row([vec![format!("PyTorch, {name}")], cells(times).to_vec()].concat());
    }
}

/// The row of a start, in a table whose second column is the cold one.
pub fn add_start(table: &mut Table, torch: Option<&Torch>) {
    let Some(Torch::Measured { told, best, .. }) = torch else { return };
    let [median, p99, _, least, n] = cells(&told.variants[best]);
    table.add_row([format!("PyTorch, {best}"), milliseconds(told.first_ms), median, p99, least, n]);
}

/// As [`Times::cells`], of what the script tells; empty where it tells a problem.
fn cells(times: &Value) -> [String; 5] {
    let [median, p99, p999, least] =
        ["median_ms", "p99_ms", "p999_ms", "min_ms"].map(|key| milliseconds(times[key].as_f64()));
    [median, p99, p999, least, times["n"].as_u64().map_or(String::new(), |n| n.to_string())]
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.3}"))
}

/// When its first work was done.
pub fn print_first(torch: Option<&Torch>) {
    let Some(Torch::Measured { told, .. }) = torch else { return };
    if let Some(first_ms) = told.first_ms {
        say!("PyTorch had made its first {first_ms:.0} ms after its start");
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
