//! Runs: seeing them, starting, stopping, answering, doing again.

use std::sync::Arc;

use access::{Action, On, Who, may, may_approve};
use model::{
    ArtifactRef, AttemptNo, EventKind, Fact, NodeIx, ProjectId, RunId, RunNumber, RunSummary, Selection, StepKind,
    Trigger,
};
use store::{LogId, LogPart, RunQuery, Sequenced};
use view::RunView;

use super::{Page, allowed, bounded, may_project, number, shown};
use crate::Shared;
use crate::authentication::{off, write};
use crate::clock::now;
use crate::desk::{Again, Granted, RunWish};
use crate::problem::Problem;
use crate::records::Project;

/// Bytes of a log that are answered at once.
const LOG_BYTES_MAX: usize = 1 << 20;
/// Reads of the store for one page of a list: who may see little of much gets shorter pages.
const READS_MAX: usize = 8;
/// Parameters of a run, and length of each.
const PARAMS_MAX: usize = 200;
const PARAM_BYTES_MAX: usize = 16 * 1024;
const COMMENT_BYTES_MAX: usize = 4096;

/// Which runs somebody asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunsAsked {
    /// Which.
    pub query: RunQuery,
    /// The cursor that the page before gave; empty: the newest.
    pub after: String,
    /// How many; 0: as many as usual.
    pub max: usize,
}

/// A run that somebody asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// File of the pipeline; empty: all that the trigger fires.
    pub pipeline: String,
    /// The branch; empty: the default one, unless a tag or a commit is named.
    pub branch: String,
    /// The tag.
    pub tag: String,
    /// The commit; empty: the head of the branch.
    pub commit: String,
    /// `NAME=VALUE` parameters.
    pub params: Vec<(String, String)>,
    /// Which steps.
    pub selection: Selection,
    /// From -100 to 100.
    pub priority: i32,
    /// Asking again with the same key changes nothing; empty: each time is a new run.
    pub idempotency_key: String,
}

/// An artifact of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// The instance that made it.
    pub node: NodeIx,
    /// Its name.
    pub step: String,
    /// What it is.
    pub artifact: ArtifactRef,
}

/// Runs that somebody may see, newest first.
///
/// # Errors
/// The project may not be seen, or the store cannot be read.
pub async fn runs(shared: &Arc<Shared>, who: &Who, asked: RunsAsked) -> Result<Page<Sequenced<RunSummary>>, Problem> {
    let (shared, who) = (shared.clone(), who.clone());
    off(move || {
        let max = bounded(asked.max);
        let mut query = RunQuery { before: number(&asked.after)?, max: max + 1, ..asked.query };
        if let Some(project) = &query.project {
            may_project(&shared, &who, Action::SeeProject, project.as_str())?;
            return Ok(Page::cut(shared.store.runs(&query)?, max, |run| run.sequence.to_string()));
        }
        let mut visible = Visible::new(&shared, &who);
        let mut seen = Vec::new();
        for _ in 0..READS_MAX {
            let read = shared.store.runs(&query)?;
            let Some(last) = read.last().map(|run| run.sequence) else { return Ok(Page { items: seen, next: None }) };
            let whole = read.len() > max;
            for run in read {
                if seen.len() < max && visible.sees(&run.value.project)? {
                    seen.push(run);
                } else if seen.len() == max {
                    let next = seen.last().map(|run: &Sequenced<RunSummary>| run.sequence.to_string());
                    return Ok(Page { items: seen, next });
                }
            }
            if !whole {
                return Ok(Page { items: seen, next: None });
            }
            query.before = Some(last);
        }
        let next = query.before.map(|before| before.to_string());
        Ok(Page { items: seen, next })
    })
    .await
}

/// A run in one line.
///
/// # Errors
/// There is none that may be seen.
pub async fn run(shared: &Arc<Shared>, who: &Who, run: &RunId) -> Result<RunSummary, Problem> {
    permitted(shared, who, Action::SeeProject, run).await
}

/// A run by its number.
///
/// # Errors
/// There is none that may be seen.
pub async fn run_of_number(shared: &Arc<Shared>, who: &Who, project: &str, number: u64) -> Result<RunSummary, Problem> {
    allowed(shared, who, Action::SeeProject, project).await?;
    let (shared, id) = (shared.clone(), ProjectId::new(project));
    let found = off(move || Ok(shared.store.run_numbered(&id, RunNumber(number))?)).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no run #{number} of project `{}`", shown(project))))
}

