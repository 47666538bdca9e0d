//! What the guard's own thread is told and answers, handed without a lock to a thread that shows it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::RuntimeError;
use crate::counters::{Count, Counters};
use crate::fast_link::{MISSING, STATES, nanos};
use crate::guard::{GuardConfig, GuardInput, Proposal, Rule, Verdict};
use crate::guard_watch::{GuardEvent, GuardTap, OnGuard};
use crate::slot::Ring;

/// Inputs that may wait: at 1 kHz more than a second of them.
const INPUTS_WAITING: usize = 4096;
/// How often it is looked whether something waits.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Kind, time, skew, how many values, verdict; then the values, and the command of a verdict.
const HEAD: usize = 5;
const OBSERVE: u64 = 0;
const HEARTBEAT: u64 = 1;
const PUBLISHER_CHANGED: u64 = 2;
const ALARM_ENDS: u64 = 3;
const ALARM: u64 = 4;
const STOP: u64 = 5;
const RELEASE: u64 = 6;
const RESET: u64 = 7;
const ACTION: u64 = 8;
/// And what is missing, counted on.
const NO_ACTION: u64 = 9;

/// The thread that shows what came through the ring.
pub(crate) struct GuardShow {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A tap for the guard's thread, which neither waits nor allocates: of what there is no room for, the number is shown.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn show_elsewhere(
    on_guard: OnGuard,
    config: &GuardConfig,
    observed_dim: usize,
    counters: Arc<Counters>,
) -> Result<(GuardTap, GuardShow), RuntimeError> {
    let dim = config.axes.len();
    let room = observed_dim.max(dim);
    let ring = Arc::new(Ring::new(INPUTS_WAITING, HEAD + room + dim));
    let end = Arc::<AtomicBool>::default();
    let lost = Arc::<AtomicU64>::default();
    let (filled, missed, over, mut tap) = (ring.clone(), lost.clone(), end.clone(), on_guard(config));
    let show = move || {
        let mut words = vec![0; HEAD + room + dim];
        loop {
            // What was pushed before the end is still shown.
            let last = over.load(Ordering::Acquire);
            while filled.pop(&mut words) {
                let frame = Frame { words: &words, room };
                let command = frame.command(dim);
                tap(GuardEvent::Told(&frame.input(), frame.verdict(command.as_deref())));
            }
            match missed.swap(0, Ordering::Relaxed) {
                0 => {}
                missed => tap(GuardEvent::Lost(missed)),
            }
            if last {
                return;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    };
    let spawned = std::thread::Builder::new().name("guard's log".into()).spawn(show);
    let thread = spawned.map_err(|problem| RuntimeError::Start { what: "the guard's log", problem })?;
    let push = move |event: GuardEvent<'_>| {
        let dropped = match event {
            GuardEvent::Told(input, verdict) => u64::from(!ring.push(words_of(input, verdict, room))),
            GuardEvent::Lost(events) => events,
        };
        if dropped > 0 {
            lost.fetch_add(dropped, Ordering::Relaxed);
            counters.add(Count::RecordDropped, dropped);
        }
    };
    Ok((Box::new(push), GuardShow { end, thread: Some(thread) }))
}

impl Drop for GuardShow {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            eprintln!("the guard's log ended in a panic; this is a defect of Nudge");
        }
    }
}

