//! What was measured on.

use std::path::Path;

use crate::verbs::checkpoint::Device;

/// The name of the processor or the GPU, as it calls itself.
pub fn name(device: Device) -> String {
    let found = match device {
        Device::Cpu => processor(),
        Device::Cuda => gpu(),
    };
    found.unwrap_or_else(|| "unknown".into())
}

/// The most memory that this process has held since [`forget_peak`], in MiB; known where there is `/proc`.
pub fn peak_mib() -> Option<f64> {
    let peak = field(Path::new("/proc/self/status"), "VmHWM")?;
    Some(peak.strip_suffix(" kB")?.trim().parse::<f64>().ok()? / 1024.0)
}

/// Counts the most memory from now on, where the kernel lets it.
pub fn forget_peak() {
    // Where it does not, the peak is that of the whole run: too much, never too little.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn processor() -> Option<String> {
    field(Path::new("/proc/cpuinfo"), "model name")
}

fn gpu() -> Option<String> {
    let mut gpus: Vec<_> =
        std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten().map(|entry| entry.path()).collect();
    gpus.sort();
    field(&gpus.first()?.join("information"), "Model")
}

/// The value of the first `key: value` line of a file.
fn field(path: &Path, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned()).next()
}