/// Facts of a run with its line.
///
/// # Errors
/// There is none that may be seen.
pub async fn facts(shared: &Arc<Shared>, who: &Who, id: &RunId) -> Result<(RunSummary, Vec<Fact>), Problem> {
    let summary = run(shared, who, id).await?;
    Ok((summary, shared.desk.facts(id).await?))
}

/// A run with all its steps, and why those wait that do.
///
/// # Errors
/// There is none that may be seen.
pub async fn view(shared: &Arc<Shared>, who: &Who, id: &RunId) -> Result<(RunSummary, RunView), Problem> {
    let (summary, facts) = facts(shared, who, id).await?;
    let mut view = folded(&facts);
    if summary.outcome.is_none() {
        let reasons = shared.desk.waiting(id).await;
        view.set_reasons(reasons.into_iter().map(|(node, reason)| (node, reason.text)).collect());
    }
    Ok((summary, view))
}

/// Asks for a run.
///
/// # Errors
/// It may not be started, or the pipeline or a parameter is wrong.
pub async fn trigger(shared: &Arc<Shared>, who: &Who, project: &str, asked: Asked) -> Result<Granted, Problem> {
    let kept = allowed(shared, who, Action::Trigger, project).await?;
    check_asked(&asked)?;
    if asked.priority != 0 {
        may(who, Action::Prioritise, On::Project { name: project, public: kept.value.public })?;
    }
    let wish = RunWish {
        run: run_id(who, project, &asked.idempotency_key),
        project: kept.value.id(),
        pipeline: asked.pipeline,
        trigger: manual(&kept.value, who, asked.branch, asked.tag, asked.commit),
        params: asked.params,
        selection: asked.selection,
        by: who.name.clone(),
        priority: asked.priority,
        fork: false,
    };
    Ok(shared.desk.run(wish).await?)
}

/// Stops a run; with `force` at once and without clean-up.
///
/// # Errors
/// It may not be stopped, or has ended.
pub async fn cancel(shared: &Arc<Shared>, who: &Who, id: &RunId, force: bool) -> Result<(), Problem> {
    permitted(shared, who, Action::Cancel, id).await?;
    shared.desk.cancel(id, &who.name, force).await?;
    note(shared, who, "run.cancelled", id).await
}

/// Answers an approval.
///
/// # Errors
/// It may not be answered by this person, or nothing waits for it.
pub async fn answer(
    shared: &Arc<Shared>,
    who: &Who,
    id: &RunId,
    step: &str,
    approved: bool,
    comment: &str,
) -> Result<(), Problem> {
    let summary = permitted(shared, who, Action::Approve, id).await?;
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(Problem::invalid(format!("a comment has at most {COMMENT_BYTES_MAX} bytes")));
    }
    let by = approvers(&folded(&shared.desk.facts(id).await?), step)?;
    if !may_approve(who, &by, summary.project.as_str()) {
        let by = by.join(", ");
        return Err(Problem::new("denied", format!("{} may not answer this: it waits for {by}", who.name)));
    }
    shared.desk.answer(id, step, &who.name, approved, comment).await?;
    note(shared, who, if approved { "run.approved" } else { "run.refused" }, id).await
}

/// Makes a new run of an ended one.
///
/// # Errors
/// It may not be done again, or has not ended.
pub async fn again(shared: &Arc<Shared>, who: &Who, id: &RunId, which: Again) -> Result<Granted, Problem> {
    permitted(shared, who, Action::Rerun, id).await?;
    Ok(shared.desk.again(id, which, &who.name).await?)
}

/// Lets a held run go.
///
/// # Errors
/// It may not be let go, or is not held.
pub async fn release(shared: &Arc<Shared>, who: &Who, id: &RunId) -> Result<(), Problem> {
    permitted(shared, who, Action::ReleaseFork, id).await?;
    shared.desk.release(id, &who.name).await?;
    note(shared, who, "run.released", id).await
}

/// Changes the place of a run in the queue: from -100 to 100, higher goes first.
///
/// # Errors
/// It may not be changed, or the run has ended.
pub async fn prioritise(shared: &Arc<Shared>, who: &Who, id: &RunId, priority: i32) -> Result<(), Problem> {
    permitted(shared, who, Action::Prioritise, id).await?;
    check_priority(priority)?;
    shared.desk.prioritise(id, priority, &who.name).await?;
    note(shared, who, "run.prioritised", id).await
}

