//! `nudge dataset check`: the doctor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use nudge_dataset::{Diagnosis, ExamineOptions, Fault, Finding, Severity, examine_with};
use serde::Serialize;

use crate::output::{self, say};

/// Find out what is wrong with a data set before training on it
///
/// Reads all frames, of a set of any format and size, and tells what would spoil a policy: numbers that are
/// no numbers, clocks that jump, frames that are missing, double or out of order, actions that are shifted,
/// cut off or in other units than the state, episodes unlike the rest, and more. Each finding says where it
/// is, what it does to training, and which command mends it; commands write a copy and leave the set as it
/// is.
///
/// Errors should be mended before training; warnings are worth a look; notes are good to know. What is
/// unusual is told by comparing the set's episodes with one another, so a few episodes say less than many.
///
/// Exit status: 0 when training can go ahead (warnings or not), 3 when there are errors, 1 when the command
/// itself fails.
#[derive(Args)]
pub struct Check {
    /// The data set: a LeRobot folder, a zarr folder or an HDF5 file
    set: PathBuf,

    /// Tell of these faults alone; also decides about the exit status. Repeat for more
    #[arg(long, value_name = "FAULT")]
    only: Vec<Fault>,

    /// Show at most this many findings of each fault; 0 shows all. JSON always has all
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,

    /// Frames of a training window; shorter episodes are told
    #[arg(long, value_name = "FRAMES", default_value_t = ExamineOptions::default().window)]
    window: usize,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    errors: usize,
    warnings: usize,
    notes: usize,
    /// Whether training can go ahead.
    sound: bool,
}

/// Exit status for a set that should not be trained on.
const UNSOUND: u8 = 3;

impl Check {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let bar = output::progress(0, "episodes");
        let mut diagnosis =
            examine_with(&self.set, &ExamineOptions { window: self.window }, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
        bar.finish_and_clear();
        if !self.only.is_empty() {
            diagnosis.findings.retain(|finding| self.only.contains(&finding.fault));
        }
        if self.json {
            output::print_json(&Report {
                errors: diagnosis.of(Severity::Error).count(),
                warnings: diagnosis.of(Severity::Warning).count(),
                notes: diagnosis.of(Severity::Note).count(),
                sound: diagnosis.sound(),
                diagnosis: &diagnosis,
            })?;
        } else {
            print(&diagnosis, self.limit);
            say!("\n{}", verdict(&diagnosis, &self.only));
        }
        Ok(if diagnosis.sound() { ExitCode::SUCCESS } else { ExitCode::from(UNSOUND) })
    }
}

fn print(diagnosis: &Diagnosis, limit: usize) {
    match &diagnosis.format {
        Some(format) => {
            say!("{} ({format}): {} episodes, {} frames", diagnosis.set, diagnosis.episodes, diagnosis.frames)
        }
        None => say!("{}", diagnosis.set),
    }
    for (severity, title) in
        [(Severity::Error, "Errors"), (Severity::Warning, "Warnings"), (Severity::Note, "Notes")]
    {
        let findings: Vec<&Finding> = diagnosis.of(severity).collect();
        if !findings.is_empty() {
            say!("\n{title}");
            print_group(&findings, limit);
        }
    }
    mend(diagnosis);
}

/// The commands, each once and on a line of its own, so that they can be copied; episodes to drop are put
/// together.
fn mend(diagnosis: &Diagnosis) {
    const DROP: &str = " --drop ";
    /// Commands without the episodes that they drop, and those.
    type Commands<'a> = Vec<(&'a str, Vec<&'a str>)>;
    let mut commands: BTreeMap<(Severity, Fault), Commands> = BTreeMap::new();
    for finding in &diagnosis.findings {
        let of_fault = commands.entry((finding.severity, finding.fault)).or_default();
        for command in &finding.mend {
            let (command, dropped) =
                command.split_once(DROP).map_or((&**command, None), |(c, d)| (c, Some(d)));
            let place = of_fault.iter().position(|(known, _)| *known == command).unwrap_or_else(|| {
                of_fault.push((command, Vec::new()));
                of_fault.len() - 1
            });
            let known = &mut of_fault[place].1;
            known.extend(dropped.filter(|episode| !known.contains(episode)));
        }
    }
    commands.retain(|_, of_fault| !of_fault.is_empty());
    if commands.is_empty() {
        return;
    }
    say!("\nTo mend it, into a new data set:");
    for ((_, fault), of_fault) in commands {
        say!("  {fault}:");
        for (command, dropped) in of_fault {
            match dropped.is_empty() {
                true => say!("    {command}"),
                false => say!("    {command}{DROP}{}", dropped.join(",")),
            }
        }
    }
}

fn print_group(findings: &[&Finding], limit: usize) {
    let mut table = output::table(["fault", "where", "what it is, and what it does"]);
    for of_fault in findings.chunk_by(|one, next| one.fault == next.fault) {
        let shown = if limit == 0 { of_fault.len() } else { limit.min(of_fault.len()) };
        for (nth, finding) in of_fault[..shown].iter().enumerate() {
            // What a fault does is said once.
            let new = nth == 0 || finding.effect != of_fault[nth - 1].effect;
            let mut text = sentence(&finding.what);
            if new {
                text = format!("{text}\n{}", sentence(&finding.effect));
            }
            table.add_row([Cell::new(finding.fault), Cell::new(place(finding)), Cell::new(text)]);
        }
        if shown < of_fault.len() {
            let more = format!("{} more; --limit 0 shows them all", of_fault.len() - shown);
            table.add_row([Cell::new(of_fault[0].fault), Cell::new(""), Cell::new(more)]);
        }
    }
    say!("{table}");
}

fn place(finding: &Finding) -> String {
    let feature = finding.feature.clone().map(|feature| match finding.number {
        Some(number) => format!("{feature}[{number}]"),
        None => feature,
    });
    let episode = finding.episode.map(|episode| format!("episode {episode}"));
    let frame = finding.frame.map(|frame| format!("frame {frame}"));
    [feature, episode, frame].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    // A name in backticks keeps its letters.
    format!("{first}{}.", letters.as_str())
}

fn verdict(diagnosis: &Diagnosis, only: &[Fault]) -> String {
    if !only.is_empty() && diagnosis.findings.is_empty() {
        return "None of these faults was found; others were not looked at.".to_owned();
    }
    let errors: Vec<&Finding> = diagnosis.of(Severity::Error).collect();
    let warnings = diagnosis.of(Severity::Warning).count();
    if errors.is_empty() {
        return match warnings {
            0 => "Training can go ahead.".to_owned(),
            1 => "Training can go ahead; look at the warning first.".to_owned(),
            _ => format!("Training can go ahead; look at the {warnings} warnings first."),
        };
    }
    let mut faults: BTreeMap<Fault, usize> = BTreeMap::new();
    errors.iter().for_each(|finding| *faults.entry(finding.fault).or_default() += 1);
    let faults: Vec<String> = faults.iter().map(|(fault, count)| format!("{fault} ({count})")).collect();
    format!("Training should not go ahead: first mend {}.", faults.join(", "))
}
