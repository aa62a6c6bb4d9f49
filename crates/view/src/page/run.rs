//! A run: its graph, its steps and why they wait, what it left behind, and what can be done with it.

use maud::{Markup, html};
use model::{Group, GroupIx, NodeIx, Outcome, RunSummary};

use super::frame::{Crumb, Frame};
use super::part::{self, Tone};
use super::project::{Rights, crumb, duration};
use super::{ansi_html, graph, path};
use crate::run::{Counts, failures};
use crate::{RunView, StepState, StepView, errors};

/// Instances up to which all of a run are listed without being asked for.
const ALL_LISTED_MAX: usize = 300;
/// Instances that are listed at all.
const LISTED_MAX: usize = 3_000;
/// Failed instances that are shown with the end of their log.
const FAILURES_SHOWN_MAX: usize = 5;
/// Lines of it.
const FAILURE_LINES_MAX: usize = 12;

/// An approval that a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The instance.
    pub node: NodeIx,
    /// Its name.
    pub name: String,
    /// What is asked.
    pub message: String,
    /// Who may answer; empty: whoever may run.
    pub by: Vec<String>,
    /// The visitor may answer.
    pub mine: bool,
}

/// Something that a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRow {
    /// Its name.
    pub name: String,
    /// Its version, or empty.
    pub version: String,
    /// Files in it.
    pub files: usize,
    /// Where it is; empty when its time is over.
    pub href: String,
}

/// What the page of a run shows.
#[derive(Clone, Debug)]
pub struct RunPage<'a> {
    /// The run in one line.
    pub summary: &'a RunSummary,
    /// All that is known of it.
    pub view: &'a RunView,
    /// What the visitor may do.
    pub rights: Rights,
    /// Approvals that are open.
    pub approvals: Vec<Approval>,
    /// Why it is held back, if it is.
    pub held: Option<String>,
    /// What it left behind.
    pub artifacts: Vec<ArtifactRow>,
    /// All instances are asked for.
    pub all: bool,
}

