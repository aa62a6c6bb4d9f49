//! Who may do what, where: one table.

use crate::{Role, Scope, Who};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// See a project, its runs, logs and artifacts.
    SeeProject,
    /// Start a run.
    Trigger,
    /// Stop a run.
    Cancel,
    /// Do a run again.
    Rerun,
    /// Approve or refuse, if the step's `by` names one too.
    Approve,
    /// Let the run of a fork begin.
    ReleaseFork,
    /// Change the place of a run in the queue.
    Prioritise,
    /// See the names of secrets.
    SeeSecrets,
    /// Write and remove secrets.
    WriteSecrets,
    /// See what forges sent.
    SeeDeliveries,
    /// Have a delivery looked at again.
    Redeliver,
    /// See the settings.
    SeeSettings,
    /// Change settings and credentials.
    EditProject,
    /// Give and take roles.
    GrantRoles,
    /// Remove a project.
    RemoveProject,
    /// Make a project.
    AddProject,
    /// See the agents.
    SeeAgents,
    /// Register, pause and remove agents.
    ManageAgents,
    /// Make, change and remove users.
    ManageUsers,
    /// See who did what.
    SeeAudit,
    /// Change the master key, back up, and whatever else concerns the whole server.
    ManageServer,
    /// Make and remove tokens of its own.
    OwnTokens,
}

/// What is needed at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// A role in the project.
    Role(Role),
    /// To be known.
    Known,
    /// To rule the whole server.
    Server,
}

/// The table: what each action needs, and which scope of a token it falls under.
pub const ACTIONS: [(Action, Least, Scope); 22] = [
    (Action::SeeProject, Least::Role(Role::Viewer), Scope::Read),
    (Action::Trigger, Least::Role(Role::Developer), Scope::Run),
    (Action::Cancel, Least::Role(Role::Developer), Scope::Run),
    (Action::Rerun, Least::Role(Role::Developer), Scope::Run),
    (Action::Approve, Least::Role(Role::Developer), Scope::Run),
    (Action::ReleaseFork, Least::Role(Role::Developer), Scope::Run),
    (Action::Prioritise, Least::Role(Role::Maintainer), Scope::Run),
    (Action::SeeSecrets, Least::Role(Role::Maintainer), Scope::Read),
    (Action::WriteSecrets, Least::Role(Role::Maintainer), Scope::Secrets),
    (Action::SeeDeliveries, Least::Role(Role::Maintainer), Scope::Read),
    (Action::Redeliver, Least::Role(Role::Maintainer), Scope::Manage),
    (Action::SeeSettings, Least::Role(Role::Maintainer), Scope::Read),
    (Action::EditProject, Least::Role(Role::Admin), Scope::Manage),
    (Action::GrantRoles, Least::Role(Role::Admin), Scope::Admin),
    (Action::RemoveProject, Least::Role(Role::Admin), Scope::Admin),
    (Action::AddProject, Least::Server, Scope::Manage),
    (Action::SeeAgents, Least::Known, Scope::Read),
    (Action::ManageAgents, Least::Server, Scope::Manage),
    (Action::ManageUsers, Least::Server, Scope::Admin),
    (Action::SeeAudit, Least::Server, Scope::Read),
    (Action::ManageServer, Least::Server, Scope::Admin),
    // A token must not make one that may more than itself.
    (Action::OwnTokens, Least::Known, Scope::Admin),
];

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On<'a> {
    /// The whole server.
    Server,
    /// A project.
    Project {
        /// Its name.
        name: &'a str,
        /// Anybody may see it.
        public: bool,
    },
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody in particular asks; signing in may help.
    #[error("nobody is signed in; sign in, or send a token")]
    Unknown,
    /// Who asks may not even know that it is there. To be answered as if it were not.
    #[error("there is no project `{0}`, or you may not see it")]
    Unseen(String),
    /// The role is too low.
    #[error("{who} may not do this: it needs {needs}")]
    Role {
        /// Who asks.
        who: String,
        /// `the role of a developer in project `web``.
        needs: String,
    },
    /// The token is not for this.
    #[error("{who} may not do this: the token needs the scope `{scope}`")]
    Scope {
        /// Who asks.
        who: String,
        /// The scope that is missing.
        scope: Scope,
    },
}

