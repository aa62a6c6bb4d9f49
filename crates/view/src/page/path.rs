//! Where pages are. Names of projects may have slashes, so `/-/` stands between a name and what is asked of the project.

use std::fmt::Write;

use model::{NodeIx, RunNumber};

/// The page of a project.
pub fn project(project: &str) -> String {
    format!("/p/{}", encoded(project))
}

/// Something of a project: `secrets`, `runs/12`.
pub fn within(project: &str, rest: &str) -> String {
    format!("/p/{}/-/{rest}", encoded(project))
}

/// The page of a run.
pub fn run(project: &str, number: RunNumber) -> String {
    within(project, &format!("runs/{}", number.0))
}

/// The page of a step of a run.
pub fn step(project: &str, number: RunNumber, node: NodeIx) -> String {
    within(project, &format!("runs/{}/steps/{}", number.0, node.0))
}

/// A query of these names and values, with its `?`; values that are empty are left out.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&encoded(value));
    }
    text
}

/// Percent-encoded but for letters, digits, `-._~` and `/`.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_slashes_has_a_place_that_reads_like_it() {
        assert_eq!(project("team/web"), "/p/team/web");
        assert_eq!(run("team/web", RunNumber(12)), "/p/team/web/-/runs/12");
        assert_eq!(step("web", RunNumber(12), NodeIx(3)), "/p/web/-/runs/12/steps/3");
    }

    #[test]
    fn nothing_of_a_name_gets_out_of_its_place() {
        assert_eq!(project("a?b#c\"d e"), "/p/a%3Fb%23c%22d%20e");
        assert_eq!(query(&[("branch", "a&b=c"), ("state", "")]), "?branch=a%26b%3Dc");
    }
}
