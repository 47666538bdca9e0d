//! One parquet file: its footer, and chosen columns of chosen rows.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::DatasetError;
use crate::columns::{self, Problem};

/// Rows decoded at once: enough to be fast, little enough for a file of any size.
const BATCH_ROWS: usize = 16_384;

/// A parquet file whose footer has been read. No handle is kept open.
pub(crate) struct ParquetFile {
    path: PathBuf,
    footer: ArrowReaderMetadata,
}

impl ParquetFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        // The Arrow schema within says nothing that is needed to read, and its reader panics on damaged bytes.
        Self::open_with(path, ArrowReaderOptions::new().with_skip_arrow_metadata(true))
    }

    /// With the columns in the very types that they were written from, to be written again.
    pub(crate) fn open_typed(path: &Path) -> Result<Self, DatasetError> {
        Self::open_with(path, ArrowReaderOptions::new())
    }

    fn open_with(path: &Path, options: ArrowReaderOptions) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(DatasetError::io(path))?;
        let length = file.metadata().map_err(DatasetError::io(path))?.len();
        let footer = decode(path, || {
            let footer = ArrowReaderMetadata::load(&file, options)?;
            within(footer.metadata(), length)
                .then_some(footer)
                .ok_or_else(|| ParquetError::General("its footer points beyond the end of the file".into()))
        })?;
        Ok(Self { path: path.to_owned(), footer })
    }

    pub(crate) fn row_count(&self) -> usize {
        let counts = self.footer.metadata().row_groups().iter().map(|group| group.num_rows());
        counts.map(|count| usize::try_from(count).unwrap_or(0)).sum()
    }

    pub(crate) fn column_names(&self) -> impl Iterator<Item = &str> {
        self.footer.schema().fields().iter().map(|field| field.name().as_str())
    }

    pub(crate) fn schema(&self) -> &Schema {
        self.footer.schema()
    }

    /// Rows of each row group.
    pub(crate) fn row_groups(&self) -> Vec<usize> {
        let groups = self.footer.metadata().row_groups();
        groups.iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).collect()
    }

    /// Where each row group ends, in bytes: what had been written by then.
    pub(crate) fn row_group_ends(&self) -> Vec<usize> {
        let end = |group: &RowGroupMetaData| {
            let ends = group.columns().iter().map(|column| {
                let (start, length) = column.byte_range();
                start.saturating_add(length)
            });
            usize::try_from(ends.max().unwrap_or(0)).unwrap_or(usize::MAX)
        };
        self.footer.metadata().row_groups().iter().map(end).collect()
    }

    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.footer.schema().index_of(name).is_ok()
    }

    /// Reads `names` (each once) of `rows`, in batches; only row groups that hold such rows are touched.
    pub(crate) fn read(&self, names: &[&str], rows: Range<usize>) -> Result<Vec<RecordBatch>, DatasetError> {
        let schema = self.footer.schema();
        let mut roots = Vec::with_capacity(names.len());
        for name in names {
            roots.push(schema.index_of(name).map_err(|_| DatasetError::MissingColumn {
                path: self.path.clone(),
                column: (*name).to_owned(),
                present: self.column_names().collect::<Vec<_>>().join(", "),
            })?);
        }
        let file = File::open(&self.path).map_err(DatasetError::io(&self.path))?;
        let (groups, within) = self.groups_of(&rows);
        let total = within.end + self.rows_after(&groups, within.end);
        let batches = decode(&self.path, || {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone())
                .with_projection(ProjectionMask::roots(self.footer.parquet_schema(), roots))
                .with_row_groups(groups)
                .with_row_selection(RowSelection::from_consecutive_ranges([within].into_iter(), total))
                .with_batch_size(BATCH_ROWS.min(rows.len().max(1)))
                .build()?;
            Ok(reader.collect::<Result<Vec<_>, _>>()?)
        })?;
        let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if found != rows.len() {
            let problem = format!("rows {rows:?} were asked for and {found} came; copy the file again");
            return Err(DatasetError::metadata(&self.path, problem));
        }
        Ok(batches)
    }

    /// All rows of one column of whole numbers.
    pub(crate) fn integers(&self, name: &str) -> Result<Vec<i64>, DatasetError> {
        self.all_rows(name, columns::integers)
    }

    /// All rows of one column of lists.
    pub(crate) fn lists(&self, name: &str) -> Result<Vec<Vec<f64>>, DatasetError> {
        self.all_rows(name, columns::lists)
    }

    fn all_rows<T>(
        &self,
        name: &str,
        take: impl Fn(&ArrayRef) -> Result<Vec<T>, Problem>,
    ) -> Result<Vec<T>, DatasetError> {
        let mut all = Vec::new();
        for batch in self.read(&[name], 0..self.row_count())? {
            all.extend(take(column(&batch, name)).map_err(|Problem { row, text }| {
                DatasetError::metadata(&self.path, format!("column `{name}`, row {row}: {text}"))
            })?);
        }
        Ok(all)
    }

    /// All rows of the first column that holds text.
    pub(crate) fn first_texts(&self) -> Result<Vec<String>, DatasetError> {
        let mut all = Vec::new();
        let names: Vec<&str> = self.column_names().collect();
        for batch in self.read(&names, 0..self.row_count())? {
            let Some(texts) = batch.columns().iter().find_map(columns::texts) else {
                return Err(DatasetError::metadata(&self.path, "no column holds text"));
            };
            all.extend(texts);
        }
        Ok(all)
    }

    /// The row groups that hold `rows`, and where the rows lie within them.
    fn groups_of(&self, rows: &Range<usize>) -> (Vec<usize>, Range<usize>) {
        let (mut groups, mut begin, mut skipped) = (Vec::new(), 0, 0);
        for (group, metadata) in self.footer.metadata().row_groups().iter().enumerate() {
            let end = begin + usize::try_from(metadata.num_rows()).unwrap_or(0);
            if end <= rows.start {
                skipped = end;
            } else if begin < rows.end {
                groups.push(group);
            }
            begin = end;
        }
        (groups, rows.start - skipped.min(rows.start)..rows.end - skipped.min(rows.start))
    }

    fn rows_after(&self, groups: &[usize], used: usize) -> usize {
        let metadata = self.footer.metadata();
        let held: usize = groups
            .iter()
            .map(|group| usize::try_from(metadata.row_group(*group).num_rows()).unwrap_or(0))
            .sum();
        held.saturating_sub(used)
    }
}

/// Whether all columns lie within a file of this length.
fn within(metadata: &ParquetMetaData, length: u64) -> bool {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let inside = |offset: i64, size: i64| match (u64::try_from(offset), u64::try_from(size)) {
        (Ok(offset), Ok(size)) => offset.checked_add(size).is_some_and(|end| end <= length),
        _ => false,
    };
    let mut columns = columns.map(|column| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        inside(start, column.compressed_size()) && inside(column.data_page_offset(), 0)
    });
    columns.all(|inside| inside) && metadata.row_groups().iter().all(|group| group.num_rows() >= 0)
}

/// Runs the decoder. On damaged bytes it may panic (parquet 58 has no door that checks first); that is an error too.
fn decode<T>(path: &Path, run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DatasetError> {
    let panicked = |_| Err(ParquetError::General("the decoder met bytes that no sound file holds".into()));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked).map_err(DatasetError::parquet(path))
}

/// A column that the batch was read with.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).expect("the columns asked for are in every batch")
}
