//! A step of a run: how its attempts went, and the log of one.

use std::time::Duration;

use maud::{Markup, html};
use model::{AttemptEnd, AttemptNo, Fact, NodeIx, RunEvent, RunSummary, StepKind, Timestamp};

use super::frame::{Crumb, Frame};
use super::part::{self, Tone};
use super::project::{Rights, crumb};
use super::run::{definition, why};
use super::{log, path};
use crate::RunView;

/// An attempt in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The try.
    pub number: AttemptNo,
    /// Who executes it.
    pub agent: String,
    /// Since when.
    pub since: Timestamp,
    /// How it ended, and when; `None` while it runs.
    pub ended: Option<(Timestamp, AttemptEnd)>,
    /// It was taken from the cache.
    pub cached: bool,
}

/// The attempts of an instance, as the facts tell them.
pub fn attempts(facts: &[Fact], wanted: NodeIx) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for fact in facts {
        match &fact.event {
            RunEvent::AttemptLeased { node, attempt, agent, .. } if *node == wanted => attempts.push(Attempt {
                number: *attempt,
                agent: agent.to_string(),
                since: fact.at,
                ended: None,
                cached: false,
            }),
            RunEvent::AttemptEnded { node, attempt, result } if *node == wanted => {
                if let Some(last) = attempts.iter_mut().rev().find(|last| last.number == *attempt) {
                    last.ended = Some((fact.at, result.end.clone()));
                    last.cached = result.cached.is_some();
                }
            }
            _ => {}
        }
    }
    attempts
}

impl Attempt {
    fn state(&self) -> (Tone, String) {
        match &self.ended {
            None => (Tone::Busy, "running".to_owned()),
            Some((_, AttemptEnd::Succeeded)) if self.cached => (Tone::Good, "cached".to_owned()),
            Some((_, AttemptEnd::Succeeded)) => (Tone::Good, "success".to_owned()),
            Some((_, AttemptEnd::Failed(cause))) => {
                (Tone::Bad, cause.to_string().lines().next().unwrap_or_default().to_owned())
            }
            Some((_, AttemptEnd::Cancelled)) => (Tone::Quiet, "cancelled".to_owned()),
        }
    }

    fn took(&self, now: Timestamp) -> Duration {
        self.ended.as_ref().map_or(now, |(at, _)| *at).since(self.since)
    }
}

/// Part of a log that is shown at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Whole lines.
    pub bytes: Vec<u8>,
    /// Where they begin in the log.
    pub from: u64,
    /// The number of the first one.
    pub first_line: u64,
    /// Bytes of the whole log.
    pub length: u64,
}

impl Window {
    /// Where they end in the log.
    pub fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

/// What the page of a step shows.
#[derive(Clone, Debug)]
pub struct StepPage<'a> {
    /// The run in one line.
    pub summary: &'a RunSummary,
    /// All that is known of the run.
    pub view: &'a RunView,
    /// The instance.
    pub node: NodeIx,
    /// What the visitor may do.
    pub rights: Rights,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
    /// The one whose log is shown.
    pub attempt: Option<AttemptNo>,
    /// The log.
    pub window: Window,
    /// More may come.
    pub follows: bool,
}

