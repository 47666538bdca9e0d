//! One person, script or leader arm at one simulated robot: the loop at the world's clock.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nudge_control::{Action, Episode, Frame, Observation, Task};
use nudge_runtime::{Follower, Leader, RobotFile};
use nudge_sim::TaskConfig;
use serde_json::json;

use super::motion::{AXES, Hand, Held, Intent, intent, recordable, speed_limits};
use super::terminal::Terminal;

/// A space bar that is held down grips once: it repeats sooner than this, s.
const GRIP_AGAIN_SECS: f64 = 0.7;

/// How a session is run.
pub struct Options {
    /// An endpoint in place of the robot file's.
    pub listen: Option<String>,
    /// Save what runs out of steps.
    pub all: bool,
    /// The world's seconds in a second.
    pub rate: f64,
    pub stop: Arc<AtomicBool>,
    #[cfg(feature = "rerun")]
    pub view: Option<nudge_runtime::View>,
}

/// What becomes of an episode.
pub enum Outcome {
    Save(Episode),
    Again,
    Next,
    End,
}

/// Where the actions come from.
enum Source {
    Keys { hand: Hand, held: Held, gripped_secs: f64 },
    Bus { leader: Leader, follower: Box<Follower> },
}

/// A world, who drives it, and who looks on.
pub struct Session {
    task: Box<dyn Task>,
    source: Source,
    terminal: Option<Terminal>,
    options: Options,
    began: Instant,
    /// Episodes begun.
    number: u64,
    message: String,
}

impl Session {
    /// By the bus when there is a `robot`, otherwise by the keys of the terminal.
    ///
    /// # Errors
    /// When there is no terminal for the keys, the task's actions are none that keys can make, or the bus fails.
    pub fn open(task: &TaskConfig, robot: Option<&RobotFile>, options: Options) -> Result<Self> {
        let world = task.build();
        let dim = world.interface().action_dim();
        let source = match robot {
            Some(robot) => Source::Bus {
                leader: Leader::listen(robot, options.listen.clone(), dim)?,
                follower: Box::new(Follower::new(robot, &speed_limits(task))),
            },
            None => Source::Keys {
                hand: Hand::new(task, world.interface()).context(
                    "the keyboard moves the tool and makes no joint targets: use --actions pose, or send them by --bus",
                )?,
                held: Held::default(),
                gripped_secs: f64::NEG_INFINITY,
            },
        };
        let terminal = if std::io::stdout().is_terminal() { Terminal::open().ok() } else { None };
        if robot.is_none() && terminal.is_none() {
            bail!("the keyboard drives in a terminal, and this is none; a script can drive by --bus");
        }
        if let (None, Some(robot)) = (&terminal, robot) {
            let endpoints = options.listen.clone().unwrap_or_else(|| robot.session.robot.listen.join(", "));
            eprintln!("listening at {endpoints} on `{}/teleop/cmd`; Ctrl-C ends it", robot.prefix);
        }
        let began = Instant::now();
        Ok(Self { task: world, source, terminal, options, began, number: 0, message: String::new() })
    }

    /// Tells the person something; it stands until there is something else to tell.
    pub fn say(&mut self, message: String) {
        if self.terminal.is_none() {
            eprintln!("{message}");
        }
        self.message = message;
    }

    /// Gives the terminal back; what was refused or limited, in words.
    pub fn close(self) -> Vec<String> {
        let Source::Bus { leader, follower } = &self.source else { return Vec::new() };
        let counted = leader.counters().into_iter().chain(follower.counters());
        counted.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect()
    }

