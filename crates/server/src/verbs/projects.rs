//! Projects.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::{Action, On, Who, may};
use store::{Change, Expect, Kept};

use super::{Page, allowed, bounded, may_project, may_server, shown};
use crate::Shared;
use crate::authentication::{off, write};
use crate::clock::now;
use crate::problem::Problem;
use crate::records::{Project, name_problem};

/// Length of an address, a branch, a path.
const TEXT_BYTES_MAX: usize = 2048;
/// Length of a credential.
const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;
/// Pipelines, rules and values of a project.
const LIST_MAX: usize = 200;
const FORGES: [&str; 6] = ["github", "gitlab", "gitea", "bitbucket", "generic", ""];

/// Settings of a project. What is `None` stays, or is the default of a new one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectSettings {
    /// As [`Project::repository`].
    pub repository: Option<String>,
    /// As [`Project::forge`].
    pub forge: Option<String>,
    /// As [`Project::forge_api`].
    pub forge_api: Option<String>,
    /// As [`Project::forge_name`].
    pub forge_name: Option<String>,
    /// In the clear; sealed before it is kept. Empty removes it.
    pub webhook_secret: Option<String>,
    /// In the clear; sealed before it is kept. Empty removes it.
    pub credential: Option<String>,
    /// As [`Project::default_branch`].
    pub default_branch: Option<String>,
    /// As [`Project::pipelines`].
    pub pipelines: Option<Vec<String>>,
    /// As [`Project::tenant`].
    pub tenant: Option<String>,
    /// As [`Project::public`].
    pub public: Option<bool>,
    /// As [`Project::approve_forks`].
    pub approve_forks: Option<bool>,
    /// As [`Project::keep_days`].
    pub keep_days: Option<u32>,
    /// As [`Project::notify`].
    pub notify: Option<Vec<serde_json::Value>>,
    /// As [`Project::values`].
    pub values: Option<BTreeMap<String, String>>,
}

/// Projects that somebody may see, by name.
///
/// # Errors
/// The store cannot be read.
pub async fn projects(
    shared: &Arc<Shared>,
    who: &Who,
    after: &str,
    max: usize,
) -> Result<Page<Kept<Project>>, Problem> {
    let (shared, who, mut after, max) = (shared.clone(), who.clone(), after.to_owned(), bounded(max));
    off(move || {
        let mut seen = Vec::new();
        while seen.len() <= max {
            let read = shared.store.records::<Project>("", &after, super::PAGE_MAX)?;
            let Some(last) = read.last() else { break };
            after.clone_from(&last.value.name);
            seen.extend(read.into_iter().filter(|kept| {
                let on = On::Project { name: &kept.value.name, public: kept.value.public };
                may(&who, Action::SeeProject, on).is_ok()
            }));
        }
        Ok(Page::cut(seen, max, |kept| kept.value.name.clone()))
    })
    .await
}

