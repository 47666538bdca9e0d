#![no_main]

#[path = "../laws/robot_file.rs"]
mod law;

libfuzzer_sys::fuzz_target!(|data: &[u8]| law::law(data));
