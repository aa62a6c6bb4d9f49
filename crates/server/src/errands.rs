//! What goes out: statuses for forges, notices for people. An errand is durable together with the fact that it follows from,
//! and is gone only once it is done: at least once, never lost, the latest wins.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use forge::Kind;
use forge::status::{self, State, Status, Target};
use model::{ProjectId, RunEvent, RunOutcome, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Batch, Change, Errand, ProjectFact, Store};

use crate::Shared;
use crate::clock::now;
use crate::desk::RunCard;
use crate::notify;
use crate::records::Project;
use crate::stopping::Stopping;

mod post;

pub(crate) use post::{Poster, Sent};

/// How often it is looked for errands that are due.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Errands of one look.
const ERRANDS_MAX: usize = 256;
/// Errands that are carried out at a time: most of it is waiting for others.
const HANDS: usize = 8;
/// Before the second try, doubled each time, and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// After so many tries, some three days, it is given up.
const TRIES_MAX: u32 = 80;
/// A git that answers questions about a repository ends when nobody asked for so long.
const GIT_RESTS_AFTER: Duration = Duration::from_secs(60);
/// Kinds of errands.
const STATUS: &str = "status";
const NOTICE: &str = "notice";

/// What a project wants to go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// A forge hears of commits.
    pub statuses: bool,
    /// Somebody hears of ended runs.
    pub notices: bool,
}

impl Reports {
    /// By its settings.
    pub fn of(project: &Project) -> Reports {
        let is_forge = Kind::of_word(&project.forge).is_some_and(|kind| !matches!(kind, Kind::Generic | Kind::Git));
        Reports { statuses: is_forge && !project.credential.is_empty(), notices: !project.notify.is_empty() }
    }
}

/// What projects want to go out, read when a run is asked for: so that runs nobody hears of cost nothing.
#[derive(Debug, Default)]
pub struct Reporters(BTreeMap<ProjectId, Reports>);

impl Reporters {
    /// Errands that follow from a fact.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn errands(
        &mut self,
        store: &Store,
        fact: &ProjectFact,
        card: &RunCard,
    ) -> Result<Vec<Errand>, store::StoreError> {
        let is_request = matches!(fact.fact.event, RunEvent::Requested { .. });
        if !is_request && !matches!(fact.fact.event, RunEvent::Started | RunEvent::Ended { .. }) {
            return Ok(Vec::new());
        }
        let reports = match self.0.get(&fact.project) {
            Some(reports) if !is_request => *reports,
            _ => {
                let kept = store.record::<Project>(fact.project.as_str())?;
                let reports = kept.map(|kept| Reports::of(&kept.value)).unwrap_or_default();
                self.0.insert(fact.project.clone(), reports);
                reports
            }
        };
        Ok(of(fact, card, reports))
    }
}

/// What a forge is told of a pipeline at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    project: String,
    commit: String,
    pipeline: String,
    /// Of the run; 0 for a pipeline that did not run.
    number: u64,
    /// 0 asked for, 1 started, 2 ended: later ones of a run make earlier ones void.
    rank: u8,
    state: State,
    description: String,
}

impl Report {
    /// What it is about: of these the latest counts.
    fn topic(&self) -> (&str, &str, &str) {
        (&self.project, &self.commit, &self.pipeline)
    }

    fn id(&self, rank: u8) -> String {
        format!("{STATUS}/{}/{}/{}#{:010}.{rank}", self.project, self.commit, self.pipeline, self.number)
    }

    fn errand(self, due: Timestamp) -> Errand {
        let body = serde_json::to_value(&self).unwrap_or_default();
        Errand { id: self.id(self.rank), kind: STATUS.into(), due, tries: 0, body }
    }
}