impl StepPage<'_> {
    /// The page; of an instance that is not there it says so.
    pub fn page(&self, frame: &Frame) -> String {
        let (run, name) = (self.summary, self.view.name(self.node));
        let main = html! {
            div .title #head data-part {
                div {
                    h1 { (part::said(&name)) }
                    @if let Some(step) = self.view.step(self.node) {
                        p .summary { (part::state(Tone::of_step(&step.state), part::step_word(step))) (why(step)) }
                    }
                }
                @if self.rights.run && run.outcome.is_some() {
                    div .actions {
                        (part::button(&frame.visitor.csrf, &self.again(&name), "", "Rerun from here", ""))
                    }
                }
            }
            (self.needs())
            div #attempts data-part { (self.attempts(frame)) }
            @if self.attempt.is_some() { (self.log()) } @else { p .empty { "It has not run yet: there is no log." } }
        };
        let live = self.summary.outcome.is_none().then(|| format!("{}/live", self.run_href()));
        let crumbs = [
            crumb(run.project.as_str()),
            Crumb::new(format!("run {}", run.number), self.run_href()),
            Crumb::new(&*name, self.href()),
        ];
        frame.page(&format!("{name} of run {}", run.number), &crumbs, live.as_deref(), main)
    }

    fn run_href(&self) -> String {
        path::run(self.summary.project.as_str(), self.summary.number)
    }

    fn href(&self) -> String {
        path::step(self.summary.project.as_str(), self.summary.number, self.node)
    }

    fn again(&self, name: &str) -> String {
        format!("{}/again{}", self.run_href(), path::query(&[("which", "from"), ("step", name)]))
    }

    fn needs(&self) -> Markup {
        let step = self.view.step(self.node).and_then(|step| definition(self.view, step));
        let (needs, kind) = match step {
            Some(group) => (group.step.depends_on.as_slice(), Some(&group.step.kind)),
            None => (&[][..], None),
        };
        let first =
            |id: &str| self.view.groups().iter().find(|group| group.step.id.as_str() == id).map(|group| group.first);
        html! {
            dl .facts #facts data-part {
                @if !needs.is_empty() {
                    div { dt { "Needs" } dd { @for (at, id) in needs.iter().enumerate() {
                        @if at > 0 { ", " }
                        @match first(id.as_str()) {
                            Some(node) => a href=(path::step(self.summary.project.as_str(), self.summary.number, node)) { (part::said(id.as_str())) },
                            None => (part::said(id.as_str())),
                        }
                    } } }
                }
                @if let Some(StepKind::Cmd(cmd)) = kind {
                    @if !cmd.secrets.is_empty() { div { dt { "Secrets" } dd { (part::said(&cmd.secrets.join(", "))) } } }
                }
                @if let Some(result) = self.view.step(self.node).and_then(|step| step.result.as_ref()) {
                    @if let Some(action) = &result.action { div { dt { "Action" } dd { code title=(action) { (action.to_string().get(..12).unwrap_or_default()) } } } }
                    div { dt { "Prepared in" } dd { (part::took(Some(result.prepare))) } }
                }
            }
        }
    }

    fn attempts(&self, frame: &Frame) -> Markup {
        html! {
            @if self.attempts.len() > 1 || self.attempts.iter().any(|attempt| !attempt.agent.is_empty()) {
                ul .attempts {
                    @for attempt in &self.attempts {
                        @let (tone, word) = attempt.state();
                        li {
                            a href={ (self.href()) "?attempt=" (attempt.number) } aria-current=[(Some(attempt.number) == self.attempt).then_some("true")] {
                                "Attempt " (attempt.number)
                            }
                            (part::state(tone, &crate::ansi::strip(&word)))
                            (part::took(Some(attempt.took(frame.now))))
                            span .muted { "on " (part::said(&attempt.agent)) }
                            span .muted { (part::when(attempt.since, frame.now)) }
                        }
                    }
                }
            }
        }
    }

    fn log(&self) -> Markup {
        let (href, window) = (self.href(), &self.window);
        let attempt = self.attempt.map_or(1, |attempt| attempt.0);
        let at = |name: &str, offset: u64| format!("{href}?attempt={attempt}&{name}={offset}");
        html! {
            section .output aria-labelledby="log-title" {
                input #times .hidden type="checkbox";
                div .bar {
                    h2 #log-title { "Log" }
                    span .muted #log-state role="status" { @if self.follows { "live" } }
                    label .button.small for="times" { "Times" }
                    button .small #follow type="button" hidden aria-pressed="false" { "Follow" }
                    a .button.small href=(at("from", 0)) { "First lines" }
                    a .button.small href={ (href) "/log?attempt=" (attempt) } download { "Download" }
                }
                a .more #earlier href=(at("before", window.from)) hidden[window.from == 0] { "Earlier lines" }
                div .log #log tabindex="0" role="log" aria-live="off" aria-labelledby="log-title"
                    data-from=(window.from) data-end=(window.end()) data-lines={ (href) "/lines?attempt=" (attempt) }
                    data-follow=[self.follows.then(|| format!("{href}/follow?attempt={attempt}"))] {
                    @for line in log::lines(&window.bytes, window.first_line) { (line) }
                }
                a .more #later href=(at("from", window.end())) hidden[window.end() >= window.length] { "Later lines" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    #[test]
    fn attempts_are_told_one_by_one() {
        let mut scene = Scene::new("test");
        scene
            .retries("test", 3)
            .request()
            .leases("test")
            .fails_for_now("test", crate::scene::exit(1), 0.0)
            .leases("test");
        let attempts = attempts(&scene.facts(), NodeIx(0));
        let words: Vec<String> = attempts.iter().map(|attempt| attempt.state().1).collect();
        assert_eq!(words, ["exit code 1", "running"]);
    }
}
