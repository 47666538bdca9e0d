//! Whatever the bytes are, they are refused, or they are a message that is written no longer than it was and reads the
//! same again.

use nudge_wire::{
    Bool, Float64MultiArray, JointState, JointTrajectory, Message, PoseStamped, Text, TwistStamped,
};

/// The first byte says which message the others are to be.
pub fn law(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    match kind % 7 {
        0 => again::<Bool>(payload),
        1 => again::<Float64MultiArray>(payload),
        2 => again::<JointState>(payload),
        3 => again::<JointTrajectory>(payload),
        4 => again::<PoseStamped>(payload),
        5 => again::<Text>(payload),
        _ => again::<TwistStamped>(payload),
    }
}

fn again<T: Message>(payload: &[u8]) {
    let Ok(message) = T::decode(payload) else { return };
    let written = message.encode();
    assert!(written.len() <= payload.len(), "{} bytes became {}", payload.len(), written.len());
    match T::decode(&written) {
        Ok(read) => assert_eq!(read.encode(), written),
        Err(problem) => panic!("what was written cannot be read: {problem}"),
    }
}