    /// Runs the episode of `seed`. The world stands still until the first key or command.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn episode(&mut self, seed: u64) -> Result<Outcome> {
        let mut observation = self.task.reset(seed);
        let held = self.task.hold_action();
        let now_secs = self.began.elapsed().as_secs_f64();
        match &mut self.source {
            Source::Keys { hand, held: keys, .. } => {
                hand.begin(&held);
                keys.stop(now_secs);
            }
            Source::Bus { leader, follower } => {
                leader.forget();
                follower.begin();
            }
        }
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.options.view {
            view.begin_episode(self.number, seed);
        }
        self.number += 1;
        let control_hz = self.task.interface().control_hz;
        let period = Duration::from_secs_f64(1.0 / (control_hz * self.options.rate));
        let mut frames: Vec<Frame> = Vec::new();
        let (mut moving, mut over) = (false, false);
        let mut deadline = Instant::now();
        loop {
            self.show(seed, &frames, &observation, moving, over)?;
            // A world that was late goes on from now.
            deadline = (deadline + period).max(Instant::now());
            let asked = self.listen(deadline, &mut moving);
            match asked {
                Some(Intent::Save) if !frames.is_empty() => return Ok(self.saved(seed, frames)),
                Some(Intent::Again) => return Ok(Outcome::Again),
                Some(Intent::Next) => return Ok(Outcome::Next),
                Some(Intent::End) => return Ok(Outcome::End),
                _ if self.options.stop.load(Ordering::Relaxed) => return Ok(Outcome::End),
                _ if over => continue,
                _ => {}
            }
            let Some(action) = self.action(frames.len(), &mut moving) else { continue };
            let step = self.task.step(&action);
            let seen = std::mem::replace(&mut observation, step.observation);
            frames.push(Frame {
                time_secs: frames.len() as f64 / control_hz,
                observation: seen,
                action,
                reward: step.reward,
                success: step.success,
                done: step.done,
            });
            over = step.done;
            if over {
                if step.success || self.options.all {
                    return Ok(self.saved(seed, frames));
                }
                if self.terminal.is_none() {
                    self.say(format!("seed {seed} ran out of steps, and is not saved"));
                    return Ok(Outcome::Next);
                }
                self.say("out of steps: Enter saves it all the same, Backspace starts again".into());
            }
        }
    }

    fn saved(&self, seed: u64, frames: Vec<Frame>) -> Outcome {
        Outcome::Save(Episode {
            task: self.task.name().to_owned(),
            interface: self.task.interface().clone(),
            seed: Some(seed),
            frames,
        })
    }

    /// Takes keys until the deadline; ends before it when one asks for something other than motion.
    fn listen(&mut self, deadline: Instant, moving: &mut bool) -> Option<Intent> {
        let Some(terminal) = &mut self.terminal else {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            return None;
        };
        while Instant::now() < deadline {
            for key in terminal.keys(deadline) {
                let now_secs = self.began.elapsed().as_secs_f64();
                match (intent(key.code), &mut self.source) {
                    (Some(Intent::Move(axis, forwards)), Source::Keys { held, .. }) => {
                        held.key(now_secs, key, axis, forwards);
                        *moving |= !key.up;
                    }
                    (Some(Intent::Grip), Source::Keys { hand, gripped_secs, .. }) if !key.up => {
                        if now_secs - *gripped_secs > GRIP_AGAIN_SECS {
                            hand.grip();
                        }
                        *gripped_secs = now_secs;
                        *moving = true;
                    }
                    (Some(Intent::Move(..) | Intent::Grip) | None, _) => {}
                    (asked, _) if !key.up => return asked,
                    _ => {}
                }
            }
        }
        None
    }

    /// The action of the next step, in numbers that a recording holds; `None` while nobody has moved yet.
    fn action(&mut self, step: usize, moving: &mut bool) -> Option<Action> {
        let interface = self.task.interface();
        let action = match &mut self.source {
            Source::Keys { hand, held, .. } => {
                let distance = held.take(self.began.elapsed().as_secs_f64());
                if !*moving {
                    return None;
                }
                let distance: [f64; AXES] = distance.map(|seconds| seconds * self.options.rate);
                hand.action(distance, 1.0 / interface.control_hz)
            }
            Source::Bus { leader, follower } => {
                let command = leader.newest();
                *moving |= command.is_some();
                if !*moving {
                    return None;
                }
                let now = Duration::from_secs_f64(step as f64 / interface.control_hz);
                follower.follow(now, &self.task.hold_action(), command.as_deref())
            }
        };
        Some(recordable(&action, interface))
    }

    /// Shows the world as it is to everybody who looks on.
    fn show(
        &mut self,
        seed: u64,
        frames: &[Frame],
        observation: &Observation,
        moving: bool,
        over: bool,
    ) -> Result<()> {
        let last = frames.last();
        let (reward, success) = last.map_or((0.0, false), |frame| (frame.reward, frame.success));
        let interface = self.task.interface();
        if let Source::Bus { leader, .. } = &self.source {
            let features = interface.observation.iter().filter_map(|feature| {
                let values = observation.0.get(interface.observation_range(&feature.name)?)?;
                Some((feature.name.clone(), json!(values)))
            });
            leader.tell(&json!({
                "seed": seed,
                "step": frames.len(),
                "reward": reward,
                "success": success,
                "held": self.task.hold_action().0,
                "observation": features.collect::<serde_json::Map<_, _>>(),
            }));
        }
        #[cfg(feature = "rerun")]
        if let Some(view) = &self.options.view
            && !over
        {
            let step = frames.len() as u64;
            view.world(step, &self.task.scene(), reward);
            view.observation(step, observation);
            if let Some(frame) = last {
                view.command(step - 1, &frame.action, "teleop");
            }
        }
        let Some(terminal) = &mut self.terminal else { return Ok(()) };
        let keys = match &self.source {
            Source::Keys { hand, .. } => hand.help(),
            Source::Bus { .. } => "driven over the bus".into(),
        };
        let state = match (over, moving) {
            (true, _) => "over",
            (false, true) => "recording",
            (false, false) => "ready",
        };
        let lines = [
            format!(
                "{} seed {seed}: {state}, step {} of {}, reward {reward:.3}",
                self.task.name(),
                frames.len(),
                self.task.max_steps()
            ),
            self.message.clone(),
            keys,
            "Enter saves, Backspace begins again, Tab goes to another start, Esc ends".to_owned(),
        ];
        terminal.show(&self.task.scene(), &lines)
    }
}
