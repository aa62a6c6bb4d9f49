//! A run in one line: what lists show, and what a store keeps beside the facts so that no list has to fold them.

use alloc::string::String;

use crate::{EventKind, Fact, ProjectId, RunEvent, RunId, RunNumber, RunOutcome, Timestamp};

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
        })
    }

    /// Takes over a later fact of the same run. Whether that changed the line.
    pub fn fold(&mut self, fact: &Fact) -> bool {
        match &fact.event {
            RunEvent::Started => self.started = Some(fact.at),
            RunEvent::Ended { outcome } => {
                self.ended = Some(fact.at);
                self.outcome = Some(*outcome);
            }
            _ => return false,
        }
        true
    }

    /// One word: `queued`, `running`, or how it ended.
    pub fn word(&self) -> &'static str {
        match (self.outcome, self.started) {
            (Some(outcome), _) => outcome.word(),
            (None, Some(_)) => "running",
            (None, None) => "queued",
        }
    }
}
