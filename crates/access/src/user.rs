//! A user, and what it is in which project.

use std::collections::{BTreeMap, BTreeSet};

use model::Record;
use serde::{Deserialize, Serialize};

use crate::{Micros, Role};

/// Length of a user's name.
pub const USER_NAME_BYTES_MAX: usize = 64;

/// Somebody who signs in, or a program with tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Its name; never changed.
    pub name: String,
    /// How people call it.
    pub display: String,
    /// Where mail reaches it, or empty.
    pub email: String,
    /// [`crate::PasswordHash`] as text; empty: it does not sign in with a password.
    pub password: String,
    /// It may everything everywhere.
    pub admin: bool,
    /// It may nothing any more; what it did stays with its name.
    pub disabled: bool,
    /// Its role by project: `web`, `team/*` (all below), `*` (all).
    pub grants: BTreeMap<String, Role>,
    /// Teams that approvals name: `release` for `team:release`.
    pub teams: BTreeSet<String>,
    /// `<issuer> <subject>` for who signs in with OIDC, or empty.
    pub oidc: String,
    /// As `admin`, by its groups at the last sign-in with OIDC.
    pub oidc_admin: bool,
    /// As `grants`, by its groups at the last sign-in with OIDC.
    pub oidc_grants: BTreeMap<String, Role>,
    /// Teams by its groups at the last sign-in with OIDC.
    pub oidc_teams: BTreeSet<String>,
    /// When it was made.
    pub created_us: Micros,
    /// Sessions that began before are over: after a new password, or “sign out everywhere”.
    pub sessions_since_us: Micros,
}

impl Record for User {
    const KIND: &'static str = "user";
    fn key(&self) -> String {
        self.name.clone()
    }
}

impl User {
    /// What it is in a project: the highest role that any of its grants says.
    pub fn role_in(&self, project: &str) -> Option<Role> {
        grants_for(&self.grants, project).max(grants_for(&self.oidc_grants, project))
    }

    /// It may everything everywhere.
    pub fn rules_all(&self) -> bool {
        self.admin || self.oidc_admin
    }
}

/// The highest role that grants by project, `team/*` and `*` give in a project.
pub fn grants_for(grants: &BTreeMap<String, Role>, project: &str) -> Option<Role> {
    grants.iter().filter(|(pattern, _)| covers(pattern, project)).map(|(_, role)| *role).max()
}

/// `web` covers itself, `team/*` all below `team`, `*` all.
pub(crate) fn covers(pattern: &str, project: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(folder) if folder.ends_with('/') => project.starts_with(folder),
        _ => pattern == project,
    }
}

/// Why nobody can have this name, if so: it stands in the audit and in addresses.
pub fn user_name_problem(name: &str) -> Option<String> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-@+".contains(c);
    let good = name.len() <= USER_NAME_BYTES_MAX
        && name.chars().all(known)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!good).then(|| {
        let name: String = name.chars().take(40).collect();
        format!(
            "`{}` is no name of a user: write 1 to {USER_NAME_BYTES_MAX} of a-z 0-9 . _ - @ +, beginning with a letter or a digit",
            name.escape_debug()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_all_grants_counts() {
        let grants = [("*", Role::Viewer), ("team/*", Role::Developer), ("team/web", Role::Admin)];
        let user = User { grants: grants.map(|(on, role)| (on.into(), role)).into(), ..User::default() };
        assert_eq!(user.role_in("team/web"), Some(Role::Admin));
        assert_eq!(user.role_in("team/api"), Some(Role::Developer));
        assert_eq!(user.role_in("teams"), Some(Role::Viewer));
        assert_eq!(User::default().role_in("web"), None);
        let lower = User { oidc_grants: [("web".into(), Role::Maintainer)].into(), ..user };
        assert_eq!(lower.role_in("web"), Some(Role::Maintainer));
    }

    #[test]
    fn names_are_plain() {
        assert!(["anna", "anna@example.com", "ci-2"].iter().all(|name| user_name_problem(name).is_none()));
        for bad in ["", "Anna", "a b", "../x", "-a", &"a".repeat(65), "ä", "a\n"] {
            assert!(user_name_problem(bad).is_some(), "{bad:?}");
        }
    }
}