/// Whether somebody may do something.
///
/// # Errors
/// Why not, with what is missing.
pub fn may(who: &Who, action: Action, on: On<'_>) -> Result<(), Denied> {
    let (least, scope) = needs(action);
    if !holds(who, least, on) {
        return Err(refusal(who, least, on));
    }
    if !who.has(scope) {
        return Err(Denied::Scope { who: who.name.clone(), scope });
    }
    Ok(())
}

/// Whether somebody may answer an approval that names who answers it: `user:anna`, `team:release`, `role:maintainer`. An empty
/// list is anybody who may approve at all. Who rules the whole server is never locked out.
pub fn may_approve(who: &Who, by: &[String], project: &str) -> bool {
    let names = |one: &String| match one.split_once(':') {
        Some(("team", team)) => who.teams.contains(team),
        Some(("role", role)) => role.parse().is_ok_and(|role: Role| who.role_in(project) >= Some(role)),
        Some(("user", user)) => who.user.as_deref() == Some(user),
        _ => who.user.as_deref() == Some(one),
    };
    by.is_empty() || who.rules_all() || by.iter().any(names)
}

fn needs(action: Action) -> (Least, Scope) {
    let row = ACTIONS.iter().find(|(known, ..)| *known == action);
    // A test holds that every action has its row; without one only the server itself may.
    row.map_or((Least::Server, Scope::Admin), |(_, least, scope)| (*least, *scope))
}

fn holds(who: &Who, least: Least, on: On<'_>) -> bool {
    match (least, on) {
        (Least::Known, _) => who.is_known(),
        (Least::Server, _) => who.is_admin(),
        (Least::Role(Role::Viewer), On::Project { public: true, .. }) => true,
        (Least::Role(role), On::Project { name, .. }) => who.role_in(name) >= Some(role),
        (Least::Role(_), On::Server) => who.is_admin(),
    }
}

