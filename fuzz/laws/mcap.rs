//! Whatever the bytes are, they are no MCAP file, or they are shown as far as they are whole, twice the same.

use std::path::Path;

use nudge_dataset::mcap::{inspect_mcap, read_mcap};

/// `scratch` is a file that the law may write.
pub fn law(scratch: &Path, data: &[u8]) {
    std::fs::write(scratch, data).expect("the scratch file can be written");
    let shown = || {
        let mut messages = 0_u64;
        let ended = read_mcap(scratch, &mut |message| {
            messages += 1;
            // What was recorded from the wire is built again out of what others may have written.
            drop(message.on_the_wire());
            Ok(())
        });
        (messages, ended.map_err(|error| error.to_string()))
    };
    assert_eq!(shown(), shown());
    if let Err(refusal) = inspect_mcap(scratch) {
        assert!(!refusal.to_string().is_empty());
    }
}