/// Part of the log of an attempt: at most `max` bytes from `offset` on.
///
/// # Errors
/// There is no such run that may be seen.
pub async fn log(shared: &Arc<Shared>, who: &Who, id: &LogId, offset: u64, max: usize) -> Result<LogPart, Problem> {
    run(shared, who, &id.run).await?;
    let (shared, id) = (shared.clone(), id.clone());
    off(move || Ok(shared.store.log(&id, offset, max.clamp(1, LOG_BYTES_MAX))?)).await
}

/// Artifacts of a run.
///
/// # Errors
/// There is no such run that may be seen.
pub async fn artifacts(shared: &Arc<Shared>, who: &Who, id: &RunId) -> Result<Vec<Artifact>, Problem> {
    let (_, facts) = facts(shared, who, id).await?;
    let view = folded(&facts);
    let made = view.steps().iter().zip(0..).flat_map(|(step, node)| {
        let kept = step.result.iter().flat_map(|result| result.artifacts.iter().cloned());
        kept.map(move |artifact| Artifact { node: NodeIx(node), step: step.name.to_string(), artifact })
    });
    Ok(made.collect())
}

/// The fold of a run's facts.
pub(crate) fn folded(facts: &[Fact]) -> RunView {
    let mut view = RunView::new();
    facts.iter().for_each(|fact| view.fact(fact));
    view
}

/// The log of the instance with this name (or number); `attempt` 0: of its last try.
///
/// # Errors
/// There is no such run that may be seen, or it has no such step.
pub async fn log_id(shared: &Arc<Shared>, who: &Who, id: &RunId, step: &str, attempt: u16) -> Result<LogId, Problem> {
    let (_, facts) = facts(shared, who, id).await?;
    let view = folded(&facts);
    let by_name = view.steps().iter().position(|known| &*known.name == step);
    let at = by_name.or_else(|| step.parse().ok().filter(|at| *at < view.steps().len()));
    let at = at.ok_or_else(|| Problem::not_found(format!("the run has no step `{}`", shown(step))))?;
    let attempt = if attempt == 0 { view.steps()[at].attempts.max(1) } else { attempt };
    let node = NodeIx(u32::try_from(at).unwrap_or(u32::MAX));
    Ok(LogId { run: id.clone(), node, attempt: AttemptNo(attempt) })
}

/// Remembers projects that were looked up for one list.
struct Visible<'a> {
    shared: &'a Shared,
    who: &'a Who,
    known: std::collections::BTreeMap<ProjectId, bool>,
}

impl<'a> Visible<'a> {
    fn new(shared: &'a Shared, who: &'a Who) -> Visible<'a> {
        Visible { shared, who, known: std::collections::BTreeMap::new() }
    }

    fn sees(&mut self, project: &ProjectId) -> Result<bool, Problem> {
        if let Some(known) = self.known.get(project) {
            return Ok(*known);
        }
        let kept = self.shared.store.record::<Project>(project.as_str())?;
        let on = On::Project { name: project.as_str(), public: kept.is_some_and(|kept| kept.value.public) };
        let sees = may(self.who, Action::SeeProject, on).is_ok();
        self.known.insert(project.clone(), sees);
        Ok(sees)
    }
}

/// The run's line, if somebody may do this to it. What may not be seen is not there.
async fn permitted(shared: &Arc<Shared>, who: &Who, action: Action, id: &RunId) -> Result<RunSummary, Problem> {
    let (shared, who, id) = (shared.clone(), who.clone(), id.clone());
    off(move || {
        let gone = || Problem::not_found(format!("there is no run `{}`, or you may not see it", shown(id.as_str())));
        let summary = shared.store.run(&id)?.ok_or_else(gone)?;
        let name = summary.project.as_str();
        let kept = shared.store.record::<Project>(name)?;
        let on = On::Project { name, public: kept.is_some_and(|kept| kept.value.public) };
        match may(&who, action, on) {
            Ok(()) => Ok(summary),
            Err(access::Denied::Unseen(_)) => Err(gone()),
            Err(denied) => Err(denied.into()),
        }
    })
    .await
}

