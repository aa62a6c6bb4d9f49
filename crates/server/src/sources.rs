//! What a run is made from: the repository of its project, and the pipelines in it at a commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::Keys;
use forge::Mirrors;
use forge::git::GitError;
use lang::ReadError;
use model::limits::FILE_BYTES_MAX;
use model::{EventKind, GlobList, OnFailure, Pipeline, RunContext, RunNumber, Trigger};
use store::Store;

use crate::desk::{Refusal, RunOrder, RunWish, What, of_store};
use crate::records::Project;

mod repository;

pub(crate) use repository::Repository;

/// Names of the pipeline file, first match wins.
const FILE_NAMES: [&str; 2] = ["paceline.yaml", "paceline.yml"];
/// Folder of several pipelines.
const FOLDER: &str = ".paceline";
/// Pipelines of one commit.
const PIPELINES_MAX: usize = 100;

/// The repositories of all projects, and what is read in them.
#[derive(Debug)]
pub struct Sources {
    store: Store,
    mirrors: Mirrors,
    /// Open the credentials of projects.
    keys: Keys,
}

/// A pipeline as it was found at a commit.
pub(crate) struct Found {
    /// It, or the report of what is wrong with it.
    pub(crate) pipeline: Result<Arc<Pipeline>, String>,
}

