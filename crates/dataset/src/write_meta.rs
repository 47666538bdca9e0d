//! The metadata files of LeRobot v3.0, with its keys, columns and types.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Array, Int64Builder, LargeStringArray, ListBuilder, RecordBatch,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::info::V3_DATA_PATH;
use crate::parquet_file::{ParquetFile, column};
use crate::write::{CHUNKS_SIZE, DATA_FILE_MB, WriteSpec, chunk_and_file};
use crate::{DatasetError, FeatureInfo, FeatureStats, columns};

/// The columns that every set has, after its own.
pub(crate) const FRAME_COLUMNS: [(&str, &str); 5] = [
    ("timestamp", "float32"),
    ("frame_index", "int64"),
    ("episode_index", "int64"),
    ("index", "int64"),
    ("task_index", "int64"),
];

/// One row of `meta/episodes/`.
pub(crate) struct EpisodeRow {
    pub(crate) task: String,
    /// First frame of the whole set, and the one after the last.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Number of the data file.
    pub(crate) file: usize,
    /// By column, those of every set included.
    pub(crate) stats: Vec<FeatureStats>,
}

/// The features of a set, and then those of every set.
fn all_features(features: &[FeatureInfo]) -> Vec<FeatureInfo> {
    let frame_columns = FRAME_COLUMNS.iter().map(|(name, dtype)| FeatureInfo {
        name: (*name).to_owned(),
        dtype: (*dtype).to_owned(),
        shape: vec![1],
        names: Vec::new(),
    });
    features.iter().cloned().chain(frame_columns).collect()
}

/// Schema of the data files, with the note that Hugging Face's `datasets` leaves in them.
pub(crate) fn data_schema(features: &[FeatureInfo]) -> Schema {
    let (mut fields, mut note) = (Vec::new(), Map::new());
    for feature in all_features(features) {
        let number = match feature.dtype.as_str() {
            "float64" => DataType::Float64,
            "int64" => DataType::Int64,
            "bool" => DataType::Boolean,
            _ => DataType::Float32,
        };
        let value = json!({"dtype": feature.dtype, "_type": "Value"});
        let dim = feature.dim();
        let (data_type, value) = match dim {
            1 => (number, value),
            _ => (
                DataType::FixedSizeList(Arc::new(Field::new("element", number, true)), dim as i32),
                json!({"feature": value, "length": dim, "_type": "Sequence"}),
            ),
        };
        fields.push(Field::new(&feature.name, data_type, true));
        note.insert(feature.name, value);
    }
    let note = json!({"info": {"features": note}}).to_string();
    Schema::new_with_metadata(fields, HashMap::from([("huggingface".to_owned(), note)]))
}

/// Begins a snappy parquet file, its folders included. Metadata of the schema are repeated in the footer, where
/// pyarrow and pandas look for them.
pub(crate) fn create_parquet(path: &Path, schema: &Arc<Schema>) -> Result<ArrowWriter<File>, DatasetError> {
    create_parent(path)?;
    let notes: Vec<_> =
        schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(notes))
        .build();
    let file = File::create_new(path).map_err(DatasetError::io(path))?;
    ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(DatasetError::parquet(path))
}

/// Writes everything in `meta/`. Statistics of the whole set are taken from `data_files`, feature by feature, so that a
/// set need not fit in memory.
pub(crate) fn write_all(
    folder: &Path,
    spec: &WriteSpec,
    episodes: &[EpisodeRow],
    tasks: &[String],
    data_files: &[PathBuf],
) -> Result<(), DatasetError> {
    let features = all_features(&spec.features);
    let meta = folder.join("meta");
    write_json(&meta.join("info.json"), &info(spec, &features, episodes, tasks))?;
    write_tasks(&meta.join("tasks.parquet"), tasks)?;
    write_episodes(&meta.join("episodes/chunk-000/file-000.parquet"), &features, episodes)?;
    let mut stats = Map::new();
    for feature in &features {
        let mut values = Vec::new();
        for path in data_files {
            let file = ParquetFile::open(path)?;
            for batch in file.read(&[&feature.name], 0..file.row_count())? {
                columns::append(column(&batch, &feature.name), feature.dim(), &mut values)
                    .map_err(|problem| DatasetError::metadata(path, problem.text))?;
            }
        }
        stats.insert(feature.name.clone(), json!(FeatureStats::of(&values, feature.dim())));
    }
    write_json(&meta.join("stats.json"), &stats)
}

