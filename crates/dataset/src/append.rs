//! Writing a set while it is recorded: episodes are brought to the disk one by one, or a few at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use parquet::errors::ParquetError;
use serde_json::{Map, Value, json};

use crate::frames::{Place, check_spec, frames};
use crate::info::{self, V3_DATA_PATH};
use crate::journal::Journal;
use crate::lerobot::LeRobot;
use crate::merge::{difference_of, spec_of};
use crate::tail::{EPISODES_PATH, FileNumber, Limits, Tail, file_path};
use crate::write::{CHUNKS_SIZE, DATA_FILE_MB};
use crate::write_meta::{self, EpisodeRow, INFO, STATS, TASKS};
use crate::{Column, Dataset, DatasetError, FeatureInfo, FeatureStats, Format, WriteSpec, compact, stats};

/// Bytes after which a file grows no more while episodes are added: they write the last one anew, so it is to stay small.
const DATA_FILE_BYTES: usize = 8 << 20;
const EPISODES_FILE_BYTES: usize = 4 << 20;

/// A file by its path in the set's folder, and its bytes.
pub(crate) type Named = (String, Vec<u8>);

/// Adds episodes to a LeRobot v3.0 set, new or old. Whatever becomes of the program or the power, the set can be opened
/// and holds every episode that [`push`](Self::push) or [`sync`](Self::sync) came back from. Dropped without
/// [`finish`](Self::finish), it is left as if the program had been killed.
///
/// The last data file and the last list of episodes are written anew each time, under another name, and then take the
/// old ones' places; info.json, as the last, says how much belongs to the set. At the end the files are put together as
/// those of a set that was written in one go.
pub struct DatasetAppender {
    pub(crate) root: PathBuf,
    pub(crate) journal: Journal,
    spec: WriteSpec,
    pub(crate) schema: Arc<Schema>,
    /// Those of the spec, and of every set.
    features: Vec<FeatureInfo>,
    data_path: String,
    pub(crate) data_limits: Limits,
    episodes_limits: Limits,
    /// Bytes after which a data file of the finished set is followed by another.
    finished_bytes: usize,
    state: State,
    /// Whether [`finish`](Self::finish) has something to do.
    unfinished: bool,
    finished: bool,
}

/// What the set is, as far as it is finished.
#[derive(Clone)]
struct State {
    episodes: usize,
    frames: usize,
    tasks: Vec<String>,
    info: Map<String, Value>,
    /// By feature; of none before the first episode.
    stats: Vec<FeatureStats>,
    /// The last data file, and the last list of episodes.
    data: Tail,
    rows: Tail,
    /// Episodes that are yet to be brought to the disk, and how many tasks are there.
    waiting: Vec<EpisodeRow>,
    tasks_there: usize,
}

impl DatasetAppender {
    /// Goes on with the set in `dir`, or begins one where there is none.
    ///
    /// # Errors
    /// When another program records into it; when it is no LeRobot v3.0 set, or one of other features, frame rate or
    /// robot; when it cannot be read or the features not be written; or the disk refuses.
    pub fn open(dir: &Path, spec: WriteSpec) -> Result<Self, DatasetError> {
        check_spec(dir, &spec)?;
        let known = dir.join(INFO).is_file();
        if !known && Journal::is_foreign(dir)? {
            return Err(DatasetError::Exists { path: dir.to_owned() });
        }
        let journal = Journal::open(dir)?;
        let features = write_meta::all_features(&spec.features);
        let schema = Arc::new(write_meta::data_schema(&spec.features));
        let limits = |bytes, chunks_size| Limits { bytes, chunks_size };
        let unwritten = DatasetError::unwritten(dir);
        let (state, data_path, chunks_size) = if known {
            let layout = info::read(dir)?;
            let (data, rows) = (
                limits(DATA_FILE_BYTES, layout.chunks_size),
                limits(EPISODES_FILE_BYTES, layout.chunks_size),
            );
            let state = State::of_set(dir, &spec, &features, &schema, &journal, data, rows)?;
            (state, layout.data_path, layout.chunks_size)
        } else {
            let state = State::empty(&spec, &features, &schema).map_err(unwritten)?;
            (state, V3_DATA_PATH.to_owned(), CHUNKS_SIZE)
        };
        Ok(Self {
            root: dir.to_owned(),
            unfinished: journal.begun(),
            finished: false,
            journal,
            spec,
            schema,
            features,
            data_path,
            data_limits: limits(DATA_FILE_BYTES, chunks_size),
            episodes_limits: limits(EPISODES_FILE_BYTES, chunks_size),
            finished_bytes: DATA_FILE_MB << 20,
            state,
        })
    }

