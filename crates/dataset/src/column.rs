//! The numbers of one feature in the type that they are stored in, and as LeRobot lays them out.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, UInt8Array, UInt16Array, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type};
use serde_json::{Value, json};

use crate::{Dataset, DatasetError, FeatureInfo, FeatureStats};

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// Row-major `[T, D]` values of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Rounded to 16 bits when they are written.
    Float16(Vec<f32>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    Bool(Vec<bool>),
}

/// Runs `$body` with the values of a column, whatever their type.
macro_rules! each_type {
    ($column:expr, $values:ident => $body:expr) => {
        match $column {
            Column::Float16($values) => $body,
            Column::Float32($values) => $body,
            Column::Float64($values) => $body,
            Column::Int8($values) => $body,
            Column::Int16($values) => $body,
            Column::Int32($values) => $body,
            Column::Int64($values) => $body,
            Column::UInt8($values) => $body,
            Column::UInt16($values) => $body,
            Column::UInt32($values) => $body,
            Column::Bool($values) => $body,
        }
    };
}

/// The same with values as the result, in a column of the same type.
macro_rules! same_type {
    ($column:expr, $values:ident => $body:expr) => {
        match $column {
            Column::Float16($values) => Column::Float16($body),
            Column::Float32($values) => Column::Float32($body),
            Column::Float64($values) => Column::Float64($body),
            Column::Int8($values) => Column::Int8($body),
            Column::Int16($values) => Column::Int16($body),
            Column::Int32($values) => Column::Int32($body),
            Column::Int64($values) => Column::Int64($body),
            Column::UInt8($values) => Column::UInt8($body),
            Column::UInt16($values) => Column::UInt16($body),
            Column::UInt32($values) => Column::UInt32($body),
            Column::Bool($values) => Column::Bool($body),
        }
    };
}

impl Column {
    /// The types that can be written, by their names in info.json.
    pub(crate) const DTYPES: &str =
        "float16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, bool";

    /// A feature of an episode as it lies on the disk.
    ///
    /// # Errors
    /// When its type is none that is written, or it cannot be read.
    pub(crate) fn read(set: &Dataset, episode: usize, feature: &FeatureInfo) -> Result<Self, DatasetError> {
        let name = &feature.name;
        let whole = || set.read_column::<i64>(episode, name);
        // Read as 64 bits from a column of fewer, so nothing is cut off.
        macro_rules! narrow {
            ($kind:ident, $number:ty) => {
                Self::$kind(whole()?.into_iter().map(|value| value as $number).collect())
            };
        }
        Ok(match feature.dtype.as_str() {
            "float16" => Self::Float16(set.read_column(episode, name)?),
            "float32" => Self::Float32(set.read_column(episode, name)?),
            "float64" => Self::Float64(set.read_column(episode, name)?),
            "int8" => narrow!(Int8, i8),
            "int16" => narrow!(Int16, i16),
            "int32" => narrow!(Int32, i32),
            "int64" => Self::Int64(whole()?),
            "uint8" => narrow!(UInt8, u8),
            "uint16" => narrow!(UInt16, u16),
            "uint32" => narrow!(UInt32, u32),
            "bool" => Self::Bool(whole()?.into_iter().map(|flag| flag != 0).collect()),
            other => {
                let problem = format!("feature `{name}` is {other}; {} are written", Self::DTYPES);
                return Err(DatasetError::Unwritable { episode, problem });
            }
        })
    }

    /// These numbers in a type by its name in info.json, or the place of the first that it does not hold. Whole numbers of
    /// 64 bits are not among these types: floats do not hold them.
    pub(crate) fn of(dtype: &str, values: Vec<f64>) -> Result<Self, usize> {
        macro_rules! narrow {
            ($kind:ident, $number:ty) => {
                Self::$kind(values.iter().map(|value| *value as $number).collect())
            };
        }
        let column = match dtype {
            "float16" => narrow!(Float16, f32),
            "float32" => narrow!(Float32, f32),
            "int8" => narrow!(Int8, i8),
            "int16" => narrow!(Int16, i16),
            "int32" => narrow!(Int32, i32),
            "uint8" => narrow!(UInt8, u8),
            "uint16" => narrow!(UInt16, u16),
            "uint32" => narrow!(UInt32, u32),
            "bool" => Self::Bool(values.iter().map(|flag| *flag != 0.0).collect()),
            _ => return Ok(Self::Float64(values)),
        };
        let alike = |(held, value): (&f64, &f64)| held == value || (held.is_nan() && value.is_nan());
        match column.to_f64().iter().zip(&values).position(|pair| !alike(pair)) {
            None => Ok(column),
            Some(place) => Err(place),
        }
    }

    /// The values at these places, in this order.
    pub(crate) fn pick(&self, places: &[usize]) -> Self {
        same_type!(self, values => places.iter().map(|place| values[*place]).collect())
    }

    /// The bits of a value, filled up with zeros.
    pub(crate) fn bits(&self, place: usize) -> u64 {
        match self {
            Self::Float16(values) | Self::Float32(values) => u64::from(values[place].to_bits()),
            Self::Float64(values) => values[place].to_bits(),
            Self::Int8(values) => values[place] as u64,
            Self::Int16(values) => values[place] as u64,
            Self::Int32(values) => values[place] as u64,
            Self::Int64(values) => values[place] as u64,
            Self::UInt8(values) => u64::from(values[place]),
            Self::UInt16(values) => u64::from(values[place]),
            Self::UInt32(values) => u64::from(values[place]),
            Self::Bool(values) => u64::from(values[place]),
        }
    }