impl Sources {
    /// Over the projects of a store, with mirrors in a folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(store: Store, folder: &Path, keys: Keys) -> Result<Sources, GitError> {
        Ok(Sources { store, mirrors: Mirrors::new(folder)?, keys })
    }

    /// A project.
    ///
    /// # Errors
    /// There is none of this name, or the store cannot be read.
    pub(crate) fn project(&self, name: &str) -> Result<Project, Refusal> {
        let kept = self.store.record::<Project>(name).map_err(of_store)?;
        kept.map(|kept| kept.value).ok_or_else(|| Refusal::NotFound(format!("there is no project `{name}`")))
    }

    /// The mirror of a project's repository.
    ///
    /// # Errors
    /// Its address or credential is none, or the folder cannot be made.
    pub(crate) fn repository(&self, project: &Project) -> Result<Repository, Refusal> {
        let sealed = |error: access::SealError| {
            Refusal::Unavailable(format!("the credential of project `{}`: {error}", project.name))
        };
        let credential = project.credential_in_clear(&self.keys).map_err(sealed)?;
        Ok(Repository { mirror: self.mirrors.of(&project.name, &project.repository, &credential)? })
    }

    /// Ends helpers of git that had nothing to do for so long.
    pub(crate) fn rest(&self, unused: std::time::Duration) {
        self.mirrors.rest(unused);
    }

    /// Reads what a wish asks for: fetches its commit, reads its pipeline and types its parameters.
    ///
    /// # Errors
    /// Why there can be no such run.
    pub(crate) fn order(&self, wish: &RunWish) -> Result<RunOrder, Refusal> {
        let project = self.project(wish.project.as_str())?;
        let repository = self.repository(&project)?;
        let trigger = self.settled(&project, &repository, wish)?;
        let file = match wish.pipeline.is_empty() {
            false => wish.pipeline.clone(),
            true => the_only_one(self.files(&project, &repository, &trigger.git.commit)?)?,
        };
        let found = self.read(&repository, &trigger.git.commit, file)?;
        let pipeline = found.pipeline.map_err(Refusal::Invalid)?;
        self.order_of(wish, &project, &repository, trigger, &pipeline)
    }

    /// The order for a pipeline that was read.
    ///
    /// # Errors
    /// A parameter is wrong, or the repository cannot be read.
    pub(crate) fn order_of(
        &self,
        wish: &RunWish,
        project: &Project,
        repository: &Repository,
        trigger: Trigger,
        pipeline: &Arc<Pipeline>,
    ) -> Result<RunOrder, Refusal> {
        let given: BTreeMap<String, String> = wish.params.iter().cloned().collect();
        let params = engine::params::resolve(pipeline, &given).map_err(|errors| Refusal::Invalid(errors.join("\n")))?;
        let hashes = repository.hashes(&trigger.git.commit, &pipeline.hash_calls)?;
        // What a server's own environment holds is nobody's affair: `env("NAME")` reads the project's values.
        let value = |name: &String| project.values.get(name).cloned().unwrap_or_default();
        let caller_env = pipeline.env_calls.iter().map(|name| (name.clone(), value(name))).collect();
        let context = RunContext {
            run: wish.run.clone(),
            number: RunNumber(0),
            trigger,
            params,
            hashes,
            caller_env,
            estimates: self.estimates(project),
            selection: wish.selection.clone(),
            on_failure: OnFailure::default(),
            terms: terms(wish, project),
        };
        Ok(RunOrder {
            run: wish.run.clone(),
            project: project.id(),
            what: What::Pipeline(pipeline.clone(), Box::new(context)),
        })
    }

    /// How long steps took before: for order and estimates, so that a store which cannot say changes nothing.
    fn estimates(&self, project: &Project) -> BTreeMap<String, Duration> {
        let timings = self.store.timings(&project.id()).unwrap_or_default();
        timings.into_iter().map(|timing| (timing.step, timing.took)).collect()
    }

    /// The trigger with its commit, fetched, and with what the commit itself says.
    ///
    /// # Errors
    /// There is no such commit, or the repository cannot be reached.
    pub(crate) fn settled(
        &self,
        project: &Project,
        repository: &Repository,
        wish: &RunWish,
    ) -> Result<Trigger, Refusal> {
        let mut trigger = wish.trigger.clone();
        let git = &mut trigger.git;
        if git.commit.is_empty() {
            if git.branch.is_empty() && git.tag.is_empty() {
                git.branch = repository.default_branch(project)?;
            }
            git.commit = repository.head(&git.branch, &git.tag)?;
        } else {
            repository.ensure(&git.commit)?;
        }
        if git.message.is_empty() || git.author.is_empty() {
            let said = repository.commit(&git.commit)?;
            git.message = said.title;
            git.author = said.author;
        }
        trigger.event.fork = wish.fork;
        if trigger.event.kind == EventKind::Manual && trigger.event.author.is_empty() {
            trigger.event.author = wish.by.strip_prefix("user:").unwrap_or(&wish.by).into();
        }
        Ok(trigger)
    }

    /// Files of pipelines at a commit.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(crate) fn files(
        &self,
        project: &Project,
        repository: &Repository,
        commit: &str,
    ) -> Result<Vec<String>, Refusal> {
        if !project.pipelines.is_empty() {
            return Ok(project.pipelines.clone());
        }
        let root = repository.list(commit, "")?;
        if let Some(name) = FILE_NAMES.iter().find(|name| root.iter().any(|file| file == **name)) {
            return Ok(vec![(*name).into()]);
        }
        let yaml = |name: &String| (name.ends_with(".yaml") || name.ends_with(".yml")) && !name.starts_with('.');
        let folder = repository.list(commit, FOLDER)?;
        Ok(folder.into_iter().filter(yaml).take(PIPELINES_MAX).map(|name| format!("{FOLDER}/{name}")).collect())
    }

    /// Reads one pipeline at a commit.
    ///
    /// # Errors
    /// The repository cannot be read, or has no such file there.
    pub(crate) fn read(&self, repository: &Repository, commit: &str, file: String) -> Result<Found, Refusal> {
        let bytes = match repository.read(commit, &file) {
            Ok(bytes) => bytes,
            Err(ReadError::NotFound) => {
                return Err(Refusal::NotFound(format!("there is no `{file}` at commit {}", short(commit))));
            }
            Err(ReadError::TooLarge) => {
                return Err(Refusal::Invalid(format!("`{file}` is larger than {FILE_BYTES_MAX} bytes")));
            }
            Err(ReadError::Outside) => return Err(Refusal::Invalid(format!("`{file}` is not in the repository"))),
            Err(ReadError::Other(why)) => return Err(Refusal::Unavailable(format!("cannot read `{file}`: {why}"))),
        };
        let (pipeline, report) = lang::load(&file, &bytes, &mut |path| repository.read(commit, path));
        let pipeline = pipeline.map(Arc::new).ok_or_else(|| report.render(false, 100));
        Ok(Found { pipeline })
    }
}

fn the_only_one(mut files: Vec<String>) -> Result<String, Refusal> {
    match files.len() {
        1 => Ok(files.remove(0)),
        0 => Err(Refusal::NotFound("there is no paceline.yaml at this commit, and nothing in .paceline/".into())),
        _ => Err(Refusal::Invalid(format!("there are {} pipelines, name one: {}", files.len(), files.join(", ")))),
    }
}

/// The first digits of a commit.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// What patterns of a `hash(…)` call mean.
fn globs(texts: &[String]) -> GlobList {
    GlobList(texts.iter().filter_map(|text| model::Glob::parse(text).ok()).collect())
}
/// On what terms a run of the project runs among others.
fn terms(wish: &RunWish, project: &Project) -> model::Terms {
    model::Terms {
        project: Some(project.id()),
        tenant: project.tenant.clone(),
        priority: wish.priority,
        held: (wish.fork && project.approve_forks).then(|| "a pull request of a fork".to_owned()),
        fork: wish.fork,
        by: wish.by.clone(),
        values: project.values.clone(),
        again: None,
    }
}
