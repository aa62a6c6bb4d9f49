//! GitHub, and Gitea and Forgejo, which send nearly the same.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::few::Few;
use super::{Moved, ParseError, commit, deleted, moved, not_ours, read, shape, short_name, text};
use crate::{Happening, Kind, PullRequest, Push, Tag};

/// GitHub lists at most so many commits of a push in older versions, and does not say that it left some out.
const COMMITS_LISTED: usize = 20;

#[derive(Deserialize)]
struct PushBody {
    #[serde(rename = "ref")]
    name: String,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    commits: Few<Commit>,
    total_commits: Option<u64>,
    head_commit: Option<Commit>,
    #[serde(default)]
    forced: bool,
    pusher: Option<Person>,
}

#[derive(Deserialize)]
struct Commit {
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
    login: Option<String>,
    name: Option<String>,
    username: Option<String>,
}

#[derive(Deserialize)]
struct PullBody {
    action: Option<String>,
    number: Option<u64>,
    pull_request: Option<Pull>,
}

#[derive(Deserialize)]
struct Pull {
    number: Option<u64>,
    title: Option<String>,
    user: Option<Person>,
    head: Option<Side>,
    base: Option<Side>,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    name: Option<String>,
    sha: Option<String>,
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
}

pub(super) fn parse(kind: Kind, event: &str, body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    let happening = match event {
        "ping" => Happening::Ping,
        "push" => push(read(kind, event, body)?)?,
        // Gitea names what happened to a pull request in the event, too; all of it has the same shape.
        "pull_request" | "pull_request_sync" => pull(kind, event, read(kind, event, body)?)?,
        "create" | "delete" => Happening::Nothing(format!("`{event}` starts no runs: its push does")),
        other => not_ours(other),
    };
    Ok(vec![happening])
}

fn push(body: PushBody) -> Result<Happening, ParseError> {
    let changed = changed(&body);
    let author = text(body.pusher.and_then(|person| person.login.or(person.name).or(person.username)));
    let message = body.head_commit.or_else(|| body.commits.entries.into_iter().next_back());
    let message = text(message.and_then(|commit| commit.message));
    let (before, after) = (commit(body.before)?, commit(body.after)?);
    Ok(match (moved(&body.name)?, after) {
        (Moved::Branch(branch), None) => deleted("branch", &branch),
        (Moved::Tag(tag), None) => deleted("tag", &tag),
        (Moved::Branch(branch), Some(after)) => {
            Happening::Push(Push { branch, before, after, changed, message, author })
        }
        (Moved::Tag(tag), Some(target)) => Happening::Tag(Tag { tag, target, message, author }),
        (Moved::Other(name), _) => Happening::Nothing(format!("`{name}` is neither a branch nor a tag")),
    })
}

/// All changed paths, or `None` when it is not sure that these are all.
fn changed(body: &PushBody) -> Option<Vec<String>> {
    let commits = &body.commits;
    let listed = commits.entries.len() as u64;
    let all = body.total_commits.map_or(commits.entries.len() < COMMITS_LISTED, |total| total == listed);
    if body.forced || commits.cut || !all || listed == 0 {
        return None;
    }
    let lists = || commits.entries.iter().flat_map(|one| [&one.added, &one.removed, &one.modified]);
    if lists().any(|list| list.cut) {
        return None;
    }
    let paths: BTreeSet<&String> = lists().flat_map(|list| &list.entries).collect();
    // Merges list nothing, and yet change something.
    (!paths.is_empty()).then(|| paths.into_iter().cloned().collect())
}

