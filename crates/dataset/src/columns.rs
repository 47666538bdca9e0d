//! Arrow columns to numbers.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

/// What is wrong with a column, and in which of the rows given.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) row: usize,
    pub(crate) text: String,
}

/// What columns are read as.
pub(crate) trait Number: Clone {
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
}

impl Number for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn from_i64(value: i64) -> Self {
        value as f64 as f32
    }
}

impl Number for f64 {
    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }
    fn from_f64(value: f64) -> Self {
        value
    }
    fn from_i64(value: i64) -> Self {
        value as f64
    }
}

/// For columns of whole numbers; a fraction is cut off.
impl Number for i64 {
    fn from_f32(value: f32) -> Self {
        value as i64
    }
    fn from_f64(value: f64) -> Self {
        value as i64
    }
    fn from_i64(value: i64) -> Self {
        value
    }
}

/// Appends `[rows, dim]` numbers of a scalar or (nested) list column of any numeric type.
///
/// # Errors
/// When a row is null or holds another count of numbers, or the column holds something else.
pub(crate) fn append<T: Number>(column: &ArrayRef, dim: usize, out: &mut Vec<T>) -> Result<(), Problem> {
    let (leaf, bounds) = flatten(column)?;
    for (row, bound) in bounds.windows(2).enumerate() {
        let length = bound[1] - bound[0];
        if length != dim {
            let text = format!("holds {length} numbers where info.json says {dim}");
            return Err(Problem { row, text });
        }
    }
    append_leaf(&leaf.slice(bounds[0], bounds[bounds.len() - 1] - bounds[0]), out)
}

/// The numbers of each row of a (nested) list column, which may hold more in one row than in another.
///
/// # Errors
/// As [`append`].
pub(crate) fn lists(column: &ArrayRef) -> Result<Vec<Vec<f64>>, Problem> {
    let (leaf, bounds) = flatten(column)?;
    let list = |bound: &[usize]| {
        let mut out = Vec::new();
        append_leaf(&leaf.slice(bound[0], bound[1] - bound[0]), &mut out).map(|()| out)
    };
    bounds.windows(2).map(list).collect()
}

fn append_leaf<T: Number>(leaf: &ArrayRef, out: &mut Vec<T>) -> Result<(), Problem> {
    macro_rules! extend {
        ($kind:ty, $convert:expr) => {
            out.extend(leaf.as_primitive::<$kind>().values().iter().map($convert))
        };
    }
    match leaf.data_type() {
        DataType::Float32 => extend!(Float32Type, |value| T::from_f32(*value)),
        DataType::Float16 => extend!(Float16Type, |value| T::from_f32(value.to_f32())),
        DataType::Float64 => extend!(Float64Type, |value| T::from_f64(*value)),
        DataType::Int8 => extend!(Int8Type, |value| T::from_f32(f32::from(*value))),
        DataType::Int16 => extend!(Int16Type, |value| T::from_f32(f32::from(*value))),
        DataType::Int32 => extend!(Int32Type, |value| T::from_f64(f64::from(*value))),
        DataType::Int64 => extend!(Int64Type, |value| T::from_i64(*value)),
        DataType::UInt8 => extend!(UInt8Type, |value| T::from_f32(f32::from(*value))),
        DataType::UInt16 => extend!(UInt16Type, |value| T::from_f32(f32::from(*value))),
        DataType::UInt32 => extend!(UInt32Type, |value| T::from_f64(f64::from(*value))),
        DataType::UInt64 => extend!(UInt64Type, |value| T::from_f64(*value as f64)),
        DataType::Boolean => {
            out.extend(leaf.as_boolean().values().iter().map(|value| T::from_f32(f32::from(u8::from(value)))))
        }
        other => return Err(Problem { row: 0, text: format!("holds {other}, which is not a number") }),
    }
    Ok(())
}

