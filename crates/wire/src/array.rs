//! `std_msgs/msg/Float64MultiArray`.

use crate::cdr::{CdrError, Fields, Reader, Writer};

/// Most dimensions in the layout of an array.
const MAX_DIMENSIONS: usize = 64;

/// One dimension of an array's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    pub label: String,
    pub size: u32,
    pub stride: u32,
}

/// Numbers, and for people how they are laid out; the `data_offset` is always 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Float64MultiArray {
    pub dimensions: Vec<Dimension>,
    pub data: Vec<f64>,
}

impl Float64MultiArray {
    /// Numbers without a layout.
    pub fn of(data: Vec<f64>) -> Self {
        Self { dimensions: Vec::new(), data }
    }
}

impl Fields for Float64MultiArray {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        let dimensions = reader.sequence("layout.dim", MAX_DIMENSIONS, |reader| {
            let label = reader.string("layout.dim.label")?;
            Ok(Dimension { label, size: reader.u32()?, stride: reader.u32()? })
        })?;
        let data_offset = reader.u32()?;
        if data_offset != 0 {
            return Err(CdrError::DataOffset(data_offset));
        }
        Ok(Self { dimensions, data: reader.f64s("data")? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.sequence(&self.dimensions, |writer, dimension| {
            writer.string(&dimension.label);
            writer.u32(dimension.size);
            writer.u32(dimension.stride);
        });
        writer.u32(0);
        writer.f64s(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_ELEMENTS, Message};

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_reserved() {
        let good = Float64MultiArray::of(vec![0.1, 0.2, 0.3]).encode();
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            Float64MultiArray::decode(&bytes)
        };
        assert!(matches!(with(12, u32::MAX), Err(CdrError::TooLong { what: "data", .. })));
        assert!(matches!(with(12, MAX_ELEMENTS as u32), Err(CdrError::Truncated { .. })));
        assert!(matches!(with(4, 65), Err(CdrError::TooLong { what: "layout.dim", .. })));
        assert_eq!(with(8, 1), Err(CdrError::DataOffset(1)));
    }
}
