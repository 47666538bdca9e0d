//! Pictures one after another as an animated GIF.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use gif::{Encoder, Frame, Repeat};
use nudge_sim::Picture;

/// Writes pictures of one size as an endless animation at `rate_hz` (at most 50, which is what viewers show).
pub fn write_gif(path: &Path, rate_hz: f64, pictures: &[Picture]) -> Result<()> {
    let write = || -> Result<()> {
        let first = pictures.first().context("there is no picture to show")?;
        let (width, height) = (u16::try_from(first.width)?, u16::try_from(first.height)?);
        let mut encoder = Encoder::new(BufWriter::new(File::create(path)?), width, height, &[])?;
        encoder.set_repeat(Repeat::Infinite)?;
        for picture in pictures {
            let mut pixels = picture.rgba.clone();
            // At the best quality: a faster one loses what is small, such as an object between the fingers.
            let mut frame = Frame::from_rgba_speed(width, height, &mut pixels, 1);
            frame.delay = (100.0 / rate_hz).round().clamp(2.0, 1000.0) as u16;
            encoder.write_frame(&frame)?;
        }
        encoder.into_inner()?.flush()?;
        Ok(())
    };
    write().with_context(|| format!("writing the animation {}", path.display()))
}
