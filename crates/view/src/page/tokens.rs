//! A person's tokens for programs.

use maud::html;
use model::Timestamp;

use super::frame::{Crumb, Frame};
use super::part::{self, Field};
use super::secrets::remove;

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its key.
    pub key: String,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: String,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it is valid; `None`: for ever.
    pub expires: Option<Timestamp>,
}

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The visitor's tokens.
    pub rows: Vec<TokenRow>,
    /// Scopes that may be chosen: name and what it means.
    pub scopes: Vec<(String, String)>,
    /// One that was just made: it is shown this once.
    pub made: Option<String>,
    /// Why one was not made.
    pub trouble: String,
}

impl Tokens {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let main = html! {
            h1 { "Your tokens" }
            p .muted { "For programs and for the command line: " code { "pace login" } }
            (part::trouble(&self.trouble))
            @if let Some(made) = &self.made {
                div .notice.good role="status" {
                    p { "Your new token. Copy it now: it is not shown again." }
                    p { code .block #made { (part::said(made)) } }
                }
            }
            @if self.rows.is_empty() { p .empty { "No token yet." } } @else {
                div .scroll tabindex="0" role="region" aria-label="Tokens" { table {
                    thead { tr { th scope="col" { "For" } th scope="col" { "May" } th scope="col" { "Made" } th scope="col" { "Expires" } th { span .hidden { "Remove" } } } }
                    tbody { @for row in &self.rows { tr {
                        td { (part::said(&row.name)) }
                        td { (part::said(&row.scopes)) }
                        td .muted { (part::when(row.made, frame.now)) }
                        td .muted { @match row.expires { Some(at) => (part::until(at, frame.now)), None => "never" } }
                        td .right { (remove(&frame.visitor.csrf, "/tokens/remove", &row.key, &row.name)) }
                    } } }
                } }
            }
            form method="post" action="/tokens" .sheet {
                (part::csrf(&frame.visitor.csrf))
                h2 { "New token" }
                (Field { required: true, ..Field::text("name", "What it is for", "") }.html())
                @if !self.scopes.is_empty() {
                    fieldset .field {
                        legend { "What it may do" }
                        @for (name, meaning) in &self.scopes { (part::tick(&format!("scope-{name}"), &crate::ansi::strip(name), name == "read", &crate::ansi::strip(meaning))) }
                    }
                }
                (part::select("days", "Valid for", "90", &[("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("0", "ever")]))
                div .actions { button .primary type="submit" { "Make token" } }
            }
        };
        frame.page("Your tokens", &[Crumb::new("tokens", "/tokens")], None, main)
    }
}
