//! What a delivery says, whoever sent it. Sizes, depth and numbers of what is read are bounded; names and commits are
//! checked before anybody gives them to git.

mod bitbucket;
mod few;
mod generic;
mod github;
mod gitlab;

use serde::de::DeserializeOwned;

use crate::git::{is_commit, is_ref_name};
use crate::{DELIVERY_BYTES_MAX, Happening, Kind};

/// Length of a title, a message or a name in bytes; the rest is cut off.
const TEXT_BYTES_MAX: usize = 4096;
/// Branches and tags that one delivery may move; further ones are refused, not passed over.
const HAPPENINGS_MAX: usize = 200;

/// Why a delivery cannot be read. It will never be readable, so there is no use in trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Too long.
    #[error("the delivery has {0} bytes, more than the 25 MiB that are read")]
    TooLong(usize),
    /// No JSON, or not the shape that the forge documents.
    #[error("the body is not what a `{event}` of {kind} looks like: {why}")]
    Shape {
        /// Who speaks.
        kind: Kind,
        /// The event's name in the forge's words.
        event: String,
        /// What is wrong.
        why: String,
    },
    /// A commit, branch or tag that git would not take for one.
    #[error("`{0}` is neither a commit nor a name that git allows")]
    Name(String),
    /// More branches and tags at once than anybody moves on purpose.
    #[error("the delivery moves more than {HAPPENINGS_MAX} branches and tags at once; push them in smaller groups")]
    TooMany,
}

/// Reads a delivery: what happened, one entry per branch, tag or pull request, at least one. `headers` are those that
/// [`crate::kept_headers`] keeps.
///
/// # Errors
/// It is not of the shape that the forge documents, or names what git would not take.
pub fn parse(kind: Kind, headers: &[(String, String)], body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    if body.len() > DELIVERY_BYTES_MAX {
        return Err(ParseError::TooLong(body.len()));
    }
    let head = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let unpacked = head("content-type").and_then(|kind| form_payload(kind, body));
    let body = unpacked.as_deref().unwrap_or(body);
    let happenings = match kind {
        Kind::GitHub => github::parse(kind, head("x-github-event").unwrap_or_default(), body)?,
        Kind::Gitea => {
            let event = ["x-forgejo-event", "x-gitea-event", "x-github-event"].into_iter().find_map(head);
            github::parse(kind, event.unwrap_or_default(), body)?
        }
        Kind::GitLab => gitlab::parse(body)?,
        Kind::Bitbucket => bitbucket::parse(head("x-event-key").unwrap_or_default(), body)?,
        Kind::Generic | Kind::Git => generic::parse(kind, body)?,
    };
    match happenings.len() {
        0 => Ok(vec![Happening::Nothing("it names no branch, tag or pull request".into())]),
        many if many > HAPPENINGS_MAX => Err(ParseError::TooMany),
        _ => Ok(happenings),
    }
}

/// The JSON in `payload=…`, as GitHub and Gitea send it when nobody chose `application/json`.
fn form_payload(content_type: &str, body: &[u8]) -> Option<Vec<u8>> {
    if !content_type.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    let field = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="))?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after.first_chunk::<2>()) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(digits)) => {
                let value = std::str::from_utf8(digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())?;
                bytes.push(value);
                rest = &after[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    Some(bytes)
}

/// Reads JSON of a known shape; what it does not name is passed over.
fn read<T: DeserializeOwned>(kind: Kind, event: &str, body: &[u8]) -> Result<T, ParseError> {
    serde_json::from_slice(body).map_err(|error| shape(kind, event, &error.to_string()))
}

fn shape(kind: Kind, event: &str, why: &str) -> ParseError {
    let short = |text: &str| cut(text.chars().filter(|c| !c.is_control()).take(200).collect());
    ParseError::Shape { kind, event: short(event), why: short(why) }
}

/// A text of bounded length.
fn cut(mut text: String) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}

