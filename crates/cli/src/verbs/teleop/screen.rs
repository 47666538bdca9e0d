//! A picture and a few lines in a terminal, each cell two pixels: half blocks in 24-bit colour.

use std::fmt::Write as _;

use nudge_control::Scene;
use nudge_sim::{Picture, SimError, draw};

/// Colours of the upper and the lower half of a cell.
type Cell = [[u8; 3]; 2];

/// What the terminal shows now, so that only what changes is sent again.
#[derive(Default)]
pub struct Screen {
    /// Columns and rows of the terminal.
    size: (usize, usize),
    cells: Vec<Cell>,
    lines: Vec<String>,
}

impl Screen {
    /// What brings a terminal of `size` (columns, rows) from the last frame to `scene` with `lines` below it.
    ///
    /// # Errors
    /// When the scene cannot be drawn.
    pub fn frame(
        &mut self,
        size: (usize, usize),
        scene: &Scene,
        lines: &[String],
    ) -> Result<String, SimError> {
        let mut output = String::new();
        if self.size != size {
            *self = Self { size, ..Self::default() };
            output += "\x1b[0m\x1b[2J";
        }
        let (columns, rows) = size;
        let high = rows.saturating_sub(lines.len());
        let width = columns.min((2.0 * high as f64 * scene.size[0] / scene.size[1]) as usize);
        if width > 0 && high > 0 {
            let picture = draw(scene, width as u32)?;
            self.show(&mut output, &cells(&picture, high), width);
        }
        for (index, line) in lines.iter().enumerate() {
            if self.lines.get(index) != Some(line) {
                let cut: String = line.chars().take(columns).collect();
                let row = (high + index + 1).min(rows.max(1));
                // Writing to a String cannot fail.
                let _ = write!(output, "\x1b[0m\x1b[{row};1H{cut}\x1b[K");
            }
        }
        self.lines = lines.to_vec();
        Ok(output)
    }

    fn show(&mut self, output: &mut String, cells: &[Cell], width: usize) {
        let mut colours = None;
        let mut next = None;
        for (place, cell) in cells.iter().enumerate() {
            if self.cells.get(place) == Some(cell) {
                continue;
            }
            if next != Some(place) || place % width == 0 {
                let _ = write!(output, "\x1b[{};{}H", place / width + 1, place % width + 1);
            }
            if colours != Some(*cell) {
                let [[r, g, b], [s, h, c]] = cell;
                let _ = write!(output, "\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m");
                colours = Some(*cell);
            }
            output.push('▀');
            next = Some(place + 1);
        }
        self.cells = cells.to_vec();
        if colours.is_some() {
            output.push_str("\x1b[0m");
        }
    }
}

/// Two rows of pixels in each row of cells, `high` rows of cells at most. A last single row counts twice.
fn cells(picture: &Picture, high: usize) -> Vec<Cell> {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let pixel = |x: usize, y: usize| {
        let start = 4 * (y.min(height - 1) * width + x);
        [picture.rgba[start], picture.rgba[start + 1], picture.rgba[start + 2]]
    };
    let rows = height.div_ceil(2).min(high);
    let cell = |place: usize| {
        let (x, y) = (place % width, 2 * (place / width));
        [pixel(x, y), pixel(x, y + 1)]
    };
    (0..rows * width).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nudge_control::Shape;

    fn scene(x: f64) -> Scene {
        let dot = Shape::Circle { name: "dot", center: [x, 5.0], radius: 2.0, rgba: [255, 0, 0, 255] };
        Scene { size: [20.0, 10.0], shapes: vec![dot] }
    }

    fn blocks(output: &str) -> usize {
        output.matches('▀').count()
    }

    #[test]
    fn a_picture_fills_the_terminal_as_far_as_its_shape_and_the_lines_leave_room() {
        let lines = ["one".to_owned(), "two".to_owned()];
        for (size, expected) in [((80, 24), 80 * 20), ((40, 42), 40 * 10), ((400, 12), 40 * 10), ((0, 0), 0)]
        {
            let output = Screen::default().frame(size, &scene(5.0), &lines).unwrap();
            assert_eq!(blocks(&output), expected, "{size:?}");
        }
    }

    #[test]
    fn only_what_changed_is_sent_again() {
        let mut screen = Screen::default();
        let size = (80, 24);
        let lines = |text: &str| vec![text.to_owned()];
        screen.frame(size, &scene(5.0), &lines("a")).unwrap();
        assert_eq!(screen.frame(size, &scene(5.0), &lines("a")).unwrap(), "");
        let moved = screen.frame(size, &scene(6.0), &lines("a")).unwrap();
        assert!((1..200).contains(&blocks(&moved)), "{}", blocks(&moved));
        let told = screen.frame(size, &scene(6.0), &lines("b")).unwrap();
        assert!(told.contains('b') && blocks(&told) == 0);
        // Another size is another screen.
        assert!(blocks(&screen.frame((60, 24), &scene(6.0), &lines("b")).unwrap()) > 500);
    }
}