/// Errands that follow from a fact of a run: to be appended with it.
pub fn of(fact: &ProjectFact, card: &RunCard, reports: Reports) -> Vec<Errand> {
    let (rank, state, description) = match &fact.fact.event {
        RunEvent::Requested { .. } => (0, State::Queued, "waits for its turn"),
        RunEvent::Started => (1, State::Running, "runs"),
        RunEvent::Ended { outcome } => (2, state_of(*outcome), sentence(*outcome)),
        _ => return Vec::new(),
    };
    let mut errands = Vec::new();
    let commit = &card.trigger.git.commit;
    if reports.statuses && !commit.is_empty() {
        let project = fact.project.as_str().to_owned();
        let prefix = format!("{project}/");
        let pipeline = card.brief.key.strip_prefix(&prefix).unwrap_or(&card.brief.key).to_owned();
        let (commit, number, description) = (commit.clone(), card.brief.number, description.to_owned());
        errands.push(Report { project, commit, pipeline, number, rank, state, description }.errand(fact.fact.at));
    }
    if reports.notices && rank == 2 {
        let body = serde_json::json!({ "project": fact.project.as_str(), "run": fact.fact.run.as_str() });
        let id = format!("{NOTICE}/{}", fact.fact.run);
        errands.push(Errand { id, kind: NOTICE.into(), due: fact.fact.at, tries: 0, body });
    }
    errands
}

/// A pipeline that does not run for a commit because nothing that it looks at changed. To the forge that is a success:
/// branch rules that require it would wait for ever otherwise. `None` when no forge is told.
pub fn skipped(project: &Project, commit: &str, pipeline: &str, why: &str, at: Timestamp) -> Option<Errand> {
    unrun(project, commit, pipeline, State::Success, format!("skipped: {why}"), at)
}

/// A pipeline that cannot run for a commit: its file is wrong. `None` when no forge is told.
pub fn broken(project: &Project, commit: &str, pipeline: &str, why: &str, at: Timestamp) -> Option<Errand> {
    let line = why.lines().find(|line| !line.trim().is_empty()).unwrap_or("the pipeline is wrong");
    unrun(project, commit, pipeline, State::Error, line.to_owned(), at)
}

fn unrun(
    project: &Project,
    commit: &str,
    pipeline: &str,
    state: State,
    description: String,
    at: Timestamp,
) -> Option<Errand> {
    let (name, commit, pipeline) = (project.name.clone(), commit.to_owned(), pipeline.to_owned());
    let report = Report { project: name, commit, pipeline, number: 0, rank: 2, state, description };
    Reports::of(project).statuses.then(|| report.errand(at))
}

fn state_of(outcome: RunOutcome) -> State {
    match outcome {
        RunOutcome::Succeeded => State::Success,
        RunOutcome::Failed => State::Failure,
        RunOutcome::Infrastructure | RunOutcome::Refused => State::Error,
        RunOutcome::Cancelled => State::Cancelled,
    }
}

fn sentence(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "all steps passed",
        RunOutcome::Failed => "a step failed",
        RunOutcome::Infrastructure => "something around the steps failed",
        RunOutcome::Refused => "a step asks for what is not to be had",
        RunOutcome::Cancelled => "cancelled",
    }
}

/// What came of an errand.
pub(crate) enum Came {
    /// It is done, or there is nothing to do.
    Done,
    /// It is done by these.
    Into(Vec<Errand>),
    /// It did not work now.
    Again(String),
    /// It will never work.
    Never(String),
}

impl Came {
    /// What an answer means.
    pub(crate) fn of(sent: Sent) -> Came {
        match sent {
            Sent::Taken => Came::Done,
            Sent::Later(why) => Came::Again(why),
            Sent::Refused(why) => Came::Never(why),
        }
    }
}

/// Carries errands out until the server ends, which this does not hold up. Only the server that leads does.
pub(crate) fn run(shared: &Weak<Shared>, stopping: &Stopping) {
    let poster = Poster::new();
    while stopping.wait(LOOK_EVERY) {
        let Some(shared) = shared.upgrade() else { return };
        shared.sources.rest(GIT_RESTS_AFTER);
        while shared.desk.epoch().is_some() && round(&shared, &poster) {}
    }
}

