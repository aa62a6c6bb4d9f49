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

/// What a link that works once is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// Makes the first administrator.
    #[default]
    SetUp,
    /// Makes a user.
    Invite,
    /// Gives this user a new password.
    Password(String),
}

/// The form behind a link that works once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkPage {
    /// What the link is for.
    pub kind: LinkKind,
    /// Where the form goes.
    pub action: String,
    /// The name that was given.
    pub name: String,
    /// Why it did not work.
    pub trouble: String,
}

impl LinkPage {
    /// The page.
    pub fn page(&self, frame: &Frame) -> String {
        let (title, text) = match &self.kind {
            LinkKind::SetUp => {
                ("Welcome to Paceline", "This link works once. It makes you the administrator of this server.")
            }
            LinkKind::Invite => ("Welcome to Paceline", "You were invited. This link works once."),
            LinkKind::Password(_) => ("A new password", "This link works once. You sign in anew everywhere."),
        };
        let main = html! {
            div .narrow {
                h1 { (title) }
                p { (text) }
                (part::trouble(&self.trouble))
                form method="post" action=(self.action) .sheet {
                    (part::csrf(&frame.visitor.csrf))
                    @match &self.kind {
                        LinkKind::Password(user) => p { "For " strong { (part::said(user)) } },
                        _ => (Field { required: true, autocomplete: "username", help: "What you sign in with: a-z 0-9 . _ - @ +", ..Field::text("name", "Your name", &self.name) }.html()),
                    }
                    (Field { required: true, kind: "password", autocomplete: "new-password", help: "At least 10 characters.", ..Field::text("password", "Password", "") }.html())
                    div .actions { button .primary type="submit" { "Begin" } }
                }
            }
        };
        frame.page(title, &[], None, main)
    }
}
