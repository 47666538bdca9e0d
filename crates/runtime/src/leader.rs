//! Commands from any publisher: a script or a leader arm, in the plainest form that a bus can carry.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nudge_wire::{Float64MultiArray, Message as _};
use zenoh::pubsub::Subscriber;

use crate::RuntimeError;
use crate::bus::{Bus, Outlet, STATUS};
use crate::counters::{Count, Counters};
use crate::robot_file::{Endpoints, RobotFile};

/// A command older than this holds the robot.
pub const COMMAND_STALE: Duration = Duration::from_millis(500);

/// The newest command and when it came.
type Newest = Arc<Mutex<Option<(Instant, Vec<f64>)>>>;

/// Listens on `PREFIX/teleop/cmd` and tells on `PREFIX/teleop/state`.
///
/// A command is all numbers of an action in order, either as a JSON array or as a `std_msgs/msg/Float64MultiArray` in
/// little-endian CDR; it needs no attachment. The newest wins, whoever sent it. What is neither, has another number of
/// values or holds one that is not finite is counted and refused. The state is JSON, as it is given.
pub struct Leader {
    bus: Bus,
    newest: Newest,
    state: Outlet,
    _commands: Subscriber<()>,
}

impl Leader {
    /// Opens the robot's end of the bus, at `listen` instead of the file's endpoints if given. `dim` is the number of
    /// numbers in an action.
    ///
    /// # Errors
    /// When the bus cannot be opened, for example because the endpoint is taken.
    pub fn listen(robot: &RobotFile, listen: Option<String>, dim: usize) -> Result<Self, RuntimeError> {
        let mut endpoints = robot.session.robot.clone();
        if let Some(endpoint) = listen {
            endpoints = Endpoints { listen: vec![endpoint], ..endpoints };
        }
        let bus = Bus::open(&endpoints, &robot.prefix)?;
        let state = bus.outlet("teleop/state", STATUS)?;
        let newest = Newest::default();
        let (slot, counters) = (newest.clone(), bus.counters.clone());
        let commands = bus.listen_bare("teleop/cmd", move |payload| {
            if let Some(values) = decode(payload, dim, &counters) {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), values));
            }
        })?;
        Ok(Self { bus, newest, state, _commands: commands })
    }

    /// The newest command, `[dim]` and finite, unless it is stale.
    pub fn newest(&self) -> Option<Vec<f64>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().filter(|(at, _)| at.elapsed() <= COMMAND_STALE).map(|(_, values)| values.clone())
    }

    /// Forgets what was commanded: a new episode waits for a new command.
    pub fn forget(&self) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells whoever listens how things are.
    pub fn tell(&self, state: &serde_json::Value) {
        if !self.state.send(state.to_string().into_bytes()) {
            self.bus.counters.add(Count::SendFailed, 1);
        }
    }

    /// What was refused, by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.bus.counters.iter().collect()
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.bus.close();
    }
}

/// The numbers of a command; what is none is counted.
fn decode(payload: &[u8], dim: usize, counters: &Counters) -> Option<Vec<f64>> {
    let text = payload.trim_ascii_start();
    let values = match text.first() {
        Some(b'[') => serde_json::from_slice(text).ok(),
        _ => Float64MultiArray::decode(payload).ok().map(|array| array.data),
    };
    let Some(values): Option<Vec<f64>> = values else {
        counters.add(Count::PayloadRefused, 1);
        return None;
    };
    if values.len() != dim || values.iter().any(|value| !value.is_finite()) {
        counters.add(Count::ShapeRefused, 1);
        return None;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_cdr_are_commands_and_nothing_else_is() {
        let counters = Counters::default();
        let read = |payload: &[u8]| decode(payload, 2, &counters);
        assert_eq!(read(b"[1, 2.5]"), Some(vec![1.0, 2.5]));
        assert_eq!(read(b" \n[1e2,-0.5]\n"), Some(vec![100.0, -0.5]));
        assert_eq!(read(&Float64MultiArray::of(vec![1.0, 2.0]).encode()), Some(vec![1.0, 2.0]));
        let other: [&[u8]; 7] =
            [b"", b"1, 2", b"[1, NaN]", b"[1, null]", b"[1, 2] and", b"{\"x\": 1}", &[0, 1, 0, 0, 9]];
        for payload in other {
            assert_eq!(read(payload), None, "{payload:?}");
        }
        assert_eq!((counters.get(Count::PayloadRefused), counters.get(Count::ShapeRefused)), (7, 0));
        for numbers in [vec![1.0], vec![1.0, f64::NAN], vec![1.0, 2.0, 3.0], vec![1.0, f64::INFINITY]] {
            assert_eq!(read(&Float64MultiArray::of(numbers).encode()), None);
        }
        assert_eq!(counters.get(Count::ShapeRefused), 4);
    }
}
