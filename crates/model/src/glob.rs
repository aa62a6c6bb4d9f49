//! Globs in gitignore style, matched against `/`-separated relative paths.
//!
//! Own code because the pure crates have no `std` for `globset`, and because the order of patterns means something
//! here (a later `!pattern` takes out what an earlier one took in).

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// One pattern.
///
/// `*` and `?` stay within a path segment, `[a-z]` and `[!a-z]` are classes, `**` spans segments. A pattern without a
/// `/` before its end matches at any depth; one with a leading or inner `/` is anchored at the root. A pattern that
/// matches a directory matches everything below it. Source: the pattern format of gitignore(5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {
    text: String,
    segments: Vec<Segment>,
    negated: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// Text without wildcards.
    Plain(String),
    /// Text with wildcards.
    Wild(String),
}

/// Length of one pattern.
pub const GLOB_BYTES_MAX: usize = 1024;

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence: empty, too long, absolute out of the tree (`..`), an unclosed `[`, a control character.
    pub fn parse(text: &str) -> Result<Glob, &'static str> {
        if text.len() > GLOB_BYTES_MAX {
            return Err("a pattern is at most 1024 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("a pattern has no control characters");
        }
        let (negated, body) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let body = body.strip_prefix("./").unwrap_or(body);
        let anchored = body.trim_end_matches('/').contains('/');
        let body = body.trim_matches('/');
        if body.is_empty() {
            return Err("a pattern is not empty");
        }
        let mut segments = Vec::new();
        if !anchored {
            segments.push(Segment::Any);
        }
        for segment in body.split('/') {
            segments.push(match segment {
                "" | "." => return Err("a pattern has no empty segment"),
                ".." => return Err("a pattern does not leave the workspace"),
                "**" => {
                    if segments.last() == Some(&Segment::Any) {
                        continue;
                    }
                    Segment::Any
                }
                _ if segment.contains(['*', '?', '[', '\\']) => {
                    closed_classes(segment)?;
                    Segment::Wild(segment.to_string())
                }
                _ => Segment::Plain(segment.to_string()),
            });
        }
        Ok(Glob { text: text.to_string(), segments, negated })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `!pattern`.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether the pattern (without its `!`) matches a path or one of the directories it lies in.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        matches_segments(&self.segments, &path)
    }

    /// Whether something below directory `dir` (empty: the root) can match: lets a walk leave out the rest.
    pub fn may_match_below(&self, dir: &str) -> bool {
        if dir.is_empty() {
            return true;
        }
        let mut patterns = self.segments.iter();
        for name in dir.split('/') {
            match patterns.next() {
                None | Some(Segment::Any) => return true,
                Some(segment) if !matches_one(segment, name) => return false,
                Some(_) => {}
            }
        }
        true
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Patterns in order: a later one decides over an earlier one, `!` takes out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct GlobList(pub Vec<Glob>);

impl GlobList {
    /// Whether the list takes a path in. A list that begins with `!` starts from everything.
    pub fn matches(&self, path: &str) -> bool {
        let start = self.0.first().is_some_and(Glob::is_negated);
        self.0
            .iter()
            .fold(start, |taken, glob| if taken == glob.negated && glob.matches(path) { !taken } else { taken })
    }

    /// Whether the list can take in something below `dir`.
    pub fn may_match_below(&self, dir: &str) -> bool {
        self.0.first().is_some_and(Glob::is_negated)
            || self.0.iter().any(|glob| !glob.negated && glob.may_match_below(dir))
    }

    /// The patterns as written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Glob::as_str)
    }
}

fn closed_classes(segment: &str) -> Result<(), &'static str> {
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next().ok_or("a pattern does not end in a lone `\\`")?;
            }
            '[' => {
                let body = chars.as_str().trim_start_matches('!');
                let end = body.char_indices().skip(1).find(|(_, c)| *c == ']').ok_or("`[` has no `]`")?.0;
                chars = body[end + 1..].chars();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Iterative with one point of return per `**`, so that no pattern takes exponential time.
fn matches_segments(patterns: &[Segment], path: &[&str]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if p == patterns.len() {
            // All of the pattern is used: the path itself, or something below what the pattern names.
            return true;
        }
        if patterns[p] == Segment::Any {
            if p + 1 == patterns.len() {
                return s < path.len();
            }
            back = Some((p, s));
            p += 1;
            continue;
        }
        if s < path.len() && matches_one(&patterns[p], path[s]) {
            p += 1;
            s += 1;
            continue;
        }
        match back {
            Some((any, from)) if from < path.len() => {
                back = Some((any, from + 1));
                p = any + 1;
                s = from + 1;
            }
            _ => return false,
        }
    }
}