impl RunPage<'_> {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let run = self.summary;
        let title = format!("{} {}", run.number, if run.title.is_empty() { &run.pipeline } else { &run.title });
        let main = html! {
            (self.header(frame))
            div #asks data-part { (self.asks(frame)) }
            div #failures data-part { (self.failures()) }
            @if let Some(svg) = graph::svg(self.view, frame.now, |node| self.step_href(node)) {
                section #graph data-part aria-label="Graph" { (svg) }
            }
            section #steps data-part aria-labelledby="steps-title" { (self.steps(frame)) }
            section #left data-part { (self.left_behind()) }
        };
        let live = run.outcome.is_none().then(|| format!("{}/live", self.href()));
        let crumbs = [crumb(run.project.as_str()), Crumb::new(format!("run {}", run.number), self.href())];
        frame.page(&title, &crumbs, live.as_deref(), main)
    }

    fn href(&self) -> String {
        path::run(self.summary.project.as_str(), self.summary.number)
    }

    fn step_href(&self, node: NodeIx) -> String {
        path::step(self.summary.project.as_str(), self.summary.number, node)
    }

    fn header(&self, frame: &Frame) -> Markup {
        let run = self.summary;
        html! {
            div .title #head data-part {
                div {
                    h1 {
                        span .num { (run.number) } " "
                        @if run.title.is_empty() { (part::said(&run.pipeline)) } @else { (part::said(&run.title)) }
                    }
                    p .summary { (part::run_state(run)) (self.progress()) }
                }
                (self.actions(frame))
            }
            dl .facts #facts data-part {
                (fact("Pipeline", part::said(&run.pipeline)))
                (fact("Started by", html! { (run.event.word().replace('_', " ")) }))
                @if !run.author.is_empty() { (fact("Author", part::said(&run.author))) }
                @if !run.branch.is_empty() { (fact("Branch", part::said(&run.branch))) }
                @if !run.tag.is_empty() { (fact("Tag", part::said(&run.tag))) }
                @if !run.commit.is_empty() {
                    (fact("Commit", html! { code title=(crate::ansi::strip(&run.commit)) { (part::said(run.commit.get(..10).unwrap_or(&run.commit))) } }))
                }
                (fact("Asked for", part::when(run.requested, frame.now)))
                (fact("Duration", part::took(duration(run, frame.now))))
                @for (name, value) in self.parameters() { (fact(name, part::said(&value))) }
            }
        }
    }

    fn parameters(&self) -> impl Iterator<Item = (&str, String)> {
        let plan = self.view.plan().into_iter();
        plan.flat_map(|plan| plan.context.params.iter().map(|(name, value)| (name.as_str(), value.to_string())))
    }

    fn progress(&self) -> Markup {
        let counts = self.view.counts();
        let Counts { total, cached, failed, running, .. } = counts;
        html! {
            span { (counts.done()) " of " (part::count(total, "step")) " done" }
            @if running > 0 { span { (running) " running" } }
            @if failed > 0 { span .bad { (failed) " failed" } }
            @if cached > 0 { span { (cached) " from the cache" } }
            @if let (Some(by), None) = (self.view.cancelled_by(), self.summary.outcome) { span { "stopping, asked by " (part::said(by)) } }
        }
    }

    fn actions(&self, frame: &Frame) -> Markup {
        let (csrf, href) = (&frame.visitor.csrf, self.href());
        let again = |which: &str| format!("{href}/again{}", path::query(&[("which", which)]));
        html! {
            @if self.rights.run {
                div .actions {
                    @match self.summary.outcome {
                        None => (part::button(csrf, &format!("{href}/cancel"), "danger", "Cancel", "")),
                        Some(outcome) => {
                            @if outcome != model::RunOutcome::Succeeded {
                                (part::button(csrf, &again("failed"), "primary", "Rerun failed", ""))
                            }
                            (part::button(csrf, &again("all"), "", "Rerun all", ""))
                        }
                    }
                }
            }
        }
    }

    fn asks(&self, frame: &Frame) -> Markup {
        html! {
            @if let Some(why) = &self.held {
                div .ask role="group" aria-label="Held back" {
                    div { h2 { "This run is held back" } p { (part::said(why)) } }
                    @if self.rights.run {
                        div .actions { (part::button(&frame.visitor.csrf, &format!("{}/release", self.href()), "primary", "Let it run", "")) }
                    }
                }
            }
            @for approval in &self.approvals { (self.approval(approval, frame)) }
        }
    }

    fn approval(&self, approval: &Approval, frame: &Frame) -> Markup {
        let comment = format!("comment-{}", approval.node.0);
        html! {
            div .ask role="group" aria-label="Approval" {
                div {
                    h2 { @if approval.message.is_empty() { "Approve " (part::said(&approval.name)) "?" } @else { (part::said(&approval.message)) } }
                    p .muted {
                        "Step " (part::said(&approval.name)) " waits for "
                        @if approval.by.is_empty() { "an approval" } @else { "an approval by " (part::said(&approval.by.join(", "))) }
                    }
                }
                @if approval.mine {
                    form method="post" action={ (self.step_href(approval.node)) "/answer" } .actions {
                        (part::csrf(&frame.visitor.csrf))
                        label .hidden for=(comment) { "Comment" }
                        input id=(comment) name="comment" placeholder="Comment" autocomplete="off" maxlength="1000";
                        button .primary name="answer" value="yes" type="submit" { "Approve" }
                        button .danger name="answer" value="no" type="submit" { "Refuse" }
                    }
                }
            }
        }
    }

    fn failures(&self) -> Markup {
        let failures = failures(self.view);
        let node_of = |step: &StepView| self.view.steps().iter().position(|other| std::ptr::eq(other, step));
        html! {
            @for (step, cause) in failures.iter().take(FAILURES_SHOWN_MAX) {
                section .failure {
                    h2 {
                        (part::icon(Tone::Bad)) " "
                        @match node_of(step) {
                            Some(at) => a href=(self.step_href(NodeIx(at as u32))) { (part::said(&step.name)) },
                            None => (part::said(&step.name)),
                        }
                        " failed: " (part::said(cause.to_string().lines().next().unwrap_or_default()))
                    }
                    @let more: Vec<String> = cause.to_string().lines().skip(1).map(str::to_owned).collect();
                    @if !more.is_empty() { pre .log { (part::said_lines(&more.join("\n"))) } }
                    @let lines = failing_lines(step);
                    @if !lines.is_empty() { pre .log { @for line in lines { (ansi_html::line(line)) "\n" } } }
                }
            }
            @if failures.len() > FAILURES_SHOWN_MAX { p { (failures.len() - FAILURES_SHOWN_MAX) " more failed; see the list of steps" } }
        }
    }

    fn steps(&self, frame: &Frame) -> Markup {
        let all = self.all || self.view.steps().len() <= ALL_LISTED_MAX;
        let rows = rows(self.view, all);
        html! {
            h2 #steps-title { "Steps" }
            div .scroll tabindex="0" role="region" aria-labelledby="steps-title" {
                table .steps {
                    thead { tr { th scope="col" { "Step" } th scope="col" { "State" } th .right scope="col" { "Duration" } th scope="col" { "Why" } } }
                    tbody { @for row in rows.iter().take(LISTED_MAX) { (self.row(row, frame)) } }
                }
            }
            @if rows.len() > LISTED_MAX { p .muted { (rows.len() - LISTED_MAX) " more steps are not listed" } }
            @if !all { p { a href={ (self.href()) "?steps=all#steps" } { "List every instance" } } }
        }
    }

    fn row(&self, row: &Row, frame: &Frame) -> Markup {
        match row {
            Row::Group(group, depth) => self.group_row(group, *depth),
            Row::Node(node, depth) => match self.view.step(*node) {
                Some(step) => self.node_row(*node, step, *depth, frame),
                None => html! {},
            },
        }
    }

    fn group_row(&self, group: &Group, depth: usize) -> Markup {
        let mut counts = Counts::default();
        let steps = instances(group).filter_map(|node| self.view.step(node));
        let tone =
            steps.inspect(|step| counts.add(&step.state)).map(|step| Tone::of_step(&step.state)).reduce(graph::louder);
        html! {
            tr .group {
                td { div .indent data-depth=(depth.min(DEPTH_SHOWN_MAX)) { (part::said(group.step.id.as_str())) span .muted { " ×" (group.count) } } }
                td { (part::state(tone.unwrap_or(Tone::Wait), &format!("{} of {} done", counts.done(), counts.total))) }
                td .right {}
                td .muted { @if counts.failed > 0 { (counts.failed) " failed" } @else if counts.running > 0 { (counts.running) " running" } }
            }
        }
    }

    fn node_row(&self, node: NodeIx, step: &StepView, depth: usize, frame: &Frame) -> Markup {
        html! {
            tr {
                td { div .indent data-depth=(depth.min(DEPTH_SHOWN_MAX)) {
                    @if step.silent { (part::said(&step.name)) } @else { a href=(self.step_href(node)) { (part::said(&step.name)) } }
                } }
                td { (part::state(Tone::of_step(&step.state), part::step_word(step))) }
                td .right { (part::took(running_time(step, frame))) }
                td .why { (why(step)) }
            }
        }
    }

    fn left_behind(&self) -> Markup {
        html! {
            @if !self.artifacts.is_empty() {
                h2 { "Artifacts" }
                ul .plain {
                    @for ArtifactRow { name, version, files, href } in &self.artifacts {
                        li {
                            @if href.is_empty() { (part::said(name)) } @else { a href=(href) download { (part::said(name)) } }
                            @if !version.is_empty() { " " code { (part::said(version)) } }
                            " " span .muted { (part::count(*files, "file")) }
                        }
                    }
                }
            }
            @let notes: Vec<(&StepView, &String)> = notes(self.view).take(NOTES_SHOWN_MAX).collect();
            @if !notes.is_empty() {
                h2 { "Notes" }
                ul .plain { @for (step, note) in notes { li { strong { (part::said(&step.name)) } ": " (part::said(note)) } } }
            }
        }
    }
}

