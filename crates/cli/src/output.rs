//! Tables to read, files to parse, and bars to wait by.

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints a line on standard output. Where nobody reads any more (`nudge ... | head`), the program ends, quietly.
macro_rules! say {
    ($($line:tt)*) => { $crate::output::line(format_args!($($line)*)) };
}
pub(crate) use say;

/// What [`say`] calls.
pub fn line(line: std::fmt::Arguments) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        if !gone {
            eprintln!("error: cannot write to standard output: {error}");
        }
        std::process::exit(if gone { 0 } else { 1 });
    }
}

/// A table with a header, in the one style of this program.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// Pretty JSON on standard output, for machines.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A bar on standard error with rate and time left; it hides itself where there is no terminal.
pub fn progress(length: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:32}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
