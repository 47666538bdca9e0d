//! Scenes as pictures.

use nudge_control::{Scene, Shape};
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use crate::SimError;

/// Rows of straight-alpha RGBA from the top left, 4 bytes a pixel, opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub rgba: Vec<u8>,
}

const BACKGROUND: [u8; 4] = [250, 250, 248, 255];

/// Draws a scene `width_px` wide, as high as its shape asks for, on a light ground and with smooth edges.
///
/// A shape with a coordinate that is not finite is left out.
///
/// # Errors
/// When a side of the picture would have no pixels, or more than can be held.
pub fn draw(scene: &Scene, width_px: u32) -> Result<Picture, SimError> {
    let scale = f64::from(width_px) / scene.size[0];
    // A size that is not a number or beyond u32 becomes one that no pixmap has.
    let height_px = (scene.size[1] * scale).round() as u32;
    let mut pixmap = Pixmap::new(width_px, height_px).ok_or(SimError::PictureSize {
        size: scene.size,
        width: width_px,
        height: height_px,
    })?;
    let [red, green, blue, alpha] = BACKGROUND;
    pixmap.fill(Color::from_rgba8(red, green, blue, alpha));
    let to_pixels = Transform::from_scale(scale as f32, scale as f32);
    for shape in &scene.shapes {
        paint(&mut pixmap, shape, to_pixels);
    }
    // On an opaque ground everything stays opaque, and premultiplied alpha is straight alpha.
    Ok(Picture { width: width_px, height: height_px, rgba: pixmap.take() })
}

fn paint(pixmap: &mut Pixmap, shape: &Shape, to_pixels: Transform) {
    let paint = |[red, green, blue, alpha]: [u8; 4]| {
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color_rgba8(red, green, blue, alpha);
        paint
    };
    match shape {
        Shape::Polygon { corners, rgba, .. } => {
            if let Some(path) = path(corners, true) {
                pixmap.fill_path(&path, &paint(*rgba), FillRule::Winding, to_pixels, None);
            }
        }
        Shape::Circle { center: [x, y], radius, rgba, .. } => {
            if let Some(path) = PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32) {
                pixmap.fill_path(&path, &paint(*rgba), FillRule::Winding, to_pixels, None);
            }
        }
        Shape::Line { points, width, rgba, .. } => {
            if let Some(path) = path(points, false) {
                let stroke = Stroke {
                    width: *width as f32,
                    line_cap: LineCap::Round,
                    line_join: LineJoin::Round,
                    ..Stroke::default()
                };
                pixmap.stroke_path(&path, &paint(*rgba), &stroke, to_pixels, None);
            }
        }
    }
}

/// The path along `points`; `None` when there are too few of them, or one is not finite.
fn path(points: &[[f64; 2]], closed: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut path = PathBuilder::new();
    path.move_to(first[0] as f32, first[1] as f32);
    for point in rest {
        path.line_to(point[0] as f32, point[1] as f32);
    }
    if closed {
        path.close();
    }
    path.finish()
}
