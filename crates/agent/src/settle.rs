//! What becomes of an execution that ended: what is kept, compared, committed, recorded and noted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cas::{ActionRecord, CommitEnd, Layer, Tree};
use model::{AttemptEnd, AttemptResult, CacheMode, Cause, Traffic, Usage};

use crate::action::Action;
use crate::attempt::{Attempt, Bench};
use crate::cache_dirs::CacheUse;
use crate::config::Executor;
use crate::far::Job;
use crate::halt::Halt;
use crate::keep::{self, Kept, Workspace};
use crate::log::{self, Logged};
use crate::record::Fresh;
use crate::run::{Done, Inputs};
use crate::{shell, values, workspace};

/// An execution that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) bench: Bench,
    pub(crate) caches: Vec<CacheUse>,
    pub(crate) prepare: Duration,
    pub(crate) usage: Usage,
    pub(crate) traffic: Option<Traffic>,
    /// Its environment without secrets, when it failed: for its kept sandbox.
    pub(crate) env: BTreeMap<String, String>,
    /// Other users than ours may have written.
    pub(crate) ranged: bool,
    /// What a person should know of what was around it.
    pub(crate) notes: Vec<String>,
    pub(crate) logged: Logged,
}

impl Attempt<'_> {
    pub(crate) fn succeeded(
        &self,
        inputs: &Inputs,
        action: &Action,
        expected: Option<ActionRecord>,
        ran: Ran,
    ) -> Result<AttemptResult, Halt> {
        if let Some(why) = ran.logged.trouble.as_ref().filter(|_| self.agent.config.whole_logs) {
            let end = AttemptEnd::Failed(Cause::Infrastructure(format!("{why}; make room or name another folder")));
            return Ok(self.failed(inputs, action, end, ran));
        }
        let masker = &self.given.masker;
        let kept = values::read(&ran.bench.room.values(), masker)
            .map_err(Halt::from)
            .and_then(|values| Ok((values, self.keep(inputs, &ran)?)))
            .and_then(|(values, kept)| {
                let note = expected.map(|record| self.compare(&record, &values, &kept)).transpose()?;
                Ok((values, kept, note))
            });
        let (values, mut kept, note) = match kept {
            Ok(kept) => kept,
            Err(Halt::Ends(end)) => return Ok(self.failed(inputs, action, end, ran)),
            Err(again) => return Err(again),
        };
        let mut notes = std::mem::take(&mut kept.notes);
        notes.extend(note);
        notes.extend(ran.notes);
        notes.extend(self.commit_caches(ran.caches));
        let mut result = AttemptResult {
            prepare: ran.prepare,
            values,
            action: Some(action.digest),
            layer: kept.manifest,
            artifacts: std::mem::take(&mut kept.artifacts),
            reports: std::mem::take(&mut kept.reports),
            tail: ran.logged.tail,
            log_bytes: ran.logged.bytes,
            usage: ran.usage,
            traffic: ran.traffic,
            notes,
            ..AttemptResult::ended(AttemptEnd::Succeeded)
        };
        self.remember(inputs, action, kept, ran.bench.room.upper.clone());
        if self.command.cache == CacheMode::Auto && ran.logged.trouble.is_none() {
            result.notes.extend(self.flaky(self.agent.actions.outcomes(&action.digest), true));
            self.record(action, Some(self.fresh(&result, inputs.base.clone())), false);
        }
        result.notes.extend(ran.logged.trouble);
        ran.bench.room.give_back(self.run, &self.agent.host().home_points);
        Ok(result)
    }

    fn keep(&self, inputs: &Inputs, ran: &Ran) -> Result<Kept, Halt> {
        let capture = |globs: Option<&model::GlobList>| self.capture(inputs, ran, globs);
        let workspace = Workspace { inputs, root: &self.run.project.root, store: &self.agent.store, capture: &capture };
        workspace.keep(self.command, &self.run.project.artifact_dir)
    }

    fn capture(
        &self,
        inputs: &Inputs,
        ran: &Ran,
        globs: Option<&model::GlobList>,
    ) -> Result<cas::Captured, cas::LayerError> {
        let upper = ran.bench.room.upper.clone();
        if ran.ranged {
            workspace::take_over(&upper).map_err(|source| cas::StoreError::Io {
                act: "become the owner of what was written in",
                path: upper.clone(),
                source,
            })?;
        }
        match self.agent.config.executor {
            Executor::Sandbox => cas::capture(&upper, globs, &self.agent.store),
            // A plain directory is the whole workspace, and no lower directory for anybody.
            Executor::Process => cas::capture_diff(&upper, &inputs.shown, globs, &self.agent.store)
                .map(|captured| cas::Captured { whole: false, ..captured }),
        }
    }

    fn remember(&self, inputs: &Inputs, action: &Action, kept: Kept, upper: PathBuf) {
        let place = keep::place_of(&kept, upper);
        let overlaid = |layer: &Arc<Layer>| inputs.full.overlay(layer);
        self.run.ended(Done {
            spec: self.spec.clone(),
            stack: inputs.stack.iter().map(|done| done.spec.node).collect(),
            tree: kept.layer.as_ref().map_or_else(|| inputs.full.clone(), overlaid),
            layer: kept.layer,
            manifest: kept.manifest,
            place: Mutex::new(place),
            action: Some(action.digest),
            elsewhere: false,
            healing: Mutex::default(),
        });
    }

    fn fresh(&self, result: &AttemptResult, base: Tree) -> Fresh {
        let record = ActionRecord {
            run: self.run.id.clone(),
            number: self.spec.number,
            finished: log::now(),
            exit: 0,
            took: self.since.elapsed(),
            values: result.values.clone(),
            layer: result.layer,
            log: None,
            artifacts: result.artifacts.clone(),
            reports: result.reports.clone(),
            cpu: result.usage.cpu,
            memory_peak: result.usage.memory_peak,
        };
        Fresh { record, log: log::path(&self.run.project.log_dir, self.spec), base }
    }

    /// `--verify`: what the cache says against what came out just now.
    fn compare(&self, record: &ActionRecord, values: &BTreeMap<String, String>, kept: &Kept) -> Result<String, Halt> {
        let differs = |what: String| {
            Halt::from(Cause::Broken(format!(
                "not reproducible: the result of run {} and this one differ in {what}",
                record.number
            )))
        };
        if record.values != *values {
            return Err(differs("the values they hand on".into()));
        }
        let before = match &record.layer {
            Some(manifest) => Layer::load(&manifest.digest, &self.agent.store).map_err(|e| keep::layer_trouble(&e))?,
            None => return Ok("nothing to compare: the cached result keeps no files".into()),
        };
        let now = kept.layer.as_deref().cloned().unwrap_or_default();
        match keep::layer_difference(&before, &now) {
            Some(what) => Err(differs(what)),
            None => Ok(format!("reproducible: the same {} files as in run {}", now.entries.len(), record.number)),
        }
    }

    /// A cache that cannot be kept costs time, not the step.
    fn commit_caches(&self, caches: Vec<CacheUse>) -> Vec<String> {
        let mut notes = Vec::new();
        for CacheUse { lease, upper, key, share } in caches {
            let committed = self.agent.named.commit(lease, upper);
            if let (Some(far), Some(asked), Ok(_)) = (&self.run.far, share, &committed) {
                far.share(Job::Cache(asked));
            }
            match committed {
                Ok(CommitEnd::Committed) => {}
                Ok(CommitEnd::Stale) => {
                    notes.push(format!("what was added to cache `{key}` was dropped: another step was faster"))
                }
                Err(error) => notes.push(format!("what was added to cache `{key}` was not kept: {error}")),
            }
        }
        notes
    }

    pub(crate) fn failed(&self, inputs: &Inputs, action: &Action, end: AttemptEnd, ran: Ran) -> AttemptResult {
        let capture = |globs: Option<&model::GlobList>| self.capture(inputs, &ran, globs);
        let workspace = Workspace { inputs, root: &self.run.project.root, store: &self.agent.store, capture: &capture };
        let reports = workspace.reports_of_failure(self.command);
        let mut notes: Vec<String> = ran.logged.trouble.iter().chain(&ran.notes).cloned().collect();
        if matches!(end, AttemptEnd::Failed(Cause::Exit(_) | Cause::Signal(_)))
            && let Ok(outcomes) = self.agent.actions.note_outcome(&action.digest, false)
        {
            notes.extend(self.flaky(outcomes, false));
        }
        let keeps = self.agent.config.keep_failed && self.agent.config.executor == Executor::Sandbox;
        if keeps && matches!(end, AttemptEnd::Failed(_)) {
            notes.extend(shell::keep_later(self, inputs, &ran.bench.room, ran.env).err());
        } else {
            ran.bench.room.give_back(self.run, &self.agent.host().home_points);
        }
        AttemptResult {
            prepare: ran.prepare,
            action: Some(action.digest),
            reports,
            tail: ran.logged.tail,
            log_bytes: ran.logged.bytes,
            usage: ran.usage,
            traffic: ran.traffic,
            notes,
            ..AttemptResult::ended(end)
        }
    }

    /// `outcomes` are the former ones; a failure of now is already among them, a success not yet.
    fn flaky(&self, outcomes: cas::Outcomes, succeeded_now: bool) -> Option<String> {
        let succeeded = outcomes.succeeded + u32::from(succeeded_now);
        (succeeded > 0 && outcomes.failed > 0).then(|| {
            format!(
                "flaky: with the very same inputs this step has succeeded {} and failed {}",
                times(succeeded),
                times(outcomes.failed)
            )
        })
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_string(),
        2 => "twice".to_string(),
        _ => format!("{count} times"),
    }
}
