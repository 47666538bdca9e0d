//! Whatever stands in one file of a checkpoint, its checksum being right, the checkpoint is refused with a reason, or it
//! loads and has proved itself by its golden plan.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use nudge_control::{Action, Episode, Frame, Observation};
use nudge_dataset::{Recording, write_episodes};
use nudge_policy::{DeviceChoice, DiffusionPolicy, TrainConfig, TrainPaths, train};
use sha2::{Digest, Sha256};

const FILES: [&str; 3] = ["checkpoint.json", "weights.safetensors", "golden.safetensors"];

/// A network of some thousand numbers.
const CONFIG: &str = r#"
task = "point"
seed = 1
[data]
path = "given"
validation_share = 0.5
[policy]
objective = "epsilon"
horizon = { observed = 1, predicted = 4, executed = 2 }
schedule = { curve = "squaredcos_cap_v2", train_steps = 10 }
sampler = { kind = "ddim", steps = 2 }
[policy.network]
kind = "conditional_unet_1d"
down_dims = [4, 8]
diffusion_step_embed_dim = 4
kernel_size = 3
n_groups = 4
cond_predict_scale = false
[training]
steps = 1
batch_size = 2
shards = 1
validate_every = 1
checkpoint_every = 1
keep = 1
optimizer = { learning_rate = 1e-3, betas = [0.95, 0.999], epsilon = 1e-8, weight_decay = 1e-6, warmup_steps = 1 }
ema = { power = 0.75, max_decay = 0.99 }
[interface]
control_hz = 10.0
observation = [{ name = "observation.state", kind = "vector", shape = [1] }]
action = [{ name = "action", kind = "vector", shape = [1], limits = { low = [-2.0], high = [2.0] } }]
"#;

/// The first byte says which file the others are.
pub fn law(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let (folder, good) = base();
    let which = usize::from(*which) % FILES.len();
    let mut sums = String::new();
    for (index, name) in FILES.iter().enumerate() {
        let content = if index == which { bytes } else { &good[index] };
        std::fs::write(folder.join(name), content).expect("a temporary folder takes files");
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        sums += &format!("{digest}  {name}\n");
    }
    std::fs::write(folder.join("SHA256SUMS"), sums).expect("a temporary folder takes files");
    if let Err(refusal) = DiffusionPolicy::load(folder, DeviceChoice::Cpu) {
        assert!(!refusal.to_string().is_empty());
    }
}

/// A folder of this process, and the three files of a checkpoint that was trained for one step.
pub fn base() -> &'static (std::path::PathBuf, [Vec<u8>; 3]) {
    static BASE: OnceLock<(std::path::PathBuf, [Vec<u8>; 3])> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("nudge_checkpoint_law_{}", std::process::id()));
        let files = make(&folder.join("made"));
        (folder, files)
    })
}

fn make(folder: &Path) -> [Vec<u8>; 3] {
    std::fs::create_dir_all(folder).expect("there is a temporary folder");
    let config = TrainConfig::from_toml(CONFIG).expect("the configuration is good");
    let frame = |step: usize| Frame {
        time_secs: step as f64 / 10.0,
        observation: Observation(vec![step as f64]),
        action: Action(vec![step as f64 / 10.0]),
        reward: 0.0,
        success: false,
        done: step == 9,
    };
    let episode = Episode {
        task: "point".into(),
        interface: config.interface.clone(),
        seed: None,
        frames: (0..10).map(frame).collect(),
    };
    let data = folder.join("set");
    write_episodes(&data, &[episode.clone(), episode], &Recording::default()).expect("a set is written");
    let paths = TrainPaths { data: Some(&data), out: &folder.join("out"), resume: false, init: None };
    train(&config, &paths, DeviceChoice::Cpu, &AtomicBool::new(false), &mut |_| {}).expect("it trains");
    let mut checkpoints: Vec<_> = std::fs::read_dir(folder.join("out"))
        .expect("training wrote")
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join(FILES[0]).is_file()))
        .collect();
    let checkpoint = checkpoints.pop().expect("training wrote a checkpoint");
    FILES.map(|name| std::fs::read(checkpoint.join(name)).expect("a checkpoint has its files"))
}
