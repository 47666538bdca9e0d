//! Where the tool of a serial arm is, and which joint positions bring it somewhere.

mod inverse;

use nalgebra::{DMatrix, Isometry3, Matrix3xX, Unit, Vector3};

pub use inverse::{IkFailure, IkOptions};

/// A joint that turns about an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct RevoluteJoint {
    /// Where the joint sits in the frame of the joint before it (of the base, for the first).
    pub parent_from_joint: Isometry3<f64>,
    /// In the joint's own frame.
    pub axis: Unit<Vector3<f64>>,
    /// Lowest and highest position, rad.
    pub lower: f64,
    pub upper: f64,
    /// Greatest speed, rad/s.
    pub velocity: f64,
}

/// Revolute joints in series, from the base to a tool. Joint positions `q` hold one number for each, in rad; missing
/// ones count as 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub joints: Vec<RevoluteJoint>,
    /// The tool in the frame of the last joint.
    pub last_from_tool: Isometry3<f64>,
}

impl Chain {
    /// `base_from_tool` at joint positions `q`.
    pub fn forward(&self, q: &[f64]) -> Isometry3<f64> {
        let mut base_from_link = Isometry3::identity();
        for (index, joint) in self.joints.iter().enumerate() {
            base_from_link *= joint.parent_from_joint * turn(joint, q, index);
        }
        base_from_link * self.last_from_tool
    }

    /// [`forward`](Self::forward), and for each joint on the way, by its index, its place and its axis in the frame of the
    /// base.
    pub fn forward_with(
        &self,
        q: &[f64],
        mut joint: impl FnMut(usize, Vector3<f64>, Vector3<f64>),
    ) -> Isometry3<f64> {
        let mut base_from_link = Isometry3::identity();
        for (index, revolute) in self.joints.iter().enumerate() {
            base_from_link *= revolute.parent_from_joint;
            let axis = base_from_link.rotation * revolute.axis.into_inner();
            joint(index, base_from_link.translation.vector, axis);
            base_from_link *= turn(revolute, q, index);
        }
        base_from_link * self.last_from_tool
    }

    /// The geometric Jacobian at `q`, [6, N]: velocity of the tool's origin (m/s) above the tool's angular velocity
    /// (rad/s), both along the axes of the base, for each joint's speed (rad/s).
    pub fn jacobian(&self, q: &[f64]) -> DMatrix<f64> {
        self.forward_and_jacobian(q).1
    }

    /// [`forward`](Self::forward) and [`jacobian`](Self::jacobian) in one pass.
    pub fn forward_and_jacobian(&self, q: &[f64]) -> (Isometry3<f64>, DMatrix<f64>) {
        let mut axes = Matrix3xX::zeros(self.joints.len());
        let mut origins = Matrix3xX::zeros(self.joints.len());
        let base_from_tool = self.forward_with(q, |index, origin, axis| {
            axes.set_column(index, &axis);
            origins.set_column(index, &origin);
        });
        let mut jacobian = DMatrix::zeros(6, self.joints.len());
        for index in 0..self.joints.len() {
            let axis: Vector3<f64> = axes.column(index).into();
            let lever = base_from_tool.translation.vector - origins.column(index);
            jacobian.fixed_view_mut::<3, 1>(0, index).copy_from(&axis.cross(&lever));
            jacobian.fixed_view_mut::<3, 1>(3, index).copy_from(&axis);
        }
        (base_from_tool, jacobian)
    }

    /// `q` with every position moved to the nearest one within the joint's limits.
    pub fn clamp(&self, q: &[f64]) -> Vec<f64> {
        let position = |index: usize| q.get(index).copied().unwrap_or(0.0);
        self.joints
            .iter()
            .enumerate()
            .map(|(index, joint)| position(index).clamp(joint.lower, joint.upper))
            .collect()
    }
}

fn turn(joint: &RevoluteJoint, q: &[f64], index: usize) -> nalgebra::UnitQuaternion<f64> {
    nalgebra::UnitQuaternion::from_axis_angle(&joint.axis, q.get(index).copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests;
