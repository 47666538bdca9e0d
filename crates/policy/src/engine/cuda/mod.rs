//! Plans on an NVIDIA GPU: the whole sampler is one launch of one kernel, which `plan/declarations.cu` describes.

#[cfg(test)]
mod emulation;
mod film;
mod layers;
mod layout;
mod machine;
mod pack;
mod program;
#[cfg(test)]
mod tests;

use self::film::FilmTables;
use self::layout::{ENTRIES, LARGEST_BATCH, Phase, Plan, Step};
use self::machine::{Kernel, Machine};
use self::pack::Form;
use self::program::{Packed, Program};
use super::{Asked, HostNetwork, PlanEngine, Precision};
use crate::PolicyFailure;
use crate::cuda::{Buffer, Gpu, Mapped};
use crate::cuda_train::BatchPlans;
use crate::sampler::{SamplerStep, draws};

const SOURCE: &str = concat!(
    include_str!("plan/declarations.cu"),
    include_str!("plan/machine.cu"),
    include_str!("plan/numbers.cu"),
    include_str!("plan/input.cu"),
    include_str!("plan/product.cu"),
    include_str!("plan/kernel.cu"),
);
/// Weights in one copy from memory to a block's ring.
const CHUNK_BYTES: usize = 32 << 10;
/// Threads of a block that compute; one more warp copies weights, and one speaks with the other blocks.
const CONSUMERS: usize = 256;

/// See the module.
pub(crate) struct CudaEngine {
    machine: Machine,
    packed: Packed,
    film: FilmTables,
    film_weights: Buffer<f32>,
    steps: Vec<SamplerStep>,
    /// For the device: the same steps, and FiLM's part that depends on them.
    steps_on_device: Buffer<Step>,
    kept_parts: Buffer<f32>,
    film_steps: Buffer<f32>,
    /// By batch size, made when first asked for.
    launches: Vec<Option<Launch>>,
    /// For batches that are large matrix products, made when first asked for.
    batches: Option<BatchPlans>,
    /// Kept for them, where they can be made.
    network: Option<HostNetwork>,
}

/// Everything for one batch size.
struct Launch {
    /// For plans that keep nothing, and for those that keep rows: only these pay for it.
    kernels: [Kernel; 2],
    program: Program,
    /// Numbers that pass between a block's warps.
    scratch: usize,
    shared_bytes: usize,
    grid: usize,
    condition: Mapped,
    noise: Mapped,
    samples: Mapped,
    clean: Buffer<f32>,
    film_condition: Buffer<f32>,
    x: Buffer<f32>,
    arrived: Buffer<u32>,
}

impl CudaEngine {
    /// # Errors
    /// When there is no such GPU, or the network does not fit the kernel.
    pub fn new(network: &HostNetwork, precision: Precision) -> Result<Self, PolicyFailure> {
        let gpu = Gpu::open(0)?;
        if gpu.capability < 90 {
            let problem =
                format!("{} is older than compute capability 9.0, which the plan kernel needs", gpu.name);
            return Err(PolicyFailure::Device(problem));
        }
        let batches = precision == Precision::Bf16 && BatchPlans::fits(&gpu, network);
        let mut engine = Self::on(Machine::Gpu(gpu), network, precision)?;
        engine.network = batches.then(|| network.clone());
        Ok(engine)
    }

    fn on(machine: Machine, network: &HostNetwork, precision: Precision) -> Result<Self, PolicyFailure> {
        let packed = Packed::new(&machine, network, Form::of(precision))?;
        let film = FilmTables::new(network, &packed.layers);
        let film_weights = Buffer::from_host(machine.place(), &film.of_condition)?;
        let steps_on_device = Buffer::zeroed(machine.place(), 0)?;
        let kept_parts = Buffer::zeroed(machine.place(), 0)?;
        let film_steps = Buffer::zeroed(machine.place(), 0)?;
        Ok(Self {
            film,
            film_weights,
            packed,
            steps: Vec::new(),
            steps_on_device,
            kept_parts,
            film_steps,
            launches: (0..=LARGEST_BATCH).map(|_| None).collect(),
            batches: None,
            network: None,
            machine,
        })
    }