fn words_of<'a>(
    input: &'a GuardInput<'_>,
    verdict: Option<Verdict<'a>>,
    room: usize,
) -> impl Iterator<Item = u64> + 'a {
    let none = (Duration::ZERO, 0.0, &[][..]);
    let (kind, (now, skew_secs, values)) = match input {
        GuardInput::Observe { now, skew_secs, values } => (OBSERVE, (*now, *skew_secs, &values[..])),
        GuardInput::Heartbeat { now } => (HEARTBEAT, (*now, 0.0, &[][..])),
        GuardInput::PublisherChanged => (PUBLISHER_CHANGED, none),
        GuardInput::Alarm { raised: false } => (ALARM_ENDS, none),
        GuardInput::Alarm { raised: true } => (ALARM, none),
        GuardInput::Stop => (STOP, none),
        GuardInput::Release { now } => (RELEASE, (*now, 0.0, &[][..])),
        GuardInput::Reset => (RESET, none),
        GuardInput::Tick { now, proposed: Proposal::Action(action) } => (ACTION, (*now, 0.0, &action[..])),
        GuardInput::Tick { now, proposed: Proposal::None(missing) } => {
            (NO_ACTION + *missing as u64, (*now, 0.0, &[][..]))
        }
    };
    let values = &values[..values.len().min(room)];
    let answer = verdict.map_or(0, |verdict| {
        let reason = verdict.reason.map_or(0, |rule| 1 + rule as u64);
        let sends = u64::from(verdict.command.is_some());
        (1 + verdict.state as u64) | (reason << 8) | (sends << 16)
    });
    let command = verdict.and_then(|verdict| verdict.command).unwrap_or_default();
    let head = [kind, nanos(now), skew_secs.to_bits(), values.len() as u64, answer];
    let padded = values.iter().map(|value| value.to_bits()).chain(std::iter::repeat(0)).take(room);
    head.into_iter().chain(padded).chain(command.iter().map(|value| value.to_bits()))
}

/// One message of the ring.
struct Frame<'a> {
    words: &'a [u64],
    room: usize,
}

impl Frame<'_> {
    fn input(&self) -> GuardInput<'static> {
        let (now, skew_secs) = (Duration::from_nanos(self.words[1]), f64::from_bits(self.words[2]));
        let values: Cow<'static, [f64]> = numbers(&self.words[HEAD..][..self.words[3] as usize]).into();
        match self.words[0] {
            OBSERVE => GuardInput::Observe { now, skew_secs, values },
            HEARTBEAT => GuardInput::Heartbeat { now },
            PUBLISHER_CHANGED => GuardInput::PublisherChanged,
            ALARM_ENDS => GuardInput::Alarm { raised: false },
            ALARM => GuardInput::Alarm { raised: true },
            STOP => GuardInput::Stop,
            RELEASE => GuardInput::Release { now },
            RESET => GuardInput::Reset,
            ACTION => GuardInput::Tick { now, proposed: Proposal::Action(values) },
            none => {
                let proposed = Proposal::None(MISSING[(none - NO_ACTION) as usize]);
                GuardInput::Tick { now, proposed }
            }
        }
    }

    fn command(&self, dim: usize) -> Option<Vec<f64>> {
        (self.words[4] >> 16 == 1).then(|| numbers(&self.words[HEAD + self.room..][..dim]))
    }

    fn verdict<'a>(&self, command: Option<&'a [f64]>) -> Option<Verdict<'a>> {
        let state = (self.words[4] & 0xff).checked_sub(1)?;
        let reason = ((self.words[4] >> 8) & 0xff).checked_sub(1).map(|rule| Rule::ALL[rule as usize]);
        Some(Verdict { state: STATES[state as usize], reason, command })
    }
}

