//! The metadata files of LeRobot v3.0, with its keys, columns and types.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Array, Int64Builder, LargeStringArray, ListBuilder, RecordBatch,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::info::V3_DATA_PATH;
use crate::write::{CHUNKS_SIZE, DATA_FILE_MB, WriteSpec};
use crate::{DatasetError, FeatureInfo, FeatureStats, column, stats};

pub(crate) const INFO: &str = "meta/info.json";
pub(crate) const TASKS: &str = "meta/tasks.parquet";
pub(crate) const STATS: &str = "meta/stats.json";

/// The columns that every set has, after its own.
pub(crate) const FRAME_COLUMNS: [(&str, &str); 5] = [
    ("timestamp", "float32"),
    ("frame_index", "int64"),
    ("episode_index", "int64"),
    ("index", "int64"),
    ("task_index", "int64"),
];

/// One row of `meta/episodes/`.
#[derive(Clone)]
pub(crate) struct EpisodeRow {
    pub(crate) task: String,
    /// First frame of the whole set, and the one after the last.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Chunk and number of the data file.
    pub(crate) file: (usize, usize),
    /// By column, those of every set included.
    pub(crate) stats: Vec<FeatureStats>,
}

/// The features of a set, and then those of every set.
pub(crate) fn all_features(features: &[FeatureInfo]) -> Vec<FeatureInfo> {
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
        let (field, value) = column::field(&feature);
        fields.push(field);
        note.insert(feature.name, value);
    }
    let note = json!({"info": {"features": note}}).to_string();
    Schema::new_with_metadata(fields, HashMap::from([("huggingface".to_owned(), note)]))
}

/// Begins a snappy parquet file, its folders included.
pub(crate) fn create_parquet(path: &Path, schema: &Arc<Schema>) -> Result<ArrowWriter<File>, DatasetError> {
    create_parent(path)?;
    let file = File::create_new(path).map_err(DatasetError::io(path))?;
    begin_parquet(file, schema).map_err(DatasetError::unwritten(path))
}

/// Metadata of the schema are repeated in the footer, where pyarrow and pandas look for them.
pub(crate) fn begin_parquet<W: Write + Send>(
    sink: W,
    schema: &Arc<Schema>,
) -> Result<ArrowWriter<W>, ParquetError> {
    let notes: Vec<_> =
        schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(notes))
        .build();
    ArrowWriter::try_new(sink, schema.clone(), Some(properties))
}

/// The bytes of a parquet file of these batches, each a row group of its own.
pub(crate) fn parquet_bytes(schema: &Arc<Schema>, batches: &[RecordBatch]) -> Result<Vec<u8>, ParquetError> {
    let mut writer = begin_parquet(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
        writer.flush()?;
    }
    writer.into_inner()
}

