//! Faults to plant in sets of demonstrations, and a sound set to plant them in.

pub mod faults;
pub mod files;

use std::f32::consts::TAU;
use std::path::Path;

use nudge_dataset::{Column, Dataset, DatasetWriter, FeatureInfo, WriteSpec};

/// SplitMix64 (Steele et al. 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// From 0 to 1.
    pub fn part(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// From -1 to 1.
    pub fn noise(&mut self) -> f32 {
        2.0 * self.part() - 1.0
    }
}

/// One episode in memory: `[feature][frame][number]` flattened over the last two.
#[derive(Clone)]
pub struct Take {
    pub times: Vec<f32>,
    pub tables: Vec<Vec<f32>>,
}

/// A set in memory.
#[derive(Clone)]
pub struct Demos {
    pub fps: f64,
    pub task: String,
    pub features: Vec<FeatureInfo>,
    pub takes: Vec<Take>,
    /// Places of the main observed feature and of the action that it follows.
    pub state: usize,
    pub action: usize,
    /// Feature and number of an angle that is not wrapped.
    pub angle: (usize, usize),
}

fn feature(name: &str, dtype: &str, dim: usize) -> FeatureInfo {
    FeatureInfo { name: name.into(), dtype: dtype.into(), shape: vec![dim], names: Vec::new() }
}

impl Demos {
    /// A made-up arm: three joints follow their targets with a delay of two frames and noise, a tool turns,
    /// an object is carried. 24 episodes at 20 Hz, times measured by a clock that is not perfect.
    pub fn made(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let features = vec![
            feature("observation.joints", "float32", 3),
            feature("observation.object", "float32", 2),
            feature("observation.turn", "float32", 1),
            feature("observation.rotation", "float32", 4),
            feature("action", "float32", 3),
            feature("next.done", "bool", 1),
        ];
        let takes = (0..24).map(|_| made_take(&mut dice)).collect();
        Self { fps: 20.0, task: "carry it".into(), features, takes, state: 0, action: 4, angle: (2, 0) }
    }

    /// The human Push-T demonstrations, their one angle unwrapped; without the keypoints, which repeat the
    /// corners.
    pub fn human(dir: &Path) -> Self {
        let dataset = Dataset::open(dir).unwrap();
        let left_out =
            ["observation.keypoints", "timestamp", "frame_index", "episode_index", "index", "task_index"];
        let features: Vec<FeatureInfo> = dataset
            .info()
            .features
            .iter()
            .filter(|f| !left_out.contains(&f.name.as_str()))
            .cloned()
            .collect();
        let mut names: Vec<&str> = features.iter().map(|f| f.name.as_str()).collect();
        names.push("timestamp");
        let place = |name: &str| features.iter().position(|f| f.name == name).unwrap();
        let (state, action, angle) =
            (place("observation.state"), place("action"), (place("observation.block_pose"), 2));
        let takes = dataset.read_all(&names).unwrap().into_iter().map(|tables| {
            let mut tables: Vec<Vec<f32>> = tables.into_iter().map(|table| table.values).collect();
            let times = tables.pop().unwrap();
            let turn = std::f32::consts::TAU;
            for frame in 1..times.len() {
                let before = tables[angle.0][(frame - 1) * 3 + 2];
                let now = &mut tables[angle.0][frame * 3 + 2];
                *now -= ((*now - before) / turn).round() * turn;
            }
            Take { times, tables }
        });
        Self {
            fps: 10.0,
            task: dataset.info().tasks[0].clone(),
            takes: takes.collect(),
            state,
            action,
            angle,
            features: features.clone(),
        }
    }

    pub fn write(&self, dir: &Path) {
        let spec = WriteSpec { fps: self.fps, robot_type: None, features: self.features.clone() };
        let mut writer = DatasetWriter::create(dir, spec).unwrap();
        for take in &self.takes {
            let columns: Vec<Column> = take
                .tables
                .iter()
                .zip(&self.features)
                .map(|(values, feature)| match feature.dtype.as_str() {
                    "bool" => Column::Bool(values.iter().map(|value| *value != 0.0).collect()),
                    _ => Column::Float32(values.clone()),
                })
                .collect();
            writer.push(&self.task, &take.times, &columns).unwrap();
        }
        writer.finish().unwrap();
        // As others write it: faults are planted where no checksums would tell.
        std::fs::remove_file(dir.join("SHA256SUMS")).unwrap();
    }