/// Who may answer the approval of an instance.
fn approvers(view: &RunView, step: &str) -> Result<Vec<String>, Problem> {
    let at = view.steps().iter().position(|known| &*known.name == step);
    let group = at.and_then(|at| view.steps()[at].group).and_then(|group| view.groups().get(group.at()));
    match group.map(|group| &group.step.kind) {
        Some(StepKind::Approve(approve)) => Ok(approve.by.clone()),
        Some(_) => Err(Problem::new("conflict", format!("step `{}` asks for no approval", shown(step)))),
        None => Err(Problem::not_found(format!("the run has no step `{}`", shown(step)))),
    }
}

async fn note(shared: &Arc<Shared>, who: &Who, act: &str, run: &RunId) -> Result<(), Problem> {
    write(shared, vec![store::Change::note(now(), &who.name, act, run.as_str())]).await.map(drop)
}

/// The same key of the same person for the same project is the same run.
fn run_id(who: &Who, project: &str, key: &str) -> RunId {
    match key {
        "" => RunId::new(format!("run_{}", access::id())),
        key => {
            let sum = access::sha256(&format!("{}\n{project}\n{key}", who.user.as_deref().unwrap_or_default()));
            RunId::new(format!("run_{}", &sum[..24]))
        }
    }
}

fn manual(project: &Project, who: &Who, branch: String, tag: String, commit: String) -> Trigger {
    let mut trigger = Trigger::default();
    trigger.event.kind = EventKind::Manual;
    trigger.event.author.clone_from(&who.display);
    let nothing_named = branch.is_empty() && tag.is_empty() && commit.is_empty();
    trigger.git.branch = if nothing_named { project.default_branch.clone() } else { branch };
    (trigger.git.tag, trigger.git.commit) = (tag, commit);
    trigger
}

fn check_priority(priority: i32) -> Result<(), Problem> {
    match (-100..=100).contains(&priority) {
        true => Ok(()),
        false => Err(Problem::invalid("a priority is from -100 to 100")),
    }
}

fn check_asked(asked: &Asked) -> Result<(), Problem> {
    check_priority(asked.priority)?;
    let Asked { pipeline, branch, tag, commit, params, selection, idempotency_key, .. } = asked;
    let long = [pipeline, branch, tag, idempotency_key]
        .into_iter()
        .any(|text| text.len() > 1024 || text.chars().any(char::is_control));
    if long || branch.starts_with('-') || tag.starts_with('-') {
        return Err(Problem::invalid(
            "`pipeline`, `branch`, `tag` and the idempotency key are one line of at most 1024 bytes",
        ));
    }
    let hexadecimal = commit.bytes().all(|b| b.is_ascii_hexdigit()) && [0, 40, 64].contains(&commit.len());
    if !hexadecimal {
        return Err(Problem::invalid("`commit` is 40 or 64 hexadecimal digits"));
    }
    if params.len() > PARAMS_MAX || params.iter().any(|(name, value)| name.len() > 256 || value.len() > PARAM_BYTES_MAX)
    {
        return Err(Problem::invalid(format!(
            "a run has at most {PARAMS_MAX} parameters of at most {PARAM_BYTES_MAX} bytes"
        )));
    }
    if selection.only.len() + selection.from.len() > model::limits::STEPS_MAX {
        return Err(Problem::invalid("more steps are named than a run can have"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_of_the_same_person_for_the_same_project_is_the_same_run() {
        let who = |name: &str| Who::user(&access::User { name: name.into(), ..access::User::default() });
        let (anna, bo) = (who("anna"), who("bo"));
        assert_eq!(run_id(&anna, "web", "1"), run_id(&anna, "web", "1"));
        assert_ne!(run_id(&anna, "web", "1"), run_id(&bo, "web", "1"));
        assert_ne!(run_id(&anna, "web", "1"), run_id(&anna, "api", "1"));
        assert_ne!(run_id(&anna, "web", ""), run_id(&anna, "web", ""));
    }

    #[test]
    fn what_git_would_take_for_an_option_is_refused() {
        assert!(check_asked(&Asked { branch: "--upload-pack=x".into(), ..Asked::default() }).is_err());
        assert!(check_asked(&Asked { commit: "HEAD".into(), ..Asked::default() }).is_err());
        assert!(check_asked(&Asked { priority: 101, ..Asked::default() }).is_err());
        assert!(check_asked(&Asked { branch: "main".into(), commit: "a".repeat(40), ..Asked::default() }).is_ok());
    }
}
