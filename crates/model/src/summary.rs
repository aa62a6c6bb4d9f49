//! A run in one line: what lists show, and what a store keeps beside the facts so that no list has to fold them.

use alloc::collections::BTreeSet;
use alloc::string::String;

use crate::{EventKind, Fact, NodeIx, ProjectId, RunEvent, RunId, RunNumber, RunOutcome, Timestamp};

/// A run in one line. Always what [`RunSummary::fold`] makes of its facts.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunSummary {
    /// The project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// Its number within the project.
    pub number: RunNumber,
    /// The pipeline's name.
    pub pipeline: String,
    /// What started it.
    pub event: EventKind,
    /// The commit, or empty.
    pub commit: String,
    /// The branch, or empty.
    pub branch: String,
    /// The tag, or empty.
    pub tag: String,
    /// First line of the commit's message, or the title of the pull request.
    pub title: String,
    /// Who wrote the commit, or asked for the run.
    pub author: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// Why it is held, until somebody lets it go.
    #[serde(default)]
    pub held: Option<String>,
    /// `approve` steps that wait for an answer.
    #[serde(default)]
    pub asks: BTreeSet<NodeIx>,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Who or what asked for it: `user:anna`, `delivery:…`, `schedule`; empty on a desk.
    #[serde(default)]
    pub by: String,
    /// The number of the run that it does again.
    #[serde(default)]
    pub again: Option<RunNumber>,
    /// It missed a bound of its `sla`.
    #[serde(default)]
    pub late: bool,
}

impl RunSummary {
    /// The line of a run that was just asked for; `None` for any other fact.
    pub fn first(project: &ProjectId, fact: &Fact) -> Option<RunSummary> {
        let RunEvent::Requested { plan } = &fact.event else { return None };
        let (context, trigger) = (&plan.context, &plan.context.trigger);
        let title = if trigger.event.title.is_empty() { &trigger.git.message } else { &trigger.event.title };
        let author = if trigger.event.author.is_empty() { &trigger.git.author } else { &trigger.event.author };
        Some(RunSummary {
            project: project.clone(),
            run: fact.run.clone(),
            number: context.number,
            pipeline: plan.name.clone(),
            event: trigger.event.kind,
            commit: trigger.git.commit.clone(),
            branch: trigger.git.branch.clone(),
            tag: trigger.git.tag.clone(),
            title: title.clone(),
            author: author.clone(),
            requested: fact.at,
            started: None,
            ended: None,
            outcome: None,
            held: context.terms.held.clone(),
            asks: BTreeSet::new(),
            priority: context.terms.priority(),
            by: context.terms.by.clone(),
            again: context.terms.again.as_ref().map(|again| again.number),
            late: false,
        })
    }

    /// Takes over a later fact of the same run. Whether that changed the line.
    pub fn fold(&mut self, fact: &Fact) -> bool {
        match &fact.event {
            RunEvent::Started => self.started = Some(fact.at),
            RunEvent::Released { .. } => self.held = None,
            RunEvent::Prioritised { priority, .. } => self.priority = *priority,
            RunEvent::SlaMissed { .. } => self.late = true,
            RunEvent::ApprovalOpened { node, .. } => return self.asks.insert(*node),
            RunEvent::ApprovalGiven { node, .. } | RunEvent::StepEnded { node, .. } => return self.asks.remove(node),
            RunEvent::Ended { outcome } => {
                self.ended = Some(fact.at);
                self.outcome = Some(*outcome);
            }
            _ => return false,
        }
        true
    }

    /// One word: `held`, `queued`, `running`, `asking` (an approval is open), or how it ended.
    pub fn word(&self) -> &'static str {
        match (self.outcome, self.started) {
            (Some(outcome), _) => outcome.word(),
            (None, Some(_)) if !self.asks.is_empty() => "asking",
            (None, Some(_)) => "running",
            (None, None) if self.held.is_some() => "held",
            (None, None) => "queued",
        }
    }
}
