//! Signing in, and the very first time.

use maud::html;

use super::frame::Frame;
use super::part::{self, Field};

/// The form for signing in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignIn {
    /// The name that was given.
    pub name: String,
    /// Where to go then; a path of this server.
    pub next: String,
    /// Why it did not work.
    pub trouble: String,
    /// The label of the button for signing in elsewhere, if that is set up.
    pub elsewhere: Option<String>,
}

impl SignIn {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let main = html! {
            div .narrow {
                h1 { "Sign in" }
                (part::trouble(&self.trouble))
                @if let Some(label) = &self.elsewhere {
                    p { a .button.primary.wide href={ "/sign-in/oidc" (super::path::query(&[("next", &self.next)])) } { (part::said(label)) } }
                    p .or { "or" }
                }
                form method="post" action="/sign-in" .sheet {
                    (part::csrf(&frame.visitor.csrf))
                    input type="hidden" name="next" value=(self.next);
                    (Field { required: true, autocomplete: "username", ..Field::text("name", "Name", &self.name) }.html())
                    (Field { required: true, kind: "password", autocomplete: "current-password", ..Field::text("password", "Password", "") }.html())
                    div .actions { button .primary type="submit" { "Sign in" } }
                }
            }
        };
        frame.page("Sign in", &[], None, main)
    }
}

/// The form that makes the first administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetUp {
    /// The secret of the link.
    pub token: String,
    /// The name that was given.
    pub name: String,
    /// Why it did not work.
    pub trouble: String,
}

impl SetUp {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let main = html! {
            div .narrow {
                h1 { "Welcome to Paceline" }
                p { "This link works once. It makes you the administrator of this server." }
                (part::trouble(&self.trouble))
                form method="post" action="/setup" .sheet {
                    (part::csrf(&frame.visitor.csrf))
                    input type="hidden" name="token" value=(self.token);
                    (Field { required: true, autocomplete: "username", help: "What you sign in with.", ..Field::text("name", "Your name", &self.name) }.html())
                    (Field { required: true, kind: "password", autocomplete: "new-password", help: "At least 10 characters.", ..Field::text("password", "Password", "") }.html())
                    div .actions { button .primary type="submit" { "Begin" } }
                }
            }
        };
        frame.page("Welcome", &[], None, main)
    }
}