/// Writes everything in `meta/`.
pub(crate) fn write_all(
    folder: &Path,
    spec: &WriteSpec,
    episodes: &[EpisodeRow],
    tasks: &[String],
    data_files: &[PathBuf],
) -> Result<(), DatasetError> {
    let features = all_features(&spec.features);
    let frames = episodes.last().map_or(0, |last| last.to);
    let batch = episode_rows(&features, episodes, 0, (0, 0)).map_err(DatasetError::unwritten(folder))?;
    let stats = match frames {
        0..=stats::EXACT_FRAMES => stats::exact(&features, data_files)?,
        _ => aggregated(&features, episodes),
    };
    let files = [
        (INFO, json_bytes(&info(spec, &features, [episodes.len(), frames, tasks.len()]))),
        (TASKS, task_file(tasks).map_err(DatasetError::unwritten(folder))?),
        (
            "meta/episodes/chunk-000/file-000.parquet",
            parquet_bytes(&batch.schema(), &[batch]).map_err(DatasetError::unwritten(folder))?,
        ),
        (STATS, json_bytes(&named(&features, &stats))),
    ];
    for (name, bytes) in files {
        write_file(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// The statistics of each feature, from those of the episodes.
pub(crate) fn aggregated(features: &[FeatureInfo], episodes: &[EpisodeRow]) -> Vec<FeatureStats> {
    let of = |feature: usize| {
        let parts = episodes.iter().map(|episode| episode.stats[feature].clone());
        parts.reduce(|sum, part| sum.merge(&part)).unwrap_or_default()
    };
    (0..features.len()).map(of).collect()
}

/// Statistics by the features' names, in their order.
pub(crate) fn named(features: &[FeatureInfo], stats: &[FeatureStats]) -> Map<String, Value> {
    features.iter().zip(stats).map(|(feature, stats)| (feature.name.clone(), json!(stats))).collect()
}

/// info.json of so many episodes, frames and tasks.
pub(crate) fn info(
    spec: &WriteSpec,
    features: &[FeatureInfo],
    [episodes, frames, tasks]: [usize; 3],
) -> Map<String, Value> {
    let described = features.iter().map(|feature| {
        let names = if feature.names.is_empty() { Value::Null } else { json!(feature.names) };
        (feature.name.clone(), json!({"dtype": feature.dtype, "shape": feature.shape, "names": names}))
    });
    // LeRobot means a whole number; anything else is kept as it is.
    let fps = if spec.fps.fract() == 0.0 { json!(spec.fps as u64) } else { json!(spec.fps) };
    let info = json!({
        "codebase_version": "v3.0",
        "robot_type": spec.robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNKS_SIZE,
        "fps": fps,
        "splits": {"train": format!("0:{episodes}")},
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": 200,
        "data_path": V3_DATA_PATH,
        "video_path": null,
        "features": described.collect::<Map<_, _>>(),
    });
    info.as_object().cloned().unwrap_or_default()
}

/// The texts are the index of a pandas frame, as LeRobot keeps them.
pub(crate) fn task_file(tasks: &[String]) -> Result<Vec<u8>, ParquetError> {
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
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    parquet_bytes(&schema, &[RecordBatch::try_new(schema.clone(), arrays)?])
}

/// Rows of `meta/episodes/` for the episodes from `first` on, in the file of this chunk and number.
pub(crate) fn episode_rows(
    features: &[FeatureInfo],
    episodes: &[EpisodeRow],
    first: usize,
    meta_file: (usize, usize),
) -> Result<RecordBatch, ParquetError> {
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

    add("episode_index", whole(&|number, _| first + number));
    let mut tasks = ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8));
    episodes.iter().for_each(|episode| tasks.append_value([Some(&episode.task)]));
    add("tasks", Arc::new(tasks.finish()));
    add("length", whole(&|_, episode| episode.to - episode.from));
    add("data/chunk_index", whole(&|_, episode| episode.file.0));
    add("data/file_index", whole(&|_, episode| episode.file.1));
    add("dataset_from_index", whole(&|_, episode| episode.from));
    add("dataset_to_index", whole(&|_, episode| episode.to));
    for (place, feature) in features.iter().enumerate() {
        for (key, (name, _)) in FeatureStats::default().lists().into_iter().enumerate() {
            let mut lists = ListBuilder::new(Float64Builder::new()).with_field(element(DataType::Float64));
            for episode in episodes {
                let (_, values) = episode.stats[place].lists()[key];
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
    add("meta/episodes/chunk_index", whole(&|_, _| meta_file.0));
    add("meta/episodes/file_index", whole(&|_, _| meta_file.1));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// JSON as Python's `json.dump(indent=4)` lays it out. NaN becomes null.
pub(crate) fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    written.expect("what is written here has text as keys, and memory takes all");
    text
}

/// Writes a file, its folders included.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    create_parent(path)?;
    fs::write(path, bytes).map_err(DatasetError::io(path))
}

/// Writes JSON in the place of a file that may exist: readers find the old one or the new one, whole.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), DatasetError> {
    let partial = path.with_extension("json.partial");
    write_file(&partial, &json_bytes(value))?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(DatasetError::io(&partial))?;
    fs::rename(&partial, path).map_err(DatasetError::io(path))
}

fn create_parent(path: &Path) -> Result<(), DatasetError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(DatasetError::io(parent))
}
