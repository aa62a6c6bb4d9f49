//! Scenes: a repository, an agent, steps that it executes.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use agent::{Agent, Config, Executor, Project, Report, Secret};
use model::{
    ArtifactSpec, AttemptEnd, AttemptNo, AttemptResult, AttemptSpec, CacheSpec, Cause, CommandSpec, Fence, Glob,
    GlobList, NodeIx, Resources, RunId, RunNumber, Work,
};
use tempfile::TempDir;

/// A repository with an agent that works for it.
pub struct World {
    pub dir: TempDir,
    pub agent: Option<Agent>,
    pub reports: Option<Receiver<Report>>,
    pub executor: Executor,
    pub secrets: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    pub number: u64,
    names: Vec<String>,
    fences: u64,
}

/// How a step ended, with the lines it was heard to say.
#[derive(Debug)]
pub struct Seen {
    pub result: Arc<AttemptResult>,
    pub lines: Vec<String>,
}

/// Whether sandboxes can be made here. Where the tests must not be left out (CI, unless inside of a sandbox already)
/// that is an error.
pub fn sandboxes() -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    let sandbox::Ability::No { why, advice } = sandbox::probe(dir.path()).sandbox else { return true };
    let is = |name: &str| std::env::var(name).is_ok_and(|value| value == "true");
    assert!(!is("CI") || is("PACE"), "no sandbox can be made here: {why}; {advice}");
    eprintln!("left out, because no sandbox can be made here: {why}; {advice}");
    false
}

impl World {
    pub fn new() -> World {
        World::of(Executor::Sandbox)
    }

    pub fn of(executor: Executor) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("repo")).expect("repo");
        let env = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"]
            .into_iter()
            .filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?)))
            .collect();
        let secrets = BTreeMap::new();
        let (agent, reports, names) = (None, None, Vec::new());
        World { dir, agent, reports, executor, secrets, env, number: 0, names, fences: 0 }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Writes a file of the repository.
    pub fn file(&mut self, path: &str, text: &str) -> &mut World {
        let path = self.path("repo").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("its folder");
        fs::write(path, text).expect("a file");
        self
    }

    pub fn config(&self) -> Config {
        Config {
            cache_dir: self.path("cache"),
            state_dir: self.path("state"),
            slots: 2,
            executor: self.executor,
            caller_env: self.env.clone(),
            secrets: self.secrets.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect(),
            quota: Default::default(),
            full_network: Default::default(),
            images: image::Options::new(&self.path("repo")),
            open_files_soft: None,
            shared: None,
            whole_logs: false,
            keep_failed: true,
        }
    }

    pub fn run_id(&self) -> RunId {
        RunId::new(format!("r{}", self.number))
    }

    pub fn logs(&self) -> PathBuf {
        self.path(&format!("logs/{}", self.number))
    }

    pub fn artifacts(&self) -> PathBuf {
        self.path(&format!("artifacts/{}", self.number))
    }

    /// Ends the run if there is one, and begins the next with a fresh look at the repository. Returns the old one's notes.
    pub fn begin(&mut self) -> Vec<String> {
        let notes = self.end();
        self.number += 1;
        self.names.clear();
        if self.agent.is_none() {
            let (to, from) = channel();
            self.agent = Some(Agent::start(self.config(), to).expect("an agent"));
            self.reports = Some(from);
        }
        let root = self.path("repo");
        let snapshot = cas::Snapshot::take(&root, &self.path("index")).expect("a snapshot");
        let project = Project {
            root,
            key: "test".into(),
            snapshot: Arc::new(snapshot),
            lock: Arc::new(image::Lock::empty()),
            tenant: "test".into(),
            cache_scope: "test".into(),
            shared_scope: None,
            log_dir: self.logs(),
            cache: None,
            artifact_dir: self.artifacts(),
        };
        self.agent().begin(&self.run_id(), project);
        notes
    }

    pub fn end(&mut self) -> Vec<String> {
        match &self.agent {
            Some(agent) => agent.end(&self.run_id()),
            None => Vec::new(),
        }
    }

    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("begin first")
    }

    /// A step that can be changed before it is executed.
    pub fn step(&mut self, name: &str, script: &str) -> Step {
        self.names.push(name.to_string());
        self.fences += 1;
        let spec = AttemptSpec {
            run: self.run_id(),
            number: RunNumber(self.number),
            node: NodeIx(self.names.len() as u32 - 1),
            name: name.into(),
            attempt: AttemptNo(1),
            fence: Fence(self.fences),
            needs: Vec::new(),
            work: Work::ReadFile(String::new()),
            timeout_total: Duration::from_secs(600),
            timeout_idle: None,
            resources: Resources::default(),
        };
        let command = CommandSpec { script: script.into(), ..empty() };
        Step { spec, command, names: self.names.clone() }
    }

    pub fn start(&self, step: Step) -> Arc<AttemptSpec> {
        let spec = step.spec();
        self.agent().execute(spec.clone());
        spec
    }

    /// Waits for one attempt's end.
    pub fn wait(&self, spec: &AttemptSpec) -> Seen {
        let mut lines = Vec::new();
        loop {
            let report = self.reports.as_ref().expect("begin first").recv_timeout(Duration::from_secs(660));
            match report.expect("a report in time") {
                Report::Line(line) if line.node == spec.node => lines.push(line.text.clone()),
                Report::Finished { node, fence, result, .. } if (node, fence) == (spec.node, spec.fence) => {
                    return Seen { result, lines };
                }
                _ => {}
            }
        }
    }

    /// Waits for the ends of two attempts that run side by side.
    pub fn wait_both(&self, one: &AttemptSpec, other: &AttemptSpec) -> Vec<AttemptEnd> {
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let report = self.reports.as_ref().expect("begin first").recv_timeout(Duration::from_secs(660));
            if let Report::Finished { fence, result, .. } = report.expect("a report in time")
                && [one.fence, other.fence].contains(&fence)
            {
                ends.push(result.end.clone());
            }
        }
        ends
    }

    pub fn run(&self, step: Step) -> Seen {
        let spec = self.start(step);
        self.wait(&spec)
    }

    /// A run of one step.
    pub fn only(&mut self, name: &str, script: &str) -> Seen {
        self.begin();
        let step = self.step(name, script);
        self.run(step)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
        self.agent = None;
    }
}

