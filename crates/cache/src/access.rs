//! Who may do what, where: tokens, rights and domains of trust.
//!
//! Content names itself, so reading and writing it is harmless. Trust lies in the action cache: a domain is an instance,
//! or an overlay of it (`main/pr/17` over `main`) that reads through and never writes back.

use std::fmt;
use std::str::FromStr;

use blobs::EntryId;

mod gatekeeper;
mod token;
mod tokens;

pub use gatekeeper::{Ask, Gatekeeper, GatekeeperError};
pub use token::{NAME_BYTES_MAX, Scope, Secret, Token, moment, name_problem};
pub use tokens::{TOKENS_MAX, Tokens, TokensError};

/// Length of an instance's name with its overlay, in bytes: it stands in every record of an entry.
pub const INSTANCE_BYTES_MAX: usize = 255;
/// The writer of what came without a token.
pub const ANONYMOUS: &str = "anonymous";

/// An instance of the action cache, or an overlay of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain {
    /// The instance; empty is a name too.
    pub instance: String,
    /// What is laid over it: `pr/17`.
    pub overlay: Option<String>,
}

impl Domain {
    /// Reads the name of an instance as clients send it: `main`, `team/main`, `main/pr/17`; empty segments do not count.
    pub fn parse(name: &str) -> Domain {
        let segments: Vec<&str> = name.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.iter().position(|segment| *segment == "pr") {
            Some(at) if at + 1 < segments.len() => {
                Domain { instance: segments[..at].join("/"), overlay: Some(segments[at..].join("/")) }
            }
            _ => Domain { instance: segments.join("/"), overlay: None },
        }
    }
    /// The space that it writes to, of a kind of entries (`ac`, `http`, …).
    pub fn space(&self, kind: &str) -> String {
        match &self.overlay {
            None => format!("{kind}\n{}", self.instance),
            Some(overlay) => format!("{kind}\n{}\n{overlay}", self.instance),
        }
    }
    /// The kind and the domain of a space; `None` for what no domain wrote.
    pub fn of_space(space: &str) -> Option<(&str, Domain)> {
        let (kind, rest) = space.split_once('\n')?;
        let (instance, overlay) = match rest.split_once('\n') {
            Some((instance, overlay)) => (instance, Some(overlay.to_owned())),
            None => (rest, None),
        };
        Some((kind, Domain { instance: instance.to_owned(), overlay }))
    }
    /// Where a name is looked up, in order: the overlay, then what is below it.
    pub fn look_up(&self, kind: &str, hash: [u8; 32]) -> Vec<EntryId> {
        let below = Domain { instance: self.instance.clone(), overlay: None };
        let mut spaces = vec![self.space(kind)];
        if self.overlay.is_some() {
            spaces.push(below.space(kind));
        }
        spaces.into_iter().map(|space| EntryId { space, hash }).collect()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.overlay {
            None => write!(f, "{}", self.instance),
            Some(overlay) if self.instance.is_empty() => write!(f, "{overlay}"),
            Some(overlay) => write!(f, "{}/{overlay}", self.instance),
        }
    }
}

/// Why a name cannot be that of an instance, if so. A line break in it would reach into another domain's entries.
pub fn instance_problem(name: &str) -> Option<String> {
    let domain = Domain::parse(name);
    if let Some(problem) = unspeakable(name) {
        return Some(problem);
    }
    if domain.overlay.is_some() {
        return Some(format!("`{name}` names an overlay: name the instance below it, `{}`", domain.instance));
    }
    (domain.instance != name).then(|| format!("write `{}` for `{name}`", domain.instance))
}

/// Why nothing can have this name, if so.
fn unspeakable(name: &str) -> Option<String> {
    if name.len() > INSTANCE_BYTES_MAX {
        return Some(format!(
            "the name of an instance has at most {INSTANCE_BYTES_MAX} bytes, this one {}",
            name.len()
        ));
    }
    name.chars().any(char::is_control).then(|| format!("{name:?} is no name of an instance: it has control characters"))
}