    pub fn dim(&self, feature: usize) -> usize {
        self.features[feature].shape.iter().product()
    }

    pub fn frames(&self, episode: usize) -> usize {
        self.takes[episode].times.len()
    }

    pub fn at(&mut self, episode: usize, feature: usize, frame: usize, number: usize) -> &mut f32 {
        let dim = self.dim(feature);
        &mut self.takes[episode].tables[feature][frame * dim + number]
    }

    pub fn get(&self, episode: usize, feature: usize, frame: usize, number: usize) -> f32 {
        self.takes[episode].tables[feature][frame * self.dim(feature) + number]
    }

    /// Greatest minus least of a number in the set.
    pub fn range(&self, feature: usize, number: usize) -> f32 {
        let (low, high) = self.extremes(feature, number);
        high - low
    }

    pub fn extremes(&self, feature: usize, number: usize) -> (f32, f32) {
        let dim = self.dim(feature);
        let all = self.takes.iter().flat_map(|take| take.tables[feature].iter().skip(number).step_by(dim));
        all.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
    }

    /// Puts frames of an episode in the order of `frames`; times stay those of the places.
    pub fn rearrange(&mut self, episode: usize, frames: &[usize]) {
        let period = (1.0 / self.fps) as f32;
        for feature in 0..self.features.len() {
            let dim = self.dim(feature);
            let table = &self.takes[episode].tables[feature];
            let moved = frames.iter().flat_map(|frame| table[frame * dim..(frame + 1) * dim].to_vec());
            self.takes[episode].tables[feature] = moved.collect();
        }
        let times = &mut self.takes[episode].times;
        while times.len() < frames.len() {
            times.push(times[times.len() - 1] + period);
        }
        times.truncate(frames.len());
    }

    /// An episode, and a frame from which on the main state moves for `frames` frames: a place where a fault
    /// in motion is one.
    pub fn busy(&self, dice: &mut Dice, frames: usize) -> (usize, usize) {
        let dim = self.dim(self.state);
        let table = |episode: usize| &self.takes[episode].tables[self.state];
        let step = |episode: usize, frame: usize| {
            let table = table(episode);
            (0..dim)
                .map(|n| {
                    (table[frame * dim + n] - table[(frame - 1) * dim + n]).abs() / self.range(self.state, n)
                })
                .fold(0.0, f32::max)
        };
        // A hundredth of the range a frame: the range in ten seconds or less.
        loop {
            let episode = dice.below(self.takes.len());
            let most = self.frames(episode).saturating_sub(frames + 6);
            let frame = 3 + dice.below(most);
            if most > 0
                && (frame..frame + frames).filter(|at| step(episode, *at) > 0.01).count() * 3 >= frames * 2
            {
                return (episode, frame);
            }
        }
    }
}

fn made_take(dice: &mut Dice) -> Take {
    let frames = 90 + dice.below(50);
    let mut tables: Vec<Vec<f32>> = vec![Vec::new(); 6];
    // Each target is a sum of two slow waves.
    let waves: Vec<[f32; 4]> = (0..4)
        .map(|_| [dice.part() * TAU, 0.03 + 0.03 * dice.part(), dice.part() * TAU, 0.08 + 0.04 * dice.part()])
        .collect();
    let target = |joint: usize, frame: f32| {
        let [phase, rate, second, fast] = waves[joint];
        0.8 * (phase + rate * frame).sin() + 0.3 * (second + fast * frame).sin()
    };
    let start = [dice.noise(), dice.noise()];
    for frame in 0..frames {
        let now = frame as f32;
        let joints: Vec<f32> = (0..3).map(|j| target(j, now - 2.0) + 0.002 * dice.noise()).collect();
        tables[1].extend([start[0] + 0.3 * joints[0] + 0.1 * joints[1], start[1] + 0.2 * joints[2]]);
        let turn = 2.0 + 1.8 * target(3, now);
        tables[2].push(turn);
        let half = 0.5 * turn;
        tables[3].extend([half.cos(), 0.6 * half.sin(), 0.8 * half.sin(), 0.0]);
        tables[0].extend(joints);
        tables[4].extend((0..3).map(|j| target(j, now)));
        tables[5].push(f32::from(u8::from(frame + 1 == frames)));
    }
    let times = (0..frames).map(|frame| 0.05 * frame as f32 + 0.002 * dice.part()).collect();
    Take { times, tables }
}