/// Notes of steps that are shown.
const NOTES_SHOWN_MAX: usize = 20;
/// Levels of nesting that are told apart.
const DEPTH_SHOWN_MAX: usize = 5;

fn notes(view: &RunView) -> impl Iterator<Item = (&StepView, &String)> {
    let results = view.steps().iter().filter_map(|step| Some((step, step.result.as_ref()?)));
    results.flat_map(|(step, result)| result.notes.iter().map(move |note| (step, note)))
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn running_time(step: &StepView, frame: &Frame) -> Option<std::time::Duration> {
    match step.state {
        StepState::Running { since, .. } => Some(frame.now.since(since)),
        _ => step.took(),
    }
}

/// Why a step stands where it stands.
pub fn why(step: &StepView) -> Markup {
    let attempts = (step.attempts > 1).then(|| format!("{} attempts", step.attempts));
    html! {
        @match (&step.state, &step.reason) {
            (_, Some(reason)) => span .muted { (part::said(reason)) },
            (StepState::Done { outcome: Outcome::Failed { cause, .. }, .. }, _) => span { (part::said(cause.to_string().lines().next().unwrap_or_default())) },
            (StepState::Done { outcome: Outcome::Skipped(skip), .. }, _) => span .muted { (part::said(&skip.to_string())) },
            (StepState::Retrying { cause, .. }, _) => span .muted { "again after: " (part::said(&cause.to_string())) },
            (StepState::Running { .. }, _) if !step.last_line.is_empty() => code { (part::said(&step.last_line)) },
            _ => @if let Some(from) = step.cached() { span .muted { "from run " (from.number) } }
        }
        @if let Some(attempts) = attempts { span .muted { " (" (attempts) ")" } }
    }
}

/// The last lines of a failed step, from the first one on that looks like an error.
fn failing_lines(step: &StepView) -> Vec<&str> {
    let tail = step.tail();
    let error = tail.iter().position(|line| errors::looks_like_error(&crate::ansi::strip(line)));
    let from = error.unwrap_or(usize::MAX).min(tail.len().saturating_sub(FAILURE_LINES_MAX));
    tail[from..].iter().take(FAILURE_LINES_MAX).copied().collect()
}

/// A row of the list of steps.
enum Row<'a> {
    Group(&'a Group, usize),
    Node(NodeIx, usize),
}

/// The steps in the order and nesting of the terminal's tree. Not `all`: of a matrix only what is not quiet.
fn rows(view: &RunView, all: bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for place in view.order() {
        let group = &view.groups()[place.group.at()];
        match group.count {
            1 => rows.push(Row::Node(group.first, place.depth)),
            _ => {
                rows.push(Row::Group(group, place.depth));
                let shown = instances(group).filter(|node| all || view.step(*node).is_some_and(is_loud));
                rows.extend(shown.map(|node| Row::Node(node, place.depth + 1)));
            }
        }
    }
    let homeless = view.steps().iter().enumerate().filter(|(_, step)| step.group.is_none());
    rows.extend(homeless.map(|(at, _)| Row::Node(NodeIx(at as u32), 0)));
    rows
}

fn is_loud(step: &StepView) -> bool {
    matches!(Tone::of_step(&step.state), Tone::Bad | Tone::Busy)
}

fn instances(group: &Group) -> impl Iterator<Item = NodeIx> + use<> {
    (group.first.0..group.first.0.saturating_add(group.count)).map(NodeIx)
}

/// The step's group, for pages that need the definition.
pub fn definition<'a>(view: &'a RunView, step: &StepView) -> Option<&'a Group> {
    step.group.map(GroupIx::at).and_then(|at| view.groups().get(at))
}
