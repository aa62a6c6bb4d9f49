//! What people bring along from other systems and languages, and how it is said here.

use std::ops::Range;

use super::lexer::{Token, TokenKind};
use super::{Fault, codes};

/// `${{ … }}` around or in a bare expression.
pub(super) fn wrapped(source: &str) -> Option<Fault> {
    let text = source.trim_start();
    let inner = text.strip_prefix("${{")?;
    let start = source.len() - text.len();
    let whole = inner.trim_end().strip_suffix("}}").map(str::trim);
    let fault =
        Fault::new(&codes::WRAPPED, start..start + 3, "this is an expression already", "no `${{` is wanted here");
    Some(match whole {
        Some(whole) if !whole.contains("}}") && !whole.contains('\n') => {
            fault.help(format!("write it bare: `{whole}`"))
        }
        _ => fault.help("write the expression without `${{` and `}}`"),
    })
}

/// Signs of other languages at the start of `rest`.
pub(super) fn sign(rest: &str, at: usize) -> Option<Fault> {
    const FOREIGN: [(&str, &str); 11] = [
        ("===", "equality is written `==`"),
        ("!==", "inequality is written `!=`"),
        ("=~", "a regular expression is asked by `text.matches(r\"pattern\")`"),
        ("<>", "inequality is written `!=`"),
        ("**", "there is no power operator"),
        ("//", "an expression has no comments"),
        ("#", "an expression has no comments"),
        ("“", "quotes are written `\"` or `'`"),
        ("”", "quotes are written `\"` or `'`"),
        ("‘", "quotes are written `\"` or `'`"),
        ("’", "quotes are written `\"` or `'`"),
    ];
    if rest.starts_with("${{") {
        let fault = Fault::new(&codes::WRAPPED, at..at + 3, "this is an expression already", "no `${{` is wanted here");
        return Some(fault.help("write the value without `${{` and `}}`"));
    }
    let single = |sign: char, double: &str| rest.starts_with(sign) && !rest.starts_with(double);
    let (sign, help) = match FOREIGN.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
        Some(found) => found,
        None if single('=', "==") => ("=", "equality is written `==`"),
        None if single('&', "&&") => ("&", "a condition is joined by `&&`"),
        None if single('|', "||") => ("|", "a condition is joined by `||`"),
        None => return None,
    };
    let message = format!("`{sign}` is not an operator of expressions");
    Some(Fault::new(&codes::FOREIGN, at..at + sign.len(), message, "another language's sign").help(help))
}

/// `x and y`, `x or y`.
pub(super) fn word_between(name: &str, range: &Range<usize>) -> Option<Fault> {
    let sign = match name.to_ascii_lowercase().as_str() {
        "and" => "&&",
        "or" => "||",
        "eq" | "is" => "==",
        "ne" => "!=",
        _ => return None,
    };
    let message = format!("`{name}` is not an operator of expressions");
    let fault = Fault::new(&codes::FOREIGN, range.clone(), message, "another language's word");
    Some(fault.help(format!("write `{sign}`")))
}

/// `not x`, `not in`.
pub(super) fn word_before(name: &str, range: &Range<usize>, next: &Token) -> Option<Fault> {
    let value_follows =
        matches!(next.kind, TokenKind::Name(_) | TokenKind::Text(_) | TokenKind::Int(_) | TokenKind::Sign("("));
    if !name.eq_ignore_ascii_case("not") || !value_follows {
        return None;
    }
    let fault = Fault::new(
        &codes::FOREIGN,
        range.clone(),
        "`not` is not an operator of expressions",
        "another language's word",
    );
    Some(fault.help("write `!` before the value: `!params.deploy`, `!(a && b)`"))
}

/// What to write instead of a context that another system has. `path` is the whole of what is written there.
pub(super) fn context(path: &str) -> Option<String> {
    const PATHS: [(&str, &str); 20] = [
        ("github.ref_name", "git.branch` or `git.tag"),
        ("github.ref_type", "git.tag != \"\""),
        ("github.ref", "git.branch` or `git.tag"),
        ("github.head_ref", "git.branch"),
        ("github.base_ref", "git.target"),
        ("github.sha", "git.commit"),
        ("github.event_name", "event.kind"),
        ("github.actor", "event.author"),
        ("github.triggering_actor", "event.author"),
        ("github.run_id", "run.id"),
        ("github.run_number", "run.number"),
        ("github.event.pull_request.title", "event.title"),
        ("github.event.pull_request.number", "event.number"),
        ("github.event.number", "event.number"),
        ("github.event.head_commit.message", "git.message"),
        ("inputs", "params"),
        ("vars", "values.NAME` for the values of a project, or `params` or `env"),
        ("needs", "steps.<id>.values.<key>` or `steps.<id>.outcome"),
        ("CI_COMMIT_BRANCH", "git.branch"),
        ("CI_COMMIT_TAG", "git.tag"),
    ];
    let root = path.split('.').next().unwrap_or(path);
    let found = PATHS.into_iter().find(|(known, _)| *known == path || *known == root);
    match (found, root) {
        (Some((_, ours)), _) => Some(format!("that is `{ours}` here")),
        (None, "github" | "gitlab") => {
            Some("what is known of the commit is in `git`, of the event in `event`, of the run in `run`".to_string())
        }
        (None, "job") => Some("say `when: failure` or `when: always` beside `if` to run after a failure".to_string()),
        (None, "runner") => Some("ask `uname` in the step's `cmd`".to_string()),
        _ => None,
    }
}

/// What to write instead of a function that another system has.
pub(super) fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "success" => "leave it away: a step runs when its dependencies succeeded (`when: success`)",
        "failure" => "say `when: failure` in the step, beside `if`",
        "always" => "say `when: always` in the step, beside `if`",
        "cancelled" => "say `when: always` in the step: such steps run also when the run is cancelled",
        "hashFiles" => "that is `hash(\"glob\")` here",
        "format" => "put texts together with `+`, and numbers with `string(x)`",
        "toJSON" => "a list or a map reads as JSON in `${{ }}` by itself",
        "fromJSON" => "values between steps are texts; turn one into a number with `int(x)` or `double(x)`",
        "len" | "length" | "count" => "that is `size(x)` here",
        "lower" | "toLower" | "downcase" => "that is `x.lowerAscii()` here",
        "upper" | "toUpper" | "upcase" => "that is `x.upperAscii()` here",
        "uint" => "there are no unsigned numbers; use `int(x)`",
        "any" => "that is `list.exists(x, condition)` here",
        "type" | "dyn" | "bytes" | "timestamp" | "duration" => "that part of CEL has no use in a pipeline",
        _ => return None,
    })
}
