//! Who may do what, where: tokens, rights and domains of trust.
//!
//! Content names itself, so reading and writing it is harmless. Trust lies in the action cache: a domain is an instance,
//! or an overlay of it (`main/pr/17` over `main`) that reads through and never writes back.

use blobs::EntryId;

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

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where it works.
    pub domain: Domain,
    /// What it may do there.
    pub rights: Rights,
    /// Its token's name; stands with every entry it writes.
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

/// Lets callers in.
#[derive(Debug, Default)]
pub struct Gatekeeper {}

impl Gatekeeper {
    /// Lets a caller in: `authorization` is the header's value (`Bearer …`, or `Basic …` with the token as password), `instance`
    /// is what it names, `now` in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, authorization: Option<&str>, instance: &str, now: u64) -> Result<Access, Denied> {
        let _ = (authorization, now);
        Ok(Access {
            domain: Domain::parse(instance),
            rights: Rights::Write,
            writer: "anonymous".into(),
            drop_denied: false,
        })
    }
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
            false => Err(Denied::Forbidden(format!("token `{}` may not {what}", self.writer))),
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
    }
}