/// The innermost values of a column, and where each row's begin in them (`rows + 1` bounds).
fn flatten(column: &ArrayRef) -> Result<(ArrayRef, Vec<usize>), Problem> {
    let mut array = column.clone();
    let mut bounds: Vec<usize> = (0..=column.len()).collect();
    loop {
        if let Some(place) = (bounds[0]..bounds[bounds.len() - 1]).find(|place| array.is_null(*place)) {
            let row = bounds.partition_point(|bound| bound <= &place) - 1;
            return Err(Problem { row, text: "holds an empty (null) value".into() });
        }
        let inner = match array.data_type() {
            DataType::FixedSizeList(_, size) => {
                bounds.iter_mut().for_each(|bound| *bound *= *size as usize);
                array.as_fixed_size_list().values().clone()
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                bounds.iter_mut().for_each(|bound| *bound = list.value_offsets()[*bound] as usize);
                list.values().clone()
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                bounds.iter_mut().for_each(|bound| *bound = list.value_offsets()[*bound] as usize);
                list.values().clone()
            }
            _ => return Ok((array, bounds)),
        };
        array = inner;
    }
}

/// The integers of a scalar column.
pub(crate) fn integers(column: &ArrayRef) -> Result<Vec<i64>, Problem> {
    if !column.data_type().is_integer() {
        let text = format!("holds {} where whole numbers are needed", column.data_type());
        return Err(Problem { row: 0, text });
    }
    let mut numbers = Vec::with_capacity(column.len());
    append(column, 1, &mut numbers)?;
    Ok(numbers)
}

/// The texts of a scalar column; `None` when it holds something else.
pub(crate) fn texts(column: &ArrayRef) -> Option<Vec<String>> {
    fn collect<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Vec<String> {
        texts.map(|text| text.unwrap_or_default().to_owned()).collect()
    }
    match column.data_type() {
        DataType::Utf8 => Some(collect(column.as_string::<i32>().iter())),
        DataType::LargeUtf8 => Some(collect(column.as_string::<i64>().iter())),
        DataType::Utf8View => Some(collect(column.as_string_view().iter())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    fn read(column: impl Array + 'static, dim: usize) -> Result<Vec<f32>, Problem> {
        let mut out = Vec::new();
        append(&(Arc::new(column) as ArrayRef), dim, &mut out).map(|()| out)
    }

    fn ragged(rows: &[&[f64]]) -> ListArray {
        let rows = rows.iter().map(|row| Some(row.iter().map(|value| Some(*value)).collect::<Vec<_>>()));
        ListArray::from_iter_primitive::<Float64Type, _, _>(rows)
    }

    #[test]
    fn every_form_of_the_same_numbers_reads_alike() {
        let expected = [1.0, 0.0, 0.0, 1.0];
        assert_eq!(read(Int64Array::from(vec![1, 0, 0, 1]), 1).unwrap(), expected);
        assert_eq!(read(BooleanArray::from(vec![true, false, false, true]), 1).unwrap(), expected);
        let list = ragged(&[&[1.0, 0.0], &[0.0, 1.0]]);
        assert_eq!(read(list.clone(), 2).unwrap(), expected);
        let nested = FixedSizeListArray::new(
            Arc::new(Field::new("row", list.data_type().clone(), true)),
            2,
            Arc::new(list),
            None,
        );
        assert_eq!(read(nested, 4).unwrap(), expected);
    }

    #[test]
    fn a_slice_reads_only_its_rows() {
        let list = ragged(&[&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]]);
        assert_eq!(read(list.slice(1, 1), 2).unwrap(), [3.0, 4.0]);
    }

    #[test]
    fn ragged_rows_nulls_and_text_are_named() {
        let problem = read(ragged(&[&[1.0, 2.0], &[3.0]]), 2).unwrap_err();
        assert_eq!((problem.row, problem.text.contains("holds 1 numbers")), (1, true), "{problem:?}");
        assert_eq!(read(Float64Array::from(vec![Some(1.0), None]), 1).unwrap_err().row, 1);
        assert!(read(StringArray::from(vec!["a"]), 1).unwrap_err().text.contains("not a number"));
    }
}