fn numbers(words: &[u64]) -> Vec<f64> {
    words.iter().copied().map(f64::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::guard::{Missing, State};
    use crate::robot_file::RobotFile;

    const ROBOT: &str = r#"
        name = "arm"
        prefix = "arm"
        pace = "clock"
        control_hz = 10.0
        [session]
        robot = {}
        controller = {}
        [[observation]]
        name = "seen"
        shape = [3]
        [[action]]
        name = "joints"
        shape = [2]
        limits = { low = [-1.0, -1.0], high = [1.0, 1.0] }
    "#;

    /// Everything that can be shown, to the bit.
    #[test]
    fn what_is_shown_is_what_was_told() {
        let now = Duration::from_nanos(1_234_567_890_123);
        let odd = f64::from_bits(0x7ff8_0000_dead_beef);
        let action = [1.5, -0.0];
        let command = [odd, 2.0];
        let held = Verdict { state: State::Hold, reason: Some(Rule::PlanUsedUp), command: Some(&command) };
        let silent = Verdict { state: State::Init, reason: None, command: None };
        let tick = |proposed| GuardInput::Tick { now, proposed };
        let told = [
            (GuardInput::Observe { now, skew_secs: -0.25, values: Cow::Borrowed(&[odd, 1.0, 2.0]) }, None),
            (GuardInput::Heartbeat { now }, None),
            (GuardInput::PublisherChanged, None),
            (GuardInput::Alarm { raised: true }, None),
            (GuardInput::Alarm { raised: false }, None),
            (GuardInput::Stop, None),
            (GuardInput::Release { now }, None),
            (GuardInput::Reset, None),
            (tick(Proposal::Action(Cow::Borrowed(&action))), Some(held)),
            (tick(Proposal::None(Missing::FirstPlan)), Some(silent)),
            (tick(Proposal::None(Missing::UsedUp)), Some(held)),
            (tick(Proposal::None(Missing::Failed)), Some(silent)),
        ];
        let shown = Arc::<Mutex<Vec<String>>>::default();
        let seen = shown.clone();
        let on_guard: OnGuard = Box::new(move |_| {
            Box::new(move |event| match event {
                GuardEvent::Told(input, verdict) => seen.lock().unwrap().push(text(input, verdict)),
                GuardEvent::Lost(_) => panic!("there was room"),
            })
        });
        let config = GuardConfig::new(&RobotFile::parse(ROBOT).unwrap(), |_| None);
        let counters = Arc::new(Counters::default());
        let (mut tap, show) = show_elsewhere(on_guard, &config, 3, counters).unwrap();
        for (input, verdict) in &told {
            tap(GuardEvent::Told(input, *verdict));
        }
        drop(show);
        let expected: Vec<_> = told.iter().map(|(input, verdict)| text(input, *verdict)).collect();
        assert_eq!(*shown.lock().unwrap(), expected);
    }

    /// Whoever is shown hangs; when he looks again he hears how many he missed.
    #[test]
    fn what_there_was_no_room_for_is_told() {
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let told = Arc::<[AtomicU64; 2]>::default();
        let heard = told.clone();
        let on_guard: OnGuard = Box::new(move |_| {
            Box::new(move |event| match event {
                GuardEvent::Told(..) => {
                    if heard[0].fetch_add(1, Ordering::Relaxed) == 0 {
                        held.recv().unwrap();
                    }
                }
                GuardEvent::Lost(events) => _ = heard[1].fetch_add(events, Ordering::Relaxed),
            })
        });
        let config = GuardConfig::new(&RobotFile::parse(ROBOT).unwrap(), |_| None);
        let counters = Arc::new(Counters::default());
        let (mut tap, show) = show_elsewhere(on_guard, &config, 3, counters.clone()).unwrap();
        let all = INPUTS_WAITING as u64 + 1000;
        for tick in 0..all {
            tap(GuardEvent::Told(&GuardInput::Heartbeat { now: Duration::from_millis(tick) }, None));
        }
        go_on.send(()).unwrap();
        drop(show);
        let [shown, lost] = [0, 1].map(|index: usize| told[index].load(Ordering::Relaxed));
        assert!(shown + lost == all && (999..=1000).contains(&lost), "{shown} shown, {lost} lost of {all}");
        assert_eq!(counters.get(Count::RecordDropped), lost);
    }

    fn text(input: &GuardInput<'_>, verdict: Option<Verdict<'_>>) -> String {
        let command = verdict.and_then(|verdict| verdict.command);
        let bits: Option<Vec<u64>> = command.map(|command| command.iter().map(|v| v.to_bits()).collect());
        let said = verdict.map(|verdict| (verdict.state, verdict.reason));
        format!("{} {said:?} {bits:?}", serde_json::to_string(input).unwrap())
    }
}
