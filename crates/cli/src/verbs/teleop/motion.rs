//! Held keys as smooth motion of a robot's target.

use nudge_control::{Action, Interface};
use nudge_sim::TaskConfig;
use nudge_sim::pick_place::{ActionKind, PickPlaceConfig};

use super::keyboard::{Code, Key};

/// Directions that keys move along.
pub const AXES: usize = 4;

/// A press is taken as held for so long, s. Longer than a tap, though terminals begin to repeat only after 0.2 to
/// 0.7 s: until then the motion fades, and it comes back with the first repeat.
const PRESS_SECS: f64 = 0.15;
/// A repeat is taken as held for so long, s: terminals repeat 10 to 30 times a second.
const REPEAT_SECS: f64 = 0.15;
/// Time constants of a motion that begins and one that ends, s.
const RISE_SECS: f64 = 0.2;
const FADE_SECS: f64 = 0.12;
/// Share of the speed with shift.
const FINE: f64 = 0.25;
/// Longest piece of time in which the keys are taken as they are, s.
const SLICE_SECS: f64 = 0.01;

/// What keys stand for on the screen: right, away, up, and counter-clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Axis {
    Right,
    Away,
    Up,
    Turn,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Along an axis, forwards or backwards.
    Move(Axis, bool),
    Grip,
    Save,
    Again,
    Next,
    End,
}

/// What `code` stands for; `None` for keys that do nothing.
pub fn intent(code: Code) -> Option<Intent> {
    Some(match code {
        Code::Right | Code::Char('d') => Intent::Move(Axis::Right, true),
        Code::Left | Code::Char('a') => Intent::Move(Axis::Right, false),
        Code::Up | Code::Char('w') => Intent::Move(Axis::Away, true),
        Code::Down | Code::Char('s') => Intent::Move(Axis::Away, false),
        Code::PageUp | Code::Char('r') => Intent::Move(Axis::Up, true),
        Code::PageDown | Code::Char('f') => Intent::Move(Axis::Up, false),
        Code::Char('q') => Intent::Move(Axis::Turn, true),
        Code::Char('e') => Intent::Move(Axis::Turn, false),
        Code::Char(' ') => Intent::Grip,
        Code::Enter => Intent::Save,
        Code::Backspace => Intent::Again,
        Code::Tab => Intent::Next,
        Code::Esc | Code::Interrupt => Intent::End,
        Code::Char(_) => return None,
    })
}

/// A key that is down.
#[derive(Clone, Copy, Debug)]
struct Press {
    until_secs: f64,
    fine: bool,
}

/// The keys that are down, and the motion that they make. Time is an argument, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Of each axis, backwards and forwards.
    keys: [[Option<Press>; 2]; AXES],
    /// Share of the full speed, -1..=1.
    velocity: [f64; AXES],
    /// Distance since it was last taken, in seconds of full speed.
    distance: [f64; AXES],
    now_secs: f64,
    /// Whether this terminal tells when a key is released.
    tells_releases: bool,
}

impl Held {
    /// Takes a key of a direction at `now_secs`.
    pub fn key(&mut self, now_secs: f64, key: Key, axis: Axis, forwards: bool) {
        self.advance(now_secs);
        let slot = &mut self.keys[axis as usize][usize::from(forwards)];
        if key.up {
            self.tells_releases = true;
            *slot = None;
            return;
        }
        let lasts = match slot {
            _ if self.tells_releases => f64::INFINITY,
            Some(_) => REPEAT_SECS,
            None => PRESS_SECS,
        };
        *slot = Some(Press { until_secs: now_secs + lasts, fine: key.shift });
    }

    /// The distance along each axis up to `now_secs` since it was last asked for, in seconds of full speed.
    pub fn take(&mut self, now_secs: f64) -> [f64; AXES] {
        self.advance(now_secs);
        std::mem::take(&mut self.distance)
    }

    /// Lets go of everything at once.
    pub fn stop(&mut self, now_secs: f64) {
        *self = Self { now_secs, tells_releases: self.tells_releases, ..Self::default() };
    }

    fn advance(&mut self, now_secs: f64) {
        while self.now_secs < now_secs {
            let dt = (now_secs - self.now_secs).min(SLICE_SECS);
            // Of a long time in which nothing is down, one slice is as good as many.
            let idle = self.velocity.iter().all(|velocity| velocity.abs() < 1e-6)
                && self.keys.as_flattened().iter().all(Option::is_none);
            if idle {
                self.velocity = [0.0; AXES];
                self.now_secs = now_secs;
                return;
            }
            self.now_secs += dt;
            for axis in 0..AXES {
                for slot in &mut self.keys[axis] {
                    slot.take_if(|press| press.until_secs < self.now_secs);
                }
                let share =
                    |slot: Option<Press>| slot.map_or(0.0, |press| if press.fine { FINE } else { 1.0 });
                let wanted = share(self.keys[axis][1]) - share(self.keys[axis][0]);
                let velocity = &mut self.velocity[axis];
                let time = if wanted == 0.0 { FADE_SECS } else { RISE_SECS };
                *velocity += (wanted - *velocity) * (1.0 - (-dt / time).exp());
                self.distance[axis] += *velocity * dt;
            }
        }
    }
}