/// A project.
///
/// # Errors
/// There is none that may be seen.
pub async fn project(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<Kept<Project>, Problem> {
    allowed(shared, who, Action::SeeProject, name).await
}

/// Makes a project.
///
/// # Errors
/// It may not be made, is there already, or a setting is wrong.
pub async fn add_project(
    shared: &Arc<Shared>,
    who: &Who,
    name: &str,
    settings: ProjectSettings,
) -> Result<Kept<Project>, Problem> {
    may_server(who, Action::AddProject)?;
    check_name(name)?;
    let fresh = Project {
        name: name.into(),
        forge: "generic".into(),
        default_branch: "main".into(),
        approve_forks: true,
        ..Project::default()
    };
    let project = applied(shared, fresh, settings)?;
    let change = Change::put(now(), &who.name, "project.created", &project, Expect::Absent);
    match write(shared, vec![change]).await {
        Ok(versions) => Ok(Kept { value: project, version: versions.first().copied().unwrap_or_default() }),
        Err(problem) if problem.word() == "changed" => {
            Err(Problem::new("conflict", format!("there is a project `{}` already", shown(name))))
        }
        Err(problem) => Err(problem),
    }
}

/// Changes settings of a project. `version`: only if it still is this one.
///
/// # Errors
/// It may not be changed, somebody else changed it, or a setting is wrong.
pub async fn edit_project(
    shared: &Arc<Shared>,
    who: &Who,
    name: &str,
    settings: ProjectSettings,
    version: Option<u64>,
) -> Result<Kept<Project>, Problem> {
    let kept = allowed(shared, who, Action::EditProject, name).await?;
    let project = applied(shared, kept.value, settings)?;
    let expect = Expect::Version(version.unwrap_or(kept.version));
    let change = Change::put(now(), &who.name, "project.changed", &project, expect);
    let versions = write(shared, vec![change]).await?;
    Ok(Kept { value: project, version: versions.first().copied().unwrap_or_default() })
}

/// Removes a project. Its runs stay in the log.
///
/// # Errors
/// It may not be removed, or somebody else changed it.
pub async fn remove_project(shared: &Arc<Shared>, who: &Who, name: &str, version: Option<u64>) -> Result<(), Problem> {
    let (at_store, by, wanted) = (shared.clone(), who.clone(), name.to_owned());
    off(move || {
        let kept = may_project(&at_store, &by, Action::RemoveProject, &wanted)?;
        let expect = Expect::Version(version.unwrap_or(kept.version));
        let at = now();
        let mut changes = vec![Change::remove::<Project>(at, &by.name, "project.removed", &wanted, expect)];
        // A project of the same name that comes later must not find the secrets of this one.
        let prefix = access::SecretRecord::prefix(&wanted);
        for secret in at_store.store.records::<access::SecretRecord>(&prefix, "", 10_000)? {
            let key = model::Record::key(&secret.value);
            changes.push(Change::remove::<access::SecretRecord>(at, &by.name, "secret.removed", &key, Expect::Any));
        }
        at_store.store.append(None, store::Batch { changes, ..store::Batch::default() })?;
        Ok(())
    })
    .await
}

/// Tries to reach a project's repository: the commit at the head of its default branch, or why not.
///
/// # Errors
/// It may not be tried, or there is no such project.
pub async fn test_project(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<Result<String, String>, Problem> {
    let project = allowed(shared, who, Action::EditProject, name).await?.value;
    let shared = shared.clone();
    off(move || {
        let tried = shared.sources.repository(&project).and_then(|repository| {
            let branch = repository.default_branch(&project)?;
            Ok(format!("{} at {branch}", repository.head(&branch, "")?))
        });
        Ok(tried.map_err(|refusal| refusal.to_string()))
    })
    .await
}

fn applied(shared: &Shared, mut project: Project, settings: ProjectSettings) -> Result<Project, Problem> {
    let ProjectSettings { pipelines, public, approve_forks, keep_days, notify, values, .. } = settings.clone();
    let texts = [
        ("repository", settings.repository, &mut project.repository),
        ("forge", settings.forge, &mut project.forge),
        ("forge_api", settings.forge_api, &mut project.forge_api),
        ("forge_name", settings.forge_name, &mut project.forge_name),
        ("default_branch", settings.default_branch, &mut project.default_branch),
        ("tenant", settings.tenant, &mut project.tenant),
    ];
    for (name, text, place) in texts {
        if let Some(text) = text {
            *place = line(name, text)?;
        }
    }
    check_repository(&project.repository)?;
    if !FORGES.contains(&project.forge.as_str()) {
        return Err(Problem::invalid(format!("`forge` is one of {}", FORGES[..5].join(", "))));
    }
    if let Some(secret) = settings.webhook_secret {
        project.webhook_secret = sealed(shared, &project, "webhook_secret", &secret)?;
    }
    if let Some(credential) = settings.credential {
        project.credential = sealed(shared, &project, "credential", &credential)?;
    }
    let lists = [
        pipelines.as_ref().map_or(0, Vec::len),
        notify.as_ref().map_or(0, Vec::len),
        values.as_ref().map_or(0, BTreeMap::len),
    ];
    if lists.into_iter().any(|length| length > LIST_MAX) {
        return Err(Problem::invalid(format!("`pipelines`, `notify` and `values` have at most {LIST_MAX} entries")));
    }
    if let Some(pipelines) = pipelines {
        project.pipelines = pipelines.into_iter().map(|path| line("pipelines", path)).collect::<Result<_, _>>()?;
    }
    project.notify = notify.unwrap_or(project.notify);
    crate::notify::rules(&project.notify).map_err(Problem::invalid)?;
    project.values = values.unwrap_or(project.values);
    project.public = public.unwrap_or(project.public);
    project.approve_forks = approve_forks.unwrap_or(project.approve_forks);
    project.keep_days = keep_days.unwrap_or(project.keep_days);
    Ok(project)
}

fn sealed(shared: &Shared, project: &Project, field: &str, value: &str) -> Result<String, Problem> {
    match value.len() {
        0 => Ok(String::new()),
        1..=CREDENTIAL_BYTES_MAX => Ok(shared.authentication.keys.seal(&project.context(field), value.as_bytes())?),
        _ => Err(Problem::invalid(format!("`{field}` has at most {CREDENTIAL_BYTES_MAX} bytes"))),
    }
}

fn line(name: &str, text: String) -> Result<String, Problem> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("`{name}` is one line of at most {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Git takes options and helpers (`ext::`) where addresses stand, so an address is read first.
/// An empty one is the server's own, to which people push.
fn check_repository(repository: &str) -> Result<(), Problem> {
    match repository.is_empty() {
        true => Ok(()),
        false => forge::git::Address::parse(repository).map(drop).map_err(|error| Problem::invalid(error.to_string())),
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    name_problem(name).map_or(Ok(()), |problem| Err(Problem::invalid(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_folder_and_addresses_are_addresses() {
        assert!(["web", "team/web", "a.b-c_d"].iter().all(|name| check_name(name).is_ok()));
        assert!(
            ["", "/", "a//b", "../x", "a/..", ".git", "a b", "a/", "ä", "-x", "a:b", "*"]
                .iter()
                .all(|name| check_name(name).is_err())
        );
        let good = ["https://example.com/web.git", "ssh://git@host/x", "git@github.com:o/r.git", "/srv/git/web.git"];
        assert!(good.iter().all(|address| check_repository(address).is_ok()));
        let bad = ["ext::sh -c x", "--upload-pack=x", "-x@y:z", "relative/path", "git@host::x"];
        assert!(bad.iter().all(|address| check_repository(address).is_err()), "{bad:?}");
    }
}
