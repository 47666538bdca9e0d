//! MCAP files: what went over the wire, message by message, as ROS 2 tools (profile `ros2`) read it.

mod chunk;
mod convert;
mod inspect;
mod read;
mod resample;
mod write;

pub use convert::{McapConversion, McapConverted, TopicFeature, convert_mcap};
pub use inspect::{McapReport, TopicReport, inspect_mcap};
pub use read::{McapChannel, McapMessage, read_mcap};
pub use resample::Resampling;
pub use write::{Direction, McapLog, WireMessage};

/// How much of a recording could not be recorded: `{"lost": N}`, at the moment at which this was noticed.
pub const GAP_TOPIC: &str = "nudge/gap";
/// Messages whose key, encoding or attachment fit no channel, whole, as JSON with bytes in hexadecimal.
pub const RAW_TOPIC: &str = "nudge/raw";

/// Bytes as text, two digits each.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text as bytes; `None` when it is not of two digits each.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2 && !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    });
    pairs.collect()
}
