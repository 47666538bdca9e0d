#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

#[path = "../laws/mcap.rs"]
mod law;

static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    // A panic of the library below is caught and told as damage; only one that gets out is a find.
    std::panic::set_hook(Box::new(|_| {}));
    std::env::temp_dir().join(format!("nudge_mcap_law_{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| law::law(&SCRATCH, data));
