//! Numbers as formats other than parquet store them: bytes of one type, one after another.

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};

use crate::columns::Number;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// How one number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) kind: Kind,
    pub(crate) big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Float32,
    Float64,
}

impl Kind {
    /// Whole numbers of so many bytes.
    pub(crate) fn integer(bytes: usize, signed: bool) -> Option<Self> {
        Some(match (bytes, signed) {
            (1, true) => Self::Int8,
            (2, true) => Self::Int16,
            (4, true) => Self::Int32,
            (8, true) => Self::Int64,
            (1, false) => Self::Uint8,
            (2, false) => Self::Uint16,
            (4, false) => Self::Uint32,
            (8, false) => Self::Uint64,
            _ => return None,
        })
    }

    /// IEEE numbers of so many bytes.
    pub(crate) fn float(bytes: usize) -> Option<Self> {
        Some(match bytes {
            2 => Self::Float16,
            4 => Self::Float32,
            8 => Self::Float64,
            _ => return None,
        })
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 | Self::Float16 => 2,
            Self::Int32 | Self::Uint32 | Self::Float32 => 4,
            Self::Int64 | Self::Uint64 | Self::Float64 => 8,
        }
    }

    /// numpy's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }
}

impl Encoding {
    /// Appends the numbers in `bytes`; what is left over of a last one is not looked at.
    pub(crate) fn append<T: Number>(self, bytes: &[u8], out: &mut Vec<T>) {
        macro_rules! extend {
            ($kind:ty, $convert:expr) => {{
                let numbers = bytes.chunks_exact(size_of::<$kind>()).map(|bytes| {
                    let mut own = [0; size_of::<$kind>()];
                    own.copy_from_slice(bytes);
                    if self.big_endian { <$kind>::from_be_bytes(own) } else { <$kind>::from_le_bytes(own) }
                });
                out.extend(numbers.map($convert))
            }};
        }
        match self.kind {
            Kind::Bool => extend!(u8, |value| T::from_f32(f32::from(u8::from(value != 0)))),
            Kind::Int8 => extend!(i8, |value| T::from_f32(f32::from(value))),
            Kind::Int16 => extend!(i16, |value| T::from_f32(f32::from(value))),
            Kind::Int32 => extend!(i32, |value| T::from_f64(f64::from(value))),
            Kind::Int64 => extend!(i64, T::from_i64),
            Kind::Uint8 => extend!(u8, |value| T::from_f32(f32::from(value))),
            Kind::Uint16 => extend!(u16, |value| T::from_f32(f32::from(value))),
            Kind::Uint32 => extend!(u32, |value| T::from_f64(f64::from(value))),
            Kind::Uint64 => extend!(u64, |value| T::from_f64(value as f64)),
            Kind::Float16 => extend!(u16, |bits| T::from_f32(F16::from_bits(bits).to_f32())),
            Kind::Float32 => extend!(f32, T::from_f32),
            Kind::Float64 => extend!(f64, T::from_f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_the_same_number_in_both_byte_orders() {
        let check = |kind: Kind, little: &[u8], expected: f64| {
            assert_eq!(kind.bytes(), little.len());
            let big: Vec<u8> = little.iter().rev().copied().collect();
            for (bytes, big_endian) in [(little, false), (&big, true)] {
                let (mut wide, mut narrow) = (Vec::<f64>::new(), Vec::<f32>::new());
                Encoding { kind, big_endian }.append(bytes, &mut wide);
                Encoding { kind, big_endian }.append(bytes, &mut narrow);
                assert_eq!((wide, narrow), (vec![expected], vec![expected as f32]), "{kind:?}");
            }
        };
        check(Kind::Bool, &[1], 1.0);
        check(Kind::Int8, &(-3i8).to_le_bytes(), -3.0);
        check(Kind::Int16, &(-300i16).to_le_bytes(), -300.0);
        check(Kind::Int32, &(-70_000i32).to_le_bytes(), -70_000.0);
        check(Kind::Int64, &(-5_000_000_000i64).to_le_bytes(), -5e9);
        check(Kind::Uint8, &[200], 200.0);
        check(Kind::Uint16, &60_000u16.to_le_bytes(), 60_000.0);
        check(Kind::Uint32, &4_000_000_000u32.to_le_bytes(), 4e9);
        check(Kind::Uint64, &(1u64 << 40).to_le_bytes(), (1u64 << 40) as f64);
        // 0x3e00 is 1.5 in half precision.
        check(Kind::Float16, &0x3e00u16.to_le_bytes(), 1.5);
        check(Kind::Float32, &(-0.25f32).to_le_bytes(), -0.25);
        check(Kind::Float64, &1e-3f64.to_le_bytes(), 1e-3);
    }

    #[test]
    fn whole_numbers_beyond_f64_stay_exact_as_i64() {
        let number = (1i64 << 60) + 1;
        let mut out = Vec::<i64>::new();
        Encoding { kind: Kind::Int64, big_endian: false }.append(&number.to_le_bytes(), &mut out);
        assert_eq!(out, [number]);
    }
}