/// Carries out what is due; whether there may be more.
fn round(shared: &Shared, poster: &Poster) -> bool {
    let due = match shared.store.errands_due(now(), ERRANDS_MAX) {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!("errands wait: {error}");
            return false;
        }
    };
    if due.is_empty() {
        return false;
    }
    let (latest, void) = latest(due);
    let waiting = Mutex::new(latest.into_iter());
    let batch = Mutex::new(Batch { errands_done: void, ..Batch::default() });
    // Hands share the list and what comes of it.
    std::thread::scope(|hands| {
        for _ in 0..HANDS {
            hands.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(errand) = next else { return };
                    let came = carry_out(shared, poster, &errand);
                    settle(&mut batch.lock().unwrap_or_else(PoisonError::into_inner), errand, came);
                }
            });
        }
    });
    let batch = batch.into_inner().unwrap_or_else(PoisonError::into_inner);
    match shared.store.append(None, batch) {
        Ok(_) => true,
        // They are done again, which receivers stand.
        Err(error) => {
            tracing::warn!("errands are done again: {error}");
            false
        }
    }
}

/// Of several statuses about one thing the latest, and the ids of the others, which nobody needs any more.
fn latest(due: Vec<Errand>) -> (Vec<Errand>, Vec<String>) {
    let mut topics: BTreeMap<String, Errand> = BTreeMap::new();
    let mut void = Vec::new();
    for errand in due {
        let topic = match report(&errand) {
            Some(report) => format!("{:?}", report.topic()),
            None => errand.id.clone(),
        };
        // Ids of one topic sort by number and rank.
        match topics.entry(topic) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(errand)),
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                let older = if errand.id > taken.get().id { taken.insert(errand) } else { errand };
                void.push(older.id);
            }
        }
    }
    (topics.into_values().collect(), void)
}

fn report(errand: &Errand) -> Option<Report> {
    (errand.kind == STATUS).then(|| Report::deserialize(&errand.body).ok()).flatten()
}

fn carry_out(shared: &Shared, poster: &Poster, errand: &Errand) -> Came {
    match (errand.kind.as_str(), report(errand)) {
        (STATUS, Some(report)) => tell_forge(shared, poster, &report),
        (NOTICE, _) => notify::carry_out(shared, poster, errand),
        (kind, _) => Came::Never(format!("nobody here knows what `{kind}` is")),
    }
}

fn tell_forge(shared: &Shared, poster: &Poster, report: &Report) -> Came {
    let project = match shared.store.record::<Project>(&report.project) {
        Ok(Some(kept)) => kept.value,
        Ok(None) => return Came::Done,
        Err(error) => return Came::Again(error.to_string()),
    };
    let credential = match project.credential_in_clear(&shared.authentication.keys) {
        Ok(credential) => credential,
        Err(error) => return Came::Never(format!("the credential of the project: {error}")),
    };
    let kind = Kind::of_word(&project.forge).unwrap_or(Kind::Generic);
    let or =
        |text: &str, usual: Option<String>| if text.is_empty() { usual.unwrap_or_default() } else { text.to_owned() };
    let api = or(&project.forge_api, status::api_of(kind, &project.repository));
    let name = or(&project.forge_name, status::name_of(&project.repository));
    let place = match report.number {
        0 => view::page::path::within(&project.name, "deliveries"),
        number => view::page::path::run(&project.name, model::RunNumber(number)),
    };
    let (context, url) = (format!("paceline/{}", report.pipeline), format!("{}{place}", shared.config.url));
    let told = Status { state: report.state, context: &context, description: &report.description, url: &url };
    let target = Target { kind, api: api.trim_end_matches('/'), name: &name, credential: &credential };
    match status::request(target, &report.commit, &told) {
        Ok(request) => match Came::of(poster.post(&request.url, &request.headers, &request.body)) {
            // GitLab refuses a state that it has already.
            Came::Never(why) if kind == Kind::GitLab && why.contains("Cannot transition status") => Came::Done,
            came => came,
        },
        Err(error) => Came::Never(error.to_string()),
    }
}

