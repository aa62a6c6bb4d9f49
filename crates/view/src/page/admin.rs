//! What is of the whole server: users, agents, deliveries, the audit.

use maud::{Markup, html};
use model::Timestamp;

use super::frame::{Crumb, Frame};
use super::part::{self, Field, Tone};
use super::path;
use super::project::{Rights, crumb, tabs};
use super::secrets::remove;

fn table(label: &str, heads: &[&str], rows: &[Markup]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label=(label) { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for row in rows { (row) } }
        } }
    }
}

/// A user in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Its name.
    pub name: String,
    /// May do everything.
    pub admin: bool,
    /// Signs in elsewhere.
    pub elsewhere: bool,
    /// Cannot sign in.
    pub disabled: bool,
    /// Roles: project and role.
    pub roles: Vec<(String, String)>,
}

/// What the page of users shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The users, by name.
    pub rows: Vec<UserRow>,
    /// The key after which the next page begins.
    pub next: Option<String>,
    /// A link that was just made: it is shown this once.
    pub invite: Option<String>,
    /// Why something was not done.
    pub trouble: String,
}

const ROLES: [(&str, &str); 5] = [
    ("viewer", "viewer: reads"),
    ("developer", "developer: starts, cancels, approves"),
    ("maintainer", "maintainer: settings and secrets"),
    ("admin", "admin: everything in the project"),
    ("none", "none: takes the role away"),
];

impl Users {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let csrf = &frame.visitor.csrf;
        let row = |row: &UserRow| {
            html! { tr {
                td { strong { (part::said(&row.name)) } }
                td {
                    @if row.admin { "administrator of the server" }
                    @for (at, (project, role)) in row.roles.iter().enumerate() { @if at > 0 || row.admin { ", " } (part::said(role)) " of " (part::said(project)) }
                    @if !row.admin && row.roles.is_empty() { span .muted { "no role" } }
                }
                td .muted { @if row.disabled { "cannot sign in" } @else if row.elsewhere { "signs in elsewhere" } @else { "password" } }
                td .right { @if row.name != frame.visitor.name {
                    @if !row.elsewhere {
                        form method="post" action="/users/password" .inline {
                            (part::csrf(csrf))
                            input type="hidden" name="key" value=(row.name);
                            button .small type="submit" { "New password" }
                        }
                        " "
                    }
                    (remove(csrf, "/users/remove", &row.name, &row.name)) } }
            } }
        };
        let rows: Vec<Markup> = self.rows.iter().map(row).collect();
        let main = html! {
            h1 { "Users" }
            (part::trouble(&self.trouble))
            @if let Some(link) = &self.invite {
                div .notice.good role="status" { p { "Give this link to the new user. It works once, and is not shown again." } p { code .block { (part::said(link)) } } }
            }
            (table("Users", &["Name", "Roles", "Signs in by", ""], &rows))
            @if let Some(next) = &self.next { nav .pager aria-label="Pages" { a rel="next" href={ "/users" (path::query(&[("after", next)])) } { "More" } } }
            form method="post" action="/users" .sheet {
                (part::csrf(csrf))
                h2 { "New user" }
                p .help { "Without a name you get a link by which somebody chooses name and password." }
                (Field::text("name", "Name", "").html())
                (Field { kind: "password", autocomplete: "new-password", help: "At least 10 characters. Empty: it has only tokens, or signs in elsewhere.", ..Field::text("password", "First password", "") }.html())
                (part::tick("admin", "Administrator of the server", false, ""))
                div .actions { button .primary type="submit" { "Add user" } }
            }
            form method="post" action="/users/role" .sheet {
                (part::csrf(csrf))
                h2 { "Give a role" }
                (Field { required: true, ..Field::text("user", "User", "") }.html())
                (Field { required: true, ..Field::text("project", "Project", "") }.html())
                (part::select("role", "Role", "developer", &ROLES))
                div .actions { button .primary type="submit" { "Give role" } }
            }
        };
        frame.page("Users", &[Crumb::new("users", "/users")], None, main)
    }
}

/// An agent in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Its name.
    pub name: String,
    /// It is connected.
    pub here: bool,
    /// It gets no new work.
    pub paused: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Attempts that it executes, and may at once.
    pub busy: Option<(u32, u32)>,
    /// Its version and what its host can enforce.
    pub about: String,
    /// It is part of the server.
    pub built_in: bool,
}

/// What the page of agents shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// The agents, by name.
    pub rows: Vec<AgentRow>,
    /// The command that registers another one: it is shown this once.
    pub command: Option<String>,
    /// Why something was not done.
    pub trouble: String,
}

