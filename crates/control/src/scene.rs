//! A picture of a world in neutral terms, so that whoever draws it need not know the world.

/// One drawable thing. Coordinates are in the scene's units; y grows downward in drawings.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A filled polygon, its corners in order.
    Polygon {
        name: &'static str,
        corners: Vec<[f64; 2]>,
        rgba: [u8; 4],
    },
    Circle {
        name: &'static str,
        center: [f64; 2],
        radius: f64,
        rgba: [u8; 4],
    },
    /// An open line.
    Line {
        name: &'static str,
        points: Vec<[f64; 2]>,
        width: f64,
        rgba: [u8; 4],
    },
}

/// A flat world seen from above, painted in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Extent in x and y, from the origin.
    pub size: [f64; 2],
    pub shapes: Vec<Shape>,
}