fn text(value: Option<String>) -> String {
    cut(value.unwrap_or_default())
}

/// A commit; `None` where a forge says "none" by nothing or by zeros.
fn commit(value: Option<String>) -> Result<Option<String>, ParseError> {
    match value {
        None => Ok(None),
        Some(value) if value.is_empty() || value.bytes().all(|byte| byte == b'0') => Ok(None),
        Some(value) if is_commit(&value) => Ok(Some(value.to_ascii_lowercase())),
        Some(value) => Err(unnamed(&value)),
    }
}

/// A branch or tag by its short name.
fn short_name(value: Option<String>) -> Result<String, ParseError> {
    let name = value.unwrap_or_default();
    if is_ref_name(&format!("refs/heads/{name}")) { Ok(name) } else { Err(unnamed(&name)) }
}

fn unnamed(name: &str) -> ParseError {
    ParseError::Name(name.chars().filter(|c| !c.is_control()).take(100).collect())
}

/// Which of the two a full ref is.
enum Moved {
    Branch(String),
    Tag(String),
    /// Notes, replacements: nobody's business here.
    Other(String),
}

fn moved(full: &str) -> Result<Moved, ParseError> {
    if !is_ref_name(full) {
        return Err(unnamed(full));
    }
    Ok(match (full.strip_prefix("refs/heads/"), full.strip_prefix("refs/tags/")) {
        (Some(branch), _) => Moved::Branch(branch.to_owned()),
        (_, Some(tag)) => Moved::Tag(tag.to_owned()),
        _ => Moved::Other(full.to_owned()),
    })
}

fn deleted(what: &str, name: &str) -> Happening {
    Happening::Nothing(format!("{what} `{name}` was deleted"))
}