fn refusal(who: &Who, least: Least, on: On<'_>) -> Denied {
    if !who.is_known() {
        return Denied::Unknown;
    }
    match (least, on) {
        (Least::Role(_), On::Project { name, public: false }) if who.role_in(name).is_none() => {
            Denied::Unseen(name.into())
        }
        (Least::Role(role), On::Project { name, .. }) => {
            Denied::Role { who: who.name.clone(), needs: format!("the role `{role}` in project `{name}`") }
        }
        _ => Denied::Role { who: who.name.clone(), needs: "an administrator of the server".into() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Token, User};

    const WEB: On<'_> = On::Project { name: "web", public: false };

    fn member(role: Role) -> User {
        User { name: "anna".into(), grants: [("web".into(), role)].into(), ..User::default() }
    }

    /// One letter for each action of the table: y may, n may not, - does not even see the project.
    fn row(who: &Who, on: On<'_>) -> String {
        let letter = |action| match may(who, action, on) {
            Ok(()) => 'y',
            Err(Denied::Unseen(_)) => '-',
            Err(_) => 'n',
        };
        ACTIONS.iter().map(|(action, ..)| letter(*action)).collect()
    }

    #[test]
    fn each_role_may_what_the_table_says_and_no_more() {
        let stranger = User { grants: [("api".into(), Role::Admin)].into(), ..member(Role::Viewer) };
        let ruler = User { admin: true, ..User::default() };
        let gone = User { disabled: true, ..ruler.clone() };
        // In the order of the table: seeing, running, secrets and settings, the server, its own.
        for (who, expected) in [
            (Who::user(&member(Role::Viewer)), "ynnnnnnnnnnnnnnnynnnny"),
            (Who::user(&member(Role::Developer)), "yyyyyynnnnnnnnnnynnnny"),
            (Who::user(&member(Role::Maintainer)), "yyyyyyyyyyyynnnnynnnny"),
            (Who::user(&member(Role::Admin)), "yyyyyyyyyyyyyyynynnnny"),
            (Who::user(&stranger), "---------------nynnnny"),
            (Who::user(&ruler), "yyyyyyyyyyyyyyyyyyyyyy"),
            (Who::user(&gone), "nnnnnnnnnnnnnnnnnnnnnn"),
            (Who::anonymous(), "nnnnnnnnnnnnnnnnnnnnnn"),
        ] {
            assert_eq!(row(&who, WEB), expected, "{who:?}");
        }
    }

    #[test]
    fn a_public_project_is_seen_by_all_and_touched_by_none_of_them() {
        let public = On::Project { name: "web", public: true };
        assert_eq!(may(&Who::anonymous(), Action::SeeProject, public), Ok(()));
        assert_eq!(may(&Who::anonymous(), Action::Trigger, public), Err(Denied::Unknown));
        let stranger = Who::user(&User { name: "bo".into(), ..User::default() });
        let denied = may(&stranger, Action::Trigger, public).map_err(|denied| denied.to_string());
        assert_eq!(denied, Err("user:bo may not do this: it needs the role `developer` in project `web`".to_owned()));
    }

    #[test]
    fn a_token_may_what_its_owner_and_its_scopes_and_its_projects_allow() {
        let token = |scopes: &[Scope], projects: &[&str]| Token {
            id: "1".into(),
            scopes: scopes.iter().copied().collect(),
            projects: projects.iter().map(|name| (*name).to_owned()).collect(),
            ..Token::default()
        };
        let admin = User { admin: true, ..member(Role::Admin) };
        let who = Who::token(&token(&[Scope::Run], &["web"]), &admin);
        assert_eq!(may(&who, Action::Trigger, WEB), Ok(()));
        assert_eq!(
            may(&who, Action::WriteSecrets, WEB),
            Err(Denied::Scope { who: "token:anna/1".into(), scope: Scope::Secrets })
        );
        assert!(matches!(
            may(&who, Action::Trigger, On::Project { name: "api", public: false }),
            Err(Denied::Unseen(_))
        ));
        assert!(
            matches!(may(&who, Action::ManageUsers, On::Server), Err(Denied::Role { .. })),
            "it is for one project"
        );
        let reader = Who::token(&token(&[Scope::Read], &[]), &admin);
        assert_eq!(may(&reader, Action::SeeAudit, On::Server), Ok(()));
        assert!(
            matches!(may(&reader, Action::OwnTokens, On::Server), Err(Denied::Scope { .. })),
            "none makes a stronger one"
        );
        let none = Who::token(&token(&[], &[]), &admin);
        assert!(matches!(may(&none, Action::SeeProject, WEB), Err(Denied::Scope { .. })));
        let gone = Who::token(&token(&[Scope::Admin], &[]), &User { disabled: true, ..admin });
        assert_eq!(may(&gone, Action::SeeProject, WEB), Err(Denied::Unknown));
    }

    #[test]
    fn an_approval_is_for_those_it_names() {
        let by = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let anna = Who::user(&User { teams: BTreeSet::from(["release".to_owned()]), ..member(Role::Developer) });
        assert!(may_approve(&anna, &[], "web"));
        assert!(may_approve(&anna, &by(&["team:release"]), "web") && may_approve(&anna, &by(&["bo", "anna"]), "web"));
        assert!(may_approve(&anna, &by(&["user:anna"]), "web") && may_approve(&anna, &by(&["role:developer"]), "web"));
        for names in [by(&["team:ops"]), by(&["bo"]), by(&["role:admin"]), by(&["role:nonsense"]), by(&["team:"])] {
            assert!(!may_approve(&anna, &names, "web"), "{names:?}");
        }
        assert!(may_approve(&Who::server(), &by(&["team:ops"]), "web"));
        assert!(!may_approve(&Who::anonymous(), &by(&["role:viewer"]), "web"));
    }

    #[test]
    fn every_action_has_one_row() {
        let actions: BTreeSet<Action> = ACTIONS.iter().map(|(action, ..)| *action).collect();
        assert_eq!(actions.len(), ACTIONS.len());
        assert_eq!(actions.last(), Some(&Action::OwnTokens), "the last of the list is the last of the table");
    }
}
