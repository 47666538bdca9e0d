//! What Push-T looks like.

use nudge_control::{Scene, Shape};

use super::geometry::{AGENT_RADIUS, GOAL, OUTLINE, Pose, WALL_RADIUS, WALLS, WORLD_PX};

const WALL_COLOUR: [u8; 4] = [203, 208, 214, 255];
const GOAL_COLOUR: [u8; 4] = [144, 238, 144, 255];
const BLOCK_COLOUR: [u8; 4] = [119, 136, 153, 255];
const AGENT_COLOUR: [u8; 4] = [65, 105, 225, 255];
const TARGET_COLOUR: [u8; 4] = [220, 60, 50, 255];

/// Radius of the mark at the agent's target, px.
const TARGET_RADIUS: f64 = 4.0;

/// The scene of one observation: the agent (`observation.state`), the block's corners
/// (`observation.environment_state`), and where the agent is sent, if anywhere. All in px.
pub fn scene_from_observation(agent: [f64; 2], corners: &[f64; 16], target: Option<[f64; 2]>) -> Scene {
    let corners = std::array::from_fn(|i| [corners[2 * i], corners[2 * i + 1]]);
    let [low, high] = WALLS;
    let mut shapes = vec![
        Shape::Line {
            name: "walls",
            points: vec![[low, low], [high, low], [high, high], [low, high], [low, low]],
            width: 2.0 * WALL_RADIUS,
            rgba: WALL_COLOUR,
        },
        outline("goal", &Pose::new(GOAL).corners(), GOAL_COLOUR),
        outline("block", &corners, BLOCK_COLOUR),
        Shape::Circle { name: "agent", center: agent, radius: AGENT_RADIUS, rgba: AGENT_COLOUR },
    ];
    shapes.extend(target.map(|center| Shape::Circle {
        name: "target",
        center,
        radius: TARGET_RADIUS,
        rgba: TARGET_COLOUR,
    }));
    Scene { size: [WORLD_PX; 2], shapes }
}

fn outline(name: &'static str, corners: &[[f64; 2]; 8], rgba: [u8; 4]) -> Shape {
    Shape::Polygon { name, corners: OUTLINE.map(|corner| corners[corner]).to_vec(), rgba }
}