/// Writes down what came of an errand.
fn settle(batch: &mut Batch, mut errand: Errand, came: Came) {
    let done = |batch: &mut Batch| {
        batch.errands_done.push(errand.id.clone());
        // What this one overtook while it was under way.
        if let Some(report) = report(&errand) {
            batch.errands_done.extend((0..report.rank).map(|rank| report.id(rank)));
        }
    };
    match came {
        Came::Done => done(batch),
        Came::Into(errands) => {
            batch.errands.extend(errands);
            done(batch);
        }
        Came::Again(why) if errand.tries + 1 < TRIES_MAX => {
            tracing::warn!(errand = errand.id, tries = errand.tries + 1, "tried again later: {why}");
            errand.due = now().after(pause(errand.tries, access::id().as_bytes()));
            errand.tries += 1;
            batch.errands.push(errand);
        }
        Came::Again(why) | Came::Never(why) => {
            tracing::warn!(errand = errand.id, "given up: {why}");
            let about = format!("{}: {why}", errand.id);
            batch.changes.push(Change::note(now(), "server", &format!("{}.refused", errand.kind), &about));
            done(batch);
        }
    }
}

/// Doubled each time, and between half and all of that, so that many do not come back at the same moment.
fn pause(tries: u32, chance: &[u8]) -> Duration {
    let whole = PAUSE.0.saturating_mul(1 << tries.min(20)).min(PAUSE.1);
    let chance = chance.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) % 1000;
    whole / 2 + whole / 2 * chance / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u64, rank: u8) -> Errand {
        let (project, commit, pipeline) = ("web".into(), "c".into(), "build".into());
        let report =
            Report { project, commit, pipeline, number, rank, state: State::Running, description: String::new() };
        report.errand(Timestamp(1))
    }

    #[test]
    fn of_statuses_about_one_thing_only_the_latest_is_told() {
        let due = vec![report(9, 2), report(10, 0), report(9, 1), report(10, 1)];
        let (latest, void) = latest(due);
        assert_eq!(latest, [report(10, 1)]);
        assert_eq!(void.len(), 3);
    }

    #[test]
    fn what_is_told_makes_what_came_before_void_even_if_that_waits_for_another_try() {
        let mut batch = Batch::default();
        settle(&mut batch, report(3, 2), Came::Done);
        assert_eq!(batch.errands_done, [report(3, 2).id, report(3, 0).id, report(3, 1).id]);
    }

    #[test]
    fn pauses_grow_to_an_hour_and_differ() {
        assert!(pause(0, b"x") <= Duration::from_secs(1) && pause(0, b"x") >= Duration::from_millis(500));
        assert!(pause(70, b"x") <= PAUSE.1 && pause(70, b"x") >= PAUSE.1 / 2);
        assert_ne!(pause(5, b"one"), pause(5, b"two"));
    }

    #[test]
    fn what_is_given_up_says_why_in_the_audit() {
        let mut batch = Batch::default();
        settle(&mut batch, report(3, 2), Came::Never("401: bad token".into()));
        assert_eq!(batch.changes[0].act, "status.refused");
        assert!(batch.changes[0].key.contains("bad token"), "{:?}", batch.changes);
        let mut batch = Batch::default();
        settle(&mut batch, Errand { tries: 3, ..report(3, 2) }, Came::Again("503".into()));
        assert_eq!((batch.errands[0].tries, batch.errands_done.len()), (4, 0));
    }

    #[test]
    fn a_project_without_forge_or_token_tells_nobody() {
        let project = Project { forge: "gitea".into(), name: "web".into(), ..Project::default() };
        assert_eq!(skipped(&project, "c", "build", "x", Timestamp(1)), None);
        let project = Project { credential: "sealed".into(), ..project };
        let errand = skipped(&project, "c", "build", "no changed file matches `paths`", Timestamp(1)).unwrap();
        assert_eq!(errand.body["state"], "success");
        assert_eq!(errand.body["description"], "skipped: no changed file matches `paths`");
    }
}