    /// With other sizes of data files and lists that grow, and of data files of the finished set, in bytes.
    #[cfg(test)]
    pub(crate) fn with_limits(mut self, data: usize, episodes: usize, finished: usize) -> Self {
        (self.data_limits.bytes, self.episodes_limits.bytes, self.finished_bytes) =
            (data, episodes, finished);
        self
    }

    /// How many episodes the set holds, those included that are yet to be brought to the disk.
    pub fn episode_count(&self) -> usize {
        self.state.episodes
    }

    /// Adds an episode: what was to be done in words, seconds since its beginning for each frame, and the columns of
    /// the spec in its order. When this comes back, it is on the disk; how many episodes there are then.
    ///
    /// # Errors
    /// When there is no frame, the columns are not those of the spec, or the disk refuses; the set is then as it was.
    pub fn push(
        &mut self,
        task: &str,
        timestamps: &[f32],
        columns: &[Column],
    ) -> Result<usize, DatasetError> {
        self.push_with(task, timestamps, columns, Vec::new())
    }

    /// The same, with further files that belong to the set from then on.
    pub(crate) fn push_with(
        &mut self,
        task: &str,
        timestamps: &[f32],
        columns: &[Column],
        notes: Vec<Named>,
    ) -> Result<usize, DatasetError> {
        let before = self.state.clone();
        let pushed = self.add(task, timestamps, columns).and_then(|count| {
            self.sync_with(notes)?;
            Ok(count)
        });
        if pushed.is_err() {
            self.state = before;
        }
        pushed
    }

    /// Adds an episode like [`push`](Self::push), but leaves it to [`sync`](Self::sync) to bring it to the disk.
    ///
    /// # Errors
    /// When there is no frame, or the columns are not those of the spec; the set is then as it was.
    pub fn add(&mut self, task: &str, timestamps: &[f32], columns: &[Column]) -> Result<usize, DatasetError> {
        let state = &self.state;
        let known = state.tasks.iter().position(|known| known == task);
        let (episode, from) = (state.episodes, state.frames);
        let place = Place { episode, from, task: known.unwrap_or(state.tasks.len()) };
        let (batch, stats) = frames(&self.spec, &self.schema, place, timestamps, columns)?;
        let state = &mut self.state;
        if known.is_none() {
            state.tasks.push(task.to_owned());
        }
        (state.episodes, state.frames) = (episode + 1, from + batch.num_rows());
        state.stats = match episode {
            0 => stats.clone(),
            _ => state.stats.iter().zip(&stats).map(|(all, one)| all.merge(one)).collect(),
        };
        state.count();
        state.data = state.data.grown(batch, self.data_limits);
        let file = state.data.at;
        state.waiting.push(EpisodeRow { task: task.to_owned(), from, to: state.frames, file, stats });
        Ok(state.episodes)
    }

    /// Brings to the disk what was added. When this comes back, it is there.
    ///
    /// # Errors
    /// When the disk refuses; the set there is then as it was, and what was added waits still.
    pub fn sync(&mut self) -> Result<(), DatasetError> {
        self.sync_with(Vec::new())
    }

