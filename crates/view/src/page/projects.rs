//! All projects, and a new one.

use maud::{Markup, html};
use model::RunSummary;

use super::frame::{Crumb, Frame};
use super::part::{self, Field};
use super::path;
use super::project::run_rows;

/// A project in one line.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectRow {
    /// Its name.
    pub name: String,
    /// What git fetches, without a credential.
    pub repository: String,
    /// Its newest run.
    pub last: Option<RunSummary>,
}

/// What the first page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Projects {
    /// Those the visitor may see, in order.
    pub rows: Vec<ProjectRow>,
    /// The key after which the next page begins.
    pub next: Option<String>,
    /// Runs that have not ended, newest first, a few.
    pub active: Vec<RunSummary>,
    /// The visitor may make projects.
    pub may_create: bool,
}

impl Projects {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let main = html! {
            div .title {
                h1 { "Projects" }
                @if self.may_create { a .button.primary href="/new" { "New project" } }
            }
            @if !self.active.is_empty() {
                section aria-labelledby="now" #active data-part {
                    h2 #now { "Now" }
                    (run_rows(&self.active, frame.now, true))
                }
            }
            @if self.rows.is_empty() { (self.empty(frame)) } @else { (self.list(frame)) }
        };
        frame.page("Projects", &[], Some("/live"), main)
    }

    fn list(&self, frame: &Frame) -> Markup {
        html! {
            ul .cards #projects data-part {
                @for ProjectRow { name, repository, last } in &self.rows {
                    li {
                        h2 { a href=(path::project(name)) { (part::said(name)) } }
                        p .muted.cut title=(crate::ansi::strip(repository)) { (part::said(repository)) }
                        @match last {
                            Some(run) => p .last {
                                (part::run_state(run)) " "
                                a href=(path::run(name, run.number)) { (run.number) " " (part::said(&run.title)) }
                                " " span .muted { (part::when(run.requested, frame.now)) }
                            },
                            None => p .last.muted { "no run yet" },
                        }
                    }
                }
            }
            @if let Some(next) = &self.next {
                nav .pager aria-label="Pages" { a rel="next" href={ "/" (path::query(&[("after", next)])) } { "More" } }
            }
        }
    }

    fn empty(&self, frame: &Frame) -> Markup {
        html! {
            div .empty {
                @if self.may_create {
                    h2 { "No project yet" }
                    p { "A project is a repository with a " code { "paceline.yaml" } ". Add one, and every push runs it." }
                    p { a .button.primary href="/new" { "New project" } }
                } @else if frame.visitor.name.is_empty() {
                    h2 { "Nothing to see without signing in" }
                    p { a .button.primary href="/sign-in" { "Sign in" } }
                } @else {
                    h2 { "No project yet" }
                    p { "Nobody gave you a role in a project. Ask whoever runs this server." }
                }
            }
        }
    }
}

/// What stands in the form of a new project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewProject {
    /// Its name.
    pub name: String,
    /// What git fetches.
    pub repository: String,
    /// Which forge.
    pub forge: String,
    /// The branch of manual runs.
    pub default_branch: String,
    /// Why it was not made.
    pub trouble: String,
}

/// The forges that a project may be at.
pub const FORGES: [(&str, &str); 5] = [
    ("generic", "none, or another"),
    ("github", "GitHub"),
    ("gitlab", "GitLab"),
    ("gitea", "Gitea or Forgejo"),
    ("bitbucket", "Bitbucket"),
];

impl NewProject {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let branch = if self.default_branch.is_empty() { "main" } else { &self.default_branch };
        let main = html! {
            h1 { "New project" }
            (part::trouble(&self.trouble))
            form method="post" action="/new" .sheet {
                (part::csrf(&frame.visitor.csrf))
                (Field { required: true, help: "Letters, digits, - _ . and /, like web or team/web. It never changes.",
                    ..Field::text("name", "Name", &self.name) }.html())
                (Field { help: "What git fetches: https://…, ssh://…, or a path on this server. Empty: this server keeps it, and you push to it.",
                    ..Field::text("repository", "Repository", &self.repository) }.html())
                (part::select("forge", "Forge", &self.forge, &FORGES))
                (Field { required: true, help: "Manual runs and schedules take it.",
                    ..Field::text("default_branch", "Main branch", branch) }.html())
                (Field { kind: "password", autocomplete: "new-password", help: "For a repository that is not public: a token that may read it and set statuses. Kept sealed, never shown again.",
                    ..Field::text("credential", "Access token", "") }.html())
                (Field { kind: "password", autocomplete: "new-password", help: "The same text as in the forge's webhook settings. Kept sealed.",
                    ..Field::text("webhook_secret", "Webhook secret", "") }.html())
                div .actions { button .primary type="submit" { "Add project" } a .button href="/" { "Back" } }
            }
        };
        frame.page("New project", &[Crumb::new("New project", "/new")], None, main)
    }
}
