//! Memory whose first byte begins a cache line, so that no vector straddles two.

/// A cache line, and a vector of AVX-512.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// Zeroed bytes, read and written as numbers.
#[derive(Clone, Default)]
pub(super) struct Aligned(Vec<Line>);

/// A number that any four bytes stand for.
pub(super) trait Number: Copy {}
impl Number for f32 {}
impl Number for u32 {}

impl Aligned {
    /// Room for `count` numbers of four bytes, rounded up to whole lines; all 0.
    pub fn zeroed(count: usize) -> Self {
        let lines = vec![Line([0; 64]); count.div_ceil(16)];
        Self(lines)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: lines are 64 initialised bytes each, and whatever is written leaves them so.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }

    pub fn numbers<T: Number>(&self) -> &[T] {
        // SAFETY: lines are 64 initialised bytes each, aligned to more than four, and any four bytes are a `Number`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    pub fn numbers_mut<T: Number>(&mut self) -> &mut [T] {
        // SAFETY: as above; and whatever number is written leaves initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
}
