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

/// Longest side of a picture, px.
pub(crate) const LONGEST_SIDE: u32 = 16_384;

const BACKGROUND: [u8; 4] = [250, 250, 248, 255];

/// Draws a scene `width_px` wide, as high as its shape asks for, on a light ground and with smooth edges.
///
/// A shape with a coordinate that is not finite is left out.
///
/// # Errors
/// When a side of the picture would have no pixels, or more than 16384.
pub fn draw(scene: &Scene, width_px: u32) -> Result<Picture, SimError> {
    let scale = f64::from(width_px) / scene.size[0];
    // What is not a number becomes 0, and what is beyond u32 its largest number.
    let height_px = (scene.size[1] * scale).round() as u32;
    let mut pixmap = Some((width_px, height_px))
        .filter(|(width, height)| *width.max(height) <= LONGEST_SIDE)
        .and_then(|(width, height)| Pixmap::new(width, height))
        .ok_or(SimError::PictureSize { size: scene.size, width: width_px, height: height_px })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [u8; 4] = [255, 0, 0, 255];

    fn scene(shape: Shape) -> Scene {
        Scene { size: [20.0, 10.0], shapes: vec![shape] }
    }

    fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 4] {
        let start = 4 * (y * picture.width + x) as usize;
        picture.rgba[start..start + 4].try_into().unwrap()
    }

    #[test]
    fn shapes_lie_where_the_scene_puts_them() {
        let center = [15.0, 5.0];
        let circle = scene(Shape::Circle { name: "dot", center, radius: 3.0, rgba: RED });
        // A concave corner: the square 0..8 without its quarter 4..8 in x and y.
        let corners = vec![[0.0, 0.0], [8.0, 0.0], [8.0, 4.0], [4.0, 4.0], [4.0, 8.0], [0.0, 8.0]];
        let polygon = scene(Shape::Polygon { name: "corner", corners, rgba: RED });
        let points = vec![[2.0, 5.0], [18.0, 5.0]];
        let line = scene(Shape::Line { name: "line", points, width: 2.0, rgba: RED });
        for (scene, inside, outside) in [
            (circle, [[15, 5], [13, 5]], [[5, 5], [15, 1]]),
            (polygon, [[2, 6], [6, 2]], [[6, 6], [12, 2]]),
            (line, [[3, 5], [17, 5]], [[10, 2], [10, 8]]),
        ] {
            for scale in [1, 16] {
                let picture = draw(&scene, 20 * scale).unwrap();
                assert_eq!((picture.width, picture.height), (20 * scale, 10 * scale));
                assert_eq!(picture.rgba.len(), 4 * 20 * 10 * (scale * scale) as usize);
                for [x, y] in inside {
                    assert_eq!(pixel(&picture, x * scale, y * scale), RED, "{x}, {y} of {scene:?}");
                }
                for [x, y] in outside {
                    assert_eq!(pixel(&picture, x * scale, y * scale), BACKGROUND, "{x}, {y} of {scene:?}");
                }
            }
        }
    }

    #[test]
    fn pictures_are_opaque_and_edges_smooth() {
        let dot = Shape::Circle { name: "dot", center: [10.0, 5.0], radius: 3.3, rgba: [0, 0, 0, 128] };
        let picture = draw(&scene(dot), 60).unwrap();
        assert!(picture.rgba.chunks_exact(4).all(|pixel| pixel[3] == 255));
        let mut shades: Vec<u8> = picture.rgba.chunks_exact(4).map(|pixel| pixel[0]).collect();
        shades.sort_unstable();
        shades.dedup();
        assert!(shades.len() > 5, "only the shades {shades:?}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_or_left_out() {
        let dot = |x| Scene {
            size: [20.0, 10.0],
            shapes: vec![Shape::Circle { name: "dot", center: [x, 5.0], radius: 3.0, rgba: RED }],
        };
        let empty = draw(&Scene { size: [20.0, 10.0], shapes: Vec::new() }, 20).unwrap();
        assert_eq!(draw(&dot(f64::NAN), 20).unwrap(), empty);
        for (size, width) in [
            ([20.0, 10.0], 0),
            ([0.0, 0.0], 20),
            ([1.0, f64::NAN], 20),
            ([1e-9, 1.0], 20),
            ([1.0, 1.0], 20_000),
        ] {
            let error = draw(&Scene { size, shapes: Vec::new() }, width).unwrap_err();
            assert!(error.to_string().contains("cannot be drawn"), "{error}");
        }
    }
}