/// A number of an action that an axis moves, and its full speed in units per second, with the sign.
type Drive = (usize, f64);

/// How the keys move the target of one task.
#[derive(Clone, Debug)]
pub struct Hand {
    drives: [Vec<Drive>; AXES],
    /// The number that opens the gripper, with its speed in units per second.
    grip: Option<Drive>,
    closing: bool,
    low: Vec<f64>,
    high: Vec<f64>,
    target: Vec<f64>,
}

impl Hand {
    /// A hand for the task's actions; `None` when keys are no way to make them (joint targets).
    pub fn new(task: &TaskConfig, interface: &Interface) -> Option<Self> {
        let (drives, grip) = match task {
            // px/s; y grows downward.
            TaskConfig::PushT(_) => ([vec![(0, 300.0)], vec![(1, -300.0)], vec![], vec![]], None),
            // m/s along the picture's right and away, which lie across x and y: the camera looks along (-0.76, 0.65).
            // Two fingers of 0.05 m/s each close the gripper.
            TaskConfig::PickPlace(PickPlaceConfig { action: ActionKind::Pose, .. }) => {
                let right = vec![(0, 0.25 * 0.65), (1, 0.25 * 0.76)];
                let away = vec![(0, 0.25 * -0.76), (1, 0.25 * 0.65)];
                ([right, away, vec![(2, 0.2)], vec![(3, 1.2)]], Some((4, 0.1)))
            }
            TaskConfig::PickPlace(PickPlaceConfig { action: ActionKind::Joint, .. }) => return None,
        };
        let (low, high) = interface.action_limits();
        Some(Self { drives, grip, closing: false, target: vec![0.0; low.len()], low, high })
    }

    /// What the keys do, in words.
    pub fn help(&self) -> String {
        let mut text = "arrows or WASD move".to_owned();
        let moves = |axis: Axis| !self.drives[axis as usize].is_empty();
        for (there, words) in [
            (moves(Axis::Up), ", R F height"),
            (moves(Axis::Turn), ", Q E turn"),
            (self.grip.is_some(), ", space grips"),
        ] {
            if there {
                text += words;
            }
        }
        text + ", shift finer"
    }

    /// Begins where the robot is.
    pub fn begin(&mut self, held: &Action) {
        self.target.clone_from(&held.0);
        self.closing = false;
    }

    /// Opens what is closing, and closes what is opening.
    pub fn grip(&mut self) {
        self.closing = !self.closing;
    }

    /// The target after `dt_secs`, in which the axes moved by `distance` (of [`Held::take`]).
    pub fn action(&mut self, distance: [f64; AXES], dt_secs: f64) -> Action {
        for (drives, distance) in self.drives.iter().zip(distance) {
            for (number, speed) in drives {
                self.target[*number] += speed * distance;
            }
        }
        if let Some((number, speed)) = self.grip {
            let way = if self.closing { -1.0 } else { 1.0 };
            self.target[number] += way * speed * dt_secs;
        }
        for ((value, low), high) in self.target.iter_mut().zip(&self.low).zip(&self.high) {
            *value = value.clamp(*low, *high);
        }
        Action(self.target.clone())
    }
}

/// Most that each number of an action may change in a second when it comes from a script or a leader arm.
pub fn speed_limits(task: &TaskConfig) -> Vec<f64> {
    match task {
        // As fast as the human demonstrations get, px/s.
        TaskConfig::PushT(_) => vec![670.0; 2],
        TaskConfig::PickPlace(PickPlaceConfig { action: ActionKind::Pose, .. }) => {
            vec![0.5, 0.5, 0.5, 2.0, 0.1]
        }
        // The arm's own, rad/s.
        TaskConfig::PickPlace(PickPlaceConfig { action: ActionKind::Joint, .. }) => {
            vec![2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61, 0.1]
        }
    }
}

