//! Which instructions this machine has, chosen once while it runs.

use super::kernel::Kernel;
use super::portable::{F32Portable, Int8Portable, WideBf16Portable};
use super::sweep::{Sweep, sweep};
#[cfg(target_arch = "x86_64")]
use super::x86::{Bf16Avx512, F32Avx2, F32Avx512, Int8Avx2, Int8Avx512, WideBf16Avx2, WideBf16Avx512};
use crate::Precision;

/// Instructions for arithmetic on rows of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) enum Instructions {
    Avx512,
    Avx2,
    Portable,
}

/// How signals are stored for a convolution; two channels share a word unless they are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) enum Words {
    F32,
    Bf16Pairs,
    Int16Pairs,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) enum Lines {
    F32,
    Bf16,
    Bf16Pairs,
    Int8Pairs,
}

/// The kernel for a precision, and what it eats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub instructions: Instructions,
    pub words: Words,
    pub lines: Lines,
    /// Bytes of a weight line.
    pub line: usize,
    sweep: unsafe fn(&Sweep),
}

impl Words {
    /// Channels in a word.
    pub fn channels(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16Pairs | Self::Int16Pairs => 2,
        }
    }
}

impl Machine {
    /// The fastest for a precision.
    pub fn new(precision: Precision) -> Self {
        Self::all(precision).remove(0)
    }

    /// All that this machine can do, fastest first.
    pub fn all(precision: Precision) -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 {
                let instructions = Instructions::Avx512;
                match precision {
                    Precision::F32 => all.push(of::<F32Avx512>(instructions, Words::F32, Lines::F32)),
                    Precision::Bf16 => {
                        if is_x86_feature_detected!("avx512bf16") {
                            all.push(of::<Bf16Avx512>(instructions, Words::Bf16Pairs, Lines::Bf16Pairs));
                        }
                        all.push(of::<WideBf16Avx512>(instructions, Words::F32, Lines::Bf16));
                    }
                    Precision::Int8 => {
                        if is_x86_feature_detected!("avx512vnni") {
                            all.push(of::<Int8Avx512>(instructions, Words::Int16Pairs, Lines::Int8Pairs));
                        }
                    }
                }
            }
            if avx2 {
                let instructions = Instructions::Avx2;
                all.push(match precision {
                    Precision::F32 => of::<F32Avx2>(instructions, Words::F32, Lines::F32),
                    Precision::Bf16 => of::<WideBf16Avx2>(instructions, Words::F32, Lines::Bf16),
                    Precision::Int8 => of::<Int8Avx2>(instructions, Words::Int16Pairs, Lines::Int8Pairs),
                });
            }
        }
        let instructions = Instructions::Portable;
        all.push(match precision {
            Precision::F32 => of::<F32Portable>(instructions, Words::F32, Lines::F32),
            Precision::Bf16 => of::<WideBf16Portable>(instructions, Words::F32, Lines::Bf16),
            Precision::Int8 => of::<Int8Portable>(instructions, Words::Int16Pairs, Lines::Int8Pairs),
        });
        all
    }

    /// # Safety
    /// The pointers of the sweep's origin must be valid for the whole sweep.
    pub unsafe fn sweep(&self, over: &Sweep) {
        // SAFETY: a machine is only made of kernels whose instructions were detected.
        unsafe { (self.sweep)(over) }
    }
}

fn of<K: Kernel>(instructions: Instructions, words: Words, lines: Lines) -> Machine {
    Machine { instructions, words, lines, line: K::LINE, sweep: sweep::<K> }
}

/// Arithmetic that is compiled once for each set of instructions.
pub(super) trait Work {
    /// `A` says how products are added. To be inlined always.
    fn run<A: Arithmetic>(self);
}

/// `a b + c`.
pub(super) trait Arithmetic {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// In one rounding.
#[cfg(target_arch = "x86_64")]
struct Fused;

#[cfg(target_arch = "x86_64")]
impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// As the target has it.
struct Plain;

impl Arithmetic for Plain {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        super::portable::multiply_add(a, b, c)
    }
}

impl Machine {
    pub fn run(&self, work: impl Work) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<W: Work>(work: W) {
                work.run::<Fused>();
            }
            #[target_feature(enable = "avx2,fma")]
            fn avx2<W: Work>(work: W) {
                work.run::<Fused>();
            }
            match self.instructions {
                // SAFETY: a machine only names instructions that were detected.
                Instructions::Avx512 => return unsafe { avx512(work) },
                // SAFETY: as above.
                Instructions::Avx2 => return unsafe { avx2(work) },
                Instructions::Portable => {}
            }
        }
        work.run::<Plain>();
    }
}