    /// The same, with further files that belong to the set from then on.
    pub(crate) fn sync_with(&mut self, notes: Vec<Named>) -> Result<(), DatasetError> {
        let mut files = notes;
        let mut next = self.state.clone();
        if !next.waiting.is_empty() {
            next.list(&self.features, self.episodes_limits).map_err(DatasetError::unwritten(&self.root))?;
            if next.tasks_there < next.tasks.len() {
                files.push((TASKS.to_owned(), self.task_file(&next)?));
                next.tasks_there = next.tasks.len();
            }
            files.push((
                STATS.to_owned(),
                write_meta::json_bytes(&write_meta::named(&self.features, &next.stats)),
            ));
            files.extend(self.tails_of(&mut next)?);
        }
        if files.is_empty() {
            return Ok(());
        }
        // Without an episode there is no set yet, only what is said about it.
        if next.episodes > 0 {
            files.push((INFO.to_owned(), write_meta::json_bytes(&next.info)));
        }
        self.journal.commit(&files, &[])?;
        self.state = next;
        self.unfinished = true;
        Ok(())
    }

    /// Ends the recording; how many frames the set holds. A set that never had an episode is removed.
    ///
    /// # Errors
    /// When the disk refuses; then the set is as if the program had been killed after the last episode.
    pub fn finish(self) -> Result<usize, DatasetError> {
        self.finish_with(Vec::new(), &[])
    }

    /// The same, with further files that belong to the set, and others that spoke of its recording alone and go with
    /// it. With further files, a set without an episode is kept for their sake.
    pub(crate) fn finish_with(mut self, notes: Vec<Named>, drop: &[String]) -> Result<usize, DatasetError> {
        if self.state.episodes == 0 && !notes.is_empty() {
            self.journal.commit(&notes, &[])?;
            self.journal.finish(drop)?;
            self.finished = true;
            return Ok(0);
        }
        self.sync_with(Vec::new())?;
        if self.state.episodes == 0 || !self.unfinished {
            // What there is to remove is removed as this is dropped.
            return Ok(self.state.frames);
        }
        let mut state = self.state.clone();
        let mut files = vec![(TASKS.to_owned(), self.task_file(&state)?)];
        files.extend(notes);
        files.extend(self.tails_of(&mut state)?);
        let info = (INFO.to_owned(), write_meta::json_bytes(&state.info));
        files.push(info.clone());
        self.journal.commit(&files, &[])?;
        let bytes = self.finished_bytes;
        compact::put_together(&mut self, state.episodes, bytes, &info)?;
        if state.frames <= stats::EXACT_FRAMES {
            let set = Dataset::open(&self.root)?;
            let files = set.lerobot().map(LeRobot::data_files).unwrap_or_default();
            state.stats = stats::exact(&self.features, &files)?;
        }
        let stats =
            (STATS.to_owned(), write_meta::json_bytes(&write_meta::named(&self.features, &state.stats)));
        self.journal.commit(&[stats, info], &[])?;
        self.journal.finish(drop)?;
        self.finished = true;
        Ok(state.frames)
    }

    fn task_file(&self, state: &State) -> Result<Vec<u8>, DatasetError> {
        write_meta::task_file(&state.tasks).map_err(DatasetError::unwritten(&self.root))
    }

    /// The last data file and the last list of episodes, unless they are yet to be begun.
    fn tails_of(&self, state: &mut State) -> Result<Vec<Named>, DatasetError> {
        let mut files = Vec::new();
        for (tail, template) in [(&mut state.rows, EPISODES_PATH), (&mut state.data, &self.data_path)] {
            if !tail.is_empty() {
                let bytes = tail.encode().map_err(DatasetError::unwritten(&self.root))?;
                files.push((self.name(template, tail.at)?, bytes));
            }
        }
        Ok(files)
    }

    /// A data file's path in the set's folder.
    pub(crate) fn data_name(&self, at: FileNumber) -> Result<String, DatasetError> {
        self.name(&self.data_path, at)
    }

    fn name(&self, template: &str, at: FileNumber) -> Result<String, DatasetError> {
        let bad = |problem| DatasetError::metadata(&self.root.join(INFO), problem);
        let path = file_path(template, at).map_err(bad)?;
        path.to_str().map(str::to_owned).ok_or_else(|| bad("`data_path` is not text".into()))
    }
}

