//! Who asks: a signed-in user, a token of one, or nobody in particular.

use std::collections::{BTreeMap, BTreeSet};

use crate::user::covers;
use crate::{Role, Scope, Token, User};

/// Who asks, with all that it may, so that nobody has to read the store again for a verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Who {
    /// As the audit has it: `user:anna`, `token:anna/3f…`, `anonymous`, `server`.
    pub name: String,
    /// The user's name; `None`: nobody in particular.
    pub user: Option<String>,
    /// How people call it.
    pub display: String,
    /// Teams it is in.
    pub teams: BTreeSet<String>,
    admin: bool,
    grants: BTreeMap<String, Role>,
    oidc_grants: BTreeMap<String, Role>,
    /// What a token is for; `None`: all.
    scopes: Option<BTreeSet<Scope>>,
    /// Projects that a token is for; empty: all.
    projects: Vec<String>,
}

impl Who {
    /// Nobody in particular: sees what is public.
    pub fn anonymous() -> Who {
        Who { name: "anonymous".into(), display: "anonymous".into(), ..Who::default() }
    }

    /// The server itself, or whoever sits at its terminal: may everything.
    pub fn server() -> Who {
        Who {
            name: "server".into(),
            user: Some("server".into()),
            display: "server".into(),
            admin: true,
            ..Who::default()
        }
    }

    /// A user who signed in. One that is disabled is nobody in particular.
    pub fn user(user: &User) -> Who {
        if user.disabled {
            return Who::anonymous();
        }
        Who {
            name: format!("user:{}", user.name),
            user: Some(user.name.clone()),
            display: if user.display.is_empty() { user.name.clone() } else { user.display.clone() },
            teams: user.teams.union(&user.oidc_teams).cloned().collect(),
            admin: user.rules_all(),
            grants: user.grants.clone(),
            oidc_grants: user.oidc_grants.clone(),
            scopes: None,
            projects: Vec::new(),
        }
    }

    /// A token of a user: what both may.
    pub fn token(token: &Token, owner: &User) -> Who {
        let who = Who::user(owner);
        if who.user.is_none() {
            return who;
        }
        Who {
            name: format!("token:{}/{}", owner.name, token.id),
            scopes: Some(token.scopes.clone()),
            projects: token.projects.clone(),
            ..who
        }
    }

    /// Whether anybody is known to ask.
    pub fn is_known(&self) -> bool {
        self.user.is_some()
    }

    /// A token asks, not a session.
    pub fn is_token(&self) -> bool {
        self.scopes.is_some()
    }

    /// May everything everywhere (and the token, if it is one, is for all of it).
    pub fn rules_all(&self) -> bool {
        self.admin && self.projects.is_empty() && self.has(Scope::Admin)
    }

    /// What it is in a project.
    pub fn role_in(&self, project: &str) -> Option<Role> {
        if !self.projects.is_empty() && !self.projects.iter().any(|pattern| covers(pattern, project)) {
            return None;
        }
        if self.admin {
            return Some(Role::Admin);
        }
        crate::grants_for(&self.grants, project).max(crate::grants_for(&self.oidc_grants, project))
    }

    /// Whether it holds a scope; who is no token holds all.
    pub fn has(&self, needed: Scope) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope.covers(needed)))
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.admin && self.projects.is_empty()
    }
}
