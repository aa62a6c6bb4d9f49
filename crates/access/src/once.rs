//! What works once and not for long: the link that makes the first administrator, invitations, new passwords, and the tokens by
//! which agents register.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{CredentialKind, Micros, Minted, Role, Shown, id};

/// What a link is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Makes the first administrator of a new server.
    #[default]
    Setup,
    /// Makes a user with these rights.
    Invite {
        /// An administrator of the whole server.
        admin: bool,
        /// Roles by project.
        grants: BTreeMap<String, Role>,
    },
    /// Gives this user a new password.
    Password {
        /// The user.
        user: String,
    },
}

/// A link that works once. Using it removes its record in the version that was read, so that two never use it both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Its id, part of the link.
    pub id: String,
    /// SHA-256 of what the link carries.
    pub sha256: String,
    /// What it is for.
    pub purpose: Purpose,
    /// When it ends.
    pub expires_us: Micros,
}

impl Record for Link {
    const KIND: &'static str = "link";
    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Link {
    /// A new link; what it carries is the last part of its address.
    pub fn mint(purpose: Purpose, life: Duration, now: Timestamp) -> (Link, Minted) {
        let id = id();
        let minted = CredentialKind::Link.mint(&id);
        (Link { id, sha256: minted.sha256.clone(), purpose, expires_us: now.after(life).0 }, minted)
    }

    /// Whether what is shown is this link, and it is not over.
    pub fn is_shown_by(&self, shown: &Shown<'_>, now: Timestamp) -> bool {
        shown.kind == CredentialKind::Link && shown.proves(&self.sha256) && now.0 < self.expires_us
    }
}

/// A token by which one agent registers. Using it removes its record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistrationToken {
    /// Its id, part of what is shown.
    pub id: String,
    /// SHA-256 of what the agent shows.
    pub sha256: String,
    /// The name the agent gets; empty: the one it asks for.
    pub name: String,
    /// Labels the agent gets beside its own.
    pub labels: BTreeSet<String>,
    /// Who made it.
    pub by: String,
    /// When it ends.
    pub expires_us: Micros,
}

impl Record for RegistrationToken {
    const KIND: &'static str = "agent-token";
    fn key(&self) -> String {
        self.id.clone()
    }
}

impl RegistrationToken {
    /// A new token and what the agent shows.
    pub fn mint(
        name: &str,
        labels: BTreeSet<String>,
        by: &str,
        life: Duration,
        now: Timestamp,
    ) -> (RegistrationToken, Minted) {
        let id = id();
        let minted = CredentialKind::Registration.mint(&id);
        let (sha256, expires_us) = (minted.sha256.clone(), now.after(life).0);
        (RegistrationToken { id, sha256, name: name.into(), labels, by: by.into(), expires_us }, minted)
    }

    /// Whether what is shown is this token, and it is not over.
    pub fn is_shown_by(&self, shown: &Shown<'_>, now: Timestamp) -> bool {
        shown.kind == CredentialKind::Registration && shown.proves(&self.sha256) && now.0 < self.expires_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_registrations_end_and_are_not_taken_for_each_other() {
        let (link, shown) = Link::mint(Purpose::Setup, Duration::from_secs(60), Timestamp(0));
        let (token, other) =
            RegistrationToken::mint("", BTreeSet::new(), "user:anna", Duration::from_secs(60), Timestamp(0));
        let (shown, other) = (Shown::read(&shown.text).expect("one"), Shown::read(&other.text).expect("one"));
        assert!(link.is_shown_by(&shown, Timestamp(59_999_999)) && !link.is_shown_by(&shown, Timestamp(60_000_000)));
        assert!(token.is_shown_by(&other, Timestamp(59_999_999)) && !token.is_shown_by(&other, Timestamp(60_000_000)));
        assert!(!link.is_shown_by(&other, Timestamp(0)) && !token.is_shown_by(&shown, Timestamp(0)));
    }
}