    /// The type's name in info.json.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::Float16(_) => "float16",
            Self::Float32(_) => "float32",
            Self::Float64(_) => "float64",
            Self::Int8(_) => "int8",
            Self::Int16(_) => "int16",
            Self::Int32(_) => "int32",
            Self::Int64(_) => "int64",
            Self::UInt8(_) => "uint8",
            Self::UInt16(_) => "uint16",
            Self::UInt32(_) => "uint32",
            Self::Bool(_) => "bool",
        }
    }

    /// How many numbers there are: `T * D`.
    pub(crate) fn len(&self) -> usize {
        each_type!(self, values => values.len())
    }

    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::Float16(values) => {
                values.iter().map(|value| f64::from(F16::from_f32(*value).to_f32())).collect()
            }
            Self::Int64(values) => values.iter().map(|value| *value as f64).collect(),
            Self::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
            Self::Float32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::Float64(values) => values.clone(),
            Self::Int8(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::Int16(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::Int32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::UInt8(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::UInt16(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::UInt32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        }
    }

    /// Statistics of an episode's frames of this shape.
    pub(crate) fn stats(&self, shape: &[usize]) -> FeatureStats {
        FeatureStats::of_frames(&self.to_f64(), shape)
    }

    /// The arrow column of frames of this shape: bare for one number, a list of fixed size for a vector, lists in
    /// lists for more.
    pub(crate) fn array(&self, shape: &[usize]) -> ArrayRef {
        let values: ArrayRef = match self {
            Self::Float16(values) => {
                Arc::new(Float16Array::from_iter_values(values.iter().map(|value| F16::from_f32(*value))))
            }
            Self::Float32(values) => Arc::new(Float32Array::from(values.clone())),
            Self::Float64(values) => Arc::new(Float64Array::from(values.clone())),
            Self::Int8(values) => Arc::new(Int8Array::from(values.clone())),
            Self::Int16(values) => Arc::new(Int16Array::from(values.clone())),
            Self::Int32(values) => Arc::new(Int32Array::from(values.clone())),
            Self::Int64(values) => Arc::new(Int64Array::from(values.clone())),
            Self::UInt8(values) => Arc::new(UInt8Array::from(values.clone())),
            Self::UInt16(values) => Arc::new(UInt16Array::from(values.clone())),
            Self::UInt32(values) => Arc::new(UInt32Array::from(values.clone())),
            Self::Bool(values) => Arc::new(BooleanArray::from(values.clone())),
        };
        match shape {
            [1] => values,
            [dim] => {
                let field = element(values.data_type().clone());
                Arc::new(FixedSizeListArray::new(field, *dim as i32, values, None))
            }
            _ => shape.iter().rev().fold(values, |values, size| {
                let field = element(values.data_type().clone());
                let offsets = OffsetBuffer::from_repeated_length(*size, values.len() / size);
                Arc::new(ListArray::new(field, offsets, values, None))
            }),
        }
    }
}

fn element(kind: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", kind, true))
}

/// Why a feature cannot be written; `None` when it can.
pub(crate) fn refusal(feature: &FeatureInfo) -> Option<String> {
    if number(&feature.dtype).is_none() {
        return Some(format!("its type is {}; {} are written", feature.dtype, Column::DTYPES));
    }
    if !(1..=5).contains(&feature.shape.len()) || !(1..=1 << 20).contains(&feature.dim()) {
        let shape = &feature.shape;
        return Some(format!("its shape is {shape:?}; up to five sizes of a million numbers are written"));
    }
    None
}

fn number(dtype: &str) -> Option<DataType> {
    Some(match dtype {
        "float16" => DataType::Float16,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "bool" => DataType::Boolean,
        _ => return None,
    })
}

/// The arrow field of a feature that can be written, and what Hugging Face's `datasets` notes of it.
pub(crate) fn field(feature: &FeatureInfo) -> (Field, Value) {
    let FeatureInfo { name, dtype, shape, .. } = feature;
    let number = number(dtype).unwrap_or(DataType::Float32);
    let value = json!({"dtype": dtype, "_type": "Value"});
    match shape.as_slice() {
        [1] => (Field::new(name, number, true), value),
        [dim] => {
            let list = DataType::FixedSizeList(element(number), *dim as i32);
            let note = json!({"feature": value, "length": dim, "_type": "Sequence"});
            (Field::new(name, list, true), note)
        }
        _ => {
            let list = shape.iter().fold(number, |inner, _| DataType::List(element(inner)));
            let kind = format!("Array{}D", shape.len());
            let extension = [
                ("ARROW:extension:metadata".to_owned(), json!([shape, dtype]).to_string()),
                (
                    "ARROW:extension:name".to_owned(),
                    format!("datasets.features.features.{kind}ExtensionType"),
                ),
            ];
            let field = Field::new(name, list, true).with_metadata(extension.into());
            (field, json!({"shape": shape, "dtype": dtype, "_type": kind}))
        }
    }
}
