//! `nudge replay` of an incident log: every plan is made again, and compared to the bit.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nudge_control::Policy;
use nudge_dataset::mcap::{GAP_TOPIC, read_mcap};
use nudge_dataset::{DatasetError, mcap::McapMessage};
use nudge_policy::DiffusionPolicy;
use nudge_runtime::Guard;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::output::{self, say};
use crate::verbs::checkpoint::{DeviceArgs, cores};
use crate::verbs::incident::{
    CONFIG_TOPIC, GUARD_CONFIG_TOPIC, GUARD_TOPIC, GuardRecord, IncidentConfig, PLAN_TOPIC, PlanRecord,
    VerdictRecord, from_bits, planned_on,
};

/// What came of asking again.
#[derive(Serialize)]
struct Replayed {
    plans: usize,
    /// Those that came out otherwise, and the first of them.
    differ: usize,
    first_difference: Option<Difference>,
    /// The same of the guard's verdicts.
    verdicts: usize,
    verdicts_differ: usize,
    first_verdict: Option<String>,
    /// What computed them then and now.
    planned_on: [String; 2],
    /// Messages that the log lacks, because the disk was too slow: what follows them may come out otherwise.
    lost: u64,
    /// Why the log ends before its end, if it does.
    damage: Option<String>,
}

#[derive(Serialize)]
struct Difference {
    /// Counted from 0.
    plan: usize,
    /// Of the first request.
    step: Option<u64>,
    problem: String,
}