/// What a token allows in its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Look and download.
    Read,
    /// Also upload content, but say nothing of actions: for builders that are not trusted.
    Content,
    /// Also write action results and other entries.
    Write,
}

impl Rights {
    /// The word in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Rights::Read => "read",
            Rights::Content => "content",
            Rights::Write => "write",
        }
    }
}

impl FromStr for Rights {
    type Err = String;

    fn from_str(word: &str) -> Result<Rights, String> {
        let known = [Rights::Read, Rights::Content, Rights::Write];
        known
            .into_iter()
            .find(|rights| rights.word() == word)
            .ok_or_else(|| format!("`{word}` is none of `read`, `content`, `write`"))
    }
}

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where it works.
    pub domain: Domain,
    /// What it may do there.
    pub rights: Rights,
    /// Its token's name, and after a space `run` and the run if it told; stands with every entry it writes.
    pub writer: String,
    /// Writes that it may not do are accepted and forgotten instead of refused: for clients that stop otherwise.
    pub drop_denied: bool,
}

/// Why a caller was not let in, or may not do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token, or none that is known or still valid.
    #[error("{0}")]
    Unauthenticated(String),
    /// A valid token that does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The instance is not served here.
    #[error("{0}")]
    UnknownInstance(String),
}

impl Access {
    /// Whether to do a write of content: `Ok(false)` is to accept it and forget it.
    ///
    /// # Errors
    /// It may not.
    pub fn may_write_content(&self) -> Result<bool, Denied> {
        self.may(Rights::Content, "upload content")
    }
    /// Whether to do a write of an action result or another entry: `Ok(false)` is to accept it and forget it.
    ///
    /// # Errors
    /// It may not.
    pub fn may_write_entries(&self) -> Result<bool, Denied> {
        self.may(Rights::Write, "write results")
    }

    fn may(&self, needed: Rights, what: &str) -> Result<bool, Denied> {
        match self.rights >= needed {
            true => Ok(true),
            false if self.drop_denied => Ok(false),
            false => Err(Denied::Forbidden(format!(
                "`{}` may not {what} in `{}`: it has the rights `{}` there; use a token with the rights `{}`",
                self.writer,
                self.domain,
                self.rights.word(),
                needed.word(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_read_first_and_what_is_below_it_second() {
        let domain = Domain::parse("/team//main/pr/17");
        assert_eq!(domain, Domain { instance: "team/main".into(), overlay: Some("pr/17".into()) });
        let spaces: Vec<String> = domain.look_up("ac", [0; 32]).into_iter().map(|id| id.space).collect();
        assert_eq!(spaces, ["ac\nteam/main\npr/17", "ac\nteam/main"]);
        assert_eq!(Domain::of_space(&spaces[0]), Some(("ac", domain)));
    }

    #[test]
    fn a_name_that_would_reach_into_other_entries_is_none() {
        assert!(instance_problem("main\npr/1").is_some());
        assert!(instance_problem(&"a".repeat(INSTANCE_BYTES_MAX + 1)).is_some());
        assert!(instance_problem("main/pr/1").is_some());
        assert!(instance_problem("a//b").is_some());
        assert_eq!(instance_problem(""), None);
        assert_eq!(instance_problem("team/main"), None);
    }

    #[test]
    fn each_right_allows_its_own_writes_and_those_of_the_lesser_ones() {
        let may = |rights, drop_denied| {
            let domain = Domain::parse("main");
            let access = Access { domain, rights, writer: "t".into(), drop_denied };
            (access.may_write_content().ok(), access.may_write_entries().ok())
        };
        assert_eq!(may(Rights::Read, false), (None, None));
        assert_eq!(may(Rights::Content, false), (Some(true), None));
        assert_eq!(may(Rights::Write, false), (Some(true), Some(true)));
        assert_eq!(may(Rights::Read, true), (Some(false), Some(false)));
        assert_eq!(may(Rights::Content, true), (Some(true), Some(false)));
    }
}
