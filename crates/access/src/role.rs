//! Roles of people in a project, and scopes of tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What somebody is in a project. Each may all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees runs, logs and artifacts.
    Viewer,
    /// Starts, cancels, approves and reruns.
    Developer,
    /// Keeps secrets, deliveries and the order of the queue.
    Maintainer,
    /// Settings, credentials and roles of others.
    Admin,
}

/// What a token is for. A token may never more than its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sees what its owner sees. Each other scope has it in it.
    Read,
    /// Starts, cancels, approves and reruns.
    Run,
    /// Writes secrets.
    Secrets,
    /// Settings, deliveries, agents.
    Manage,
    /// All that its owner may.
    Admin,
}

/// A word that names no role or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {what}: write {known}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
    known: String,
}

impl Role {
    /// All, from the least on.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Developer, Role::Maintainer, Role::Admin];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Developer => "developer",
            Role::Maintainer => "maintainer",
            Role::Admin => "admin",
        }
    }
}

impl Scope {
    /// All.
    pub const ALL: [Scope; 5] = [Scope::Read, Scope::Run, Scope::Secrets, Scope::Manage, Scope::Admin];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Run => "run",
            Scope::Secrets => "secrets",
            Scope::Manage => "manage",
            Scope::Admin => "admin",
        }
    }

    /// Whether who has this has that.
    pub fn covers(self, needed: Scope) -> bool {
        self == Scope::Admin || needed == Scope::Read || self == needed
    }
}

fn one_of<T: Copy>(word: &str, all: &[T], name: fn(T) -> &'static str, what: &'static str) -> Result<T, UnknownWord> {
    all.iter().copied().find(|one| name(*one) == word).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|one| format!("`{}`", name(*one))).collect();
        UnknownWord { what, word: word.chars().take(40).collect(), known: known.join(", ") }
    })
}

impl FromStr for Role {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Role, UnknownWord> {
        one_of(word, &Role::ALL, Role::word, "role")
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Scope, UnknownWord> {
        one_of(word, &Scope::ALL, Scope::word, "scope")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_wrong_ones_name_the_right_ones() {
        assert!(Role::ALL.into_iter().all(|role| role.word().parse() == Ok(role)));
        assert!(Scope::ALL.into_iter().all(|scope| scope.word().parse() == Ok(scope)));
        let wrong = "owner".parse::<Role>().map_err(|error| error.to_string());
        assert_eq!(wrong, Err("`owner` is no role: write `viewer`, `developer`, `maintainer`, `admin`".to_owned()));
    }
}
