//! GitLab.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::few::Few;
use super::{Moved, ParseError, commit, deleted, moved, not_ours, read, shape, short_name, text};
use crate::{Happening, Kind, PullRequest, Push, Tag};

const KIND: Kind = Kind::GitLab;

#[derive(Deserialize)]
struct Body {
    object_kind: Option<String>,
    event_name: Option<String>,
    #[serde(rename = "ref")]
    name: Option<String>,
    before: Option<String>,
    after: Option<String>,
    checkout_sha: Option<String>,
    user_username: Option<String>,
    user_name: Option<String>,
    #[serde(default)]
    commits: Few<Commit>,
    total_commits_count: Option<u64>,
    user: Option<Person>,
    object_attributes: Option<Request>,
}

#[derive(Deserialize)]
struct Commit {
    id: Option<String>,
    message: Option<String>,
    #[serde(default)]
    added: Few<String>,
    #[serde(default)]
    removed: Few<String>,
    #[serde(default)]
    modified: Few<String>,
}

#[derive(Deserialize)]
struct Person {
    username: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    iid: Option<u64>,
    title: Option<String>,
    action: Option<String>,
    source_branch: Option<String>,
    target_branch: Option<String>,
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    source: Option<Project>,
    last_commit: Option<LastCommit>,
    oldrev: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: Option<String>,
}

#[derive(Deserialize)]
struct LastCommit {
    id: Option<String>,
}

pub(super) fn parse(body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    let body: Body = read(KIND, "hook", body)?;
    // System hooks name the event, project hooks the kind of object; pushes have both.
    let event = text(body.object_kind.clone().or_else(|| body.event_name.clone()));
    let happening = match event.as_str() {
        "push" | "tag_push" => push(body)?,
        "merge_request" => merge(body)?,
        "" => return Err(shape(KIND, "hook", "`object_kind` is missing")),
        other => not_ours(other),
    };
    Ok(vec![happening])
}

fn push(body: Body) -> Result<Happening, ParseError> {
    let name = body.name.clone().ok_or_else(|| shape(KIND, "push", "`ref` is missing"))?;
    let changed = changed(&body);
    let (before, after) = (commit(body.before)?, commit(body.after)?);
    // For a tag object this is the commit that it names.
    let checkout = commit(body.checkout_sha)?.or_else(|| after.clone());
    let commits = body.commits.entries;
    let is_last = |one: &&Commit| one.id.as_deref().is_some_and(|id| Some(id) == after.as_deref());
    let message = text(commits.iter().find(is_last).or(commits.last()).and_then(|one| one.message.clone()));
    let author = text(body.user_username.or(body.user_name));
    Ok(match (moved(&name)?, after) {
        (Moved::Branch(branch), None) => deleted("branch", &branch),
        (Moved::Tag(tag), None) => deleted("tag", &tag),
        (Moved::Branch(branch), Some(after)) => {
            Happening::Push(Push { branch, before, after, changed, message, author })
        }
        (Moved::Tag(tag), Some(_)) => {
            Happening::Tag(Tag { tag, target: checkout.unwrap_or_default(), message, author })
        }
        (Moved::Other(name), _) => Happening::Nothing(format!("`{name}` is neither a branch nor a tag")),
    })
}

/// GitLab lists the newest twenty commits and says how many there are.
fn changed(body: &Body) -> Option<Vec<String>> {
    let commits = &body.commits;
    if commits.cut || commits.entries.is_empty() || body.total_commits_count != Some(commits.entries.len() as u64) {
        return None;
    }
    let lists = || commits.entries.iter().flat_map(|one| [&one.added, &one.removed, &one.modified]);
    if lists().any(|list| list.cut) {
        return None;
    }
    let paths: BTreeSet<&String> = lists().flat_map(|list| &list.entries).collect();
    (!paths.is_empty()).then(|| paths.into_iter().cloned().collect())
}

fn merge(body: Body) -> Result<Happening, ParseError> {
    let missing = |what: &str| shape(KIND, "merge_request", &format!("`{what}` is missing"));
    let request = body.object_attributes.ok_or_else(|| missing("object_attributes"))?;
    let action = text(request.action);
    match action.as_str() {
        "open" | "reopen" => {}
        // With `oldrev` commits came, without it somebody changed a text.
        "update" if request.oldrev.is_some() => {}
        "update" => return Ok(Happening::Nothing("the merge request was changed, but not its commits".into())),
        other => return Ok(Happening::Nothing(format!("a merge request with the action `{other}` starts no runs"))),
    }
    let same = request.source_project_id.is_some() && request.source_project_id == request.target_project_id;
    let head = request.last_commit.and_then(|last| last.id);
    Ok(Happening::PullRequest(PullRequest {
        number: request.iid.ok_or_else(|| missing("iid"))?,
        title: text(request.title),
        author: text(body.user.and_then(|person| person.username)),
        head: commit(head)?.ok_or_else(|| missing("last_commit.id"))?,
        head_branch: short_name(request.source_branch)?,
        head_repository: text(request.source.and_then(|project| project.path_with_namespace)),
        base_branch: short_name(request.target_branch)?,
        base: String::new(),
        is_fork: !same,
        action,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Happening {
        parse(body.as_bytes()).expect("a hook").remove(0)
    }

    #[test]
    fn a_push_names_branch_commit_and_paths() {
        let Happening::Push(push) = one(include_str!("../../tests/payloads/gitlab-push.json")) else {
            panic!("no push")
        };
        assert_eq!((push.branch.as_str(), push.author.as_str()), ("main", "anna"));
        assert_eq!(push.after, "da1560886d4f094c3e6c9ef40349f7d38b5d27d7");
        assert_eq!(push.changed.map(|paths| paths.len()), Some(2));
        assert_eq!(push.message, "fixed readme\n");
    }

    #[test]
    fn a_tag_is_the_commit_that_it_names() {
        let Happening::Tag(tag) = one(include_str!("../../tests/payloads/gitlab-tag.json")) else { panic!("no tag") };
        assert_eq!((tag.tag.as_str(), tag.target.as_str()), ("v1.0.0", "5937ac0a7beb003549fc5fd26fc247adbce4a52e"));
    }

    #[test]
    fn a_merge_request_runs_for_commits_and_not_for_words() {
        let text = include_str!("../../tests/payloads/gitlab-merge.json");
        let Happening::PullRequest(request) = one(text) else { panic!("no request") };
        assert_eq!((request.number, request.is_fork, request.base_branch.as_str()), (7, true, "main"));
        assert_eq!(request.head_repository, "mallory/web");
        let renamed = text.replace("\"open\"", "\"update\"");
        assert!(matches!(one(&renamed), Happening::Nothing(why) if why.contains("not its commits")));
        let same = text.replace("\"source_project_id\": 14", "\"source_project_id\": 15");
        assert!(matches!(one(&same), Happening::PullRequest(request) if !request.is_fork));
    }
}
