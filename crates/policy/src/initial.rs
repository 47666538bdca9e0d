//! Beginning a training from a checkpoint's weights, rather than from random ones.

use std::path::Path;

use crate::checkpoint::{Initial, Manifest, Stored};
use crate::parameters::ParameterList;
use crate::{Normalizer, PolicyFailure};

/// What a training takes over from a checkpoint; by default, nothing.
#[derive(Default)]
pub(crate) struct Beginning {
    /// In the order of the network's list; `None` for random ones, or those of the training that goes on.
    pub values: Option<Vec<Vec<f32>>>,
    pub normalizers: Option<Normalizers>,
    pub initial: Option<Initial>,
}

/// How a checkpoint's numbers become its network's.
#[derive(Clone, Debug)]
pub(crate) struct Normalizers {
    pub observation: Normalizer,
    pub action: Normalizer,
    pub clip_range: f64,
}

impl Normalizers {
    pub fn of(manifest: &Manifest) -> Self {
        let Manifest { observation, action, clip_range, .. } = manifest;
        Self { observation: observation.clone(), action: action.clone(), clip_range: *clip_range }
    }
}

impl Beginning {
    /// That of the training which wrote the checkpoint `folder`, and now goes on from there.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn again(folder: &Path) -> Result<Self, PolicyFailure> {
        let manifest = Manifest::read(folder)?;
        let initial = manifest.trained.initial.clone();
        let taken = initial.as_ref().is_some_and(|initial| initial.normalizers);
        Ok(Self { values: None, normalizers: taken.then(|| Normalizers::of(&manifest)), initial })
    }

    /// From a checkpoint, for a training of the network of `manifest`.
    ///
    /// # Errors
    /// When it cannot be read, or its network is another one.
    pub fn read(path: &Path, manifest: &Manifest) -> Result<Self, PolicyFailure> {
        let (stored, list) = (Stored::open(path)?, manifest.host_network(Vec::new()).list);
        let (from, to) = (&stored.manifest.policy, &manifest.policy);
        let refuse = |problem: String| Err(PolicyFailure::checkpoint(path, problem));
        if from.network != to.network {
            return refuse(format!(
                "a training of {:?} cannot begin from its weights, which are of {:?}",
                to.network, from.network
            ));
        }
        let shapes = |list: &ParameterList| {
            list.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone())).collect::<Vec<_>>()
        };
        let (from_shapes, to_shapes) = (shapes(&stored.list), shapes(&list));
        if let Some(((name, from), (_, to))) =
            from_shapes.iter().zip(&to_shapes).find(|(from, to)| from != to)
        {
            return refuse(format!(
                "a training cannot begin from its weights: `{name}` is {from:?}, and must be {to:?}; observed steps, \
                 observation and action must have as many numbers"
            ));
        }
        if (from.objective, &from.schedule) != (to.objective, &to.schedule) {
            return refuse(format!(
                "its network predicts {:?} over {:?}, and the one to be trained {:?} over {:?}",
                from.objective, from.schedule, to.objective, to.schedule
            ));
        }
        let (was, is) = (&stored.manifest.interface, &manifest.interface);
        let same = (&was.observation, &was.action) == (&is.observation, &is.action)
            && (&from.relative, &from.angles, &from.normalization)
                == (&to.relative, &to.angles, &to.normalization);
        let initial = Initial {
            checkpoint: path.display().to_string(),
            sha256: stored.sha256,
            steps: stored.manifest.trained.steps,
            normalizers: same,
        };
        let normalizers = same.then(|| Normalizers::of(&stored.manifest));
        Ok(Self { values: Some(stored.values), normalizers, initial: Some(initial) })
    }
}
