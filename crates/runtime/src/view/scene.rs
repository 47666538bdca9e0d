//! Shapes of a scene as rerun entities.

use nudge_control::{Scene, Shape};
use rerun::components::Radius;
use rerun::{Clear, Color, EntityPath, LineStrips2D, Points2D, RecordingStream, RecordingStreamResult};

/// Lines that fill a shape as high as the scene.
const FILL_LINES: f64 = 256.0;

/// Logs a scene below `root`. `shown` are the entities of the scene before, those of which are cleared that are no more.
pub(super) fn show_scene(
    recording: &RecordingStream,
    root: &str,
    shown: &mut Vec<EntityPath>,
    scene: &Scene,
) -> RecordingStreamResult<()> {
    let [width, height] = scene.size.map(|length| length as f32);
    let border = [[0.0, 0.0], [width, 0.0], [width, height], [0.0, height], [0.0, 0.0]];
    let lines = LineStrips2D::new([border]).with_colors([Color::from_rgb(90, 90, 90)]);
    recording.log(format!("{root}/border"), &lines)?;

    let paths = shape_paths(&format!("{root}/scene"), &scene.shapes);
    for gone in shown.iter().filter(|path| !paths.contains(path)) {
        recording.log(gone.clone(), &Clear::recursive())?;
    }
    for (order, (path, shape)) in paths.iter().zip(&scene.shapes).enumerate() {
        show_shape(recording, path, shape, scene.size, order as f32)?;
    }
    *shown = paths;
    Ok(())
}

/// One entity a shape under `root`, by name; further shapes of a name are numbered.
fn shape_paths(root: &str, shapes: &[Shape]) -> Vec<EntityPath> {
    let names: Vec<&str> = shapes.iter().map(name).collect();
    let path = |(index, name): (usize, &&str)| {
        let earlier = names[..index].iter().filter(|other| *other == name).count();
        let own = if earlier == 0 { (*name).to_owned() } else { format!("{name} {}", earlier + 1) };
        EntityPath::from(root).join(&EntityPath::from(vec![own.into()]))
    };
    names.iter().enumerate().map(path).collect()
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Polygon { name, .. } | Shape::Circle { name, .. } | Shape::Line { name, .. } => name,
    }
}

/// Logs `shape`, painted above shapes of a lower `order`. `size` is the scene's.
fn show_shape(
    recording: &RecordingStream,
    path: &EntityPath,
    shape: &Shape,
    size: [f64; 2],
    order: f32,
) -> RecordingStreamResult<()> {
    match shape {
        Shape::Polygon { corners, rgba, .. } => {
            let spacing = size[1] / FILL_LINES;
            let mut outline: Vec<[f32; 2]> = corners.iter().copied().map(single).collect();
            outline.extend(outline.first().copied());
            let strips = std::iter::once(outline).chain(fill_lines(corners, spacing));
            // Wider than half their distance, so that no gap is seen between two lines.
            let radius = Radius::new_scene_units(0.75 * spacing as f32);
            let lines = LineStrips2D::new(strips).with_colors([color(*rgba)]).with_radii([radius]);
            recording.log(path.clone(), &lines.with_draw_order(order))
        }
        Shape::Circle { center, radius, rgba, .. } => {
            let point = Points2D::new([single(*center)]).with_colors([color(*rgba)]);
            let radius = Radius::new_scene_units(*radius as f32);
            recording.log(path.clone(), &point.with_radii([radius]).with_draw_order(order))
        }
        Shape::Line { points, width, rgba, .. } => {
            let points: Vec<[f32; 2]> = points.iter().copied().map(single).collect();
            let line = LineStrips2D::new([points]).with_colors([color(*rgba)]);
            let radius = Radius::new_scene_units(*width as f32 / 2.0);
            recording.log(path.clone(), &line.with_radii([radius]).with_draw_order(order))
        }
    }
}

/// Horizontal lines `spacing` apart that fill a polygon by the even-odd rule: rerun has no filled polygon in 2D.
///
/// Nothing for a polygon that is not finite, or is more than ten scenes high.
fn fill_lines(corners: &[[f64; 2]], spacing: f64) -> Vec<Vec<[f32; 2]>> {
    let (low, high) = corners
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), [_, y]| (low.min(*y), high.max(*y)));
    let count = ((high - low) / spacing).ceil();
    if !(count <= 10.0 * FILL_LINES && corners.iter().flatten().all(|value| value.is_finite())) {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for line in 0..count as usize {
        let y = low + (line as f64 + 0.5) * spacing;
        let edges = corners.iter().zip(corners.iter().cycle().skip(1));
        let mut crossings: Vec<f64> = edges
            .filter(|(a, b)| (a[1] <= y) != (b[1] <= y))
            .map(|(a, b)| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            .collect();
        crossings.sort_by(f64::total_cmp);
        lines.extend(crossings.chunks_exact(2).map(|pair| vec![single([pair[0], y]), single([pair[1], y])]));
    }
    lines
}

fn single([x, y]: [f64; 2]) -> [f32; 2] {
    [x as f32, y as f32]
}

/// As it looks on a light ground: rerun paints lines without transparency.
fn color([r, g, b, a]: [u8; 4]) -> Color {
    const GROUND: f32 = 225.0;
    let over = |value: u8| {
        let share = f32::from(a) / 255.0;
        (share * f32::from(value) + (1.0 - share) * GROUND).round() as u8
    };
    Color::from_rgb(over(r), over(g), over(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_lines_cover_the_area_of_a_concave_polygon() {
        // A U of area 5: a 3 x 2 box without its 1 x 1 notch.
        let corners =
            [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0], [2.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]];
        let spacing = 0.1;
        let lines = fill_lines(&corners, spacing);
        let area: f64 = lines.iter().map(|line| f64::from(line[1][0] - line[0][0]) * spacing).sum();
        assert!((area - 5.0).abs() < 1e-5, "{area}");
        assert_eq!(lines.len(), 30, "two lines in each of the upper ten rows, one in the lower ten");
    }

    #[test]
    fn polygons_that_are_not_finite_or_out_of_all_proportion_are_not_filled() {
        assert!(fill_lines(&[[0.0, 0.0], [1.0, f64::NAN], [1.0, 1.0]], 0.1).is_empty());
        assert!(fill_lines(&[[0.0, 0.0], [1.0, 1e12], [1.0, 1.0]], 0.1).is_empty());
        assert!(fill_lines(&[], 0.1).is_empty());
        assert!(fill_lines(&[[0.0, 0.0], [1.0, 2.0], [1.0, 1.0]], 0.0).is_empty());
    }

    #[test]
    fn shapes_of_one_name_have_entities_of_their_own() {
        let circle = Shape::Circle { name: "finger", center: [0.0; 2], radius: 1.0, rgba: [0; 4] };
        let paths = shape_paths("world", &[circle.clone(), circle]);
        assert_ne!(paths[0], paths[1]);
    }
}
