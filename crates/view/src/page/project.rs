//! A project: its runs, with filters.

use maud::{Markup, html};
use model::{RunSummary, Timestamp};

use super::frame::{Crumb, Frame};
use super::{part, path};

/// What a visitor may do in a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Start, cancel, rerun.
    pub run: bool,
    /// Change settings and secrets.
    pub manage: bool,
}

/// Which runs are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this branch; empty: all.
    pub branch: String,
    /// Of this pipeline; empty: all.
    pub pipeline: String,
    /// `active`, or the word of an outcome; empty: all.
    pub state: String,
}

/// What the page of a project shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectPage {
    /// Its name.
    pub name: String,
    /// What git fetches, without a credential.
    pub repository: String,
    /// What the visitor may do.
    pub rights: Rights,
    /// Which runs are shown.
    pub filter: Filter,
    /// Branches that may be chosen.
    pub branches: Vec<String>,
    /// Pipelines that may be chosen.
    pub pipelines: Vec<String>,
    /// The runs, newest first.
    pub runs: Vec<RunSummary>,
    /// Where older ones begin.
    pub older: Option<u64>,
    /// This is not the first page.
    pub later_page: bool,
    /// Where webhooks go.
    pub hook: String,
}

/// The way to the pages of a project.
pub fn crumb(name: &str) -> Crumb {
    Crumb::new(name, path::project(name))
}

/// The pages of a project, one of them this one.
pub fn tabs(name: &str, rights: Rights, here: &str) -> Markup {
    let tab = |rest: &str, label: &str| {
        let href = if rest.is_empty() { path::project(name) } else { path::within(name, rest) };
        html! { a href=(href) aria-current=[(rest == here).then_some("page")] { (label) } }
    };
    html! {
        nav .tabs aria-label="Project" {
            (tab("", "Runs"))
            @if rights.manage { (tab("deliveries", "Deliveries")) (tab("secrets", "Secrets")) (tab("settings", "Settings")) }
        }
    }
}

impl ProjectPage {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let main = html! {
            div .title {
                h1 { (part::said(&self.name)) }
                @if self.rights.run { a .button.primary href=(path::within(&self.name, "trigger")) { "Run pipeline" } }
            }
            p .muted.cut { (part::said(&self.repository)) }
            (tabs(&self.name, self.rights, ""))
            (self.filters())
            section #runs data-part aria-label="Runs" {
                @if self.runs.is_empty() { (self.empty()) } @else { (run_rows(&self.runs, frame.now, false)) }
                (part::older(self.older_href().as_deref()))
            }
        };
        let live = (!self.later_page).then(|| path::within(&self.name, "live"));
        frame.page(&self.name, &[crumb(&self.name)], live.as_deref(), main)
    }

    fn older_href(&self) -> Option<String> {
        let before = self.older?.to_string();
        let Filter { branch, pipeline, state } = &self.filter;
        let query = path::query(&[("branch", branch), ("pipeline", pipeline), ("state", state), ("before", &before)]);
        Some(format!("{}{query}", path::project(&self.name)))
    }

    fn filters(&self) -> Markup {
        const STATES: [(&str, &str); 7] = [
            ("", "any state"),
            ("active", "not ended"),
            ("success", "success"),
            ("failure", "failure"),
            ("infrastructure", "infrastructure"),
            ("refused", "refused"),
            ("cancelled", "cancelled"),
        ];
        html! {
            form .filters method="get" action=(path::project(&self.name)) role="search" {
                (part::select("branch", "Branch", &self.filter.branch, &choices("any branch", &self.branches)))
                @if self.pipelines.len() > 1 || !self.filter.pipeline.is_empty() {
                    (part::select("pipeline", "Pipeline", &self.filter.pipeline, &choices("any pipeline", &self.pipelines)))
                }
                (part::select("state", "State", &self.filter.state, &STATES))
                button type="submit" { "Show" }
                @if self.filter != Filter::default() { a href=(path::project(&self.name)) { "Show all" } }
            }
        }
    }

    fn empty(&self) -> Markup {
        html! {
            div .empty {
                @if self.filter != Filter::default() || self.later_page {
                    h2 { "No run like that" }
                } @else {
                    h2 { "No run yet" }
                    p { "Push a commit, or run the pipeline by hand. For pushes, the forge must know this webhook:" }
                    p { code .block { (part::said(&self.hook)) } }
                }
            }
        }
    }
}

fn choices<'a>(any: &'a str, names: &'a [String]) -> Vec<(&'a str, &'a str)> {
    std::iter::once(("", any)).chain(names.iter().map(|name| (name.as_str(), name.as_str()))).collect()
}

/// Runs as a list; with their projects where several are mixed.
pub fn run_rows(runs: &[RunSummary], now: Timestamp, with_project: bool) -> Markup {
    html! {
        ul .runs {
            @for run in runs {
                li {
                    (part::run_state(run))
                    div .what {
                        a href=(path::run(run.project.as_str(), run.number)) {
                            @if with_project { span .project { (part::said(run.project.as_str())) " " } }
                            span .num { (run.number) } " "
                            @if run.title.is_empty() { (part::said(&run.pipeline)) } @else { (part::said(&run.title)) }
                        }
                        p .muted { (facts(run)) }
                    }
                    div .times.muted {
                        (part::took(duration(run, now)))
                        (part::when(run.requested, now))
                    }
                }
            }
        }
    }
}

fn facts(run: &RunSummary) -> Markup {
    let reference = if run.tag.is_empty() { &run.branch } else { &run.tag };
    html! {
        span { (part::said(&run.pipeline)) }
        @if !reference.is_empty() { span .ref { (part::said(reference)) } }
        @if !run.commit.is_empty() { code { (part::said(run.commit.get(..7).unwrap_or(&run.commit))) } }
        span { (run.event.word().replace('_', " ")) }
        @if !run.author.is_empty() { span { (part::said(&run.author)) } }
    }
}

/// From start to end, or to now.
pub fn duration(run: &RunSummary, now: Timestamp) -> Option<std::time::Duration> {
    run.started.map(|started| run.ended.unwrap_or(now).since(started))
}