fn not_ours(event: &str) -> Happening {
    Happening::Nothing(format!(
        "`{}` starts no runs",
        cut(event.chars().filter(|c| !c.is_control()).take(100).collect())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIXTURES: [(Kind, &str, &str, &str); 12] = [
        (Kind::GitHub, "x-github-event", "push", include_str!("../../tests/payloads/github-push.json")),
        (Kind::GitHub, "x-github-event", "pull_request", include_str!("../../tests/payloads/github-pull-request.json")),
        (Kind::Gitea, "x-gitea-event", "push", include_str!("../../tests/payloads/gitea-push.json")),
        (Kind::Gitea, "x-gitea-event", "pull_request", include_str!("../../tests/payloads/gitea-pull-request.json")),
        (Kind::GitLab, "x-gitlab-event", "Push Hook", include_str!("../../tests/payloads/gitlab-push.json")),
        (Kind::GitLab, "x-gitlab-event", "Tag Push Hook", include_str!("../../tests/payloads/gitlab-tag.json")),
        (Kind::GitLab, "x-gitlab-event", "Merge Request Hook", include_str!("../../tests/payloads/gitlab-merge.json")),
        (Kind::Bitbucket, "x-event-key", "repo:push", include_str!("../../tests/payloads/bitbucket-push.json")),
        (
            Kind::Bitbucket,
            "x-event-key",
            "pullrequest:created",
            include_str!("../../tests/payloads/bitbucket-pull-request.json"),
        ),
        (
            Kind::Bitbucket,
            "x-event-key",
            "repo:refs_changed",
            include_str!("../../tests/payloads/bitbucket-server-push.json"),
        ),
        (Kind::Generic, "content-type", "application/json", include_str!("../../tests/payloads/generic.json")),
        (Kind::Git, "content-type", "text/plain", include_str!("../../tests/payloads/post-receive.txt")),
    ];

    fn parsed(kind: Kind, header: &str, event: &str, body: &[u8]) -> Result<Vec<Happening>, ParseError> {
        parse(kind, &[(header.into(), event.into())], body)
    }

    #[test]
    fn what_each_forge_documents_is_understood() {
        for (kind, header, event, body) in FIXTURES {
            let seen = parsed(kind, header, event, body.as_bytes()).expect(event);
            assert!(seen.iter().all(|one| one.revision().is_some()), "{kind} {event}: {seen:?}");
        }
    }

    #[test]
    fn a_form_is_unpacked() {
        let body = b"x=1&payload=%7B%22zen%22%3A+%22x%22%7D";
        let headers = [
            ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("x-github-event".to_owned(), "ping".to_owned()),
        ];
        assert_eq!(parse(Kind::GitHub, &headers, body), Ok(vec![Happening::Ping]));
    }

    #[test]
    fn a_name_that_git_could_take_for_an_option_is_refused() {
        for name in ["refs/heads/--upload-pack=x", "refs/heads/a..b", "--exec", "refs/heads/a b", "refs/heads/x.lock"] {
            let body = format!("{{\"ref\":\"{name}\",\"after\":\"{}\"}}", "a".repeat(40));
            let seen = parsed(Kind::GitHub, "x-github-event", "push", body.as_bytes());
            assert!(matches!(seen, Err(ParseError::Name(_))), "{name}: {seen:?}");
        }
        let body = br#"{"ref":"refs/heads/main","after":"--output=/etc/passwd"}"#;
        assert!(matches!(parsed(Kind::GitHub, "x-github-event", "push", body), Err(ParseError::Name(_))));
    }

    #[test]
    fn deep_and_long_bodies_end_soon() {
        let deep = format!("{{\"commits\":{}", "[".repeat(1_000_000));
        for kind in [Kind::GitHub, Kind::GitLab, Kind::Gitea, Kind::Bitbucket, Kind::Generic] {
            let headers = [("x-github-event", "push"), ("x-event-key", "repo:push")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert!(parse(kind, &headers, deep.as_bytes()).is_err(), "{kind}");
        }
        let many = format!(
            "{{\"ref\":\"refs/heads/main\",\"after\":\"{}\",\"commits\":[{}{{}}]}}",
            "a".repeat(40),
            "{},".repeat(1_000_000)
        );
        let seen = parsed(Kind::GitHub, "x-github-event", "push", many.as_bytes()).unwrap();
        assert!(matches!(&seen[0], Happening::Push(push) if push.changed.is_none()), "not all is known");
        assert_eq!(
            parse(Kind::GitHub, &[], &vec![b' '; DELIVERY_BYTES_MAX + 1]),
            Err(ParseError::TooLong(DELIVERY_BYTES_MAX + 1))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_mutated_delivery_never_panics_and_names_only_what_git_takes(
            which in 0..FIXTURES.len(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..12),
        ) {
            let (kind, header, event, body) = FIXTURES[which];
            let mut body = body.as_bytes().to_vec();
            for (at, byte, edit) in edits {
                let at = at.index(body.len().max(1)).min(body.len().saturating_sub(1));
                match edit {
                    0 if !body.is_empty() => body[at] = byte,
                    1 => body.insert(at, byte),
                    _ if !body.is_empty() => { body.remove(at); }
                    _ => {}
                }
            }
            if let Ok(seen) = parsed(kind, header, event, &body) {
                prop_assert!(!seen.is_empty());
                for one in seen {
                    prop_assert!(one.refs(kind).iter().all(|name| is_ref_name(name)), "{:?}", one);
                    if let Some(revision) = one.revision() {
                        prop_assert!(crate::git::is_abbreviated(&revision) || is_ref_name(&revision), "{}", revision);
                    }
                }
            }
        }

        #[test]
        fn noise_never_panics(body: Vec<u8>, event in "[a-z:_ ]{0,20}") {
            for kind in [Kind::GitHub, Kind::GitLab, Kind::Gitea, Kind::Bitbucket, Kind::Generic, Kind::Git] {
                let headers = ["x-github-event", "x-event-key"].map(|name| (name.to_owned(), event.clone()));
                let _ = parse(kind, &headers, &body);
            }
        }
    }
}