    /// Prepares for plans of `batch` samples, so that the first of them is no slower than the next.
    fn prepare(&mut self, batch: usize) -> Result<(), PolicyFailure> {
        if self.launches[batch].is_none() {
            self.launches[batch] = Some(self.launch(batch)?);
        }
        Ok(())
    }

    fn batches(&mut self) -> Result<&mut BatchPlans, PolicyFailure> {
        if let (None, Some(network), Some(gpu)) = (&self.batches, &self.network, self.machine.gpu()) {
            let mut batches = BatchPlans::new(gpu, network)?;
            batches.set_steps(&self.steps)?;
            self.batches = Some(batches);
        }
        let problem =
            || PolicyFailure::Device(format!("at most {LARGEST_BATCH} plans at once in this precision"));
        self.batches.as_mut().ok_or_else(problem)
    }

    fn launch(&self, batch: usize) -> Result<Launch, PolicyFailure> {
        let place = self.machine.place();
        let program = self.packed.program(place, batch)?;
        let columns = batch * self.packed.predicted;
        let tiles = columns.div_ceil(8);
        let scratch =
            (CONSUMERS / 32 * 16 * tiles * 8).max((batch * self.film.condition_dim).next_multiple_of(4));
        let moments = program.rounds * CONSUMERS * 8;
        // Eight numbers of its channel for each thread.
        let numbers = 8 * program.rounds * CONSUMERS * 4;
        let fixed = program.x_bytes + moments + scratch * 4 + program.count * size_of::<Phase>() + numbers;
        // A little is left for the barriers.
        let left = self.machine.shared_bytes().saturating_sub(fixed + 1024);
        let form = self.packed.form;
        let stage_bytes = CHUNK_BYTES + form.scale_bytes;
        let stages = (left / stage_bytes).min(6);
        if stages < 2 {
            let problem =
                format!("the plan kernel needs {fixed} bytes of shared memory and two chunks of weights");
            return Err(PolicyFailure::Device(problem));
        }
        let defines = [
            format!("BATCH={batch}"),
            format!("LARGEST_BATCH={LARGEST_BATCH}"),
            format!("COLUMNS={columns}"),
            format!("N_TILES={tiles}"),
            format!("X_PARTS={}", form.input_parts()),
            format!("TILE_BYTES={}", form.tile_bytes),
            format!("SCALE_BYTES={}", form.scale_bytes),
            format!("STAGES={stages}"),
            format!("CHUNK={}", CHUNK_BYTES / form.tile_bytes),
            format!("ROUNDS={}", program.rounds),
            format!("CLUSTER={}", self.packed.cluster),
            format!("CONSUMERS={}", CONSUMERS),
            format!("ENTRIES={ENTRIES}"),
        ];
        let shared_bytes = fixed + stages * stage_bytes;
        let machine = &self.machine;
        let compiled = |keeps: usize| {
            let defines = [defines.as_slice(), &[format!("KEEPS={keeps}")]].concat();
            machine.compile(SOURCE, &defines, shared_bytes)
        };
        // Side by side: a cold start takes no longer than one of them.
        let kernels = std::thread::scope(|scope| {
            let keeping = scope.spawn(|| compiled(1));
            let free = compiled(0);
            let keeping = keeping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, PolicyFailure>([free?, keeping?])
        })?;
        let items = self.packed.cuts.iter().map(|cut| cut.items()).max().unwrap_or(1);
        let sample = self.packed.predicted * self.packed.action_dim;
        let draws = draws(&self.steps);
        Ok(Launch {
            kernels,
            program,
            scratch,
            shared_bytes,
            grid: if self.packed.cluster > 0 {
                self.packed.cluster
            } else {
                items.min(self.machine.multiprocessors())
            },
            condition: Mapped::zeroed(place, batch * self.film.condition_dim)?,
            noise: Mapped::zeroed(place, draws * batch * sample)?,
            samples: Mapped::zeroed(place, batch * sample)?,
            clean: Buffer::zeroed(place, batch * sample)?,
            film_condition: Buffer::zeroed(place, batch * self.packed.layers.film_numbers)?,
            x: Buffer::zeroed(place, 2 * batch * sample)?,
            arrived: Buffer::zeroed(place, 2)?,
        })
    }
}