fn matches_one(segment: &Segment, name: &str) -> bool {
    match segment {
        Segment::Any => true,
        Segment::Plain(text) => text == name,
        Segment::Wild(pattern) => wild(pattern.as_bytes(), name.as_bytes()),
    }
}

/// Wildcards within one segment; the classic two-pointer match with one point of return.
fn wild(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(b'\\') => (pattern.get(p + 1) == Some(&name[n])).then_some(2),
            Some(byte) => (*byte == name[n]).then_some(1),
            None => None,
        };
        match (step, back) {
            (Some(used), _) => {
                // `?` takes one character, not one byte of it.
                let whole = pattern[p] == b'?' || pattern[p] == b'[';
                p += used;
                n += 1;
                while whole && n < name.len() && name[n] & 0xC0 == 0x80 {
                    n += 1;
                }
            }
            (None, Some((at, from))) => {
                back = Some((at, from + 1));
                p = at;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Length of the class at the start of `pattern` if it takes `byte` in.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = pattern.get(1) == Some(&b'!');
    let start = 1 + usize::from(negated);
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
    let body = &pattern[start..end];
    let mut taken = false;
    let mut i = 0;
    while i < body.len() {
        if i + 2 < body.len() && body[i + 1] == b'-' {
            taken |= body[i] <= byte && byte <= body[i + 2];
            i += 3;
        } else {
            taken |= body[i] == byte;
            i += 1;
        }
    }
    (taken != negated).then_some(end + 1)
}

/// A pattern is kept as it was written.
impl serde::Serialize for Glob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
impl<'de> serde::Deserialize<'de> for Glob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Glob, D::Error> {
        let text = String::deserialize(deserializer)?;
        Glob::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> GlobList {
        GlobList(patterns.iter().map(|p| Glob::parse(p).expect(p)).collect())
    }

    #[test]
    fn patterns_match_as_gitignore_says() {
        let cases: [(&str, &[&str], &[&str]); 10] = [
            ("*.go", &["a.go", "x/y/b.go"], &["a.goo", "go"]),
            ("/a.go", &["a.go"], &["x/b.go"]),
            ("src/**", &["src/a", "src/a/b"], &["src", "x/src/a"]),
            ("src", &["src", "src/a", "x/src/a"], &["srcs"]),
            ("**/test/*.rs", &["test/a.rs", "x/y/test/a.rs"], &["test/x/a.rs", "a.rs"]),
            ("svc/*/go.mod", &["svc/a/go.mod"], &["svc/a/b/go.mod", "go.mod"]),
            ("release/**", &["release/1", "release/1/2"], &["release", "releases/1"]),
            ("v[0-9]*.?", &["v1.x", "v12.3"], &["va.x", "v1.xx"]),
            ("[!a]x", &["bx"], &["ax"]),
            ("é?", &["éé"], &["é"]),
        ];
        for (pattern, yes, no) in cases {
            let glob = Glob::parse(pattern).expect(pattern);
            for path in yes {
                assert!(glob.matches(path), "{pattern} should match {path}");
            }
            for path in no {
                assert!(!glob.matches(path), "{pattern} should not match {path}");
            }
        }
    }

    #[test]
    fn a_later_pattern_decides() {
        let globs = list(&["src/**", "!src/gen/**", "src/gen/keep.rs"]);
        assert!(globs.matches("src/a.rs") && !globs.matches("src/gen/b.rs") && globs.matches("src/gen/keep.rs"));
        let all_but = list(&["!*.md"]);
        assert!(all_but.matches("a.rs") && !all_but.matches("docs/a.md"));
    }

    #[test]
    fn a_walk_may_leave_out_what_cannot_match() {
        let globs = list(&["svc/a/**", "go.mod"]);
        assert!(globs.may_match_below("svc") && globs.may_match_below("svc/a/x"));
        let anchored = list(&["svc/a/**", "/go.mod"]);
        assert!(!anchored.may_match_below("docs") && !anchored.may_match_below("svc/b"));
    }

    #[test]
    fn bad_patterns_say_why() {
        for bad in ["", "/", "../x", "a/../b", "a//b", "[a", "x\\", "a\u{0}b"] {
            assert!(Glob::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_pattern_takes_exponential_time() {
        let glob = Glob::parse(&"**/a*b*/".repeat(100)).expect("pattern");
        assert!(!glob.matches(&"aaaaaaaaaaaaaaaaaa/".repeat(200)));
        let wild = Glob::parse(&"*a".repeat(500)).expect("pattern");
        assert!(!wild.matches(&"a".repeat(499)));
    }
}
