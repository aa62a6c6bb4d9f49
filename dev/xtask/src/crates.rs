//! What each crate must carry: purity that the compiler checks, `unsafe` in one place, the lint table, a sentence on
//! every module.

use crate::repository::{Problem, Repository};

/// Crates without `std`: no file, clock or socket to reach for.
const NO_STD: [&str; 2] = ["crates/model", "crates/engine"];
/// Crates whose `clippy.toml` forbids what reaches outside.
const NO_IO: [&str; 2] = ["crates/lang", "crates/view"];
/// The crate that talks to the kernel, and the file from which attacks do. (Programs in `examples/` that measure may count
/// allocations; they ship to nobody.)
const UNSAFE: [&str; 2] = ["crates/sandbox/", "dev/attacks/src/kernel.rs"];

/// Every crate is as pure as its kind demands.
pub fn check(repository: &Repository) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in repository.rust() {
        problems.extend(module(path, text));
    }
    for (path, text) in &repository.files {
        let is_ours = path.starts_with("crates/") || path.starts_with("dev/");
        if is_ours && path.ends_with("Cargo.toml") && !text.contains("[lints") {
            problems.push(Problem::of(path, "has no `[lints] workspace = true`"));
        }
    }
    for crate_path in NO_IO {
        let path = format!("{crate_path}/clippy.toml");
        if !repository.text(&path).is_some_and(|text| text.contains("disallowed-methods")) {
            problems.push(Problem::of(&path, "is missing or has no `disallowed-methods`: this crate does no IO"));
        }
    }
    problems
}

fn module(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.len() > "//! ".len() && line.starts_with("//! ")) {
        problems.push(Problem::at(path, 1, "begins without a `//!` sentence that says its subject"));
    }
    if NO_STD.iter().any(|name| path == format!("{name}/src/lib.rs")) && !text.contains("#![no_std]") {
        problems.push(Problem::of(path, "has no `#![no_std]`: this crate is pure"));
    }
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let mut say = |what: &str| problems.push(Problem::at(path, index + 1, what));
        let in_pure = NO_STD.iter().any(|name| path.starts_with(&format!("{name}/src/")));
        let for_tests = index > 0 && lines[index - 1].contains("cfg(test)");
        if in_pure && line.trim_start().starts_with("extern crate std") && !for_tests {
            say("`extern crate std` stands only behind `#[cfg(test)]` in a pure crate");
        }
        if opens_unsafe(line) && !UNSAFE.iter().any(|place| path.starts_with(place)) && !path.contains("/examples/") {
            say("`unsafe` lives in crates/sandbox only");
        }
    }
    problems
}

/// Whether a line begins unsafe code or allows it; comments and texts that only speak of it do not count.
fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default().trim_start();
    let allows = code.starts_with("#[allow(unsafe") || code.starts_with("#![allow(unsafe");
    let word = concat!("un", "safe ");
    let opens = ["{", "fn ", "impl ", "extern ", "trait "];
    allows
        || code.match_indices(word).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            let quoted = code[..at].matches(['"', '`']).count() % 2 == 1;
            let rest = &code[at + word.len()..];
            !quoted
                && before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                && opens.iter().any(|open| rest.starts_with(open))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(path: &str, text: &str) -> Vec<String> {
        module(path, text).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_module_says_its_subject_first() {
        assert_eq!(says("crates/cas/src/a.rs", "//! A thing.\n"), Vec::<String>::new());
        assert_eq!(says("crates/cas/src/a.rs", "#![no_std]\n\n//! A thing.\n"), Vec::<String>::new());
        assert_eq!(says("crates/cas/src/a.rs", "use a;\n").len(), 1);
        assert_eq!(says("crates/cas/src/a.rs", "//!\n").len(), 1);
    }

    #[test]
    fn a_pure_crate_reaches_std_in_tests_only() {
        let doc = "//! X.\n#![no_std]\n";
        assert_eq!(says("crates/engine/src/lib.rs", doc), Vec::<String>::new());
        assert_eq!(says("crates/engine/src/lib.rs", "//! X.\n").len(), 1);
        assert_eq!(says("crates/engine/src/lib.rs", &format!("{doc}extern crate std;\n")).len(), 1);
        assert_eq!(says("crates/engine/src/lib.rs", &format!("{doc}#[cfg(test)]\nextern crate std;\n")).len(), 0);
    }

    #[test]
    fn unsafe_code_is_found_where_it_may_not_be() {
        let code = concat!("//! X.\nlet x = un", "safe { read(p) };\n");
        assert_eq!(says("crates/agent/src/a.rs", code).len(), 1);
        assert_eq!(says("crates/sandbox/src/a.rs", code), Vec::<String>::new());
        assert_eq!(says("crates/agent/src/a.rs", concat!("//! X.\n// un", "safe { } is not for us\n")).len(), 0);
        assert_eq!(says("crates/agent/src/a.rs", concat!("//! X.\nsay(\"un", "safe { }\");\n")).len(), 0);
    }
}