fn pull(kind: Kind, event: &str, body: PullBody) -> Result<Happening, ParseError> {
    let action = text(body.action);
    let missing = |what: &str| shape(kind, event, &format!("`{what}` is missing"));
    // `synchronized` is Gitea's word. `edited` may be another branch to go to, which filters look at.
    if !["opened", "reopened", "synchronize", "synchronized", "edited", "ready_for_review"].contains(&action.as_str()) {
        return Ok(Happening::Nothing(format!("a pull request that was `{action}` starts no runs")));
    }
    let pull = body.pull_request.ok_or_else(|| missing("pull_request"))?;
    let (head, base) = (pull.head.ok_or_else(|| missing("head"))?, pull.base.ok_or_else(|| missing("base"))?);
    let repository = |side: Option<Repository>| text(side.and_then(|repository| repository.full_name));
    let (head_repository, base_repository) = (repository(head.repo), repository(base.repo));
    Ok(Happening::PullRequest(PullRequest {
        number: pull.number.or(body.number).ok_or_else(|| missing("number"))?,
        title: text(pull.title),
        author: text(pull.user.and_then(|person| person.login.or(person.username).or(person.name))),
        head: commit(head.sha)?.ok_or_else(|| missing("head.sha"))?,
        head_branch: short_name(head.name)?,
        is_fork: head_repository.is_empty() || head_repository != base_repository,
        head_repository,
        base_branch: short_name(base.name)?,
        base: commit(base.sha)?.unwrap_or_default(),
        action,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: Kind, event: &str, body: &str) -> Happening {
        parse(kind, event, body.as_bytes()).expect(event).remove(0)
    }

    #[test]
    fn a_push_of_github_names_branch_commits_paths_and_person() {
        let Happening::Push(push) = one(Kind::GitHub, "push", include_str!("../../tests/payloads/github-push.json"))
        else {
            panic!("no push")
        };
        assert_eq!((push.branch.as_str(), push.author.as_str()), ("main", "anna"));
        assert_eq!(push.before.as_deref(), Some("59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5"));
        assert_eq!(push.after, "1c002dd4b536e7479fe34593e72e6c6c1819e53b");
        assert_eq!(push.changed.as_deref(), Some(&["README.md".to_owned(), "src/main.rs".to_owned()][..]));
        assert_eq!(push.message, "Say hello\n\nIn two languages");
    }

    #[test]
    fn a_fork_is_known_by_where_it_comes_from() {
        let text = include_str!("../../tests/payloads/github-pull-request.json");
        let Happening::PullRequest(request) = one(Kind::GitHub, "pull_request", text) else { panic!("no request") };
        assert_eq!((request.number, request.is_fork), (42, true));
        assert_eq!(request.head_ref(Kind::GitHub), "refs/pull/42/head");
        let text = text.replace("mallory/web", "team/web");
        let Happening::PullRequest(request) = one(Kind::GitHub, "pull_request", &text) else { panic!("no request") };
        assert!(!request.is_fork);
        let gone = text.replace(r#""full_name": "team/web""#, r#""name": "x""#);
        let Happening::PullRequest(request) = one(Kind::GitHub, "pull_request", &gone) else { panic!("no request") };
        assert!(request.is_fork, "in doubt it is one");
    }

    #[test]
    fn gitea_says_the_same_in_its_own_words() {
        let text = include_str!("../../tests/payloads/gitea-pull-request.json");
        let Happening::PullRequest(request) = one(Kind::Gitea, "pull_request", text) else { panic!("no request") };
        assert_eq!((request.action.as_str(), request.author.as_str()), ("synchronized", "anna"));
        let Happening::Push(push) = one(Kind::Gitea, "push", include_str!("../../tests/payloads/gitea-push.json"))
        else {
            panic!("no push")
        };
        assert_eq!((push.author.as_str(), push.changed.map(|paths| paths.len())), ("anna", Some(1)));
    }

    #[test]
    fn what_starts_nothing_says_why() {
        let zeros = "0".repeat(40);
        let body =
            format!(r#"{{"ref":"refs/heads/old","before":"{}","after":"{zeros}","head_commit":null}}"#, "a".repeat(40));
        assert_eq!(one(Kind::GitHub, "push", &body), Happening::Nothing("branch `old` was deleted".into()));
        assert_eq!(
            one(Kind::GitHub, "pull_request", r#"{"action":"closed"}"#),
            Happening::Nothing("a pull request that was `closed` starts no runs".into())
        );
        assert_eq!(one(Kind::GitHub, "star", "{}"), Happening::Nothing("`star` starts no runs".into()));
        assert_eq!(one(Kind::GitHub, "ping", "{}"), Happening::Ping);
    }

    #[test]
    fn a_forced_push_does_not_claim_to_know_what_changed() {
        let text =
            include_str!("../../tests/payloads/github-push.json").replace("\"forced\": false", "\"forced\": true");
        assert!(matches!(one(Kind::GitHub, "push", &text), Happening::Push(Push { changed: None, .. })));
    }
}
