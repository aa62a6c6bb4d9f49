//! Scenes of the language: a text is given, and what a person would see or a run would get is told.

mod bounds;
mod codes;
mod diagnostics;
mod fuzz;
mod machine;
mod pipelines;

use std::collections::BTreeMap;
use std::sync::Arc;

use lang::{ReadError, Report};
use model::{Pipeline, Step};

/// A pipeline file and the other files of its repository.
#[derive(Default)]
pub struct Repository {
    files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    /// With one more file.
    pub fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    /// Loads a pipeline in it.
    pub fn load(&self, text: impl AsRef<[u8]>) -> (Option<Pipeline>, Report) {
        lang::load("paceline.yaml", text.as_ref(), &mut |path| match path {
            "link-out.yaml" => Err(ReadError::Outside),
            _ => self.files.get(path).cloned().ok_or(ReadError::NotFound),
        })
    }
}

/// What a person sees of a pipeline's faults.
pub fn shows(text: impl AsRef<[u8]>) -> String {
    Repository::default().load(text).1.render(false, 100)
}

/// A pipeline without faults.
pub fn pipeline(text: &str) -> Pipeline {
    let (pipeline, report) = Repository::default().load(text);
    pipeline.unwrap_or_else(|| panic!("the pipeline has faults:\n{}", report.render(false, 100)))
}

/// The step of an id.
pub fn step<'a>(pipeline: &'a Pipeline, id: &str) -> &'a Arc<Step> {
    pipeline.steps.iter().find(|step| step.id.as_str() == id).unwrap_or_else(|| panic!("no step {id}"))
}
