#![no_main]

#[path = "../laws/attachment.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|data: &[u8]| law::law(data));
