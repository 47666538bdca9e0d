//! Commands as messages of ROS 2.

use nudge_control::Action;
use nudge_wire::{
    Float64MultiArray, Header, JointTrajectory, Message as _, PoseStamped, Quaternion, Time, TrajectoryPoint,
    TwistStamped,
};

use crate::feature_message::{pose, twist};
use crate::ros2_file::CommandMessage;

/// A quaternion shorter than this has no direction.
const SHORTEST_QUATERNION: f64 = 1e-6;

/// The message of one action feature: `command` is its numbers, already guarded, sent at `stamp_ns` and due within
/// `period_secs`. `None` when there is none: a quaternion without a direction.
pub(crate) fn encode(
    message: &CommandMessage,
    stamp_ns: i64,
    period_secs: f64,
    command: &[f64],
) -> Option<Vec<u8>> {
    Some(match message {
        CommandMessage::Float64MultiArray => Float64MultiArray::of(command.to_vec()).encode(),
        CommandMessage::JointTrajectory { joints, .. } => {
            let point = TrajectoryPoint {
                positions: command.to_vec(),
                time_from_start: seconds(period_secs),
                ..TrajectoryPoint::default()
            };
            trajectory(joints, vec![point]).encode()
        }
        CommandMessage::PoseStamped { frame } => {
            let mut pose = pose(command);
            pose.orientation = normalised(pose.orientation)?;
            PoseStamped { header: Header::new(stamp_ns, frame), pose }.encode()
        }
        CommandMessage::TwistStamped { frame } => {
            TwistStamped { header: Header::new(stamp_ns, frame), twist: twist(command) }.encode()
        }
    })
}

/// The trajectory through `points` (`[n, joints]`), `period_secs` apart and the first so long from now: velocities are
/// those of the cubic through each point's neighbours (Catmull-Rom), and it ends at rest.
pub(crate) fn encode_plan(joints: &[String], period_secs: f64, points: &[Action]) -> Vec<u8> {
    let velocity = |at: usize, joint: usize| match (at.checked_sub(1), points.get(at + 1)) {
        (Some(before), Some(after)) => (after.0[joint] - points[before].0[joint]) / (2.0 * period_secs),
        // The robot is on its way already: as fast as to the next point.
        (None, Some(after)) => (after.0[joint] - points[at].0[joint]) / period_secs,
        (_, None) => 0.0,
    };
    let point = |at: usize| TrajectoryPoint {
        positions: points[at].0.clone(),
        velocities: (0..joints.len()).map(|joint| velocity(at, joint)).collect(),
        time_from_start: seconds((at + 1) as f64 * period_secs),
        ..TrajectoryPoint::default()
    };
    trajectory(joints, (0..points.len()).map(point).collect()).encode()
}

/// It begins when it comes: its stamp is 0.
fn trajectory(joints: &[String], points: Vec<TrajectoryPoint>) -> JointTrajectory {
    JointTrajectory { header: Header::default(), joint_names: joints.to_vec(), points }
}

fn seconds(secs: f64) -> Time {
    Time::from_ns((secs * 1e9).round() as i64)
}

fn normalised(q: Quaternion) -> Option<Quaternion> {
    let length = (q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w).sqrt();
    (length >= SHORTEST_QUATERNION).then(|| Quaternion {
        x: q.x / length,
        y: q.y / length,
        z: q.z / length,
        w: q.w / length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros2_file::TrajectorySend;

    fn joints() -> Vec<String> {
        vec!["shoulder".into(), "elbow".into()]
    }

    #[test]
    fn a_point_is_due_after_a_period() {
        let message = CommandMessage::JointTrajectory { joints: joints(), send: TrajectorySend::Point };
        let sent = JointTrajectory::decode(&encode(&message, 7, 0.002, &[1.0, 2.0]).unwrap()).unwrap();
        assert_eq!((sent.joint_names, sent.header.stamp), (joints(), Time::default()));
        let [point] = &sent.points[..] else { panic!("{:?}", sent.points) };
        assert_eq!(point.positions, [1.0, 2.0]);
        assert_eq!(point.time_from_start, Time { sec: 0, nanosec: 2_000_000 });
        assert!(point.velocities.is_empty());
    }

    #[test]
    fn a_plan_is_passed_through_at_its_speed_and_ends_at_rest() {
        let points: Vec<Action> = (1..=12).map(|step| Action(vec![0.1 * f64::from(step), 5.0])).collect();
        let sent = JointTrajectory::decode(&encode_plan(&joints(), 0.1, &points)).unwrap();
        assert_eq!(sent.points.len(), 12);
        for (at, point) in sent.points.iter().enumerate() {
            assert_eq!(point.positions, points[at].0);
            assert_eq!(point.time_from_start.to_ns(), 100_000_000 * (at as i64 + 1));
            let speed = if at == 11 { 0.0 } else { 1.0 };
            assert!((point.velocities[0] - speed).abs() < 1e-12 && point.velocities[1] == 0.0, "{point:?}");
        }
        let hold = JointTrajectory::decode(&encode_plan(&joints(), 0.1, &points[..1])).unwrap();
        assert_eq!(hold.points[0].velocities, [0.0, 0.0]);
    }

    #[test]
    fn poses_are_stamped_framed_and_of_unit_length() {
        let message = CommandMessage::PoseStamped { frame: "base".into() };
        let sent = encode(&message, 5_000_000_007, 0.1, &[1.0, 2.0, 3.0, 0.0, 0.0, 3.0, 4.0]).unwrap();
        let sent = PoseStamped::decode(&sent).unwrap();
        assert_eq!((sent.header.stamp.to_ns(), sent.header.frame_id.as_str()), (5_000_000_007, "base"));
        assert_eq!(sent.pose.orientation, Quaternion { x: 0.0, y: 0.0, z: 0.6, w: 0.8 });
        assert_eq!(encode(&message, 0, 0.1, &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]), None);
    }

    #[test]
    fn twists_and_arrays_are_the_numbers_in_order() {
        let message = CommandMessage::TwistStamped { frame: "tool".into() };
        let sent = TwistStamped::decode(&encode(&message, 1, 0.1, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap())
            .unwrap();
        assert_eq!((sent.twist.linear.z, sent.twist.angular.x), (3.0, 4.0));
        let sent = encode(&CommandMessage::Float64MultiArray, 1, 0.1, &[1.0, 2.0]).unwrap();
        assert_eq!(Float64MultiArray::decode(&sent).unwrap().data, [1.0, 2.0]);
    }
}
