#![no_main]

#[path = "../laws/train_config.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|data: &[u8]| law::law(data));
