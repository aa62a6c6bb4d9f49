//! Deliveries become runs: in order per project, exactly once, and none of them without a sentence on what became of it.
//!
//! A delivery is settled after its runs are durable. A crash in between repeats it; the ids of its runs follow from its own, so
//! that the repetition finds them there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forge::{Happening, Kind};
use model::{ProjectId, RunId, Trigger};
use store::{Batch, Delivery, Errand, Settled};

use crate::Shared;
use crate::clock::now;
use crate::desk::{Granted, Refusal, RunWish};
use crate::errands;
use crate::records::Project;
use crate::schedule;
use crate::sources::{Repository, short};

/// Deliveries that are looked at together.
const DELIVERIES_MAX: usize = 100;
/// Projects whose deliveries are worked on at a time: most of it is waiting for git.
const PROJECTS_MAX: usize = 8;
/// How often it is looked for deliveries that other replicas took in.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure of git or the store: doubled each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// A delivery whose repository cannot be reached for so long is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is being worked on, and what went wrong lately.
#[derive(Debug, Default)]
pub struct Intake(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    busy: BTreeSet<ProjectId>,
    troubles: BTreeMap<ProjectId, Trouble>,
}

/// Why the deliveries of a project wait.
#[derive(Clone, Debug)]
struct Trouble {
    why: String,
    tries: u32,
    not_before: Instant,
}