/// `action` in numbers that a recording holds (32 bits), still within the limits.
pub fn recordable(action: &Action, interface: &Interface) -> Action {
    let (low, high) = interface.action_limits();
    let single = |((value, low), high): ((&f64, &f64), &f64)| {
        let single = *value as f32;
        f64::from(match f64::from(single) {
            rounded if rounded > *high => single.next_down(),
            rounded if rounded < *low => single.next_up(),
            _ => single,
        })
    };
    Action(action.0.iter().zip(&low).zip(&high).map(single).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nudge_sim::push_t::PushTConfig;

    const DOWN: Key = Key { code: Code::Right, shift: false, up: false };
    const UP: Key = Key { up: true, ..DOWN };

    /// The velocity every 0.1 s while `keys` come, by difference of distances.
    fn velocities(keys: &[(f64, Key)], until_secs: f64) -> Vec<f64> {
        let mut held = Held::default();
        let mut keys = keys.iter().peekable();
        let mut found = Vec::new();
        for tick in 1..=(until_secs * 10.0) as usize {
            let now = tick as f64 * 0.1;
            while let Some((at, key)) = keys.next_if(|(at, _)| *at <= now) {
                held.key(*at, *key, Axis::Right, true);
            }
            found.push(held.take(now)[0] / 0.1);
        }
        found
    }

    #[test]
    fn a_key_held_in_any_terminal_comes_to_full_speed_and_stops_after_it() {
        // Repeats at 30 Hz after half a second; and presses with a release at 2 s.
        let repeats: Vec<(f64, Key)> =
            std::iter::once((0.0, DOWN)).chain((15..60).map(|i| (f64::from(i) / 30.0, DOWN))).collect();
        let kitty: Vec<(f64, Key)> = [(0.0, DOWN), (0.05, UP), (0.1, DOWN), (2.0, UP)].into();
        for keys in [repeats, kitty] {
            let velocity = velocities(&keys, 4.0);
            assert!(velocity[18] > 0.95, "{velocity:?}");
            assert!(velocity[30..].iter().all(|value| value.abs() < 1e-3), "{velocity:?}");
            // No jerks: full speed takes at least two periods either way.
            assert!(velocity.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.75), "{velocity:?}");
        }
    }

    #[test]
    fn a_tap_is_a_small_step_and_shift_makes_it_smaller() {
        let distance = |key| velocities(&[(0.01, key)], 3.0).iter().sum::<f64>() * 0.1;
        let (tap, fine) = (distance(DOWN), distance(Key { shift: true, ..DOWN }));
        assert!((0.02..0.15).contains(&tap), "{tap} s of full speed");
        // What fades below a millionth of the speed has ended, and leaves out less than a millionth of a second.
        assert!((fine - FINE * tap).abs() < 1e-6, "{fine} s of full speed");
        // A tap that is over before the next tick counts all the same.
        assert!(velocities(&[(0.01, DOWN), (0.06, UP)], 1.0).iter().sum::<f64>() > 0.05);
    }

    #[test]
    fn opposite_keys_cancel_and_the_target_keeps_to_the_limits() {
        let mut held = Held { tells_releases: true, ..Held::default() };
        held.key(0.0, DOWN, Axis::Right, true);
        held.key(0.0, DOWN, Axis::Right, false);
        assert_eq!(held.take(1.0), [0.0; AXES]);
        let task = TaskConfig::PushT(PushTConfig::default());
        let interface = task.build().interface().clone();
        let mut hand = Hand::new(&task, &interface).unwrap();
        hand.begin(&Action(vec![500.0, 10.0]));
        assert_eq!(hand.action([0.0; AXES], 0.1).0, [500.0, 10.0]);
        assert_eq!(hand.action([1.0, 1.0, 1.0, 1.0], 0.1).0, [512.0, 0.0]);
        assert_eq!(speed_limits(&task).len(), interface.action_dim());
    }

    #[test]
    fn the_arm_moves_as_the_picture_shows_it_and_the_gripper_closes_and_opens() {
        let task = TaskConfig::PickPlace(PickPlaceConfig::default());
        let interface = task.build().interface().clone();
        let mut hand = Hand::new(&task, &interface).unwrap();
        let start = [0.5, 0.0, 0.2, 0.0, 0.08];
        let mut moved = |distance: [f64; AXES]| {
            hand.begin(&Action(start.to_vec()));
            let action = hand.action(distance, 0.0).0;
            [0, 1, 2, 3].map(|number| action[number] - start[number])
        };
        let (right, away) = (moved([0.4, 0.0, 0.0, 0.0]), moved([0.0, 0.4, 0.0, 0.0]));
        let across = right[0] * away[0] + right[1] * away[1];
        assert!(across.abs() < 1e-12, "right and away are square to one another");
        assert!((right[0].hypot(right[1]) - 0.1).abs() < 1e-3, "{right:?}");
        assert!(moved([0.0, 0.0, 0.5, 0.0])[2] > 0.09 && moved([0.0, 0.0, 0.0, 0.5])[3] > 0.5);
        hand.begin(&Action(start.to_vec()));
        hand.grip();
        assert!((hand.action([0.0; AXES], 0.1).0[4] - 0.07).abs() < 1e-12);
        for _ in 0..20 {
            hand.action([0.0; AXES], 0.1);
        }
        assert_eq!(hand.action([0.0; AXES], 0.1).0[4], 0.0);
        hand.grip();
        assert!(hand.action([0.0; AXES], 0.1).0[4] > 0.0);
        let joint = TaskConfig::PickPlace(PickPlaceConfig {
            action: ActionKind::Joint,
            ..PickPlaceConfig::default()
        });
        let interface = joint.build().interface().clone();
        assert!(Hand::new(&joint, &interface).is_none());
        assert_eq!(speed_limits(&joint).len(), interface.action_dim());
    }

    #[test]
    fn what_is_recorded_is_what_is_done() {
        let task = TaskConfig::PushT(PushTConfig::default());
        let mut interface = task.build().interface().clone();
        interface.action[0].limits.high = vec![0.08, 0.1];
        let done = recordable(&Action(vec![0.08, 0.1]), &interface);
        for (value, high) in done.0.iter().zip([0.08, 0.1]) {
            assert_eq!(f64::from(*value as f32), *value);
            assert!(*value <= high && high - value < 1e-8);
        }
    }
}
