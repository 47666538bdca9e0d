//! Joint positions that bring the tool to a pose.

use nalgebra::{DVector, Isometry3, Matrix6, Vector6};

use super::Chain;

/// How an inverse is sought. The default suits a warm start.
#[derive(Clone, Debug, PartialEq)]
pub struct IkOptions {
    /// The tool is there when it is this close, m and rad.
    pub position_tolerance_m: f64,
    pub rotation_tolerance_rad: f64,
    pub max_iterations: usize,
    /// The posture that freedom beyond the six of a pose is spent on, rad; none leaves it alone.
    pub rest: Option<Vec<f64>>,
    /// Share of the way to `rest` that one iteration goes, as far as the tool's pose leaves it free.
    pub rest_gain: f64,
}

impl Default for IkOptions {
    fn default() -> Self {
        Self {
            position_tolerance_m: 1e-6,
            rotation_tolerance_rad: 1e-6,
            max_iterations: 100,
            rest: None,
            rest_gain: 0.1,
        }
    }
}

/// The pose was not reached; `closest` is the nearest that was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "no joint positions within limits bring the tool to x, y, z = {target_m:.3?} m: the closest are {position_error_m:.4} m \
     and {rotation_error_rad:.4} rad away after {iterations} iterations; move the target nearer, or start from elsewhere"
)]
pub struct IkFailure {
    pub target_m: [f64; 3],
    /// Within joint limits, rad.
    pub closest: Vec<f64>,
    pub position_error_m: f64,
    pub rotation_error_rad: f64,
    pub iterations: usize,
}

/// Greatest change of a joint in one iteration, rad: linearisation holds no further.
const LONGEST_STEP_RAD: f64 = 0.3;
/// What a rotation error weighs beside a position error, m/rad: the reach of a hand.
const METRES_PER_RAD: f64 = 0.2;
/// Damping far from the target and least damping, of J J^T in m^2.
const DAMPING: f64 = 0.05;
const LEAST_DAMPING: f64 = 1e-10;

impl Chain {
    /// Joint positions within limits at which the tool is at `base_from_tool`, sought from `start`.
    ///
    /// Damped least squares, the damping falling with the error (Sugihara 2011): steady beside a singularity,
    /// quick near the target. A joint that would leave its limits stays at the limit and the others do its part.
    ///
    /// # Errors
    /// When the pose was not reached: out of reach, or this start leads to a dead end.
    pub fn inverse(
        &self,
        base_from_tool: &Isometry3<f64>,
        start: &[f64],
        options: &IkOptions,
    ) -> Result<Vec<f64>, IkFailure> {
        let mut q = self.clamp(start);
        let mut closest = (f64::INFINITY, q.clone(), 0.0, 0.0);
        for _ in 0..options.max_iterations {
            let (reached, mut jacobian) = self.forward_and_jacobian(&q);
            let shift = base_from_tool.translation.vector - reached.translation.vector;
            let turn = (base_from_tool.rotation * reached.rotation.inverse()).scaled_axis();
            let (position_error, rotation_error) = (shift.norm(), turn.norm());
            let mut error = Vector6::zeros();
            error.fixed_rows_mut::<3>(0).copy_from(&shift);
            error.fixed_rows_mut::<3>(3).copy_from(&(turn * METRES_PER_RAD));
            let total = error.norm_squared();
            if total < closest.0 {
                closest = (total, q.clone(), position_error, rotation_error);
            }
            if position_error <= options.position_tolerance_m
                && rotation_error <= options.rotation_tolerance_rad
            {
                return Ok(q);
            }
            jacobian.rows_mut(3, 3).scale_mut(METRES_PER_RAD);
            let change = self.step(&q, &jacobian, &error, options);
            for (position, change) in q.iter_mut().zip(change.iter()) {
                *position += change;
            }
            q = self.clamp(&q);
        }
        let (_, closest, position_error_m, rotation_error_rad) = closest;
        Err(IkFailure {
            target_m: base_from_tool.translation.vector.into(),
            closest,
            position_error_m,
            rotation_error_rad,
            iterations: options.max_iterations,
        })
    }

    /// One change of `q`, rad. Joints that it would take out of their limits are held there and the rest solved anew.
    fn step(
        &self,
        q: &[f64],
        jacobian: &nalgebra::DMatrix<f64>,
        error: &Vector6<f64>,
        options: &IkOptions,
    ) -> DVector<f64> {
        let mut jacobian = jacobian.clone();
        let mut change = DVector::zeros(q.len());
        let mut held = vec![false; q.len()];
        for _ in 0..=q.len() {
            let damping = (DAMPING * error.norm_squared()).clamp(LEAST_DAMPING, DAMPING);
            let squared: Matrix6<f64> =
                (&jacobian * jacobian.transpose()).fixed_view::<6, 6>(0, 0) + Matrix6::identity() * damping;
            let Some(factors) = squared.cholesky() else {
                return DVector::zeros(q.len());
            };
            let towards_rest = DVector::from_fn(q.len(), |index, _| match &options.rest {
                Some(rest) if !held[index] => {
                    let there = rest.get(index).copied().unwrap_or(q[index]);
                    options.rest_gain * (there - q[index])
                }
                _ => 0.0,
            });
            // J+ e + (1 - J+ J) r = r + J+ (e - J r).
            let remaining: Vector6<f64> = error - (&jacobian * &towards_rest).fixed_rows::<6>(0);
            change = towards_rest + jacobian.transpose() * factors.solve(&remaining);
            let longest = change.amax();
            if longest > LONGEST_STEP_RAD {
                change *= LONGEST_STEP_RAD / longest;
            }
            let mut all_within = true;
            for (index, joint) in self.joints.iter().enumerate() {
                let next = q[index] + change[index];
                let at_limit = (q[index] <= joint.lower && next < joint.lower)
                    || (q[index] >= joint.upper && next > joint.upper);
                if at_limit && !held[index] {
                    held[index] = true;
                    jacobian.column_mut(index).fill(0.0);
                    all_within = false;
                }
            }
            if all_within {
                break;
            }
        }
        change
    }
}