impl PlanEngine for CudaEngine {
    fn precision(&self) -> Precision {
        self.packed.form.precision
    }

    fn largest_batch(&self) -> usize {
        if self.network.is_some() { BatchPlans::LARGEST } else { LARGEST_BATCH }
    }

    fn set_steps(&mut self, steps: &[SamplerStep]) -> Result<(), PolicyFailure> {
        let mut draws = 0;
        let on_device: Vec<Step> = steps
            .iter()
            .map(|step| {
                let draw = draws;
                draws += i32::from(step.deviation > 0.0);
                Step { factors: step.into(), draw }
            })
            .collect();
        let kept_parts: Vec<f32> = steps.iter().flat_map(|step| step.kept.map(|part| part as f32)).collect();
        let timesteps: Vec<usize> = steps.iter().map(|step| step.timestep).collect();
        self.film_steps = Buffer::from_host(self.machine.place(), &self.film.of_steps(&timesteps))?;
        self.steps_on_device = Buffer::from_host(self.machine.place(), &on_device)?;
        self.kept_parts = Buffer::from_host(self.machine.place(), &kept_parts)?;
        self.steps = steps.to_vec();
        // The room for noise depends on the steps.
        self.launches.iter_mut().for_each(|launch| *launch = None);
        if let Some(batches) = &mut self.batches {
            batches.set_steps(steps)?;
        }
        self.prepare(1)
    }

    fn plan(&mut self, asked: Asked, samples: &mut [f32]) -> Result<(), PolicyFailure> {
        let Asked { conditions, noise, kept } = asked;
        let sample = self.packed.predicted * self.packed.action_dim;
        let batch = samples.len() / sample;
        if batch > LARGEST_BATCH {
            return self.batches()?.plan(asked, samples);
        }
        self.prepare(batch)?;
        let Some(launch) = &mut self.launches[batch] else { return Ok(()) };
        launch.condition.slice_mut()[..conditions.len()].copy_from_slice(conditions);
        launch.noise.slice_mut()[..noise.len()].copy_from_slice(noise);
        if kept.any() {
            launch.clean.write(kept.clean)?;
        }
        let mut kept_rows = [[0; 2]; LARGEST_BATCH];
        for (to, rows) in kept_rows.iter_mut().zip(kept.rows) {
            *to = [rows.start as i32, rows.end as i32];
        }
        let last = self.packed.layers.layers.last().map_or("", |layer| &layer.name);
        let plan = Plan {
            phases: launch.program.phases.at(0),
            steps: self.steps_on_device.at(0),
            film_steps: self.film_steps.at(0),
            film_weights: self.film_weights.at(0),
            film_condition: launch.film_condition.at(0),
            condition: launch.condition.at(0),
            noise: launch.noise.at(0),
            samples: launch.samples.at(0),
            x: launch.x.at(0),
            output: launch.program.output,
            output_bias: self.packed.vector(&format!("{last}.bias")),
            arrived: launch.arrived.at(0),
            phase_count: launch.program.count as i32,
            step_count: self.steps.len() as i32,
            film: self.packed.layers.film_numbers as i32,
            condition_dim: self.film.condition_dim as i32,
            action_dim: self.packed.action_dim as i32,
            output_splits: launch.program.output_splits as i32,
            x_bytes: launch.program.x_bytes as i32,
            scratch: launch.scratch as i32,
            clean: launch.clean.at(0),
            kept_parts: self.kept_parts.at(0),
            kept: kept_rows,
        };
        let kernel = &launch.kernels[usize::from(kept.any())];
        let shape = (launch.grid, CONSUMERS + 64, launch.shared_bytes);
        // SAFETY: every address in `plan` is that of a buffer which outlives the launch, as large as the kernel assumes. All
        // blocks run at once, which their barrier needs: as a cluster, or because no more are started than fit.
        unsafe { self.machine.run(kernel, &plan, shape, self.packed.cluster > 0)? };
        samples.copy_from_slice(&launch.samples.slice()[..samples.len()]);
        Ok(())
    }

    fn another(&self) -> Option<Box<dyn PlanEngine>> {
        None
    }
}
