//! Settings of a project.

use maud::{Markup, html};

use super::frame::{Crumb, Frame};
use super::part::{self, Field};
use super::path;
use super::project::{Rights, crumb, tabs};
use super::projects::FORGES;

/// What stands in the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The project.
    pub name: String,
    /// What the visitor may do.
    pub rights: Rights,
    /// What git fetches.
    pub repository: String,
    /// Which forge.
    pub forge: String,
    /// The forge's API.
    pub forge_api: String,
    /// The repository's name at the forge.
    pub forge_name: String,
    /// The branch of manual runs.
    pub default_branch: String,
    /// Files of pipelines, one a line.
    pub pipelines: String,
    /// A credential is kept.
    pub has_credential: bool,
    /// A webhook's secret is kept.
    pub has_webhook_secret: bool,
    /// Anybody may read it.
    pub public: bool,
    /// Runs of forks wait for somebody.
    pub approve_forks: bool,
    /// Days that runs are kept; 0: for ever.
    pub keep_days: u32,
    /// Where webhooks go.
    pub hook: String,
    /// The version that is changed.
    pub version: u64,
    /// Why it was not changed.
    pub trouble: String,
}

impl Settings {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let here = path::within(&self.name, "settings");
        let main = html! {
            h1 { (part::said(&self.name)) }
            (tabs(&self.name, self.rights, "settings"))
            (part::trouble(&self.trouble))
            form method="post" action=(here) .sheet {
                (part::csrf(&frame.visitor.csrf))
                input type="hidden" name="version" value=(self.version);
                h2 { "Repository" }
                (Field { help: "Empty: this server keeps it.", ..Field::text("repository", "Repository", &self.repository) }.html())
                (Field { required: true, ..Field::text("default_branch", "Main branch", &self.default_branch) }.html())
                (self.pipelines())
                (self.sealed("credential", "Access token", self.has_credential))
                h2 { "Forge" }
                (part::select("forge", "Forge", &self.forge, &FORGES))
                (Field { help: "Worked out from the repository when empty.", ..Field::text("forge_api", "Address of its API", &self.forge_api) }.html())
                (Field { help: "owner/name", ..Field::text("forge_name", "Name of the repository there", &self.forge_name) }.html())
                (self.sealed("webhook_secret", "Webhook secret", self.has_webhook_secret))
                p .help { "The forge's webhook goes to " code { (part::said(&self.hook)) } }
                h2 { "Runs" }
                (part::tick("public", "Anybody may read this project without signing in", self.public, ""))
                (part::tick("approve_forks", "Pull requests from forks wait until a developer lets them run", self.approve_forks, ""))
                (Field { kind: "number", help: "Runs, logs and artifacts are kept so long; 0 keeps them for ever.",
                    ..Field::text("keep_days", "Days to keep", &self.keep_days.to_string()) }.html())
                div .actions { button .primary type="submit" { "Save" } }
            }
            section .danger-zone aria-labelledby="remove" {
                h2 #remove { "Remove this project" }
                p { "Its settings and secrets go. Runs stay in the log." }
                form method="post" action={ (here) "/remove" } .inline {
                    (part::csrf(&frame.visitor.csrf))
                    (Field { required: true, help: "Type the project's name to be sure.", ..Field::text("sure", "Name", "") }.html())
                    button .danger type="submit" { "Remove" }
                }
            }
        };
        frame.page(
            &format!("Settings of {}", self.name),
            &[crumb(&self.name), Crumb::new("settings", here.clone())],
            None,
            main,
        )
    }

    fn pipelines(&self) -> Markup {
        html! {
            div .field {
                label for="pipelines" { "Files of pipelines" }
                textarea id="pipelines" name="pipelines" rows="3" spellcheck="false" aria-describedby="pipelines-help" { (crate::ansi::strip_lines(&self.pipelines)) }
                p .help #pipelines-help { "One a line. Empty: paceline.yaml and .paceline/*.yaml" }
            }
        }
    }

    fn sealed(&self, name: &str, label: &str, kept: bool) -> Markup {
        let help = if kept { "One is kept; it is never shown. Leave this empty to keep it." } else { "None is kept." };
        html! {
            (Field { kind: "password", autocomplete: "new-password", help, ..Field::text(name, label, "") }.html())
            @if kept { (part::tick(&format!("{name}_remove"), "Remove it", false, "")) }
        }
    }
}