impl Drop for DatasetAppender {
    fn drop(&mut self) {
        if self.state.episodes == self.state.waiting.len() && !self.finished {
            // An error is on its way to the caller, or nothing was recorded; an empty folder harms nobody.
            drop(self.journal.clear());
        }
    }
}

impl State {
    fn empty(spec: &WriteSpec, features: &[FeatureInfo], schema: &Arc<Schema>) -> Result<Self, ParquetError> {
        let rows = write_meta::episode_rows(features, &[], 0, (0, 0))?.schema();
        Ok(Self {
            episodes: 0,
            frames: 0,
            tasks: Vec::new(),
            info: write_meta::info(spec, features, [0; 3]),
            stats: Vec::new(),
            data: Tail::new((0, 0), schema.clone()),
            rows: Tail::new((0, 0), rows),
            waiting: Vec::new(),
            tasks_there: 0,
        })
    }

    /// Of the set in `dir`, which may have been cut off while it was recorded.
    fn of_set(
        dir: &Path,
        spec: &WriteSpec,
        features: &[FeatureInfo],
        schema: &Arc<Schema>,
        journal: &Journal,
        data_limits: Limits,
        episodes_limits: Limits,
    ) -> Result<Self, DatasetError> {
        let set = Dataset::open(dir)?;
        let layout = info::read(dir)?;
        let bad = |problem: String| DatasetError::metadata(dir, problem);
        let (Some(lerobot), Format::LeRobotV3) = (set.lerobot(), set.format()) else {
            return Err(bad("only LeRobot v3.0 sets grow; `nudge dataset convert` makes one of it".into()));
        };
        if let Some(problem) = difference_of(&spec_of(&set)?, spec) {
            return Err(bad(format!(
                "what is to be recorded cannot be added: {problem}; name another folder"
            )));
        }
        let (episodes, frames) = (set.episode_count(), set.frame_count());
        let (rows, last) = Tail::of_episodes(dir, episodes, episodes_limits)?;
        let path = file_path(&layout.data_path, last).map_err(bad)?;
        let path = dir.join(path);
        lerobot.check_sum(&path)?;
        let greatest = compact::greatest_listed(dir, episodes)?.max(last);
        let data = Tail::of_frames((last, &path), greatest, frames, schema, data_limits)?;
        let text = fs::read_to_string(dir.join(INFO)).map_err(DatasetError::io(dir))?;
        let info: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| DatasetError::metadata(&dir.join(INFO), error.to_string()))?;
        let mut tasks = set.info().tasks.clone();
        if let Some(total) = info.get("total_tasks").and_then(Value::as_u64).filter(|_| journal.begun()) {
            tasks.truncate(usize::try_from(total).unwrap_or(usize::MAX));
        }
        // Those of a recording that was cut off may count an episode too many.
        let known = if journal.begun() { stats::of_list(dir, episodes)? } else { stats::read(dir).ok() };
        let stats = features.iter().map(|feature| known.as_ref()?.get(&feature.name).cloned());
        let stats = match stats.collect::<Option<Vec<_>>>() {
            Some(stats) => stats,
            None => stats::exact(features, &lerobot.data_files())?,
        };
        let tasks_there = tasks.len();
        Ok(Self { episodes, frames, tasks, info, stats, data, rows, waiting: Vec::new(), tasks_there })
    }

    /// Puts the episodes that wait into the list.
    fn list(&mut self, features: &[FeatureInfo], limits: Limits) -> Result<(), ParquetError> {
        let waiting = std::mem::take(&mut self.waiting);
        let at = self.rows.next_at(limits);
        let rows = write_meta::episode_rows(features, &waiting, self.episodes - waiting.len(), at)?;
        self.rows = self.rows.joined(&rows, limits)?;
        Ok(())
    }

    /// Says in info.json how much there is.
    fn count(&mut self) {
        let Self { info, episodes, frames, tasks, .. } = self;
        info.insert("total_episodes".into(), json!(episodes));
        info.insert("total_frames".into(), json!(frames));
        info.insert("total_tasks".into(), json!(tasks.len()));
        info.insert("splits".into(), json!({"train": format!("0:{episodes}")}));
    }
}