/// Plans again what the log of `path` says was planned; the exit status says whether all came out the same.
pub fn run(path: &Path, checkpoint: Option<&Path>, device: &DeviceArgs, json: bool) -> Result<ExitCode> {
    let Some(checkpoint) = checkpoint else {
        bail!("to plan again what {} holds, say with what: --checkpoint DIR", path.display());
    };
    let (mut config, mut plans) = (None::<IncidentConfig>, Vec::<PlanRecord>::new());
    let (mut guards, mut lost) = (Guards::default(), 0);
    let damage = read_mcap(path, &mut |message| {
        match message.channel.topic.as_str() {
            CONFIG_TOPIC => config = Some(parsed(path, &message)?),
            PLAN_TOPIC => plans.push(parsed(path, &message)?),
            GUARD_CONFIG_TOPIC => {
                let config: Value = parsed(path, &message)?;
                let config = serde_json::from_value(from_bits(config));
                guards.guard = Some(Guard::with(config.map_err(|error| unread(path, &message, &error))?));
            }
            GAP_TOPIC => lost += parsed::<Value>(path, &message)?["lost"].as_u64().unwrap_or_default(),
            GUARD_TOPIC => guards.tell(&parsed(path, &message)?),
            _ => {}
        }
        Ok(())
    })?;
    let Some(config) = config else {
        bail!(
            "{} is no incident log: nothing is on `{CONFIG_TOPIC}`; `nudge serve --mcap` makes one",
            path.display()
        );
    };
    let policy = DiffusionPolicy::load(checkpoint, device.options())
        .with_context(|| format!("cannot plan with {}", checkpoint.display()))?;
    let mut policy = policy
        .with_sampler(config.sampler)?
        .with_executed(config.executed)?
        .with_continuation(config.continuation)?
        .with_threads(cores());
    let bar = output::progress(plans.len() as u64, "plans");
    let (differ, first_difference) = ask_again(&mut policy, &plans, &|| bar.inc(1));
    bar.finish_and_clear();
    let replayed = Replayed {
        plans: plans.len(),
        differ,
        first_difference,
        verdicts: guards.verdicts,
        verdicts_differ: guards.differ,
        first_verdict: guards.first,
        planned_on: [config.planned_on, planned_on(device)],
        lost,
        damage,
    };
    if json {
        output::print_json(&replayed)?
    } else {
        print(&replayed)
    }
    let same = replayed.differ + replayed.verdicts_differ == 0 && replayed.damage.is_none();
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many plans come out otherwise, and the first.
fn ask_again(policy: &mut dyn Policy, plans: &[PlanRecord], done: &dyn Fn()) -> (usize, Option<Difference>) {
    let (mut differ, mut first) = (0, None);
    for (number, plan) in plans.iter().enumerate() {
        let requests = plan.requests();
        let again = PlanRecord::new(&requests, &policy.predict(&requests));
        if let Some(problem) = plan.difference(&again) {
            differ += 1;
            let step = requests.first().map(|request| request.step);
            first.get_or_insert(Difference { plan: number, step, problem });
        }
        done();
    }
    (differ, first)
}

fn parsed<T: DeserializeOwned>(path: &Path, message: &McapMessage<'_>) -> Result<T, DatasetError> {
    serde_json::from_slice(message.payload).map_err(|error| unread(path, message, &error))
}

fn unread(path: &Path, message: &McapMessage<'_>, error: &serde_json::Error) -> DatasetError {
    DatasetError::Metadata {
        path: path.to_owned(),
        problem: format!("message {} of `{}`: {error}", message.sequence, message.channel.topic),
    }
}

/// The guard that is told again what it was told.
#[derive(Default)]
struct Guards {
    guard: Option<Guard>,
    verdicts: usize,
    differ: usize,
    first: Option<String>,
}

impl Guards {
    fn tell(&mut self, record: &GuardRecord) {
        let now = self.guard.as_mut().and_then(|guard| guard.apply(&record.input)).map(VerdictRecord::from);
        if now != record.verdict {
            self.differ += 1;
            let verdict = self.verdicts;
            let then = &record.verdict;
            self.first.get_or_insert_with(|| format!("verdict {verdict}: then {then:?}, now {now:?}"));
        }
        self.verdicts += usize::from(record.verdict.is_some());
    }
}

fn print(replayed: &Replayed) {
    let Replayed { plans, differ, first_difference, planned_on: [then, now], damage, .. } = replayed;
    match first_difference {
        None => say!("{plans} plans: all the same, bit for bit"),
        Some(Difference { plan, step, problem }) => {
            let step = step.map_or_else(String::new, |step| format!(" (control step {step})"));
            say!("{plans} plans: {differ} come out otherwise, the first is plan {plan}{step}: {problem}");
            if then != now {
                say!("then they were made on {then}, now on {now}; elsewhere the last bits may differ");
            }
        }
    }
    let Replayed { verdicts, verdicts_differ, first_verdict, .. } = replayed;
    match first_verdict {
        None => say!("{verdicts} verdicts of the guard: all the same, bit for bit"),
        Some(first) => say!(
            "{verdicts} verdicts of the guard: {verdicts_differ} come out otherwise, the first is {first}"
        ),
    }
    if replayed.lost > 0 {
        say!(
            "the log lacks {} messages: verdicts behind the first of them may come out otherwise",
            replayed.lost
        );
    }
    if let Some(damage) = damage {
        say!("{damage}");
    }
}

#[cfg(test)]
mod tests {
    use nudge_control::{
        Action, ActionChunk, Horizon, Interface, Observation, ObservationWindow, PlanRequest, PolicyError,
    };

    use super::*;

    /// Goes on from what was observed, by a little of the seed's noise.
    struct Onward(Interface);

    impl Policy for Onward {
        fn interface(&self) -> &Interface {
            &self.0
        }

        fn horizon(&self) -> Horizon {
            Horizon { observed: 1, predicted: 4, executed: 2 }
        }

        fn predict(&mut self, requests: &[PlanRequest]) -> Result<Vec<ActionChunk>, PolicyError> {
            let chunk = |request: &PlanRequest| {
                let from = request.window.0[0].0[0] + request.noise_seed as f64 * 1e-3;
                let actions = (0..4).map(|i| Action(vec![from + f64::from(i) / 3.0])).collect();
                ActionChunk { first_step: request.step, actions }
            };
            Ok(requests.iter().map(chunk).collect())
        }
    }

    fn request(step: u64) -> PlanRequest {
        PlanRequest {
            step,
            window: ObservationWindow(vec![Observation(vec![0.1 * step as f64])]),
            committed: vec![Action(vec![f64::from_bits(1)])],
            hurried: step.is_multiple_of(2),
            noise_seed: u64::MAX / 3 + step,
        }
    }

    #[test]
    fn plans_come_out_the_same_and_a_flipped_bit_is_found() {
        let interface = Interface { observation: Vec::new(), action: Vec::new(), control_hz: 10.0 };
        let mut policy = Onward(interface);
        let mut plans = Vec::new();
        for step in 0..5 {
            let requests = [request(step), request(step + 100)];
            let record = PlanRecord::new(&requests, &policy.predict(&requests));
            assert_eq!(record.requests(), requests);
            // As it lies in the file.
            plans.push(serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap());
        }
        let (differ, first) = ask_again(&mut policy, &plans, &|| {});
        assert!(differ == 0 && first.is_none());
        for (plan, bit) in [(0, 0), (3, 51), (4, 63)] {
            let mut other = serde_json::to_value(&plans[plan]).unwrap();
            let number = &mut other["answer"]["Ok"][1]["actions"][2][0];
            *number = serde_json::json!(number.as_u64().unwrap() ^ 1 << bit);
            let mut flipped = plans.clone();
            flipped[plan] = serde_json::from_value(other).unwrap();
            let (differ, first) = ask_again(&mut policy, &flipped, &|| {});
            let first = first.unwrap();
            assert_eq!((differ, first.plan, first.step), (1, plan, Some(plan as u64)));
            assert!(first.problem.contains("request 1, action 2, number 0"), "{}", first.problem);
        }
    }
}
