//! `std_msgs/msg/Bool` and `std_msgs/msg/String`.

use crate::cdr::{CdrError, Fields, Reader, Writer};

/// `std_msgs/msg/Bool`. A byte that is neither 0 nor 1 is not read as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bool(pub bool);

/// `std_msgs/msg/String`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl Fields for Bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self(reader.bool()?))
    }

    fn write(&self, writer: &mut Writer) {
        writer.bool(self.0);
    }
}

impl Fields for Text {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self(reader.string("data")?))
    }

    fn write(&self, writer: &mut Writer) {
        writer.string(&self.0);
    }
}
