//! What is wrong with a data set, where, what it does to training, and what mends it.
//!
//! Faults of single frames are told by laws (time goes forward, a quaternion has no sign, numbers are
//! finite). What is unusual is told by comparing episodes with one another, by statistics that a few wrong
//! episodes cannot bend. Nothing here depends on the robot.
//!
//! A sample of whole episodes says what is usual; then all episodes pass by, block by block, and of each a
//! small summary is kept. A set of any size takes the memory of its summaries.

mod case;
mod coupling;
mod duplicates;
mod dynamics;
mod episodes;
mod finding;
mod layout;
mod metadata;
mod misfits;
mod model;
mod motion;
mod reference;
mod robust;
mod summary;
mod time;
mod values;

use std::path::Path;

use serde::Serialize;

pub use finding::{Fault, Finding, Severity};

use crate::{Dataset, Format};
use case::Case;
use coupling::Coupling;
use duplicates::Prints;
use dynamics::Dynamics;
use layout::{Layout, Role, Series};
use model::Models;
use reference::Reference;
use summary::Summary;
use time::Clock;

/// What the doctor is told.
#[derive(Clone, Copy, Debug)]
pub struct ExamineOptions {
    /// `Tp`: frames of a training window; episodes shorter than that are told.
    pub window: usize,
}

impl Default for ExamineOptions {
    /// Windows of 16 frames, as diffusion policies have them.
    fn default() -> Self {
        Self { window: 16 }
    }
}

/// What the doctor found.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// The set, as it was named.
    pub set: String,
    /// Its format; `None` when it cannot be opened.
    pub format: Option<Format>,
    pub episodes: usize,
    pub frames: usize,
    /// Errors first, then by fault, episode and frame.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Findings of a severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }

    /// Whether training should go ahead: nothing is an error.
    pub fn sound(&self) -> bool {
        self.of(Severity::Error).next().is_none()
    }
}

/// Bytes of frames that are held at a time, and that the sample may have.
const BLOCK_BYTES: usize = 64 << 20;
/// Frames from which what is usual is told.
const SAMPLE_FRAMES: usize = 40_000;

/// Examines the set at `path`, of any format. It never fails: a set that cannot be read is a finding.
pub fn examine(path: &Path, options: &ExamineOptions) -> Diagnosis {
    examine_with(path, options, &mut |_, _| ())
}