impl Intake {
    /// Why the deliveries of a project wait, if something is in their way: git or the store cannot be reached.
    pub fn trouble(&self, project: &ProjectId) -> Option<String> {
        self.state().troubles.get(project).map(|trouble| format!("{} (try {})", trouble.why, trouble.tries))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this thread is to work on a project now.
    fn take(&self, project: &ProjectId) -> bool {
        let mut state = self.state();
        let early = state.troubles.get(project).is_some_and(|trouble| trouble.not_before > Instant::now());
        !early && state.busy.len() < PROJECTS_MAX && state.busy.insert(project.clone())
    }

    fn give_back(&self, project: &ProjectId, trouble: Option<String>) {
        let mut state = self.state();
        state.busy.remove(project);
        let Some(why) = trouble else {
            state.troubles.remove(project);
            return;
        };
        let tries = state.troubles.get(project).map_or(1, |trouble| trouble.tries.saturating_add(1));
        let pause = PAUSE.0.saturating_mul(1 << (tries - 1).min(16)).min(PAUSE.1);
        let not_before = Instant::now() + pause;
        state.troubles.insert(project.clone(), Trouble { why, tries, not_before });
    }
}

/// Works on deliveries until the server ends.
pub(crate) fn run(shared: &Arc<Shared>) {
    while shared.deliveries.wait(LOOK_EVERY) {
        if shared.desk.epoch().is_none() {
            continue;
        }
        let open = shared.store.open_deliveries(DELIVERIES_MAX).unwrap_or_default();
        let mut projects: BTreeMap<ProjectId, Vec<Delivery>> = BTreeMap::new();
        for delivery in open {
            projects.entry(delivery.project.clone()).or_default().push(delivery);
        }
        for (project, deliveries) in projects {
            if shared.intake.take(&project) {
                work(shared.clone(), project, deliveries);
            }
        }
    }
}

/// A thread for the open deliveries of one project.
fn work(shared: Arc<Shared>, project: ProjectId, deliveries: Vec<Delivery>) {
    let (kept, name) = (shared.clone(), project.clone());
    let started = std::thread::Builder::new().name("intake".into()).spawn(move || {
        let trouble = deliveries.iter().find_map(|delivery| deal(&shared, delivery).err());
        if let Some(why) = &trouble {
            tracing::warn!(project = project.as_str(), "deliveries wait: {why}");
        }
        let again = trouble.is_none();
        shared.intake.give_back(&project, trouble);
        if again {
            // What came meanwhile.
            shared.deliveries.wake();
        }
    });
    if let Err(error) = started {
        kept.intake.give_back(&name, Some(format!("no thread could be started: {error}")));
    }
}

/// Deals with a delivery and settles it; the error says why it must wait.
fn deal(shared: &Shared, delivery: &Delivery) -> Result<(), String> {
    let outcome = match consider(shared, delivery) {
        Ok(outcome) => outcome,
        Err(Refusal::NotLeader) => return Err("another server leads now".into()),
        Err(Refusal::Unavailable(why)) if now().since(delivery.at) < GIVEN_UP_AFTER => return Err(why),
        Err(refusal) => format!("given up: {refusal}"),
    };
    tracing::info!(delivery = delivery.id, "{outcome}");
    let settled = Settled { id: delivery.id.clone(), at: now(), outcome };
    let batch = Batch { settled: vec![settled], ..Batch::default() };
    shared.store.append(None, batch).map(drop).map_err(|error| error.to_string())
}

/// A sentence on what became of a delivery.
fn consider(shared: &Shared, delivery: &Delivery) -> Result<String, Refusal> {
    let project = match shared.sources.project(delivery.project.as_str()) {
        Err(Refusal::NotFound(why)) => return Ok(why),
        other => other?,
    };
    let kind = Kind::of_word(&delivery.source).unwrap_or(Kind::Generic);
    let happenings = match forge::parse(kind, &delivery.headers, &delivery.body) {
        Ok(happenings) => happenings,
        Err(error) => return Ok(error.to_string()),
    };
    let mut sentences = Vec::new();
    for (at, happening) in happenings.iter().enumerate() {
        let source = format!("{}/{at}", delivery.id);
        sentences.push(happened(shared, &project, kind, happening, &source)?);
    }
    Ok(sentences.join("; "))
}

fn happened(
    shared: &Shared,
    project: &Project,
    kind: Kind,
    happening: &Happening,
    source: &str,
) -> Result<String, Refusal> {
    let (revision, refs) = match happening {
        Happening::Nothing(why) => return Ok(why.clone()),
        Happening::Ping => return Ok("a ping: the webhook works".into()),
        _ => (happening.revision().unwrap_or_default(), happening.refs(kind)),
    };
    let repository = shared.sources.repository(project)?;
    let commit = match repository.bring(&revision, &refs) {
        Err(Refusal::NotFound(why) | Refusal::Invalid(why)) => return Ok(why),
        other => other?,
    };
    let changed = changed(&repository, happening, &commit)?;
    let Some(trigger) = happening.trigger(&commit, changed) else { return Ok("nothing that starts a run".into()) };
    if let Happening::Push(push) = happening {
        schedule::learn(shared, project, &repository, &push.branch, &commit)?;
    }
    let files = shared.sources.files(project, &repository, &commit)?;
    if files.is_empty() {
        return Ok(format!("commit {} has no pipeline", short(&commit)));
    }
    let started = files.into_iter().map(|file| start(shared, project, &repository, &trigger, file, source));
    Ok(started.collect::<Result<Vec<_>, _>>()?.join("; "))
}

/// What git says that changed; what it cannot say is not known, and holds nothing back.
fn changed(repository: &Repository, happening: &Happening, commit: &str) -> Result<Option<Vec<String>>, Refusal> {
    match happening {
        Happening::Push(push) => match &push.before {
            Some(before) => repository.changed(before, commit, false),
            None => Ok(None),
        },
        Happening::PullRequest(request) => {
            let base = match request.base.is_empty() {
                true => repository.bring(&format!("refs/heads/{}", request.base_branch), &[])?,
                false => request.base.clone(),
            };
            repository.changed(&base, commit, true)
        }
        _ => Ok(None),
    }
}

/// One pipeline for one happening: a run, or a sentence why not.
fn start(
    shared: &Shared,
    project: &Project,
    repository: &Repository,
    trigger: &Trigger,
    file: String,
    source: &str,
) -> Result<String, Refusal> {
    let run = id(&format!("{source}/{file}"));
    if let Some(known) = shared.store.run(&run)? {
        return Ok(format!("{file}: run {}", known.number));
    }
    let commit = &trigger.git.commit;
    let pipeline = match shared.sources.read(repository, commit, file.clone()) {
        Ok(found) => found.pipeline,
        Err(Refusal::NotFound(why) | Refusal::Invalid(why)) => Err(why),
        Err(refusal) => return Err(refusal),
    };
    let pipeline = match pipeline {
        Ok(pipeline) => pipeline,
        Err(report) => {
            tell(shared, errands::broken(project, commit, &file, &report, now()))?;
            return Ok(format!("{file} is no valid pipeline at {}:\n{report}", short(commit)));
        }
    };
    if let Err(why) = engine::trigger::fires(&pipeline.on, trigger) {
        // Branch rules that require this pipeline would wait for it for ever. Other branches are none of its business.
        if why.contains("`paths`") {
            tell(shared, errands::skipped(project, commit, &pipeline.name, &why, now()))?;
        }
        return Ok(format!("{file}: skipped: {why}"));
    }
    let wish = RunWish {
        run,
        project: project.id(),
        pipeline: file.clone(),
        trigger: trigger.clone(),
        params: Vec::new(),
        selection: model::Selection::default(),
        by: format!("delivery:{source}"),
        priority: 0,
        fork: trigger.event.fork,
    };
    let granted = wished(shared, project, repository, &wish, &pipeline);
    match granted {
        Ok(granted) => Ok(format!("{file}: run {}", granted.number)),
        Err(Refusal::Invalid(why) | Refusal::NotFound(why) | Refusal::Conflict(why)) => {
            Ok(format!("{file}: no run: {why}"))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Has the forge told, if it is.
fn tell(shared: &Shared, errand: Option<Errand>) -> Result<(), Refusal> {
    let Some(errand) = errand else { return Ok(()) };
    shared.store.append(None, Batch { errands: vec![errand], ..Batch::default() })?;
    Ok(())
}

/// Has a run of a pipeline that was read.
pub(crate) fn wished(
    shared: &Shared,
    project: &Project,
    repository: &Repository,
    wish: &RunWish,
    pipeline: &Arc<model::Pipeline>,
) -> Result<Granted, Refusal> {
    let trigger = shared.sources.settled(project, repository, wish)?;
    let order = shared.sources.order_of(wish, project, repository, trigger, pipeline)?;
    shared.desk.order_blocking(order)
}

/// The id of a run that follows from what asks for it.
pub(crate) fn id(source: &str) -> RunId {
    let digits = access::sha256(source);
    RunId::new(digits.get(..20).unwrap_or(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_whose_git_fails_waits_longer_each_time_and_is_worked_on_by_one_thread() {
        let (intake, project) = (Intake::default(), ProjectId::new("web"));
        assert!(intake.take(&project) && !intake.take(&project));
        intake.give_back(&project, Some("no route".into()));
        assert_eq!(intake.trouble(&project).as_deref(), Some("no route (try 1)"));
        assert!(!intake.take(&project), "not before its time");
        let first = intake.state().troubles[&project].not_before;
        intake.give_back(&project, Some("no route".into()));
        assert!(intake.state().troubles[&project].not_before > first + Duration::from_millis(500));
        intake.give_back(&project, None);
        assert!(intake.trouble(&project).is_none() && intake.take(&project));
    }

    #[test]
    fn the_id_of_a_run_follows_from_its_delivery() {
        assert_eq!(id("web/github/1/0/paceline.yaml"), id("web/github/1/0/paceline.yaml"));
        assert_ne!(id("web/github/1/0/paceline.yaml"), id("web/github/2/0/paceline.yaml"));
    }
}
