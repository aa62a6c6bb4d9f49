//! A token: for programs, with scopes, for some projects, until a day.

use std::collections::BTreeSet;

use model::{Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{CredentialKind, DAY_US, Micros, Minted, Scope, Shown, id};

/// Longest life of a token that is not for ever.
pub const TOKEN_DAYS_MAX: u64 = 3660;

/// What is kept of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its id, part of what is shown.
    pub id: String,
    /// What it is for, in its owner's words.
    pub label: String,
    /// Name of the user it belongs to.
    pub owner: String,
    /// SHA-256 of what its holder shows.
    pub sha256: String,
    /// What it may at most.
    pub scopes: BTreeSet<Scope>,
    /// Projects it is for, as in grants; empty: all of its owner's.
    pub projects: Vec<String>,
    /// When it was made.
    pub created_us: Micros,
    /// When it ends; 0: never.
    pub expires_us: Micros,
}

impl Record for Token {
    const KIND: &'static str = "token";
    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Token {
    /// A new token and what its holder shows. `days` 0: for ever.
    pub fn mint(owner: &str, label: &str, scopes: BTreeSet<Scope>, days: u64, now: Timestamp) -> (Token, Minted) {
        let id = id();
        let minted = CredentialKind::Token.mint(&id);
        let expires_us = if days == 0 { 0 } else { now.0.saturating_add(days.min(TOKEN_DAYS_MAX) * DAY_US) };
        let token = Token {
            id,
            label: label.into(),
            owner: owner.into(),
            sha256: minted.sha256.clone(),
            scopes,
            projects: Vec::new(),
            created_us: now.0,
            expires_us,
        };
        (token, minted)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_us != 0 && self.expires_us <= now.0
    }

    /// Whether what is shown is this token, and it is not over.
    pub fn is_shown_by(&self, shown: &Shown<'_>, now: Timestamp) -> bool {
        shown.kind == CredentialKind::Token && shown.proves(&self.sha256) && !self.is_over(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_its_day_and_only_as_a_token() {
        let (token, minted) = Token::mint("anna", "ci", [Scope::Run].into(), 1, Timestamp(5));
        let shown = Shown::read(&minted.text).expect("it is one");
        assert_eq!(shown.id, token.id);
        assert!(token.is_shown_by(&shown, Timestamp(5 + DAY_US - 1)));
        assert!(!token.is_shown_by(&shown, Timestamp(5 + DAY_US)));
        let (ever, _) = Token::mint("anna", "ci", BTreeSet::new(), 0, Timestamp(5));
        assert!(!ever.is_over(Timestamp(u64::MAX)));
        let agent = CredentialKind::Agent.mint(&token.id);
        let posing = Token { sha256: agent.sha256.clone(), ..token };
        assert!(!posing.is_shown_by(&Shown::read(&agent.text).expect("it is one"), Timestamp(6)));
    }
}