/// As [`examine`]; tells `progress` how many episodes are done, and of how many.
pub fn examine_with(
    path: &Path,
    options: &ExamineOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Diagnosis {
    let set = path.display().to_string();
    let command_set = case::shell(&set);
    let mut found = Vec::new();
    let dataset = open(path, &command_set, &mut found);
    let mut diagnosis = Diagnosis { set, format: None, episodes: 0, frames: 0, findings: Vec::new() };
    if let Some(dataset) = dataset {
        diagnosis.format = Some(dataset.format());
        diagnosis.episodes = dataset.episode_count();
        diagnosis.frames = dataset.frame_count();
        let layout = Layout::of(dataset.info());
        let case = Case {
            set: &command_set,
            info: dataset.info(),
            layout: &layout,
            fps: dataset.info().fps,
            window: options.window,
        };
        examine_opened(&case, &dataset, progress, &mut found);
    }
    found.sort_by(|one, two| {
        let key = |f: &Finding| (f.severity, f.fault, f.episode, f.frame, f.number);
        key(one).cmp(&key(two)).then_with(|| one.feature.cmp(&two.feature))
    });
    diagnosis.findings = found;
    diagnosis
}

/// Opens the set, or what is whole of it, and says why it cannot be opened.
fn open(path: &Path, set: &str, found: &mut Vec<Finding>) -> Option<Dataset> {
    let error = match Dataset::open(path) {
        Ok(dataset) => return Some(dataset),
        Err(error) => error,
    };
    let effect = "training refuses it";
    match Dataset::salvage(path) {
        Ok((dataset, left_out)) => {
            let what = format!(
                "{error}. {} episodes are whole, numbered anew from 0 in what else is found{}{}",
                dataset.episode_count(),
                if left_out.is_empty() { "" } else { "; left out: " },
                left_out.join("; ")
            );
            found.push(
                Finding::new(Fault::CountMismatch, Severity::Error, what, effect)
                    .count(left_out.len())
                    .mend(case::salvage(set)),
            );
            Some(dataset)
        }
        Err(_) => {
            found.push(Finding::new(Fault::Unreadable, Severity::Error, error.to_string(), effect));
            None
        }
    }
}

fn examine_opened(
    case: &Case,
    dataset: &Dataset,
    progress: &mut dyn FnMut(usize, usize),
    found: &mut Vec<Finding>,
) {
    let layout = case.layout;
    if !layout.has(Role::Action) {
        let what = "no feature of real numbers is called `action` or `actions`, or begins so".to_owned();
        let effect = "there is nothing to learn to do";
        found.push(
            Finding::new(Fault::NoAction, Severity::Error, what, effect)
                .mend(case.convert("--rename OLD=action")),
        );
    }
    if !layout.has(Role::Observed) {
        let what = "no feature but the action holds real numbers; pictures, video and text are passed over"
            .to_owned();
        let effect = "a policy would have nothing to go by";
        found.push(Finding::new(Fault::NoObservation, Severity::Error, what, effect));
    }
    metadata::tasks(case, found);
    let total = dataset.episode_count();
    let sampled = sample(case, dataset);
    let whole = sampled.len() == total;
    let reference = Reference::of(layout, &sampled);
    let coupling = Coupling::of(layout, &sampled, case.hz());
    let models = Models::fit(layout, &reference, &sampled);
    dynamics::judge_set(case, &reference, &coupling, &sampled, found);

    let mut pass = Pass {
        case,
        reference: &reference,
        coupling: &coupling,
        partners: coupling.partners(layout.signals()),
        models: &models,
        summaries: Vec::with_capacity(total),
        dynamics: Vec::with_capacity(total),
        prints: Prints::default(),
        clock: Clock::default(),
        first_frame: 0,
    };
    if whole {
        for series in &sampled {
            pass.take(series, found);
        }
        progress(total, total);
    } else {
        drop(sampled);
        let most = BLOCK_BYTES / case.layout.frame_bytes().max(1);
        for block in dataset.runs(0..dataset.episode_count(), most) {
            for (series, episode) in layout::read(dataset, layout, block.clone()).into_iter().zip(block) {
                match series {
                    Ok(series) => pass.take(&series, found),
                    Err(error) => {
                        let what = error.to_string();
                        let effect = "training stops when it comes to this episode";
                        found.push(
                            Finding::new(Fault::EpisodeUnreadable, Severity::Error, what, effect)
                                .at(episode, None)
                                .mend(case.convert("--salvage")),
                        );
                        pass.first_frame += dataset.episode_length(episode).unwrap_or(0);
                    }
                }
                progress(episode + 1, total);
            }
        }
    }
    pass.conclude(dataset, found);
}

/// Whole episodes, evenly spread over the set; those that cannot be read are left out.
fn sample(case: &Case, dataset: &Dataset) -> Vec<Series> {
    let most = SAMPLE_FRAMES.min(BLOCK_BYTES / case.layout.frame_bytes().max(1));
    let total = dataset.episode_count();
    let every = dataset.frame_count().div_ceil(most.max(1)).max(1);
    if every == 1 {
        return layout::read(dataset, case.layout, 0..total).into_iter().flatten().collect();
    }
    let chosen = (0..total).step_by(every);
    chosen.flat_map(|episode| layout::read(dataset, case.layout, episode..episode + 1)).flatten().collect()
}

/// What is kept while the episodes pass by.
struct Pass<'a> {
    case: &'a Case<'a>,
    reference: &'a Reference,
    coupling: &'a Coupling,
    /// By signal, as [`Coupling::partners`] has them.
    partners: Vec<Option<usize>>,
    models: &'a Models,
    summaries: Vec<Summary>,
    dynamics: Vec<Dynamics>,
    prints: Prints,
    clock: Clock,
    /// Where the next episode begins in the set.
    first_frame: usize,
}

impl Pass<'_> {
    fn take(&mut self, series: &Series, found: &mut Vec<Finding>) {
        let Self { case, reference, .. } = self;
        values::non_finite(case, series, found);
        metadata::task_of(case, series, found);
        episodes::done_early(case, series, found);
        self.clock.check(case, series, self.first_frame, found);
        self.summaries.push(Summary::of(case.layout, reference, &self.partners, series));
        self.dynamics.push(Dynamics::of(case, reference, self.coupling, self.models, series));
        self.prints.add(reference, series);
        self.first_frame += series.frames;
    }

    fn conclude(self, dataset: &Dataset, found: &mut Vec<Finding>) {
        let Self { case, reference, summaries, dynamics, .. } = self;
        let broken = found.iter().filter(|finding| finding.fault == Fault::NonFinite);
        let broken: Vec<String> = broken.filter_map(|finding| finding.feature.clone()).collect();
        self.clock.conclude(case, found);
        if summaries.len() == dataset.episode_count() {
            metadata::stats(case, dataset, &summaries, &broken, found);
        }
        values::judge(case, reference, &summaries, found);
        motion::judge(case, reference, &summaries, &dynamics, found);
        misfits::judge(case, self.coupling, &summaries, &dynamics, found);
        episodes::judge(case, reference, &summaries, found);
        self.prints.judge(case, found);
    }
}
