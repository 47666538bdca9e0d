//! Curves as SVG files.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What was reached with so many demonstrations: low end of the interval, value, high end, each in 0..=1.
#[derive(Clone, Copy)]
pub struct Point {
    pub demonstrations: usize,
    pub success: (f64, f64, f64),
    pub score: (f64, f64, f64),
}

const SIZE: (u32, u32) = (640, 420);
const SUCCESS: RGBColor = RGBColor(65, 105, 225);
const SCORE: RGBColor = RGBColor(220, 120, 40);
const FONT: &str = "sans-serif";
/// Names of curves stand above the plot, where no point can be.
const LEGEND_HEIGHT: i32 = 40;

/// Score and success against the number of demonstrations, on a logarithmic axis, with 95 % intervals.
///
/// # Errors
/// When there are not two numbers of demonstrations at least, or the file cannot be written.
pub fn success_by_demonstrations(path: &Path, points: &[Point]) -> anyhow::Result<()> {
    let mut points = points.to_vec();
    points.sort_by_key(|point| point.demonstrations);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        bail!("there is nothing to plot")
    };
    if first.demonstrations == last.demonstrations {
        bail!(
            "all results were trained on {} demonstrations: a plot needs two numbers at least",
            first.demonstrations
        );
    }
    let (least, most) = (first.demonstrations.max(1) as f64 / 1.3, last.demonstrations as f64 * 1.3);
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area, &points, least..most).and_then(|()| area.present().map_err(|error| anyhow!("{error}")))
    };
    drawn.context("cannot draw the plot")?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn draw(
    area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    points: &[Point],
    demonstrations: std::ops::Range<f64>,
) -> anyhow::Result<()> {
    let problem = |error: DrawingAreaErrorKind<_>| anyhow!("{error}");
    area.fill(&WHITE).map_err(problem)?;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .margin_top(LEGEND_HEIGHT)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(demonstrations.log_scale(), 0.0..1.0)
        .map_err(problem)?;
    let ticks: Vec<f64> = points.iter().map(|point| point.demonstrations as f64).collect();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_label_formatter(&|_| String::new())
        .y_labels(6)
        .y_label_formatter(&|share| format!("{share:.1}"))
        .x_desc("demonstrations")
        .y_desc("score and success, 95 % intervals")
        .axis_desc_style((FONT, 15))
        .label_style((FONT, 14))
        .draw()
        .map_err(problem)?;
    // Numbers that were run, not those that a logarithmic axis would choose.
    for tick in &ticks {
        let (x, y) = chart.backend_coord(&(*tick, 0.0));
        let centered = text(HPos::Center, VPos::Top);
        area.draw_text(&format!("{tick:.0}"), &centered, (x, y + 6)).map_err(problem)?;
    }
    for (left, name, colour, of) in [
        (70, "score", SCORE, (|point: &Point| point.score) as fn(&Point) -> (f64, f64, f64)),
        (170, "success", SUCCESS, |point: &Point| point.success),
    ] {
        let y = LEGEND_HEIGHT / 2;
        let line = PathElement::new([(left, y), (left + 20, y)], colour.stroke_width(2));
        area.draw(&line).map_err(problem)?;
        area.draw_text(name, &text(HPos::Left, VPos::Center), (left + 26, y)).map_err(problem)?;
        let at = |point: &Point| (point.demonstrations as f64, of(point));
        chart
            .draw_series(LineSeries::new(
                points.iter().map(|point| (at(point).0, of(point).1)),
                colour.stroke_width(2),
            ))
            .map_err(problem)?;
        chart
            .draw_series(points.iter().map(|point| {
                let (x, (low, value, high)) = at(point);
                ErrorBar::new_vertical(x, low, value, high, colour.filled(), 8)
            }))
            .map_err(problem)?;
    }
    Ok(())
}

fn text(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    TextStyle::from((FONT, 14).into_font()).pos(Pos::new(horizontal, vertical))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(demonstrations: usize, success: f64) -> Point {
        let around = |value: f64| (value - 0.05, value, value + 0.05);
        Point { demonstrations, success: around(success), score: around(success + 0.1) }
    }

    #[test]
    fn every_number_of_demonstrations_stands_on_the_axis() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        success_by_demonstrations(&path, &[point(100, 0.8), point(10, 0.1), point(30, 0.5)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg"));
        for tick in ["10", "30", "100"] {
            assert_eq!(svg.lines().filter(|line| line.trim() == tick).count(), 1, "{tick} in {svg}");
        }
        assert!(!svg.contains("10.0"), "{svg}");
    }

    #[test]
    fn one_number_of_demonstrations_is_no_curve() {
        let error = success_by_demonstrations(Path::new("unwritten.svg"), &[point(10, 0.1), point(10, 0.2)]);
        assert!(error.unwrap_err().to_string().contains("10 demonstrations"));
    }
}
