//! Episodes on one sheet: a row for each, with its first, middle and last frame.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context as _, Result};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use nudge_control::Episode;
use nudge_sim::{Picture, TaskConfig, draw};

/// Width of a frame on the sheet, px.
const FRAME_PX: u32 = 240;
const GAP_PX: u32 = 12;
const LABEL_PX: u32 = 168;
const HEADING_PX: u32 = 36;
const LINE_PX: u32 = 22;

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [40, 44, 52];
const FAINT: [u8; 3] = [120, 126, 138];
const ACHIEVED: [u8; 3] = [30, 130, 70];
const FAILED: [u8; 3] = [190, 50, 45];

/// Draws `episodes` of a task from top to bottom, each labelled with seed, score and steps, into a PNG file. The worlds
/// are seen by acting the episodes again.
///
/// # Errors
/// When an episode has no seed or no frames, or the file cannot be written.
pub fn write_contact_sheet(path: &Path, task: &TaskConfig, episodes: &[Episode]) -> Result<()> {
    let rows: Vec<[Picture; 3]> =
        episodes.iter().map(|episode| frames(task, episode)).collect::<Result<_>>()?;
    let frame_height = rows.first().map_or(0, |row| row[0].height);
    let row_height = frame_height + GAP_PX;
    let width = LABEL_PX + 3 * (FRAME_PX + GAP_PX) + GAP_PX;
    let mut sheet = Sheet::new(width, HEADING_PX + rows.len() as u32 * row_height);
    let column = |place: u32| GAP_PX + LABEL_PX + place * (FRAME_PX + GAP_PX);
    for (place, heading) in ["first", "middle", "last"].into_iter().enumerate() {
        sheet.text([column(place as u32), 10], heading, FAINT);
    }
    for (index, (episode, pictures)) in episodes.iter().zip(&rows).enumerate() {
        let top = HEADING_PX + index as u32 * row_height;
        let (verdict, colour) = if episode.success() { ("achieved", ACHIEVED) } else { ("failed", FAILED) };
        let lines = [
            (format!("seed {}", episode.seed.unwrap_or_default()), INK),
            // Cut off, not rounded: what failed does not read 1.000.
            (format!("score {:.3}", (episode.score() * 1e3).floor() / 1e3), INK),
            (format!("{} steps", episode.frames.len()), FAINT),
            (verdict.to_owned(), colour),
        ];
        for (line, (text, colour)) in lines.iter().enumerate() {
            sheet.text([GAP_PX, top + 4 + line as u32 * LINE_PX], text, *colour);
        }
        for (place, picture) in pictures.iter().enumerate() {
            sheet.put([column(place as u32), top], picture);
        }
    }
    sheet.write(path)
}

/// The world before the first action, before the middle one, and after the last.
fn frames(task: &TaskConfig, episode: &Episode) -> Result<[Picture; 3]> {
    let mut world = task.build();
    world.reset(episode.seed.context("an episode has no seed, so where it began is unknown")?);
    let first = draw(&world.scene(), FRAME_PX)?;
    let mut middle = None;
    for (index, frame) in episode.frames.iter().enumerate() {
        if index == episode.frames.len() / 2 {
            middle = Some(draw(&world.scene(), FRAME_PX)?);
        }
        world.step(&frame.action);
    }
    Ok([first, middle.context("an episode has no frames")?, draw(&world.scene(), FRAME_PX)?])
}

/// Rows of RGB from the top left. What reaches over the edge is cut off.
struct Sheet {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Sheet {
    fn new(width: u32, height: u32) -> Self {
        Self { width, height, rgb: PAPER.repeat((width * height) as usize) }
    }

    fn pixel(&mut self, x: u32, y: u32) -> Option<&mut [u8]> {
        let start = 3 * (y as usize * self.width as usize + x as usize);
        if x < self.width { self.rgb.get_mut(start..start + 3) } else { None }
    }

    fn put(&mut self, [left, top]: [u32; 2], picture: &Picture) {
        for (index, from) in picture.rgba.chunks_exact(4).enumerate() {
            let (x, y) = (left + index as u32 % picture.width, top + index as u32 / picture.width);
            if let Some(to) = self.pixel(x, y) {
                to.copy_from_slice(&from[..3]);
            }
        }
    }

    /// Writes a line of Latin letters, 16 px high; others become `?`.
    fn text(&mut self, [left, top]: [u32; 2], text: &str, ink: [u8; 3]) {
        let (weight, height) = (FontWeight::Regular, RasterHeight::Size16);
        let advance = get_raster_width(weight, height) as u32;
        for (place, letter) in text.chars().enumerate() {
            let Some(raster) = get_raster(letter, weight, height).or_else(|| get_raster('?', weight, height))
            else {
                continue;
            };
            for (y, row) in (0..).zip(raster.rows()) {
                for (x, cover) in (0..).zip(row) {
                    let Some(to) = self.pixel(left + place as u32 * advance + x, top + y) else { continue };
                    for (to, ink) in to.iter_mut().zip(ink) {
                        let (under, cover) = (u32::from(*to), u32::from(*cover));
                        *to = ((under * (255 - cover) + u32::from(ink) * cover) / 255) as u8;
                    }
                }
            }
        }
    }

    fn write(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), self.width, self.height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&self.rgb)?;
            writer.finish()?;
            Ok(())
        };
        write().with_context(|| format!("writing the picture {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_inks_the_paper_and_stays_on_it() {
        let mut sheet = Sheet::new(40, 20);
        sheet.text([0, 0], "i", INK);
        let inked = |sheet: &Sheet| sheet.rgb.iter().filter(|value| **value != 255).count();
        assert!(inked(&sheet) > 0 && inked(&sheet) < sheet.rgb.len() / 4);
        let before = inked(&sheet);
        sheet.text([36, 10], "seed 100007", INK);
        sheet.text([200, 0], "away", INK);
        assert!(inked(&sheet) > before && sheet.rgb.len() == 3 * 40 * 20);
    }
}
