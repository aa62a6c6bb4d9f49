//! Secrets of a project: their names, never their values.

use maud::html;
use model::Timestamp;

use super::frame::{Crumb, Frame};
use super::part::{self, Field};
use super::path;
use super::project::{Rights, crumb, tabs};

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// What is removed when it is: its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Branches that get it; empty: all.
    pub branches: String,
    /// The environment it is for; empty: all.
    pub environment: String,
    /// How often it was set.
    pub version: u32,
    /// When it was set last.
    pub changed: Timestamp,
    /// By whom.
    pub by: String,
}

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The project.
    pub project: String,
    /// What the visitor may do.
    pub rights: Rights,
    /// The secrets.
    pub rows: Vec<SecretRow>,
    /// Why one was not kept.
    pub trouble: String,
}

impl Secrets {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let here = path::within(&self.project, "secrets");
        let main = html! {
            h1 { (part::said(&self.project)) }
            (tabs(&self.project, self.rights, "secrets"))
            (part::trouble(&self.trouble))
            @if self.rows.is_empty() {
                div .empty { h2 { "No secret yet" } p { "A step that lists a secret's name gets its value as a variable. Values are sealed, and masked in logs." } }
            } @else {
                div .scroll tabindex="0" role="region" aria-label="Secrets" { table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "For" } th scope="col" { "Version" } th scope="col" { "Set" } th { span .hidden { "Remove" } } } }
                    tbody { @for row in &self.rows { tr {
                        td { code { (part::said(&row.name)) } }
                        td {
                            @if row.branches.is_empty() && row.environment.is_empty() { span .muted { "all runs" } }
                            @if !row.branches.is_empty() { "branches " code { (part::said(&row.branches)) } " " }
                            @if !row.environment.is_empty() { "environment " code { (part::said(&row.environment)) } }
                        }
                        td .num { (row.version) }
                        td .muted { (part::when(row.changed, frame.now)) @if !row.by.is_empty() { " by " (part::said(&row.by)) } }
                        td .right { (remove(&frame.visitor.csrf, &format!("{here}/remove"), &row.key, &row.name)) }
                    } } }
                } }
            }
            form method="post" action=(here) .sheet {
                (part::csrf(&frame.visitor.csrf))
                h2 { "Set a secret" }
                (Field { required: true, help: "As steps name it, like REGISTRY_TOKEN. One of the same name gets a new version.", ..Field::text("name", "Name", "") }.html())
                div .field {
                    label for="value" { "Value" }
                    textarea id="value" name="value" rows="3" required autocomplete="off" spellcheck="false" {}
                }
                (Field { help: "Only runs of matching branches get it, like release/**. Empty: all.", ..Field::text("branch", "Branches", "") }.html())
                (Field { help: "Only for this environment. Empty: all.", ..Field::text("environment", "Environment", "") }.html())
                p .help { "Pull requests from forks never get secrets." }
                div .actions { button .primary type="submit" { "Keep it" } }
            }
        };
        frame.page(
            &format!("Secrets of {}", self.project),
            &[crumb(&self.project), Crumb::new("secrets", here.clone())],
            None,
            main,
        )
    }
}

/// A button that removes a row.
pub(super) fn remove(csrf: &str, action: &str, key: &str, name: &str) -> maud::Markup {
    html! {
        form method="post" action=(action) .inline data-confirm={ "Remove " (crate::ansi::strip(name)) "?" } {
            (part::csrf(csrf))
            input type="hidden" name="key" value=(key);
            button .small.danger type="submit" aria-label={ "Remove " (crate::ansi::strip(name)) } { "Remove" }
        }
    }
}