fn empty() -> CommandSpec {
    CommandSpec { has_dependants: true, ..CommandSpec::new("") }
}

pub fn globs(patterns: &[&str]) -> GlobList {
    GlobList(patterns.iter().map(|pattern| Glob::parse(pattern).expect(pattern)).collect())
}

/// A step before it is executed.
pub struct Step {
    pub spec: AttemptSpec,
    pub command: CommandSpec,
    names: Vec<String>,
}

impl Step {
    pub fn needs(mut self, names: &[&str]) -> Step {
        let at = |name: &&str| NodeIx(self.names.iter().position(|known| known == name).expect("a step") as u32);
        self.spec.needs = names.iter().map(at).collect();
        self
    }
    pub fn inputs(mut self, patterns: &[&str]) -> Step {
        self.command.inputs = Some(globs(patterns));
        self
    }
    pub fn outputs(mut self, patterns: &[&str]) -> Step {
        self.command.outputs = Some(globs(patterns));
        self
    }
    pub fn artifact(mut self, name: &str, path: &str, version: Option<&str>) -> Step {
        let version = version.map(String::from);
        self.command.artifacts.push(ArtifactSpec { name: name.into(), path: path.into(), version });
        self
    }
    pub fn cache(mut self, path: &str, key: &str) -> Step {
        self.command.caches.push(CacheSpec { path: path.into(), key: key.into(), fallback: Vec::new() });
        self
    }
    pub fn secret(mut self, name: &str) -> Step {
        self.command.secrets.push(name.into());
        self
    }
    pub fn with(mut self, change: impl FnOnce(&mut CommandSpec)) -> Step {
        change(&mut self.command);
        self
    }
    pub fn timeout(mut self, total: Duration, idle: Option<Duration>) -> Step {
        (self.spec.timeout_total, self.spec.timeout_idle) = (total, idle);
        self
    }
    pub fn reads(mut self, path: &str) -> Arc<AttemptSpec> {
        self.spec.work = Work::ReadFile(path.into());
        Arc::new(self.spec)
    }
    pub fn spec(mut self) -> Arc<AttemptSpec> {
        self.spec.work = Work::Command(Arc::new(self.command));
        Arc::new(self.spec)
    }
}

impl Seen {
    pub fn ok(&self) -> &Seen {
        assert_eq!(self.result.end, AttemptEnd::Succeeded, "{self:#?}");
        self
    }
    pub fn executed(&self) -> &Seen {
        assert!(self.ok().result.cached.is_none(), "{self:#?}");
        self
    }
    pub fn cached(&self) -> &Seen {
        assert!(self.ok().result.cached.is_some(), "{self:#?}");
        self
    }
    pub fn says(&self, lines: &[&str]) -> &Seen {
        assert_eq!(self.lines, lines, "{self:#?}");
        self
    }
    pub fn cause(&self) -> &Cause {
        match &self.result.end {
            AttemptEnd::Failed(cause) => cause,
            other => panic!("it ended with {other:?}: {self:#?}"),
        }
    }
    pub fn broken(&self) -> &str {
        match self.cause() {
            Cause::Broken(why) => why,
            other => panic!("not broken but {other:?}"),
        }
    }
    pub fn noted(&self, part: &str) -> bool {
        self.result.notes.iter().any(|note| note.contains(part))
    }
}

/// All files below a folder.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) { open.push(path) } else { found.push(path) }
        }
    }
    found
}