fn info(spec: &WriteSpec, features: &[FeatureInfo], episodes: &[EpisodeRow], tasks: &[String]) -> Value {
    let described = features.iter().map(|feature| {
        let names = if feature.names.is_empty() { Value::Null } else { json!(feature.names) };
        (feature.name.clone(), json!({"dtype": feature.dtype, "shape": feature.shape, "names": names}))
    });
    // LeRobot means a whole number; anything else is kept as it is.
    let fps = if spec.fps.fract() == 0.0 { json!(spec.fps as u64) } else { json!(spec.fps) };
    json!({
        "codebase_version": "v3.0",
        "robot_type": spec.robot_type,
        "total_episodes": episodes.len(),
        "total_frames": episodes.last().map_or(0, |last| last.to),
        "total_tasks": tasks.len(),
        "chunks_size": CHUNKS_SIZE,
        "fps": fps,
        "splits": {"train": format!("0:{}", episodes.len())},
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": 200,
        "data_path": V3_DATA_PATH,
        "video_path": null,
        "features": described.collect::<Map<_, _>>(),
    })
}

/// The texts are the index of a pandas frame, as LeRobot keeps them.
fn write_tasks(path: &Path, tasks: &[String]) -> Result<(), DatasetError> {
    const TEXT: &str = "__index_level_0__";
    let pandas = json!({
        "index_columns": [TEXT],
        "column_indexes": [{
            "name": null, "field_name": null, "pandas_type": "unicode", "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
             "metadata": null},
            {"name": null, "field_name": TEXT, "pandas_type": "unicode", "numpy_type": "object", "metadata": null},
        ],
        "attributes": {},
        "creator": {"library": "nudge", "version": env!("CARGO_PKG_VERSION")},
        "pandas_version": "2.2.0",
    });
    let fields =
        vec![Field::new("task_index", DataType::Int64, true), Field::new(TEXT, DataType::LargeUtf8, true)];
    let metadata = HashMap::from([("pandas".to_owned(), pandas.to_string())]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..tasks.len() as i64)),
        Arc::new(LargeStringArray::from_iter_values(tasks)),
    ];
    write_batch(path, Schema::new_with_metadata(fields, metadata), arrays)
}

fn write_episodes(
    path: &Path,
    features: &[FeatureInfo],
    episodes: &[EpisodeRow],
) -> Result<(), DatasetError> {
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut add = |name: &str, array: ArrayRef| {
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    };
    let whole = |value: &dyn Fn(usize, &EpisodeRow) -> usize| -> ArrayRef {
        let values = episodes.iter().enumerate().map(|(number, episode)| value(number, episode) as i64);
        Arc::new(Int64Array::from_iter_values(values))
    };
    let element = |kind: DataType| Field::new("element", kind, true);

    add("episode_index", whole(&|number, _| number));
    let mut tasks = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    episodes.iter().for_each(|episode| tasks.append_value([Some(&episode.task)]));
    add("tasks", Arc::new(tasks.finish()));
    add("length", whole(&|_, episode| episode.to - episode.from));
    add("data/chunk_index", whole(&|_, episode| chunk_and_file(episode.file).0));
    add("data/file_index", whole(&|_, episode| chunk_and_file(episode.file).1));
    add("dataset_from_index", whole(&|_, episode| episode.from));
    add("dataset_to_index", whole(&|_, episode| episode.to));
    for (place, feature) in features.iter().enumerate() {
        for key in 0..9 {
            let mut lists = ListBuilder::new(Float64Builder::new()).with_field(element(DataType::Float64));
            let mut name = "";
            for episode in episodes {
                let (this, values) = episode.stats[place].lists()[key];
                name = this;
                lists.append_value(values.iter().map(|value| Some(*value)));
            }
            add(&format!("stats/{}/{name}", feature.name), Arc::new(lists.finish()));
            if name == "std" {
                let mut counts = ListBuilder::new(Int64Builder::new()).with_field(element(DataType::Int64));
                for episode in episodes {
                    counts.append_value([Some((episode.to - episode.from) as i64)]);
                }
                add(&format!("stats/{}/count", feature.name), Arc::new(counts.finish()));
            }
        }
    }
    add("meta/episodes/chunk_index", whole(&|_, _| 0));
    add("meta/episodes/file_index", whole(&|_, _| 0));
    write_batch(path, Schema::new(fields), arrays)
}

fn write_batch(path: &Path, schema: Schema, arrays: Vec<ArrayRef>) -> Result<(), DatasetError> {
    let schema = Arc::new(schema);
    let mut writer = create_parquet(path, &schema)?;
    RecordBatch::try_new(schema, arrays)
        .map_err(Into::into)
        .and_then(|batch| writer.write(&batch))
        .and_then(|()| writer.close().map(drop))
        .map_err(DatasetError::parquet(path))
}

/// JSON as Python's `json.dump(indent=4)` lays it out. NaN becomes null.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DatasetError> {
    create_parent(path)?;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| DatasetError::metadata(path, error.to_string()))?;
    fs::write(path, text).map_err(DatasetError::io(path))
}

fn create_parent(path: &Path) -> Result<(), DatasetError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(DatasetError::io(parent))
}
