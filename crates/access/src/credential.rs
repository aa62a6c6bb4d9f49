//! What is shown to prove something: `pace_token_<id>_<secret>`. The id finds the record, whose SHA-256 of the whole text is
//! compared. The text itself is shown once and kept nowhere.

use crate::chance::{hex, random, same, sha256};

/// Length of a credential; longer ones are not even read.
pub const CREDENTIAL_BYTES_MAX: usize = 256;
/// Hexadecimal digits of the secret part: 192 bits.
const SECRET_DIGITS: usize = 48;
/// What each begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "pace_";

/// What a credential is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A token of a person or a program.
    Token,
    /// An agent that is registered.
    Agent,
    /// An agent that wants to be.
    Registration,
    /// A link that works once.
    Link,
}

/// A new credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// What its holder shows. Shown to people once.
    pub text: String,
    /// What is kept of it.
    pub sha256: String,
}

/// A credential that somebody shows. What it says of itself is not true before [`Shown::proves`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a> {
    /// What it is for.
    pub kind: CredentialKind,
    /// Which record it belongs to.
    pub id: &'a str,
    text: &'a str,
}

impl CredentialKind {
    const ALL: [CredentialKind; 4] =
        [CredentialKind::Token, CredentialKind::Agent, CredentialKind::Registration, CredentialKind::Link];

    fn word(self) -> &'static str {
        match self {
            CredentialKind::Token => "token",
            CredentialKind::Agent => "agent",
            CredentialKind::Registration => "join",
            CredentialKind::Link => "link",
        }
    }

    /// A new credential for the record of this id.
    pub fn mint(self, id: &str) -> Minted {
        let text = format!("{PREFIX}{}_{id}_{}", self.word(), hex(&random::<{ SECRET_DIGITS / 2 }>()));
        Minted { sha256: sha256(&text), text }
    }
}

impl<'a> Shown<'a> {
    /// Reads what somebody shows; `None` for what is no credential of ours.
    pub fn read(text: &'a str) -> Option<Shown<'a>> {
        if text.len() > CREDENTIAL_BYTES_MAX {
            return None;
        }
        let (word, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let kind = CredentialKind::ALL.into_iter().find(|kind| kind.word() == word)?;
        let (id, secret) = rest.rsplit_once('_')?;
        (!id.is_empty() && secret.len() == SECRET_DIGITS).then_some(Shown { kind, id, text })
    }

    /// Whether it is the credential of which this is kept. Takes the same time for any wrong one.
    pub fn proves(&self, kept: &str) -> bool {
        same(&sha256(self.text), kept)
    }
}

// A credential in a log is a leak.
impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Minted(…)")
    }
}
impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shown({:?}, {:?})", self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_proves_its_own_record_and_no_other() {
        let (one, two) = (CredentialKind::Agent.mint("build_1"), CredentialKind::Agent.mint("build_1"));
        let shown = Shown::read(&one.text).expect("it is one");
        assert_eq!((shown.kind, shown.id), (CredentialKind::Agent, "build_1"));
        assert!(shown.proves(&one.sha256) && !shown.proves(&two.sha256) && !shown.proves(""));
    }

    #[test]
    fn what_is_no_credential_is_not_read() {
        let long = format!("pace_token_{}_{}", "x".repeat(300), "0".repeat(48));
        for text in ["", "pace_", "pace_token_", "pace_token__", "ghp_123", "pace_cake_1_2", "pace_token_1_abc", &long]
        {
            assert_eq!(Shown::read(text), None, "{text}");
        }
        assert!(!format!("{:?}", CredentialKind::Token.mint("1")).contains("pace_"), "nothing of it is in a log");
    }
}
