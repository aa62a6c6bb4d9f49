//! Bitbucket Cloud, and Bitbucket Data Center, which sends other shapes under other names.

use serde::Deserialize;

use super::few::Few;
use super::{HAPPENINGS_MAX, Moved, ParseError, commit, deleted, moved, not_ours, read, shape, short_name, text};
use crate::{Happening, Kind, PullRequest, Push, Tag};

const KIND: Kind = Kind::Bitbucket;

#[derive(Deserialize)]
struct CloudPush {
    push: CloudChanges,
    actor: Option<Person>,
}

#[derive(Deserialize)]
struct CloudChanges {
    #[serde(default)]
    changes: Few<CloudChange>,
}

#[derive(Deserialize)]
struct CloudChange {
    new: Option<CloudRef>,
    old: Option<CloudRef>,
}

#[derive(Deserialize)]
struct CloudRef {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    target: Option<CloudTarget>,
}

#[derive(Deserialize)]
struct CloudTarget {
    hash: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Person {
    nickname: Option<String>,
    display_name: Option<String>,
    name: Option<String>,
}

impl Person {
    fn called(person: Option<Person>) -> String {
        text(person.and_then(|person| person.nickname.or(person.name).or(person.display_name)))
    }
}

#[derive(Deserialize)]
struct CloudPull {
    pullrequest: CloudRequest,
}

#[derive(Deserialize)]
struct CloudRequest {
    id: u64,
    title: Option<String>,
    author: Option<Person>,
    source: CloudSide,
    destination: CloudSide,
}

#[derive(Deserialize)]
struct CloudSide {
    branch: Option<CloudBranch>,
    commit: Option<CloudTarget>,
    repository: Option<CloudRepository>,
}

#[derive(Deserialize)]
struct CloudBranch {
    name: Option<String>,
}

#[derive(Deserialize)]
struct CloudRepository {
    full_name: Option<String>,
}

#[derive(Deserialize)]
struct CenterPush {
    #[serde(default)]
    changes: Few<CenterChange>,
    actor: Option<Person>,
}

#[derive(Deserialize)]
struct CenterChange {
    #[serde(rename = "ref")]
    name: CenterRef,
    #[serde(rename = "fromHash")]
    from: Option<String>,
    #[serde(rename = "toHash")]
    to: Option<String>,
}

#[derive(Deserialize)]
struct CenterRef {
    id: String,
}

#[derive(Deserialize)]
struct CenterPull {
    #[serde(rename = "pullRequest")]
    request: CenterRequest,
    actor: Option<Person>,
}

#[derive(Deserialize)]
struct CenterRequest {
    id: u64,
    title: Option<String>,
    #[serde(rename = "fromRef")]
    from: CenterSide,
    #[serde(rename = "toRef")]
    to: CenterSide,
}

#[derive(Deserialize)]
struct CenterSide {
    #[serde(rename = "displayId")]
    branch: Option<String>,
    #[serde(rename = "latestCommit")]
    commit: Option<String>,
    repository: Option<CenterRepository>,
}

#[derive(Deserialize)]
struct CenterRepository {
    slug: Option<String>,
    project: Option<CenterProject>,
}

#[derive(Deserialize)]
struct CenterProject {
    key: Option<String>,
}

pub(super) fn parse(event: &str, body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    Ok(match event {
        "repo:push" => cloud_push(read(KIND, event, body)?)?,
        "pullrequest:created" | "pullrequest:updated" => vec![cloud_pull(event, read(KIND, event, body)?)?],
        "repo:refs_changed" => center_push(read(KIND, event, body)?)?,
        "pr:opened" | "pr:from_ref_updated" | "pr:reopened" => vec![center_pull(event, read(KIND, event, body)?)?],
        "diagnostics:ping" => vec![Happening::Ping],
        other => vec![not_ours(other)],
    })
}

fn cloud_push(body: CloudPush) -> Result<Vec<Happening>, ParseError> {
    let author = Person::called(body.actor);
    let changes = bounded(body.push.changes)?;
    changes.into_iter().map(|change| cloud_change(change, &author)).collect()
}

/// What is passed over here would be lost, so too much is refused.
fn bounded<T>(few: Few<T>) -> Result<Vec<T>, ParseError> {
    if few.cut || few.entries.len() > HAPPENINGS_MAX { Err(ParseError::TooMany) } else { Ok(few.entries) }
}

fn cloud_change(change: CloudChange, author: &str) -> Result<Happening, ParseError> {
    let is_tag = |side: &CloudRef| matches!(side.kind.as_deref(), Some("tag" | "annotated_tag"));
    let before = commit(change.old.as_ref().and_then(|old| old.target.as_ref()?.hash.clone()))?;
    let Some(new) = change.new else {
        let Some(old) = change.old else {
            return Err(shape(KIND, "repo:push", "a change has neither `old` nor `new`"));
        };
        return Ok(deleted(if is_tag(&old) { "tag" } else { "branch" }, &short_name(old.name)?));
    };
    let (tag, name) = (is_tag(&new), short_name(new.name)?);
    let target = new.target.ok_or_else(|| shape(KIND, "repo:push", "`target` is missing"))?;
    let message = text(target.message);
    let hash = commit(target.hash)?.ok_or_else(|| shape(KIND, "repo:push", "`target.hash` is missing"))?;
    let author = author.to_owned();
    Ok(match tag {
        true => Happening::Tag(Tag { tag: name, target: hash, message, author }),
        false => Happening::Push(Push { branch: name, before, after: hash, changed: None, message, author }),
    })
}

fn cloud_pull(event: &str, body: CloudPull) -> Result<Happening, ParseError> {
    let request = body.pullrequest;
    let missing = |what: &str| shape(KIND, event, &format!("`{what}` is missing"));
    let repository = |side: Option<CloudRepository>| text(side.and_then(|repository| repository.full_name));
    let (head_repository, base_repository) =
        (repository(request.source.repository), repository(request.destination.repository));
    // Bitbucket shortens these to twelve digits; git finds what they mean.
    let head = request.source.commit.and_then(|commit| commit.hash).filter(|hash| crate::git::is_abbreviated(hash));
    let base = request.destination.commit.and_then(|commit| commit.hash).filter(|hash| crate::git::is_commit(hash));
    Ok(Happening::PullRequest(PullRequest {
        number: request.id,
        title: text(request.title),
        author: Person::called(request.author),
        head: head.ok_or_else(|| missing("source.commit.hash"))?.to_ascii_lowercase(),
        head_branch: short_name(request.source.branch.and_then(|branch| branch.name))?,
        is_fork: head_repository.is_empty() || head_repository != base_repository,
        head_repository,
        base_branch: short_name(request.destination.branch.and_then(|branch| branch.name))?,
        base: base.unwrap_or_default(),
        action: event.trim_start_matches("pullrequest:").to_owned(),
    }))
}

fn center_push(body: CenterPush) -> Result<Vec<Happening>, ParseError> {
    let author = Person::called(body.actor);
    let change = |change: CenterChange| {
        let (before, after) = (commit(change.from)?, commit(change.to)?);
        let author = author.clone();
        Ok(match (moved(&change.name.id)?, after) {
            (Moved::Branch(branch), None) => deleted("branch", &branch),
            (Moved::Tag(tag), None) => deleted("tag", &tag),
            (Moved::Branch(branch), Some(after)) => {
                Happening::Push(Push { branch, before, after, author, ..Push::default() })
            }
            (Moved::Tag(tag), Some(target)) => Happening::Tag(Tag { tag, target, author, ..Tag::default() }),
            (Moved::Other(name), _) => Happening::Nothing(format!("`{name}` is neither a branch nor a tag")),
        })
    };
    bounded(body.changes)?.into_iter().map(change).collect()
}

fn center_pull(event: &str, body: CenterPull) -> Result<Happening, ParseError> {
    let request = body.request;
    let repository = |side: Option<CenterRepository>| {
        let side = side?;
        Some(format!("{}/{}", side.project?.key?, side.slug?))
    };
    let head_repository = text(repository(request.from.repository));
    let base_repository = text(repository(request.to.repository));
    let head = commit(request.from.commit)?.ok_or_else(|| shape(KIND, event, "`fromRef.latestCommit` is missing"))?;
    Ok(Happening::PullRequest(PullRequest {
        number: request.id,
        title: text(request.title),
        author: Person::called(body.actor),
        head,
        head_branch: short_name(request.from.branch)?,
        is_fork: head_repository.is_empty() || head_repository != base_repository,
        head_repository,
        base_branch: short_name(request.to.branch)?,
        base: commit(request.to.commit)?.unwrap_or_default(),
        action: event.trim_start_matches("pr:").to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_delivery_of_the_cloud_may_move_several_branches_and_tags() {
        let seen = parse("repo:push", include_bytes!("../../tests/payloads/bitbucket-push.json")).unwrap();
        assert!(matches!(&seen[0], Happening::Push(push) if push.branch == "main" && push.author == "anna"));
        assert!(matches!(&seen[1], Happening::Tag(tag) if tag.tag == "v1"), "{seen:?}");
    }

    #[test]
    fn a_pull_request_of_the_cloud_comes_from_a_branch() {
        let text = include_bytes!("../../tests/payloads/bitbucket-pull-request.json");
        let seen = parse("pullrequest:created", text).unwrap();
        let Happening::PullRequest(request) = &seen[0] else { panic!("{seen:?}") };
        assert_eq!((request.number, request.head.as_str(), request.is_fork), (3, "d3022fc0ca3d", false));
        assert_eq!(request.head_ref(KIND), "refs/heads/topic");
    }

    #[test]
    fn the_data_center_has_its_own_shape() {
        let seen =
            parse("repo:refs_changed", include_bytes!("../../tests/payloads/bitbucket-server-push.json")).unwrap();
        assert!(matches!(&seen[0], Happening::Push(push) if push.branch == "main" && push.before.is_some()));
        assert_eq!(parse("diagnostics:ping", b"{\"test\":true}"), Ok(vec![Happening::Ping]));
    }

    #[test]
    fn a_deleted_branch_starts_nothing() {
        let body = br#"{"push":{"changes":[{"new":null,"old":{"type":"branch","name":"old","target":{"hash":""}}}]}}"#;
        assert_eq!(parse("repo:push", body), Ok(vec![Happening::Nothing("branch `old` was deleted".into())]));
    }
}