impl Agents {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let csrf = &frame.visitor.csrf;
        let rows: Vec<Markup> = self.rows.iter().map(|row| row.html(csrf)).collect();
        let main = html! {
            div .title { h1 { "Agents" } div .actions { (part::button(csrf, "/agents/token", "primary", "Add an agent", "")) } }
            (part::trouble(&self.trouble))
            @if let Some(command) = &self.command {
                div .notice.good role="status" {
                    p { "Start this on the new machine. The token works once, and is not shown again." }
                    p { code .block { (part::said(command)) } }
                }
            }
            div #agents data-part {
                @if rows.is_empty() { p .empty { "No agent is registered: nothing runs." } } @else {
                    (table("Agents", &["Name", "State", "Busy", "Labels", "About", ""], &rows))
                }
            }
        };
        // What answers a form has no address to ask again.
        let live = self.command.is_none().then_some("/live");
        frame.page("Agents", &[Crumb::new("agents", "/agents")], live, main)
    }
}

impl AgentRow {
    fn html(&self, csrf: &str) -> Markup {
        let (tone, word) = match (self.here, self.paused) {
            (false, _) => (Tone::Quiet, "away"),
            (true, true) => (Tone::Wait, "paused"),
            (true, false) => (Tone::Good, "ready"),
        };
        let turn = if self.paused { ("resume", "Resume") } else { ("pause", "Pause") };
        html! { tr {
            td { strong { (part::said(&self.name)) } }
            td { (part::state(tone, word)) }
            td .num { @if let Some((busy, slots)) = self.busy { (busy) " of " (slots) } }
            td { @for label in &self.labels { span .tag { (part::said(label)) } " " } }
            td .muted { (part::said(&self.about)) }
            td .right { @if !self.built_in {
                form method="post" action={ "/agents/" (turn.0) } .inline {
                    (part::csrf(csrf))
                    input type="hidden" name="key" value=(self.name);
                    button .small type="submit" { (turn.1) }
                }
                " "
                (remove(csrf, "/agents/remove", &self.name, &self.name))
            } }
        } }
    }
}

/// A delivery in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryLine {
    /// Its id.
    pub id: String,
    /// When it came.
    pub at: Timestamp,
    /// Who speaks.
    pub source: String,
    /// What became of it; `None`: it waits.
    pub outcome: Option<String>,
}

/// What the page of deliveries shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// The project.
    pub project: String,
    /// What the visitor may do.
    pub rights: Rights,
    /// Where webhooks go.
    pub hook: String,
    /// The deliveries, newest first.
    pub rows: Vec<DeliveryLine>,
    /// Where older ones begin.
    pub older: Option<u64>,
}

impl Deliveries {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let here = path::within(&self.project, "deliveries");
        let row = |row: &DeliveryLine| {
            html! { tr {
                td .muted { (part::when(row.at, frame.now)) }
                td { (part::said(&row.source)) }
                td { @match &row.outcome { Some(outcome) => span .lines { (part::said_lines(outcome)) }, None => (part::state(Tone::Wait, "waiting")) } }
                td .muted.cut { code { (part::said(&row.id)) } }
            } }
        };
        let rows: Vec<Markup> = self.rows.iter().map(row).collect();
        let older = self.older.map(|before| format!("{here}?before={before}"));
        let main = html! {
            h1 { (part::said(&self.project)) }
            (tabs(&self.project, self.rights, "deliveries"))
            p { "What the forge said, and what became of it. It says so to " code { (part::said(&self.hook)) } }
            div #deliveries data-part {
                @if rows.is_empty() { p .empty { "Nothing came yet." } } @else { (table("Deliveries", &["When", "From", "What became of it", "Id"], &rows)) }
            }
            (part::older(older.as_deref()))
        };
        let live = path::within(&self.project, "live");
        frame.page(
            &format!("Deliveries of {}", self.project),
            &[crumb(&self.project), Crumb::new("deliveries", here.clone())],
            Some(&live),
            main,
        )
    }
}

/// Who changed what, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What, in the past.
    pub act: String,
    /// About what.
    pub about: String,
}

/// The page of the audit.
pub fn audit(frame: &Frame, lines: &[AuditLine], older: Option<u64>) -> String {
    let row = |line: &AuditLine| {
        html! { tr {
            td .muted { (part::when(line.at, frame.now)) }
            td { (part::said(&line.by)) }
            td { code { (part::said(&line.act)) } }
            td { (part::said(&line.about)) }
        } }
    };
    let rows: Vec<Markup> = lines.iter().map(row).collect();
    let older = older.map(|before| format!("/audit?before={before}"));
    let main = html! {
        h1 { "Audit" }
        p .muted { "Who changed what. The log is chained: " code { "pace audit verify" } " finds what was edited." }
        @if rows.is_empty() { p .empty { "Nothing yet." } } @else { (table("Audit", &["When", "Who", "What", "About"], &rows)) }
        (part::older(older.as_deref()))
    };
    frame.page("Audit", &[Crumb::new("audit", "/audit")], None, main)
}
