//! Our own small JSON, and the lines of `post-receive`.

use serde::Deserialize;

use super::{HAPPENINGS_MAX, Moved, ParseError, commit, cut, deleted, moved, read, shape, text};
use crate::{Happening, Kind, Push, Tag};

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "ref")]
    name: Option<String>,
    branch: Option<String>,
    tag: Option<String>,
    before: Option<String>,
    after: Option<String>,
    commit: Option<String>,
    message: Option<String>,
    author: Option<String>,
    changed: Option<Vec<String>>,
}

pub(super) fn parse(kind: Kind, body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(vec![json(kind, read(kind, "push", body)?)?]),
        // Whoever posts nothing wants to see whether somebody is there.
        None => Ok(vec![Happening::Ping]),
        Some(_) => lines(kind, body),
    }
}

fn json(kind: Kind, body: Body) -> Result<Happening, ParseError> {
    let full = body
        .name
        .map(|name| if name.starts_with("refs/") { name } else { format!("refs/heads/{name}") })
        .or_else(|| Some(format!("refs/heads/{}", body.branch?)))
        .or_else(|| Some(format!("refs/tags/{}", body.tag?)))
        .ok_or_else(|| shape(kind, "push", "one of `ref`, `branch`, `tag` is needed"))?;
    let named = body.after.or(body.commit);
    let gone = named.as_deref().is_some_and(|after| !after.is_empty() && after.bytes().all(|byte| byte == b'0'));
    let after = commit(named)?.unwrap_or_default();
    let (before, message, author) = (commit(body.before)?, text(body.message), text(body.author));
    Ok(match moved(&full)? {
        Moved::Branch(branch) if gone => deleted("branch", &branch),
        Moved::Tag(tag) if gone => deleted("tag", &tag),
        Moved::Branch(branch) => {
            Happening::Push(Push { branch, before, after, changed: body.changed, message, author })
        }
        Moved::Tag(tag) => Happening::Tag(Tag { tag, target: after, message, author }),
        Moved::Other(name) => Happening::Nothing(format!("`{name}` is neither a branch nor a tag")),
    })
}

/// `old new ref` per line, as git gives them to `post-receive`.
fn lines(kind: Kind, body: &[u8]) -> Result<Vec<Happening>, ParseError> {
    let body = std::str::from_utf8(body).map_err(|_| shape(kind, "post-receive", "it is not UTF-8"))?;
    let lines: Vec<&str> = body.lines().filter(|line| !line.trim().is_empty()).take(HAPPENINGS_MAX + 1).collect();
    lines.into_iter().map(|line| moved_line(kind, line)).collect()
}

fn moved_line(kind: Kind, line: &str) -> Result<Happening, ParseError> {
    let mut words = line.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(shape(kind, "post-receive", &format!("`{}` is not `old new ref`", cut(line.into()))));
    };
    let (before, after) = (commit(Some(old.to_owned()))?, commit(Some(new.to_owned()))?);
    Ok(match (moved(name.trim_end())?, after) {
        (Moved::Branch(branch), None) => deleted("branch", &branch),
        (Moved::Tag(tag), None) => deleted("tag", &tag),
        (Moved::Branch(branch), Some(after)) => Happening::Push(Push { branch, before, after, ..Push::default() }),
        (Moved::Tag(tag), Some(target)) => Happening::Tag(Tag { tag, target, ..Tag::default() }),
        (Moved::Other(name), _) => Happening::Nothing(format!("`{name}` is neither a branch nor a tag")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_alone_is_enough() {
        let seen = parse(Kind::Generic, br#"{"branch":"main"}"#).unwrap();
        assert_eq!(seen[0].revision().as_deref(), Some("refs/heads/main"));
        assert!(parse(Kind::Generic, b"{}").unwrap_err().to_string().contains("`branch`"));
    }

    #[test]
    fn post_receive_moves_many_at_once() {
        let (zeros, a, b) = ("0".repeat(40), "a".repeat(40), "b".repeat(40));
        let body = format!("{a} {b} refs/heads/main\n{zeros} {b} refs/tags/v1\n{a} {zeros} refs/heads/old\n");
        let seen = parse(Kind::Git, body.as_bytes()).unwrap();
        assert!(matches!(&seen[0], Happening::Push(push) if push.branch == "main" && push.before == Some(a)));
        assert!(matches!(&seen[1], Happening::Tag(tag) if tag.tag == "v1"));
        assert_eq!(seen[2], Happening::Nothing("branch `old` was deleted".into()));
        assert!(parse(Kind::Git, b"hello world").is_err());
    }

    #[test]
    fn nothing_at_all_is_a_ping() {
        assert_eq!(parse(Kind::Git, b" \n"), Ok(vec![Happening::Ping]));
    }
}
